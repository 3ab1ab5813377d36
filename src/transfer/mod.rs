//! Moves images between the store and the world.
//!
//! The only room that sees both [`store`](crate::store) and [`registry`](crate::registry), and
//! the only one with an async runtime: [`Network`] is made once, and everything here is an
//! ordinary blocking call, which any number of threads may make at once.

mod archive;
mod cache;
mod choose;
mod copy;
mod download;
mod error;
mod network;
mod options;
mod origin;
mod place;
mod pull;
mod push;
mod query;
mod remote;
mod source_image;

pub use crate::registry::{Actions, AwsKey, Azure, Layout as CacheLayout, S3, Service};
pub use crate::registry::{Credentials, Options as NetworkOptions, Proxies, Secret};
pub use cache::{CacheDocument, CachePart, CachePlace};
pub use copy::copy;
pub use download::{Download, download};
pub use error::Error;
pub use network::Network;
pub use options::{CopyOptions, Options, PushOptions};
pub use place::{Pick, Place as Source, Place as Target, PlaceError};
pub use pull::{Promised, promise, pull};
pub use push::{push, push_attested, push_index};
pub use query::{login, logout, resolve, tags};
pub use source_image::{SourceConfig, add_source, create_source, pull_source, push_source};
