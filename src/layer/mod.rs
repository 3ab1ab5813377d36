//! Layers: directory ⇄ tar, deterministic and hashed while it streams.
//!
//! Everything is opened below a dirfd; names come as proved [`TreePath`]s. The forms of a layer
//! meet in [`Changes`]: what it adds, replaces and removes, sorted, with the bytes elsewhere.

mod ahead;
mod behind;
mod changes;
mod clamp;
mod compare;
mod compress;
mod content;
mod copy;
mod decompress;
mod diff;
mod dir;
mod entry;
mod error;
mod estargz;
mod flatten;
mod give;
mod members;
mod metadata;
mod node;
#[cfg(test)]
mod overlay_tests;
mod path;
mod pax;
mod retime;
mod snapshot;
mod sniff;
mod stack;
mod tar_header;
mod tar_index;
mod tar_read;
mod tar_sparse;
mod tar_write;
#[cfg(test)]
mod testing;
mod tree;
mod tree_write;
mod unpack;
mod unpack_dirs;
mod whiteout;

pub use ahead::{ReadAhead, read_ahead};
pub use behind::encode_behind;
pub use changes::{Change, Changes, Content, Extent, Node};
pub use clamp::clamp_times;
pub use compare::{Difference, compare};
pub use compress::{COMPRESSOR_VERSION, Compressor, compressor, level_of};
pub use content::Reader;
pub use decompress::{Damaged, Limited, OverLimit, decompress};
pub use diff::diff;
pub use dir::Dir;
pub use entry::{Kind, Meta, Time};
pub use error::Error;
pub use estargz::{Estargz, estargz};
pub use flatten::flatten;
pub use give::give_new;
pub use metadata::dress;
pub use node::{Marks, Ownership};
pub use path::TreePath;
pub use retime::Retimer;
pub use snapshot::Snapshot;
pub use sniff::{Format, PREFIX, is_tar, sniff};
pub use stack::Stack;
pub use tar_header::TarFlaw;
pub use tar_index::index_tar;
pub use tar_read::{MAX_EXTENDED, TarBody, TarEntry, TarReader};
pub use tar_write::{ENCODER_VERSION, EncodeOptions, encode};
pub use tree::{Follow, Found, Inode, Resolved, Tree};
pub use tree_write::{TreeForm, Written, write_tree};
pub use unpack::{UnpackOptions, Unpacked, unpack};
