//! Why a build did not give an image.
//!
//! A [`StepError`] knows what went wrong; [`Error`] adds where: the instruction's span in the
//! Dockerfile, so that `cli` can show the line.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::dockerfile::{self, Source, Span};
use crate::image::{DiffId, Digest, DocumentError, Platform, Reference, ReferenceError};
use crate::layer::{self, TreePath};
use crate::sandbox;
use crate::store;
use crate::transfer;

use super::git::{Flaw, GitError};
use super::meant::Meant;

/// Why a build stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile is not there.
    #[error("there is no Dockerfile at {}", path.display())]
    NoDockerfile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file of the caller's can't be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The Dockerfile's text is wrong.
    #[error("{error}")]
    Dockerfile {
        /// The text.
        file: Arc<Source>,
        /// What is wrong with it, and where.
        error: dockerfile::Error,
    },
    /// The ignore file's text is wrong.
    #[error("{} is not valid", path.display())]
    Ignore {
        /// The ignore file.
        path: PathBuf,
        /// What is wrong with it.
        source: dockerfile::ignore::IgnoreError,
    },
    /// No stage has the name or number of `--target`.
    #[error("target stage {target:?} could not be found")]
    NoTarget {
        /// What was asked for.
        target: String,
        /// The stage name that is nearest to it.
        nearest: Option<String>,
    },
    /// An instruction could not be carried out.
    #[error("{name}: {error}")]
    Step {
        /// The step as shown: `[build 2/5] RUN make`.
        name: String,
        /// The Dockerfile.
        file: Arc<Source>,
        /// Where the instruction stands.
        span: Span,
        /// What went wrong.
        #[source]
        error: Box<StepError>,
    },
    /// The store's side of reading or keeping results.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Reading or writing a layer outside of any step.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// Pushing the result.
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    /// The repository of the context gave no files.
    #[error("cannot get `{url}`")]
    Git {
        /// Its address, without a login.
        url: String,
        /// The reason.
        source: Box<GitError>,
    },
    /// Layers of the result, which no step read, can't be had.
    #[error(transparent)]
    Supply(Box<StepError>),
    /// Layers that a cache named can't be had. The plan runs again without them.
    #[error("layer {} of an imported cache cannot be had", first(layers))]
    Absent {
        /// The layers.
        layers: Vec<DiffId>,
    },
    /// A verb about a working container failed.
    #[error("cannot {doing}")]
    Verb {
        /// What it was to do, and to what.
        doing: String,
        /// What went wrong.
        source: Box<StepError>,
    },
    /// No working container has this name or id.
    #[error("there is no working container `{text}`")]
    NoContainer {
        /// What was asked for.
        text: String,
        /// The name that is nearest to it.
        nearest: Option<String>,
    },
    /// Several ids begin so.
    #[error("several working containers have an id that begins with `{text}`")]
    AmbiguousContainer {
        /// What was asked for.
        text: String,
    },
    /// No container can have this name.
    #[error(
        "`{name}` can't be the name of a container: it has letters, digits, `_`, `.` and `-`, a \
         letter or digit first"
    )]
    ContainerName {
        /// The name.
        name: String,
    },
    /// Another working container has the name.
    #[error("the name `{name}` is taken by working container {by}")]
    NameTaken {
        /// The name.
        name: String,
        /// The beginning of that container's id.
        by: String,
    },
    /// No SBOM could be had of the result.
    #[error("cannot scan the result with `{generator}`")]
    Scan {
        /// The image of the generator.
        generator: String,
        /// The reason.
        #[source]
        error: ScanError,
    },
    /// The build was told to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// The linter found something, and `error=true` makes that an error.
    #[error("lint violation found for rules: {}", rules.join(", "))]
    Lint {
        /// The rules, each once.
        rules: Vec<&'static str>,
    },
    /// Two options exclude each other, or one of them has a value that can't be.
    #[error("{0}")]
    Options(OptionsError),
}

fn first(layers: &[DiffId]) -> String {
    let first = layers.first().map(|layer| layer.digest().short());
    first.map_or_else(String::new, |digest| digest.to_string())
}

/// What can't be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A form of output that holds one image only.
    #[error(
        "`type=docker` holds an image for one platform, {0} were asked for: `type=oci` holds all"
    )]
    Platforms(usize),
    /// An annotation of an index, and there is none.
    #[error("only a build for several platforms has an index to annotate")]
    NoIndex,
    /// Media types that docker has no name for.
    #[error("layers with `compression=zstd` or `compression=estargz` need `oci-mediatypes=true`")]
    OciOnly,
    /// Two results on standard output.
    #[error("only one output can go to standard output")]
    TwoStdouts,
    /// An OCI directory on standard output.
    #[error("an OCI layout that is a directory needs `dest=`")]
    DirectoryToStdout,
    /// The options of the linter can't be read.
    #[error("failed to parse {name}: {error}")]
    Check {
        /// The build argument.
        name: &'static str,
        /// What is wrong with it.
        error: Box<dockerfile::ErrorKind>,
    },
    /// Neither a time nor anything that has one.
    #[error(
        "invalid SOURCE_DATE_EPOCH: {0}: expected seconds since 1970, `context`, or the name of a \
         context or of a stage that holds one remote ADD"
    )]
    Epoch(String),
    /// A form of output that has no place for attestations.
    #[error("{0} has no place for attestations: `type=oci` has")]
    NoAttestations(&'static str),
    /// Pushing without a name.
    #[error("pushing needs a name: add `-t NAME` or `name=`")]
    PushWithoutName,
}

/// Why there is no SBOM.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The generator's image can't be had.
    #[error(transparent)]
    Image(Box<StepError>),
    /// The generator's image says nothing about what to run.
    #[error("the image has neither entrypoint nor command")]
    NoProgram,
    /// The generator did not get to its end.
    #[error(transparent)]
    Failed(Box<StepError>),
    /// A scan that found nothing at all says so in a file, too.
    #[error("the generator wrote no `*.spdx.json` into `$BUILDKIT_SCAN_DESTINATION`")]
    Nothing,
    /// A command of a scanner wrote nothing.
    #[error("`{command}` wrote no file to `{{OUTPUT}}`")]
    Silent {
        /// The command.
        command: String,
    },
    /// Documents can't become one.
    #[error("what `{command}` wrote cannot be merged: {why}")]
    Merge {
        /// The command.
        command: String,
        /// What is wrong with it.
        why: String,
    },
    /// One file is larger than allowed.
    #[error("`{file}` has {size} bytes, at most 40 MiB are taken")]
    TooLarge {
        /// Its name.
        file: String,
        /// Its size.
        size: u64,
    },
    /// A file is no statement.
    #[error("`{file}` cannot be used: {why}")]
    Statement {
        /// Its name.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file can't be read.
    #[error("cannot read what the generator wrote")]
    Read {
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What went wrong in one step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The instruction's text is wrong in a way that shows only when it is evaluated.
    #[error("{0}")]
    Text(dockerfile::Error),
    /// A trigger of the base image is no instruction. Its text is in no file of the caller's.
    #[error("{0}")]
    Trigger(Box<dockerfile::ErrorKind>),
    /// A value is wrong after expansion.
    #[error("{0}")]
    Value(String, #[source] ValueError),
    /// A literal source is not there.
    #[error("`{source_path}` is not in the build context{}", why(ignored_by.as_ref()))]
    NoSource {
        /// The source as written, after expansion.
        source_path: String,
        /// The ignore pattern that leaves it out.
        ignored_by: Option<IgnoredBy>,
    },
    /// `--from` found no such source.
    #[error("`{source_path}` is not in {from}")]
    NoSourceFrom {
        /// The source as written.
        source_path: String,
        /// The stage or image.
        from: String,
    },
    /// Several files, and the destination is no directory.
    #[error("several files need a directory to go to: end `{to}` with `/`")]
    ManySources {
        /// The destination.
        to: String,
    },
    /// A directory should go where something else is.
    #[error("cannot copy to non-directory: {path}")]
    NotADirectory {
        /// Where in the image.
        path: TreePath,
    },
    /// A file should replace a directory.
    #[error("cannot replace directory {path} with a file")]
    IsADirectory {
        /// Where in the image.
        path: TreePath,
    },
    /// Links in the image lead in a circle.
    #[error("too many symbolic links at {path}")]
    LinkLoop {
        /// Where in the image.
        path: TreePath,
    },
    /// A pattern is malformed.
    #[error("`{pattern}` is not a pattern: a `[` is not closed, or a `\\` stands at the end")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// An `--exclude` is no pattern.
    #[error("`--exclude` is not valid")]
    Exclude {
        /// What is wrong with it.
        source: dockerfile::ignore::IgnoreError,
    },
    /// `--link` stands on no image that could know a name.
    #[error("`--link` knows no users and groups: `--chown={chown}` needs numbers")]
    LinkOwner {
        /// `--chown`.
        chown: String,
    },
    /// A path holds a NUL byte.
    #[error("`{path}` holds a NUL byte")]
    NulInPath {
        /// The path.
        path: String,
    },
    /// `--chown` or USER names someone the image doesn't know.
    #[error("{error}")]
    Owner {
        /// The reason.
        error: sandbox::user::UserError,
    },
    /// A file of the context can't be read.
    #[error("cannot read {path} of the build context")]
    ReadContext {
        /// Which.
        path: TreePath,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of a stage or image can't be read.
    #[error("cannot read {path} of the source")]
    ReadSource {
        /// Which.
        path: TreePath,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A scratch file can't be written.
    #[error("cannot {doing}")]
    Scratch {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Scratch space can't be made.
    #[error(transparent)]
    Build(Box<Error>),
    /// What the source policy says against a source.
    #[error(transparent)]
    Policy(#[from] super::policy::PolicyError),
    /// A step asks for what only the command line can give.
    #[error("{grant} is not allowed")]
    NotAllowed {
        /// What `--allow` calls it.
        grant: String,
    },
    /// A required device that no specification has.
    #[error("device {name}: not found in the specifications of /etc/cdi and /var/run/cdi")]
    NoDevice {
        /// Its name.
        name: String,
    },
    /// A required secret that the command line does not give.
    #[error("secret {id}: not found")]
    NoSecret {
        /// Its id.
        id: String,
    },
    /// A required agent that the command line does not give.
    #[error("ssh {id}: no agent was given by this id")]
    NoAgent {
        /// Its id.
        id: String,
    },
    /// A secret as a variable whose value can't be one.
    #[error("secret {id} can't be the variable `{name}`: it holds a NUL byte")]
    SecretNul {
        /// Its id.
        id: String,
        /// The variable.
        name: String,
    },
    /// The step's files hold a secret.
    #[error("the layer of this step holds the secret `{id}`, in {path}")]
    SecretInLayer {
        /// Its id.
        id: String,
        /// Where in the image.
        path: TreePath,
    },
    /// `source` of a cache mount leads nowhere in the cache.
    #[error("cannot mount {path} of cache `{id}`")]
    CacheSource {
        /// The id of the cache.
        id: String,
        /// Its `source`.
        path: TreePath,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program ended badly.
    #[error(
        "process \"{command}\" did not complete successfully: {}",
        ending(exit)
    )]
    Exit {
        /// The command as docker quotes it.
        command: String,
        /// How it ended.
        exit: sandbox::Exit,
    },
    /// The program was killed because it used more memory than it may.
    #[error("process \"{command}\" went over its memory limit of {limit} bytes and was killed")]
    Memory {
        /// The command as docker quotes it.
        command: String,
        /// The limit.
        limit: u64,
    },
    /// Programs can't be shut in here, so none is run.
    #[error("RUN can't be isolated here")]
    NoIsolation {
        /// What is in the way.
        source: sandbox::userns::Refusal,
    },
    /// A mount in a step that can have none.
    #[error("a mount of type {kind} takes a mount namespace, which can't be had here")]
    NoMounts {
        /// What was to be mounted.
        kind: &'static str,
        /// What is in the way.
        source: sandbox::userns::Refusal,
    },
    /// A network other than the machine's in a step that can have none.
    #[error("a network of its own takes a network namespace, which can't be had here")]
    NoNetworks {
        /// What is in the way.
        source: sandbox::userns::Refusal,
    },
    /// The sandbox did not start.
    #[error("cannot start \"{command}\"")]
    Sandbox {
        /// The command.
        command: String,
        /// The reason.
        source: sandbox::Error,
    },
    /// STOPSIGNAL names no signal.
    #[error("invalid signal: {signal}")]
    Signal {
        /// What it names.
        signal: String,
    },
    /// EXPOSE names no port.
    #[error(transparent)]
    Port(#[from] dockerfile::PortError),
    /// VOLUME expands to nothing.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// A FROM names nothing.
    #[error("base name ({written}) should not be blank")]
    BlankBase {
        /// The base as written.
        written: String,
    },
    /// `FROM --platform` expands to nothing.
    #[error("empty platform value from expression {written}")]
    EmptyPlatform {
        /// The platform as written.
        written: String,
    },
    /// `FROM --platform` is no platform.
    #[error("failed to parse platform {written}: expected `os/architecture[/variant]`")]
    BadPlatform {
        /// The platform as written.
        written: String,
    },
    /// No stage has this number.
    #[error("invalid stage index {index}")]
    StageIndex {
        /// The number.
        index: usize,
    },
    /// A stage is read before it is built.
    #[error(
        "cannot copy from stage {stage:?}, it needs to be defined before current stage {current:?}"
    )]
    LaterStage {
        /// The stage as written.
        stage: String,
        /// The stage that reads it.
        current: String,
    },
    /// Stages copy from each other.
    #[error("circular dependency detected on stage: {stage}")]
    Circle {
        /// A stage from which the circle is reached.
        stage: String,
    },
    /// An image can't be had, and its name is close to something else.
    #[error("{error}")]
    Meant {
        /// What was probably meant.
        meant: Meant,
        /// The name as written.
        span: Span,
        /// Why the image can't be had.
        error: Box<Self>,
    },
    /// A base image is not there and can't be had.
    #[error("cannot get image `{reference}`")]
    Image {
        /// Its name.
        reference: Box<Reference>,
        /// The reason.
        source: transfer::Error,
    },
    /// `--pull=never`, and the image is not there.
    #[error(
        "image `{reference}` is not in the store, and `--pull=never` keeps it from being pulled"
    )]
    NotPulled {
        /// Its name.
        reference: Box<Reference>,
    },
    /// A local image name that no image has.
    #[error("no local image is named `{reference}`")]
    NoLocalImage {
        /// Its name.
        reference: Box<Reference>,
    },
    /// The image is for another platform.
    #[error("image `{reference}` is for {got}, {want} was asked for")]
    Platform {
        /// Its name.
        reference: Box<Reference>,
        /// Platform of the image.
        got: Box<Platform>,
        /// Platform asked for.
        want: Box<Platform>,
    },
    /// A name is no image name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A document of an image is malformed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A URL can't be fetched.
    #[error("cannot fetch `{url}`")]
    Download {
        /// The URL.
        url: String,
        /// The reason.
        source: transfer::Error,
    },
    /// The address of a repository is none.
    #[error("`{url}` is no address of a git repository")]
    GitAddress {
        /// As written, after expansion.
        url: String,
        /// What is wrong with it.
        source: Flaw,
    },
    /// A repository gave no files.
    #[error("cannot get `{url}`")]
    Git {
        /// Its address, without a login.
        url: String,
        /// The reason.
        source: Box<GitError>,
    },
    /// The bytes of a URL are not what `--checksum` says.
    #[error("digest mismatch: `{url}` has {got}, `--checksum` says {want}")]
    Checksum {
        /// The URL.
        url: String,
        /// What `--checksum` says.
        want: Digest,
        /// What came.
        got: Digest,
    },
    /// An instruction that does more than change the config.
    #[error("{keyword} does more than change the config")]
    NotConfig {
        /// The instruction.
        keyword: &'static str,
    },
    /// The files of a working container.
    #[error(transparent)]
    Mount {
        /// The reason.
        source: sandbox::Error,
    },
    /// A program for another platform would have to run.
    #[error(
        "stage `{stage}` runs programs of {platform}, and this machine has no handler for them"
    )]
    NoEmulation {
        /// The stage.
        stage: String,
        /// Their platform.
        platform: Box<Platform>,
    },
    /// A program for another platform would have to run, and its interpreter would be looked for
    /// inside the image.
    #[error(
        "stage `{stage}` runs programs of {platform}, and this machine's handler for them, \
         `{handler}`, lacks the flag F: the kernel would look for its interpreter inside the image"
    )]
    UnfixedHandler {
        /// The stage.
        stage: String,
        /// Their platform.
        platform: Box<Platform>,
        /// The name of the handler.
        handler: String,
    },
    /// The store's side.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A tree or layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// Encoding the same layer twice gave different bytes.
    #[error("the layer of this step changed while it was stored: {first}, then {second}")]
    Unstable {
        /// Digest of the first pass.
        first: Digest,
        /// Digest of the second.
        second: Digest,
    },
    /// The build was told to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        Self::Build(Box::new(error))
    }
}

/// The line of an ignore file that leaves a path out of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredBy {
    /// The ignore file as messages name it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The pattern on it.
    pub pattern: String,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is no mode.
    #[error("invalid chmod parameter: it is octal, between 0 and 07777, or as in `u=rwX,go=rX`")]
    Mode,
    /// It is no time.
    #[error(
        "expected seconds since 1970, `context`, or the name of a context or of a stage that \
         holds one remote ADD"
    )]
    Epoch,
    /// It is no checksum.
    #[error("invalid checksum digest format: expected `sha256:` and 64 lower-case hex digits")]
    Checksum,
    /// It is a checksum of another kind.
    #[error("unsupported digest algorithm: only `sha256:` is known")]
    Algorithm,
    /// A checksum for more than one thing.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumSources,
    /// A checksum where nothing is fetched.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumLocal,
}

/// How a program ended, in the words people search for.
fn ending(exit: &sandbox::Exit) -> String {
    match exit {
        sandbox::Exit::Code(code) => format!("exit code: {code}"),
        sandbox::Exit::Signal(signal) => format!("signal: {signal}"),
    }
}

fn why(ignored_by: Option<&IgnoredBy>) -> String {
    match ignored_by {
        Some(IgnoredBy {
            file,
            line,
            pattern,
        }) => {
            format!(": line {line} of `{file}` (`{pattern}`) leaves it out")
        }
        None => String::new(),
    }
}
