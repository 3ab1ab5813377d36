//! Steps: what is left of a stage once every instruction is evaluated.
//!
//! All variables are expanded and all configs known before the first step runs, so a plan can
//! be shown, keyed and tested without disk, network or privilege.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::Span;
use crate::dockerfile::ignore::Ignore;
use crate::event::StepId;
use crate::image::{ContainerConfig, Digest, Platform, Reference};
use crate::layer::TreePath;
use crate::transfer::Source;

use super::attest::sbom::Scan;
use super::chmod::Chmod;
use super::git::GitUrl;
use super::mount::StepMount;
use super::place::Destination;
use super::request::Network;
use super::scope::Variable;
use super::secret::Guard;

/// All stages that a build needs, each after those it needs itself.
#[derive(Debug)]
pub(super) struct Plan {
    /// The stages, in the order of the file.
    pub(super) stages: Vec<StagePlan>,
    /// Which of them is the result, as an index into `stages`.
    pub(super) target: usize,
    /// Named contexts whose files steps read, as indices into those of the request.
    pub(super) contexts: BTreeSet<usize>,
    /// The stage that scans the result, as an index into `stages`.
    pub(super) scan: Option<usize>,
}

/// One stage, evaluated.
#[derive(Debug)]
pub(super) struct StagePlan {
    /// How messages name it: `build`, or `stage-2` for one without a name.
    pub(super) label: String,
    /// What it starts from.
    pub(super) base: Base,
    /// The step that stands for its FROM, with its shown name, where that is an image.
    pub(super) from: Option<(StepId, String)>,
    /// The steps, in order.
    pub(super) steps: Vec<Step>,
    /// Stages of the plan whose files its steps read.
    pub(super) needs: Vec<usize>,
    /// What RUN runs on.
    pub(super) platform: Platform,
    /// The config after the last instruction.
    pub(super) config: ContainerConfig,
    /// MAINTAINER, or the base's author.
    pub(super) author: Option<String>,
    /// Whether steps of this stage run even when an earlier result is known.
    pub(super) no_cache: bool,
    /// What of it an SBOM is to cover.
    pub(super) scan: Scan,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    /// Nothing.
    Scratch,
    /// An image, as an index into the images that were resolved.
    Image(usize),
    /// Another stage, as an index into the plan.
    Stage(usize),
    /// The files of a named context, which the first step brings.
    Files(usize),
}

/// One instruction, evaluated.
#[derive(Debug)]
pub(super) struct Step {
    /// Where the instruction stands; for a trigger, its FROM.
    pub(super) span: Span,
    /// Identity and shown name of what is worth showing; metadata has none.
    pub(super) shown: Option<(StepId, String)>,
    /// `created_by` of its history entry.
    pub(super) created_by: String,
    /// What there is to do.
    pub(super) action: Action,
}

impl Step {
    /// What a stage begins with whose FROM, at `span`, names a context of files: all of them.
    pub(super) fn all_files(context: usize, name: &str, span: Span) -> Self {
        let copy = CopyStep {
            add: false,
            from: CopyFrom::Named(context),
            sources: vec![CopySource::Path("/".to_owned())],
            to: Destination {
                path: TreePath::ROOT,
                is_dir: true,
            },
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            excluded: Ignore::default(),
            unpack: Unpack::Never,
        };
        let text = format!("FROM {name}");
        Self {
            span,
            shown: Some((StepId(0), text.clone())),
            created_by: text,
            action: Action::Copy(copy),
        }
    }

    /// Replaces indices of stages in the file by their places in the plan.
    pub(super) fn renumber_stages(&mut self, place: &BTreeMap<usize, usize>) {
        match &mut self.action {
            Action::Copy(CopyStep {
                from: CopyFrom::Stage(stage),
                ..
            }) => *stage = place[stage],
            Action::Run(run) => {
                for mount in &mut run.mounts {
                    mount.renumber_stages(place);
                }
            }
            Action::Copy(_) | Action::Config | Action::Workdir(_) => {}
        }
    }
}

impl StagePlan {
    /// Returns how many of its steps are shown, that of its FROM included.
    pub(super) fn shown(&self) -> usize {
        let shown = self.steps.iter().filter(|step| step.shown.is_some());
        usize::from(self.from.is_some()) + shown.count()
    }
}

impl Plan {
    /// Returns how many steps are shown.
    pub(super) fn step_count(&self) -> u32 {
        let shown = self.stages.iter().map(StagePlan::shown);
        u32::try_from(shown.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Takes the values of secrets out of the names of steps.
    pub(super) fn mask(&mut self, guard: &Guard) {
        for stage in &mut self.stages {
            let steps = stage.steps.iter_mut();
            let shown = steps.filter_map(|step| step.shown.as_mut());
            for (_, name) in shown.chain(&mut stage.from) {
                *name = guard.masked(name);
            }
        }
    }
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Action {
    /// Only changes the config, which the plan has done.
    Config,
    /// Runs a program.
    Run(RunStep),
    /// Copies files.
    Copy(CopyStep),
    /// Makes a directory.
    Workdir(WorkdirStep),
}

/// RUN.
#[derive(Debug, Clone)]
pub(super) struct RunStep {
    /// The program and its arguments.
    pub(super) argv: Vec<String>,
    /// A file that the program reads or is, at a path in the image.
    pub(super) script: Option<Script>,
    /// ENV and ARGs.
    pub(super) env: Vec<Variable>,
    /// Proxies, which no key and no history sees.
    pub(super) proxies: Vec<(String, String)>,
    /// What is mounted, in order.
    pub(super) mounts: Vec<StepMount>,
    /// The user as the config names it.
    pub(super) user: String,
    /// The working directory.
    pub(super) workdir: String,
    /// What it can reach.
    pub(super) network: Network,
    /// Whether nothing is kept from it that its caller could give (`--security=insecure`).
    pub(super) insecure: bool,
    /// Devices by name, and whether the step fails without them.
    pub(super) devices: Vec<(String, bool)>,
    /// Its host name.
    pub(super) hostname: String,
    /// The command as messages quote it.
    pub(super) shown: String,
}

/// A heredoc that begins with `#!` and is run as a program.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// Where it is mounted.
    pub(super) path: String,
    /// Its text.
    pub(super) text: Vec<u8>,
}

/// COPY or ADD.
#[derive(Debug, Clone)]
pub(super) struct CopyStep {
    /// Whether it is ADD, which unpacks and downloads.
    pub(super) add: bool,
    /// Where the files are.
    pub(super) from: CopyFrom,
    /// What to copy, in order.
    pub(super) sources: Vec<CopySource>,
    /// Where to.
    pub(super) to: Destination,
    /// `--chown`, expanded: `user`, `user:group`, numbers or names.
    pub(super) chown: Option<String>,
    /// `--chmod`.
    pub(super) chmod: Option<Chmod>,
    /// `--link`: the layer depends on nothing below it and follows none of its links.
    pub(super) link: bool,
    /// `--parents`.
    pub(super) parents: bool,
    /// `--exclude`, as written.
    pub(super) exclude: Vec<String>,
    /// `--exclude`, ready to match.
    pub(super) excluded: Ignore,
    /// Which archives are unpacked.
    pub(super) unpack: Unpack,
}

/// Which archives an ADD unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpack {
    /// None; COPY and `--unpack=false`.
    Never,
    /// Those of the context, judged by content.
    LocalArchives,
    /// Also those that come from a URL; `--unpack=true`.
    Always,
}

/// Whose files COPY reads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CopyFrom {
    /// The build context's.
    Context,
    /// A named context's, as an index into those of the request.
    Named(usize),
    /// A stage's, as an index into the plan.
    Stage(usize),
    /// An image's, as an index into the images that were resolved.
    Image(usize),
    /// None at all: `scratch` under the name of a context.
    Nothing,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone)]
pub(super) enum CopySource {
    /// A path or pattern in a tree.
    Path(String),
    /// A heredoc.
    Inline {
        /// File name.
        name: String,
        /// What the file holds.
        text: Vec<u8>,
    },
    /// An `http` or `https` URL (ADD).
    Url {
        /// The URL.
        url: String,
        /// What its bytes must hash to.
        checksum: Option<Digest>,
    },
    /// A git repository (ADD).
    Git(Box<GitUrl>),
}

/// WORKDIR, where it makes a directory.
#[derive(Debug, Clone)]
pub(super) struct WorkdirStep {
    /// The directory.
    pub(super) path: TreePath,
    /// Whose it becomes.
    pub(super) user: String,
}

/// An image that stages start from or copy from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImageNeed {
    /// Its name.
    pub(super) reference: Reference,
    /// The layout it comes from, rather than the store or a registry.
    pub(super) layout: Option<Source>,
    /// For which platform.
    pub(super) platform: Platform,
    /// Where it is first named.
    pub(super) span: Span,
}
