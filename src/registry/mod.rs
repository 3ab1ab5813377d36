//! The network: endpoints, auth, retry, streaming transfer.
//!
//! Speaks the OCI distribution protocol (distribution-spec 1.1) and docker's dialect of it, over
//! reqwest and rustls. [`Client`] holds what is shared by a run: connections, tokens,
//! credentials. [`Repository`] reads and writes one repository, and [`Reader`] reads a name from
//! whichever of its places has it: documents as
//! [`Document`](crate::image::Document)s that were checked, blobs from a
//! [`BlobSource`](crate::image::BlobSource) or into a [`BlobSink`](crate::image::BlobSink).
//!
//! What comes from a registry is not trusted: sizes are capped, digests checked, addresses it
//! points to looked at before they are spoken to, and no credential leaves the registry that it
//! is for. [`Error`] says what happened; words for users and hints are `cli`'s.
//!
//! | file | what it decides or does |
//! |---|---|
//! | `conf`, `places` | registries.conf: which places a name is read from |
//! | `endpoint` | which URLs a registry's name may mean |
//! | `guard` | which addresses a registry may point to |
//! | `certs`, `authfile`, `helper` | files and programs of this machine |
//! | `challenge`, `retry` | texts to values |
//! | `wire`, `answer` | one exchange: redirects, limits, clocks |
//! | `auth`, `host` | one registry: found, and asked with authorization |
//! | `client`, `pull`, `push` | one repository |
//! | `reader` | several that hold the same |
//! | `depot` | services that keep caches: S3, Azure, GitHub Actions |
//! | `web` | plain downloads for ADD |
//! | `daemon` | docker's daemon on this machine |

mod answer;
mod auth;
mod authfile;
mod certs;
mod challenge;
mod client;
mod conf;
mod daemon;
mod depot;
mod endpoint;
mod error;
mod guard;
mod helper;
mod host;
mod login;
mod options;
mod places;
mod progress;
mod pull;
mod push;
mod reader;
mod retry;
mod web;
mod wire;

pub use client::{Client, Repository, Version};
pub use conf::{ConfigFiles, Line, Registries};
pub use daemon::Daemon;
pub use depot::{Actions, AwsKey, Azure, Depot, Layout, S3, Service};
pub use error::{Error, ServerError};
pub use options::{Credentials, Options, Proxies, Secret};
pub use progress::Progress;
pub use push::Pushed;
pub use reader::Reader;
pub use web::{Fetched, Page, Validators};
