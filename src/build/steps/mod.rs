//! What each kind of step depends on and does.

mod agent;
pub(super) mod archive;
pub(super) mod copy;
mod cover;
pub(super) mod ground;
mod mounts;
mod network;
pub(super) mod owner;
pub(super) mod remote;
pub(super) mod run;
pub(super) mod workdir;
