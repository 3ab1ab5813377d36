//! What CONTEXT and `-f` mean, and standard input where one of them is `-`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::Build;
use crate::build::{ContextSource, DockerfileSource, GitUrl, NamedSource, Request, SshSource};
use crate::cli::env;
use crate::cli::report::Report;
use crate::dockerfile::{self, SourceKind, go_bool};
use crate::layer::{self, Format};
use crate::store::{Scratch, Store};

/// Largest Dockerfile that is read from standard input, in bytes.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// The build argument that keeps `.git` in a context, as BuildKit names it.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// Bytes that tell a tar from a Dockerfile.
const PREFIX: u64 = 1024;

/// Fills in the context and the Dockerfile. What is returned holds spooled input and goes when
/// it is dropped.
pub(super) fn resolve(
    args: &Build,
    store: &Store,
    request: &mut Request,
) -> Result<Option<Scratch>, Report> {
    let context_is_stdin = args.context() == Path::new("-");
    let file_is_stdin = args.file.as_deref() == Some(Path::new("-"));
    if context_is_stdin && file_is_stdin {
        return Err(Report::wrong_use(
            "CONTEXT and `-f` can't both be standard input",
        ));
    }
    if context_is_stdin {
        return from_stdin(args, store, request);
    }
    request.context = context(args.context())?;
    if let ContextSource::Git(url) = &mut request.context {
        keep_git_dir(url, &request.build_args)?;
    }
    let named = request
        .contexts
        .iter()
        .filter_map(|named| match &named.source {
            NamedSource::Files(files) => Some(files),
            _ => None,
        });
    let over_ssh =
        |context: &ContextSource| matches!(context, ContextSource::Git(url) if url.is_ssh());
    // As with buildx, naming such a repository is leave enough.
    if named.chain([&request.context]).any(over_ssh) && request.git.ssh_agent.is_none() {
        request.git.ssh_agent = env::path("SSH_AUTH_SOCK").map(SshSource::Socket);
    }
    request.dockerfile = match &args.file {
        None => DockerfileSource::Default,
        Some(_) if file_is_stdin => DockerfileSource::Text(read_dockerfile(&mut io::stdin())?),
        Some(file) => DockerfileSource::File(match &request.context {
            ContextSource::Dir(dir) => in_either(file, dir),
            _ => file.clone(),
        }),
    };
    Ok(None)
}

/// `-f` names a file from here or, where there is none, from the context, as buildah reads it.
fn in_either(file: &Path, context: &Path) -> PathBuf {
    let inside = context.join(file);
    match !file.exists() && inside.exists() {
        true => inside,
        false => file.to_owned(),
    }
}

/// Reads a context that is not on this machine; `None` for one that is.
pub(super) fn remote(text: &str) -> Result<Option<ContextSource>, String> {
    match dockerfile::source_kind(text) {
        SourceKind::Path if !text.starts_with("github.com/") => Ok(None),
        SourceKind::Url => Ok(Some(ContextSource::Url(text.to_owned()))),
        SourceKind::Path | SourceKind::Git => git(text).map(|url| Some(ContextSource::Git(url))),
    }
}

fn context(path: &Path) -> Result<ContextSource, Report> {
    if let Some(remote) = remote(&path.to_string_lossy()).map_err(Report::wrong_use)? {
        return Ok(remote);
    }
    let meta = fs::metadata(path).map_err(|error| {
        Report::failed(format!("cannot open the build context {}", path.display())).because(&error)
    })?;
    Ok(match meta.is_dir() {
        true => ContextSource::Dir(path.to_owned()),
        false => ContextSource::Archive(path.to_owned()),
    })
}

/// Reads the address of a repository.
pub(super) fn git(text: &str) -> Result<GitUrl, String> {
    GitUrl::parse(text)
        .map_err(|flaw| format!("`{text}` is no address of a git repository: {flaw}"))
}

/// `--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1` says what `?keep-git-dir=1` says.
fn keep_git_dir(url: &mut GitUrl, build_args: &[(String, String)]) -> Result<(), Report> {
    let given = build_args.iter().rfind(|(key, _)| key == KEEP_GIT_DIR);
    let keep = given.is_some_and(|(_, value)| go_bool(value) == Some(true));
    match keep {
        true => url
            .keep(true)
            .map_err(|flaw| Report::wrong_use(flaw.to_string())),
        false => Ok(()),
    }
}

fn from_stdin(
    args: &Build,
    store: &Store,
    request: &mut Request,
) -> Result<Option<Scratch>, Report> {
    let mut stdin = io::stdin().lock();
    let mut prefix = Vec::new();
    let read = |error: io::Error| Report::failed("cannot read standard input").because(&error);
    (&mut stdin)
        .take(PREFIX)
        .read_to_end(&mut prefix)
        .map_err(read)?;
    if prefix.is_empty() {
        return Err(Report::failed(
            "standard input is empty: expected a Dockerfile or a tar",
        ));
    }
    let mut input = prefix.as_slice().chain(stdin);
    if layer::sniff(&prefix) == Format::Plain && !layer::is_tar(&prefix) {
        if args.file.is_some() {
            return Err(Report::wrong_use(
                "`-f` names a file of a tar on standard input, and that holds no tar",
            ));
        }
        request.context = ContextSource::Empty;
        request.dockerfile = DockerfileSource::Text(read_dockerfile(&mut input)?);
        return Ok(None);
    }
    let scratch = store.scratch()?;
    let path = scratch.path().join("context.tar");
    spool(&mut input, &path)
        .map_err(|error| Report::failed("cannot keep the tar of standard input").because(&error))?;
    request.context = ContextSource::Archive(path);
    request.dockerfile = match &args.file {
        Some(file) => DockerfileSource::File(file.clone()),
        None => DockerfileSource::Default,
    };
    Ok(Some(scratch))
}

fn spool(input: &mut dyn Read, path: &Path) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    io::copy(input, &mut file)?;
    file.flush()?;
    file.rewind()
}

fn read_dockerfile(input: &mut dyn Read) -> Result<Vec<u8>, Report> {
    let mut text = Vec::new();
    let read = input.take(MAX_DOCKERFILE + 1).read_to_end(&mut text);
    read.map_err(|error| Report::failed("cannot read standard input").because(&error))?;
    if text.len() as u64 > MAX_DOCKERFILE {
        return Err(Report::failed(format!(
            "the Dockerfile on standard input has more than {MAX_DOCKERFILE} bytes"
        )));
    }
    Ok(text)
}
