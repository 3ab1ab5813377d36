//! The two programs as their users meet them: real binaries, real files, exact text.
//!
//! One binary, so that it links once; one file a topic.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

#[path = "../support/mod.rs"]
mod support;

mod add_sources;
mod attestations;
mod build_cli;
mod buildah_behaviours;
mod buildah_options;
mod cache_services;
mod cache_trust;
mod caches;
mod caching;
mod cask_debug;
mod cask_ends;
mod cask_files;
mod cask_inspect;
mod cask_life;
mod cask_limits;
mod cask_listings;
mod cask_members;
mod cask_networks;
mod cask_options;
mod cask_refusals;
mod cask_stories;
mod cask_streams;
mod cask_table;
mod cask_user_map;
mod cask_volumes;
mod checks;
mod containers;
mod context_security;
mod contexts;
mod copy_flags;
mod copy_paths;
mod copying;
mod epoch;
mod estargz;
mod full_disk;
mod generators;
mod git_sources;
mod golden;
mod images;
mod isolation;
mod language;
mod lists;
mod metadata;
mod mount_escapes;
mod moving;
mod network;
mod outputs;
mod platforms;
mod ports;
mod provenance;
mod reading;
mod registries_conf;
mod run_environment;
mod run_grants;
mod run_mounts;
mod run_secrets;
mod rungs_chroot;
mod rungs_files;
mod rungs_none;
mod rungs_run;
mod running;
mod runtime_escapes;
mod scanners;
mod snapshots;
mod source_images;
mod space;
mod stages;
mod wiring;
mod working;
mod working_commits;
mod working_copies;
mod working_mounts;
