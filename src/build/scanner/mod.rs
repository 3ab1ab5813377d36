//! SBOMs by commands of a scanner image, as buildah has them (`--sbom-scanner-image` and so on).
//!
//! The scanner is one more stage of the plan. Each command is a step of it that finds the files of
//! the result and of the contexts mounted read-only, and writes one document below [`OUT`]; one
//! that names the context is run once for each. So a scan is cached like any step. The documents
//! become one (`merge`), which the caller gets, the image as a layer of its own, or both.
//!
//! What is installed in the image has the time 0: a scan that was cached gives the same image.

mod merge;

use std::io::Read;

use crate::image::{ContainerConfig, DiffId, Reference};
use crate::layer::{Change, Changes, EncodeOptions, Follow, Kind, Meta, Node, Stack, Tree, encode};
use crate::store::Store;

use super::cache::Made;
use super::commit::{Built, DEFAULT_PATH};
use super::error::{Error, ScanError, StepError};
use super::images::BaseImage;
use super::request::Request;
use super::scan::{Program, Stage, bind, path};
use super::scope::Env;
use super::step::{CopyFrom, Plan};

pub use merge::Merge;

/// Where the files of the result are mounted.
const ROOT: &str = "/run/scan/root";
/// Where contexts are mounted, each below a number.
const CONTEXTS: &str = "/run/scan/context";
/// Where commands write, each a file with a number for its name.
const OUT: &str = "/run/scan/out";
/// Greatest size of one document.
const CAP: u64 = 40 << 20;

/// What is asked of a scanner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanner {
    /// The image that the commands are run in.
    pub image: Reference,
    /// The commands, in words that may hold `{ROOTFS}`, `{CONTEXT}` and `{OUTPUT}`.
    pub commands: Vec<Vec<String>>,
    /// How several documents become one.
    pub merge: Merge,
    /// Where in the image the document is kept.
    pub document_path: Option<String>,
    /// Where in the image the list of package URLs is kept.
    pub purls_path: Option<String>,
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// The document.
    pub document: Vec<u8>,
    /// The URLs of the packages in it, sorted, one a line.
    pub purls: Vec<u8>,
}

/// One run of a command.
struct Run<'a> {
    command: &'a [String],
    argv: Vec<String>,
}

impl Scanner {
    /// The runs that `contexts` contexts make necessary, in order.
    fn runs(&self, contexts: usize) -> Vec<Run<'_>> {
        let mut runs = Vec::new();
        for command in &self.commands {
            let each = match command.iter().any(|word| word.contains("{CONTEXT}")) {
                true => contexts,
                false => 1,
            };
            for context in 0..each {
                let out = format!("{OUT}/{}", runs.len());
                let word = |word: &String| {
                    word.replace("{ROOTFS}", ROOT)
                        .replace("{CONTEXT}", &format!("{CONTEXTS}/{context}"))
                        .replace("{OUTPUT}", &out)
                };
                let argv = command.iter().map(word).collect();
                runs.push(Run { command, argv });
            }
        }
        runs
    }

    /// How many steps a scan with `contexts` contexts takes.
    pub(super) fn steps(&self, contexts: usize) -> u32 {
        u32::try_from(self.runs(contexts).len() + 1).unwrap_or(u32::MAX)
    }

    fn failed(&self, error: ScanError) -> Error {
        Error::Scan {
            generator: self.image.familiar(),
            error,
        }
    }
}

/// What commands of a build find as contexts: its own, then the named ones that it reads.
pub(super) fn contexts(plan: &Plan) -> Vec<CopyFrom> {
    let named = plan.contexts.iter().copied().map(CopyFrom::Named);
    std::iter::once(CopyFrom::Context).chain(named).collect()
}

/// Adds the scan of the result to a plan. `image` is the scanner's, with its place among those of
/// the plan, `first` the number of the first of its steps.
pub(super) fn add(
    plan: &mut Plan,
    image: (usize, &BaseImage),
    scanner: &Scanner,
    contexts: &[CopyFrom],
    request: &Request,
    first: u32,
) {
    let name = scanner.image.familiar();
    let mut stage = Stage::new(plan, image, request, (&name, OUT), first);
    for run in scanner.runs(contexts.len()) {
        let text = format!("scanning with {name}: {}", run.command.join(" "));
        let config = &image.1.config().config;
        stage.run(text, program(run.argv, config, plan.target, contexts));
    }
    stage.put(plan, vec![plan.target]);
}

fn program(
    argv: Vec<String>,
    config: &ContainerConfig,
    target: usize,
    contexts: &[CopyFrom],
) -> Program {
    let mut env = Env::from_pairs(&config.env);
    if env.get("PATH").is_none() {
        env.set("PATH", DEFAULT_PATH);
    }
    let shown = contexts.iter().enumerate();
    let shown = shown.map(|(at, from)| bind(&format!("{CONTEXTS}/{at}"), from.clone()));
    let root = bind(ROOT, CopyFrom::Stage(target));
    Program {
        argv,
        env,
        mounts: std::iter::once(root).chain(shown).collect(),
        hostname: "scanner",
    }
}

/// Reads what the commands wrote; `files` is the scanner's file system after a scan with
/// `contexts` contexts.
pub(super) fn read(files: &dyn Tree, scanner: &Scanner, contexts: usize) -> Result<Scanned, Error> {
    let mut documents = Vec::new();
    for (at, run) in scanner.runs(contexts).iter().enumerate() {
        let command = || run.command.join(" ");
        let file = path(&format!("{OUT}/{at}"));
        let Some(Node {
            kind: Kind::File { size },
            content: Some(content),
            ..
        }) = files.node(&file)?
        else {
            return Err(scanner.failed(ScanError::Silent { command: command() }));
        };
        if size > CAP {
            let file = command();
            return Err(scanner.failed(ScanError::TooLarge { file, size }));
        }
        let mut bytes = Vec::new();
        let read = content.open(size)?.take(CAP).read_to_end(&mut bytes);
        read.map_err(|source| scanner.failed(ScanError::Read { source }))?;
        documents.push((command(), bytes));
    }
    if documents.is_empty() {
        let commands = scanner.commands.iter().map(|command| command.join(" "));
        let command = commands.collect::<Vec<_>>().join("`, `");
        return Err(scanner.failed(ScanError::Silent { command }));
    }
    merge::merge(scanner.merge, documents).map_err(|error| scanner.failed(error))
}

/// What is to be kept in an image with these `files`: the results, with the directories that they
/// are in.
pub(super) fn kept(files: &Stack, scanner: &Scanner, scanned: &Scanned) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    for (wanted, bytes) in [
        (&scanner.document_path, &scanned.document),
        (&scanner.purls_path, &scanned.purls),
    ] {
        let Some(wanted) = wanted else { continue };
        let place = files.resolve(&path(wanted), Follow::Last)?.path;
        if files.node(&place)?.is_some_and(|node| node.kind.is_dir()) {
            let error = StepError::IsADirectory { path: place };
            return Err(scanner.failed(ScanError::Failed(Box::new(error))));
        }
        let node = Node::file(meta(0o644), bytes.clone());
        changes.entries.insert(place, Change::Node(node));
    }
    changes.insert_parents(files, &meta(0o755))?;
    Ok(changes)
}

fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        ..Meta::default()
    }
}

/// Adds what is to be kept to the image, as a layer on top. `created` is when.
pub(super) fn install(
    store: &Store,
    mut built: Built,
    kept: &Changes,
    scanner: &Scanner,
    created: String,
) -> Result<Built, Error> {
    if kept.is_empty() {
        return Ok(built);
    }
    let mut blob = store.blob_writer()?;
    encode(kept, &EncodeOptions::default(), &mut blob)?;
    let blob = blob.finish()?;
    let made = Made {
        diff_id: DiffId(blob.digest().clone()),
        size: blob.size(),
        created,
    };
    let text = format!("# sbom by {}", scanner.image.familiar());
    built.record(&text, Some(&made));
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_run_for_each_context_that_it_names() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let scanner = Scanner {
            image: "scanner".parse().unwrap(),
            commands: vec![
                words("a {ROOTFS} {OUTPUT}"),
                words("b dir:{CONTEXT} o={OUTPUT}"),
            ],
            merge: Merge::Cat,
            document_path: None,
            purls_path: None,
        };
        let runs = scanner.runs(2);
        let argv: Vec<String> = runs.iter().map(|run| run.argv.join(" ")).collect();
        assert_eq!(
            argv,
            [
                "a /run/scan/root /run/scan/out/0",
                "b dir:/run/scan/context/0 o=/run/scan/out/1",
                "b dir:/run/scan/context/1 o=/run/scan/out/2",
            ]
        );
    }
}
