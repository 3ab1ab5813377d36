//! Words that all renderers share.

use super::Level;
use super::clean::{Colours, clean};
use crate::event::{Event, Motion};

/// Returns the verb of a motion.
pub(super) fn motion(motion: Motion) -> &'static str {
    match motion {
        Motion::Pull => "pull",
        Motion::Push => "push",
        Motion::Unpack => "unpack",
        Motion::Compress => "compress",
    }
}

/// Returns the line of a warning or choice. `Some("")` never happens; an event of these kinds
/// that `level` holds back is answered with `None`, and renderers ignore it then.
pub(super) fn note(event: &Event<'_>, level: Level) -> Option<String> {
    match *event {
        Event::Warning { text } if level >= Level::Warn => {
            Some(format!("warning: {}", clean(text, Colours::Drop)))
        }
        Event::Chosen { what, text } if level >= Level::Info => {
            Some(format!("{what}: {}", clean(text, Colours::Drop)))
        }
        _ => None,
    }
}
