//! What can be wrong with a Dockerfile, as plain data.
//!
//! An [`Error`] says what ([`ErrorKind`]), where ([`Span`] and lines) and, where a slip is
//! likely, what was meant. Nothing is rendered here: `cli` draws the excerpt. The texts are
//! BuildKit's where BuildKit has one, since people search for them.

use super::span::{Source, Span, Word};
use std::fmt;

/// One thing wrong with a Dockerfile, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong; boxed, so that a result stays small.
    pub kind: Box<ErrorKind>,
    /// The text to put a marker under.
    pub span: Span,
    /// First line (from 1) of the instruction concerned.
    pub line: usize,
    /// Last line (from 1) of the instruction concerned.
    pub last_line: usize,
    /// The word that was probably meant instead of the one under the marker.
    pub suggestion: Option<String>,
}

impl Error {
    /// Places `kind` at `span`; the lines are those of the span. The parser widens them to the
    /// whole instruction.
    pub fn new(source: &Source, kind: ErrorKind, span: Span) -> Self {
        let (line, last_line) = source.lines(span);
        Self {
            kind: Box::new(kind),
            span,
            line,
            last_line,
            suggestion: None,
        }
    }

    /// Adds what was probably meant.
    pub fn suggest(mut self, word: Option<impl Into<String>>) -> Self {
        self.suggestion = word.map(Into::into);
        self
    }

    /// Makes the error that expanding `word` met.
    pub fn expanding(source: &Source, word: &Word, error: ExpandError) -> Self {
        Self::new(
            source,
            ErrorKind::Expand {
                word: word.text.clone(),
                error,
            },
            word.span,
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dockerfile parse error on line {}: {}",
            self.line, self.kind
        )?;
        match &self.suggestion {
            Some(word) => write!(f, " (did you mean {word}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            ErrorKind::Expand { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// What is wrong, without the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing in the file at all.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// Only comments and blank lines.
    #[error("file with no instructions")]
    NoInstructions,
    /// Global ARGs, but no FROM.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// Something else than ARG before the first FROM.
    #[error("no build stage in current context: `{instruction}` stands before the first FROM")]
    BeforeFrom {
        /// The instruction word as typed.
        instruction: String,
    },
    /// A physical line is too long.
    #[error("dockerfile line greater than max allowed size of {max}")]
    LineTooLong {
        /// The most bytes a line may have.
        max: usize,
    },
    /// An instruction holds bytes that are not UTF-8.
    #[error("the text of `{instruction}` is not UTF-8")]
    NotUtf8 {
        /// The instruction word as typed.
        instruction: String,
    },
    /// A parser directive appears twice.
    #[error("only one {name} parser directive can be used")]
    DirectiveTwice {
        /// `syntax`, `escape` or `check`.
        name: String,
    },
    /// The escape directive holds something else than `\` or a backtick.
    #[error("invalid escape token '{value}' does not match ` or \\")]
    EscapeToken {
        /// What it holds.
        value: String,
    },
    /// A part of the check directive is not understood.
    #[error("invalid check option {option:?}")]
    CheckOption {
        /// The part.
        option: String,
    },
    /// No instruction has this name.
    #[error("unknown instruction: {word}")]
    UnknownInstruction {
        /// The word as typed.
        word: String,
    },
    /// The instruction has no such flag.
    #[error("unknown flag: --{flag}")]
    UnknownFlag {
        /// The name without dashes.
        flag: String,
    },
    /// A flag that stands once stands twice.
    #[error("duplicate flag specified: --{flag}")]
    DuplicateFlag {
        /// The name without dashes.
        flag: String,
    },
    /// A flag needs `=value`.
    #[error("missing a value on flag: --{flag}")]
    FlagValue {
        /// The name without dashes.
        flag: String,
    },
    /// A boolean flag holds something else.
    #[error("expecting boolean value for flag --{flag}, not: {value}")]
    FlagBool {
        /// The name without dashes.
        flag: String,
        /// What it holds.
        value: String,
    },
    /// A JSON array holds something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// SHELL was given words instead of a JSON array.
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellNotJson,
    /// One argument is needed, no more and no less.
    #[error("{instruction} requires exactly one argument")]
    ExactlyOne {
        /// The instruction, upper case.
        instruction: &'static str,
    },
    /// An argument is needed.
    #[error("{instruction} requires at least one argument")]
    AtLeastOne {
        /// The instruction, upper case.
        instruction: &'static str,
    },
    /// COPY or ADD without source or destination.
    #[error(
        "{instruction} requires at least two arguments, but only one was provided. \
         Destination could not be determined"
    )]
    NoDestination {
        /// The instruction, upper case.
        instruction: &'static str,
    },
    /// FROM with two or more than three words.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A name is empty.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// The instruction, upper case.
        instruction: &'static str,
    },
    /// The old form without a value.
    #[error("{instruction} must have two arguments")]
    TwoArguments {
        /// The instruction, upper case.
        instruction: &'static str,
    },
    /// A later pair has no `=`.
    #[error("Syntax error - can't find = in {word:?}. Must be of the form: name=value")]
    NoEquals {
        /// The word.
        word: String,
    },
    /// A volume path is empty.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// A stage name with forbidden characters.
    #[error(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    )]
    StageName {
        /// The name as typed.
        name: String,
    },
    /// A heredoc without its last line.
    #[error("unterminated heredoc: no line with only `{name}` follows")]
    UnterminatedHeredoc {
        /// The word that ends it.
        name: String,
    },
    /// COPY or ADD into a heredoc.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// The instruction, upper case.
        instruction: &'static str,
    },
    /// COPY from a URL.
    #[error("source can't be a URL for COPY")]
    CopyUrl,
    /// COPY from a git repository.
    #[error("source can't be a git ref for COPY")]
    CopyGit,
    /// `--checksum` with several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumSources,
    /// `--checksum` on something from the context.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumLocal,
    /// A flag whose value is never expanded holds a variable.
    #[error("'{key}' doesn't support variable expansion, define alias stage instead")]
    NoExpansion {
        /// The flag or key.
        key: &'static str,
    },
    /// `--network` has another value.
    #[error("invalid network mode {value:?}")]
    Network {
        /// The value.
        value: String,
    },
    /// `--security` has another value.
    #[error("security {value:?} is not valid")]
    Security {
        /// The value.
        value: String,
    },
    /// The value of `--device` is not understood.
    #[error("invalid device {value:?}: {why}")]
    Device {
        /// The value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something is wrong with a `--mount`.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// ONBUILD ONBUILD.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    /// ONBUILD FROM and ONBUILD MAINTAINER.
    #[error("{instruction} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger {
        /// The instruction, upper case.
        instruction: String,
    },
    /// A stored trigger holds no or several instructions.
    #[error("onbuild trigger should be a single expression: {text:?}")]
    OnbuildNotSingle {
        /// The stored text.
        text: String,
    },
    /// HEALTHCHECK NONE with more words.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNone,
    /// HEALTHCHECK CMD with nothing behind it.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthCommand,
    /// Neither CMD nor NONE.
    #[error("Unknown type {word:?} in HEALTHCHECK (try CMD)")]
    HealthType {
        /// The word, upper case.
        word: String,
    },
    /// A time that is no Go duration.
    #[error("invalid duration {value:?} for --{flag}")]
    Duration {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// A time that is too short.
    #[error("Interval {flag:?} cannot be less than 1ms")]
    ShortInterval {
        /// The flag.
        flag: &'static str,
    },
    /// `--retries` is no number.
    #[error("invalid value {value:?} for --retries")]
    Retries {
        /// Its value.
        value: String,
    },
    /// `--retries` below zero.
    #[error("--retries cannot be negative ({value})")]
    NegativeRetries {
        /// Its value.
        value: i64,
    },
    /// A word could not be expanded.
    #[error("cannot expand {word:?}")]
    Expand {
        /// The word as written.
        word: String,
        /// Why.
        #[source]
        error: ExpandError,
    },
}

/// What is wrong with the value of a `--mount`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Quotes that do not match.
    #[error("invalid quotes in mount {text:?}")]
    Quotes {
        /// The whole value.
        text: String,
    },
    /// A key that needs a value stands alone.
    #[error("invalid field '{field}' must be a key=value pair")]
    NotPair {
        /// The field.
        field: String,
    },
    /// No such key.
    #[error("unexpected key '{key}' in '{field}'")]
    Key {
        /// The key, lower case.
        key: String,
        /// The field as written.
        field: String,
    },
    /// A key of another mount type.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyForType {
        /// The key, lower case.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// No such type.
    #[error("unsupported mount type {value:?}")]
    Type {
        /// The type as written.
        value: String,
    },
    /// No such sharing mode.
    #[error("unsupported sharing value {value:?}")]
    Sharing {
        /// The value.
        value: String,
    },
    /// A boolean or size that is none.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A mode, uid or gid that is no number.
    #[error("invalid value {value} for {key}")]
    Number {
        /// `mode`, `uid` or `gid`.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Mode or owner on a mount that has none.
    #[error("{key} not allowed for {kind:?} type mounts")]
    NotAllowed {
        /// `mode`, `uid` or `gid`.
        key: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// `sharing` on something else than a cache.
    #[error("invalid cache sharing set for {kind} mount")]
    SharingForType {
        /// The type.
        kind: &'static str,
    },
    /// A secret with `from`.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret that does not say which.
    #[error("invalid secret mount. one of source, target required")]
    SecretUnnamed,
    /// A secret that says which twice.
    #[error("both source and id can't be set")]
    SecretTwice,
    /// A mount over the root.
    #[error("invalid mount target {target:?}")]
    Target {
        /// The target.
        target: String,
    },
    /// A value could not be expanded.
    #[error("cannot expand {value:?}")]
    Expand {
        /// The value as written.
        value: String,
        /// Why.
        #[source]
        error: ExpandError,
    },
}

/// Why a word could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// `${}`, `${:…` or `${{…`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// A `${` that never ends.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${v/p` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// A quote that never ends.
    #[error("unexpected end of statement while looking for matching {quote}")]
    OpenQuote {
        /// `single-quote` or `double-quote`.
        quote: &'static str,
    },
    /// `${v!…}` and other forms that do not exist.
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier {
        /// The characters behind the name.
        modifier: String,
    },
    /// A pattern with an escape that means nothing.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The character behind the escape.
        escaped: String,
    },
    /// `${v?…}` with no value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text behind the `?`, or the usual one.
        message: String,
    },
    /// Substitutions nested deeper than anybody writes them.
    #[error("substitutions are nested deeper than {max} levels")]
    Depth {
        /// The most levels.
        max: usize,
    },
}
