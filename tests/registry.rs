//! The registry client against a real `docker-registry` and against servers that lie.
//!
//! Needs the Debian packages `docker-registry`, `apache2-utils` and `openssl`; everything stays
//! on loopback. Tests named `t_…` are the cases of the same name in the list of known flaws.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "registry/auth.rs"]
mod auth;
#[path = "registry/images.rs"]
mod images;
#[path = "registry/liar.rs"]
mod liar;
#[path = "registry/lies.rs"]
mod lies;
#[path = "registry/real.rs"]
mod real;
#[path = "registry/support.rs"]
mod support;
#[path = "registry/web.rs"]
mod web;
