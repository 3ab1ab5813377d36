//! The library under `cooper`, which builds OCI images, and `cask`, which runs them.
//!
//! The crate is laid out in rooms. A room imports only the rooms named beside it, top to
//! bottom and never back; `tests/layering.rs` holds this table and fails with file and line.
//!
//! | room | what lives there | may import |
//! |---|---|---|
//! | [`sys`] | the only `unsafe`: one safe function a syscall that rustix lacks | – |
//! | [`image`] | OCI values that keep their raw bytes | – |
//! | [`event`] | all that a build, pull, push or container reports | image |
//! | [`owners`] | the form in which a tree remembers owners that its inodes can't have | – |
//! | [`dockerfile`] | text to typed instructions with spans | – |
//! | [`layer`] | directory ⇄ tar, hashed while it streams; paths below a dirfd | image, sys, owners |
//! | [`store`] | the disk: blobs, refs, trees, records, locks, leases, archives | image, layer, sys, event |
//! | [`registry`] | the network: endpoints, auth, retry, streaming transfer | image, event |
//! | [`sandbox`] | the kernel: a plan in, an exit status out | sys, event, owners |
//! | [`transfer`] | the only room that sees both store and registry | store, registry, image, event |
//! | [`build`] | plans and runs a build | dockerfile, image, layer, store, sandbox, transfer, event |
//! | [`runner`] | the life cycle of a container | image, layer, store, sandbox, transfer, event |
//! | [`cli`] | arguments, renderers, errors as text with hints and exit codes | all |
//!
//! Data flows one way:
//!
//! ```text
//! Dockerfile text ─ dockerfile → instructions ─ build::graph → steps ─ build::exec ┬ key known → layer
//!                                                                                 └ new: sandbox → upper dir → layer
//!   → layer (tar stream) → store → Blob ─ build::commit → manifest → store ─ transfer → registry     (events sideways → cli)
//! ```

pub mod build;
pub mod cli;
pub mod dockerfile;
pub mod event;
pub mod image;
pub mod layer;
pub mod owners;
pub mod registry;
pub mod runner;
pub mod sandbox;
pub mod store;
pub mod sys;
pub mod transfer;
