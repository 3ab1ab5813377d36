//! A Dockerfile as values: one struct an instruction, every word with its place.
//!
//! What BuildKit expands is kept as a raw [`Word`] and goes through
//! [`Expander`](super::Expander) when the variables are known; what it never expands is a
//! plain `String`. Nothing here has to be parsed again, but for the words that only make
//! sense once they are expanded: mounts ([`MountSpec::resolve`]), ports
//! ([`port_specs`](super::port_specs)) and sources ([`source_kind`](super::source_kind)).

use super::directive::Directives;
use super::error::Error;
use super::heredoc::Heredoc;
use super::lint::Warning;
use super::mount::MountSpec;
use super::span::{Span, Word};
use std::borrow::Cow;
use std::time::Duration;

/// A whole Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The `# key=value` lines at the top.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub args: Vec<GlobalArg>,
    /// The stages, in order; there is at least one.
    pub stages: Vec<Stage>,
    /// What the lint rules that need only the text found, in order of lines.
    pub warnings: Vec<Warning>,
}

/// Where an instruction stands and how it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The instruction with its continuation lines and heredoc bodies.
    pub span: Span,
    /// First line, from 1.
    pub line: usize,
    /// Last line, from 1, heredoc bodies included.
    pub last_line: usize,
    /// The instruction word as typed.
    pub keyword: Word,
    /// The instruction on one line: continuations joined, comments taken out, heredoc bodies
    /// not included. Blanks at both ends are cut.
    pub original: String,
    /// The comment lines directly above, without `#` and outer blanks.
    pub comments: Vec<String>,
}

impl Origin {
    /// Returns the text of the comment `# name text` above the instruction.
    ///
    /// This is how BuildKit describes stages and arguments in `--call=outline`.
    pub fn description(&self, name: &str) -> Option<&str> {
        if name.is_empty() {
            return None;
        }
        self.comments
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    }
}

/// An ARG before the first FROM.
#[derive(Clone, Debug)]
pub struct GlobalArg {
    /// What it declares.
    pub arg: Arg,
    /// Where it stands.
    pub origin: Origin,
}

/// A FROM and the instructions up to the next one.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The FROM.
    pub from: From,
    /// Where the FROM stands.
    pub origin: Origin,
    /// What follows it.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// Returns the name given with `AS`, lower case.
    pub fn name(&self) -> Option<&str> {
        self.from.name.as_ref().map(|name| name.name.as_str())
    }
}

/// One instruction of a stage.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// What it says.
    pub kind: Kind,
    /// Where it stands.
    pub origin: Origin,
}

/// What an instruction says.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `ADD`.
    Add(Add),
    /// `ARG`.
    Arg(Arg),
    /// `CMD`.
    Cmd(Command),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`.
    Env(Pairs),
    /// `EXPOSE`: words; an expanded one splits again.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Pairs),
    /// `MAINTAINER`: never expanded.
    Maintainer(Word),
    /// `ONBUILD`.
    Onbuild(Onbuild),
    /// `RUN`.
    Run(Run),
    /// `SHELL`: program and arguments, at least one.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`: paths.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
}

impl Kind {
    /// Returns the instruction word, upper case.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// `FROM [--platform=p] base [AS name]`.
#[derive(Clone, Debug)]
pub struct From {
    /// The platform to take the base for.
    pub platform: Option<Word>,
    /// An image, an earlier stage or `scratch`.
    pub base: Word,
    /// The name of the stage.
    pub name: Option<StageName>,
    /// The word between base and name as typed: `AS`, `as`.
    pub as_word: Option<Word>,
}

/// The name of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageName {
    /// Lower case, as references look it up.
    pub name: String,
    /// As typed.
    pub word: Word,
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Text for the stage's shell; empty where the instruction has no argument.
    Shell(Word),
    /// Program and arguments, run without a shell; may be empty (`CMD []`).
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Clone, Debug)]
pub struct Run {
    /// What to run; heredoc operators are still in it.
    pub command: Command,
    /// The bodies of the heredocs in the command, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountSpec>,
    /// `--network`.
    pub network: Option<Network>,
    /// `--security`.
    pub security: Option<Security>,
    /// `--device`, in order.
    pub devices: Vec<Device>,
}

/// What a RUN hands to the kernel, once heredocs are dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script<'a> {
    /// One argument behind the stage's shell.
    Shell(Cow<'a, str>),
    /// Program and arguments as they are.
    Exec(&'a [String]),
    /// A file to place under `/dev/pipes/` (mode 0755, read-only) and to execute.
    File {
        /// Its name: the word of the heredoc.
        name: &'a str,
        /// Its contents; starts with `#!`.
        body: Cow<'a, str>,
    },
}

impl Run {
    /// Returns how a script begins that is all there is to run, for the name of the step: its
    /// first line, and `...` if there are more.
    pub fn summary(&self) -> Option<String> {
        let (Command::Shell(text), [only]) = (&self.command, self.heredocs.as_slice()) else {
            return None;
        };
        let body = only.is_all_of(&text.text).then(|| only.content())?;
        let (first, more) = match body.trim().split_once('\n') {
            Some((first, _)) => (first.trim_end_matches('\r'), "..."),
            None => (body.trim(), ""),
        };
        Some(format!("{first}{more}"))
    }

    /// Returns what is to be run.
    ///
    /// A command that is nothing but one heredoc is its body; anything else with heredocs is
    /// put together again as written and left to the shell. The builder expands neither.
    pub fn script(&self) -> Script<'_> {
        let text = match &self.command {
            Command::Exec(args) => return Script::Exec(args),
            Command::Shell(text) => text.text.as_str(),
        };
        match self.heredocs.as_slice() {
            [] => Script::Shell(Cow::Borrowed(text)),
            [only] if only.is_all_of(text) => {
                let body = only.content();
                if body.starts_with("#!") {
                    Script::File {
                        name: &only.name,
                        body,
                    }
                } else {
                    Script::Shell(body)
                }
            }
            several => Script::Shell(Cow::Owned(super::heredoc::rejoin(text, several))),
        }
    }
}

/// The network of a RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// What the build was told.
    Default,
    /// Loopback only.
    None,
    /// The builder's own.
    Host,
}

/// The privileges of a RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// The usual ones.
    Sandbox,
    /// All of them.
    Insecure,
}

/// A device of a RUN: `--device=name[,required]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// A CDI name, or a class.
    pub name: String,
    /// Whether its absence stops the build.
    pub required: bool,
    /// Where it was written.
    pub span: Span,
}

/// Where COPY and ADD take something from.
#[derive(Clone, Debug)]
pub enum CopySource {
    /// A path, a pattern, or for ADD a URL or git reference.
    Path(Word),
    /// A file with this content, named after its word.
    Heredoc(Heredoc),
}

/// `COPY`.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What to copy; at least one.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub dest: Word,
    /// `--from`: a stage, an index, a named context or an image. Never expanded.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, in order. Never expanded.
    pub exclude: Vec<Word>,
}

/// `ADD`.
#[derive(Clone, Debug)]
pub struct Add {
    /// What to add; at least one.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub dest: Word,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order. Never expanded.
    pub exclude: Vec<Word>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`; nothing where the flag is absent.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`; nothing where the flag is absent and the content decides.
    pub unpack: Option<bool>,
}

/// `ARG`: declarations in order; a later one sees the earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// What is declared; at least one.
    pub pairs: Vec<ArgPair>,
}

/// One declaration of an ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgPair {
    /// The name.
    pub name: Word,
    /// The default; nothing without `=`.
    pub default: Option<Word>,
}

/// The pairs of an ENV or LABEL, in order, all expanded with the same variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// At least one.
    pub pairs: Vec<Pair>,
    /// Whether it is the old form `KEY rest of the line`.
    pub legacy: bool,
}

/// One `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key; expanded too.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: switches an inherited one off.
    None,
    /// `CMD`.
    Check(Check),
}

/// The command of a HEALTHCHECK and its times; nothing means the runner's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What to run; its shell is always `/bin/sh -c`.
    pub command: Command,
    /// `--interval`.
    pub interval: Option<Duration>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--start-period`.
    pub start_period: Option<Duration>,
    /// `--start-interval`.
    pub start_interval: Option<Duration>,
    /// `--retries`.
    pub retries: Option<u32>,
}

/// `ONBUILD`.
#[derive(Clone, Debug)]
pub struct Onbuild {
    /// What the image config stores: the trigger as written, heredoc bodies appended.
    pub text: String,
    /// The trigger read at once, or why it will be refused when it is triggered.
    ///
    /// BuildKit accepts a faulty trigger until somebody builds on the image, so its error is
    /// kept and not raised. Spans point into this file.
    pub trigger: Result<Box<Kind>, Error>,
}
