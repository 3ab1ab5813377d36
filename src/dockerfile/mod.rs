//! Dockerfiles: from text to typed instructions, read once.
//!
//! ```text
//! bytes ─ Source ─ parse ─ Dockerfile { directives, global args, stages → instructions }
//!                                        └ Word (raw text + span) ─ Expander ─ String
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | [`span`] | where a piece of text stands; lines and columns |
//! | `lines` | continuations, comments, heredoc bodies: physical lines to logical ones |
//! | [`directive`] | `# syntax`, `# escape`, `# check` |
//! | `flags`, `words` | cutting a line: flags, JSON form, words that know quotes |
//! | `parse` | one function an instruction |
//! | [`instruction`] | the values they make |
//! | [`mount`] | `RUN --mount`, in two steps because its values may hold variables |
//! | `duration`, `truth` | values as Go's library reads them |
//! | [`expand`] | variables, quotes and escapes of one word |
//! | [`ignore`], [`glob`] | `.dockerignore`, `--exclude`, and the patterns of COPY |
//! | [`rule`], [`lint`] | the linter's rules, and those that need only the text |
//!
//! Everything here is pure: no file is opened, no variable of the process is read, nothing is
//! printed. Any bytes may come in; what comes out is a value or an [`Error`] that says where.
//! The behaviour is BuildKit's, its error texts included.

pub mod directive;
mod duration;
pub mod error;
pub mod expand;
mod flags;
pub mod glob;
pub mod heredoc;
pub mod ignore;
pub mod instruction;
mod lines;
pub mod lint;
pub mod mount;
mod parse;
mod pattern;
pub mod ports;
pub mod remote;
pub mod rule;
pub mod span;
pub mod suggest;
mod truth;
mod words;

pub use directive::{CheckOptions, Directives, Rules, Syntax, syntax_line};
pub use duration::go_duration;
pub use error::{Error, ErrorKind, ExpandError, MountError};
pub use expand::{Expander, Names};
pub use glob::{BadPattern, Component, Glob, PathGlob, has_wildcard};
pub use heredoc::Heredoc;
pub use ignore::{Ignore, IgnoreError, Reason, Verdict};
pub use instruction::{
    Add, Arg, ArgPair, Check, Command, Copy, CopySource, Device, Dockerfile, From, GlobalArg,
    Healthcheck, Instruction, Kind, Network, Onbuild, Origin, Pair, Pairs, Run, Script, Security,
    Stage, StageName,
};
pub use lint::Warning;
pub use mount::{Mount, MountFault, MountField, MountKind, MountSpec, Sharing};
pub use parse::{directives, parse, parse_instruction, parse_reporting};
pub use ports::{Port, PortError, Proto, port_specs};
pub use remote::{SourceKind, file_name, source_kind};
pub use rule::Rule;
pub use span::{Position, Source, Span, Word};
pub use truth::go_bool;
