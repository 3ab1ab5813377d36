//! The life of a container: made from an image, run, looked at, removed.
//!
//! ```text
//! containers/<id>/
//!   config.json   what was asked for and what the image adds; rename and update replace it
//!   state.json    created | running | paused | restarting | exited | dead, times, exit code, health
//!   running       locked (flock) by the monitor; whoever starts the container hands the lock over
//!   ctl           the monitor's socket
//!   log.1 log.2 … what the program wrote (`logs`)
//!   upper/ work/  the writable layer: stays over stop and start, goes with `rm`
//!   image/        a copy of the image with other owners, if it has one (`ids`)
//! volumes/<name>/ (`volumes`)
//! networks/<name>/ (`networks`)
//! events events.old (`events`)
//! ```
//!
//! ```text
//!  cask run ─ start: plan, lock ─→ monitor (our binary again, one a container) ─ sandbox ─ program
//!     └─ attached ←─ socket ─→ ┘   holds lock, pty or pipes, log, health, restarts
//!  cask stop|exec|attach|wait … ── control ── ctl ┘
//! ```
//!
//! `spec` decides everything as data, `start` makes it ready, `monitor` is the process that stays,
//! `control`, `attached` and `exec` are its clients. There is no daemon: whether a container runs
//! is what the lock says, not what a file says. A monitor that is killed takes its container with
//! it and frees the lock, and the next command sees that.
//!
//! The foreground `run` has a monitor as well. Running without one would save about a
//! millisecond, and the container could then be neither logged, attached to, detached from nor
//! joined, and would end with its terminal.

mod attached;
mod commit;
mod container;
mod control;
mod copy;
mod debug;
mod error;
mod events;
mod exec;
mod files;
mod health;
mod ids;
mod keys;
mod logs;
mod memory;
mod monitor;
mod name;
mod networks;
mod ports;
mod processes;
mod restart;
mod spec;
mod start;
mod state;
mod volumes;
mod wire;
mod wording;

pub use attached::{Outcome, Session, Terminal, attach};
pub use commit::{Commit, commit, defaults};
pub use container::{Choice, Config, Container, create, find, list, remove, signal_number};
pub use control::{Stopped, Until, deaf, kill, pause, restart, stop, top, traffic, unpause, wait};
pub use copy::{Bundle, Place, take_in, take_out, take_tar};
pub use debug::{Debugged, TARGET, look_at};
pub use error::{Error, Told};
pub use events::{Events, Happened};
pub use exec::{ExecRequest, exec};
pub use files::{Changed, Size, changed, export, size, volume_size, written_size};
pub use health::healthcheck;
pub use keys::DetachKeys;
pub use logs::{Follow, Line, Lines, Reader};
pub use memory::{Memory, bytes, octal};
pub use monitor::MONITOR;
pub use networks::{
    Attachment, Lease, NETWORK, NetworkRequest, Range, UserNetwork, connect, create_network,
    disconnect, find_network, lease_of, leases_of_network, list_networks, remove_network,
    users_of_network,
};
pub use ports::Bound;
pub use processes::Process;
pub use restart::Restart;
pub use spec::{Log, LogDriver, Network, Publish, Request, mounted};
pub use start::{Attach, start};
pub use state::{Checked, Health, State, Status, Wellness};
pub use volumes::{
    Volume, VolumeMount, VolumeSource, create_volume, data_dir, export_volume, find_volume,
    import_volume, list_volumes, remove_volume, users_of_volume,
};
pub use wording::Wording;
