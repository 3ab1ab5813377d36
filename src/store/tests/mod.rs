//! The store as its users see it, on temporary directories.

mod archives;
mod basics;
mod crashes;
mod deletion;
mod fsck;
mod images;
mod layers;
mod processes;
