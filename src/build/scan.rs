//! What scanners for SBOMs have in common, whether they follow BuildKit's protocol
//! ([`attest::sbom`](super::attest::sbom)) or run commands ([`scanner`](super::scanner)): a scan is
//! one more stage of the plan, which first makes the directory for what is found.

use crate::dockerfile::Span;
use crate::event::StepId;
use crate::image::{ContainerConfig, Platform};
use crate::layer::TreePath;

use super::attest::sbom::Scan;
use super::images::BaseImage;
use super::mount::{BindMount, StepMount};
use super::request::Request;
use super::scope::{BuildArgs, Env};
use super::step::{Action, Base, CopyFrom, Plan, RunStep, StagePlan, Step, WorkdirStep};

/// The stage of a scan, as far as it is known.
pub(super) struct Stage<'a> {
    request: &'a Request,
    config: &'a ContainerConfig,
    base: Base,
    /// The platform that is scanned, for the names of steps.
    label: String,
    steps: Vec<Step>,
    next: u32,
}

/// A program of a scanner.
pub(super) struct Program {
    pub(super) argv: Vec<String>,
    pub(super) env: Env,
    /// What it finds besides `/tmp`.
    pub(super) mounts: Vec<StepMount>,
    pub(super) hostname: &'static str,
}

impl<'a> Stage<'a> {
    /// Begins with the directory `out` of the scanner `name`. `image` is the scanner's, with its
    /// place among those of the plan, `first` the number of the first step.
    pub(super) fn new(
        plan: &Plan,
        (place, image): (usize, &'a BaseImage),
        request: &'a Request,
        (name, out): (&str, &str),
        first: u32,
    ) -> Self {
        let mut stage = Self {
            request,
            config: &image.config().config,
            base: Base::Image(place),
            label: plan.stages[plan.target].platform.to_string(),
            steps: Vec::new(),
            next: first,
        };
        let out = WorkdirStep {
            path: path(out),
            user: stage.config.user.clone(),
        };
        stage.add(format!("preparing {name}"), Action::Workdir(out));
        stage
    }

    /// Adds a run of `program`.
    pub(super) fn run(&mut self, text: String, program: Program) {
        let Program {
            argv,
            env,
            mut mounts,
            hostname,
        } = program;
        mounts.push(StepMount::Tmpfs {
            target: path("/tmp"),
            size: None,
            read_only: false,
        });
        let run = RunStep {
            shown: argv.join(" "),
            argv,
            script: None,
            env: env.pairs().to_vec(),
            proxies: BuildArgs::new(&self.request.build_args).proxies(&self.request.proxies),
            mounts,
            user: self.config.user.clone(),
            workdir: self.config.working_dir.clone(),
            network: self.request.network,
            insecure: false,
            devices: Vec::new(),
            hostname: hostname.to_owned(),
        };
        self.add(text, Action::Run(run));
    }

    fn add(&mut self, text: String, action: Action) {
        self.steps.push(Step {
            span: Span::new(0, 0),
            shown: Some((StepId(self.next), format!("[{}] {text}", self.label))),
            created_by: text,
            action,
        });
        self.next += 1;
    }

    /// Makes it the last stage of the plan; `needs` are the stages that it looks at.
    pub(super) fn put(self, plan: &mut Plan, needs: Vec<usize>) {
        plan.scan = Some(plan.stages.len());
        plan.stages.push(StagePlan {
            label: "sbom".to_owned(),
            base: self.base,
            from: None,
            steps: self.steps,
            needs,
            platform: Platform::host(),
            config: self.config.clone(),
            author: None,
            no_cache: self.request.no_cache,
            scan: Scan::default(),
        });
    }
}

/// A read-only mount of all of `from`.
pub(super) fn bind(target: &str, from: CopyFrom) -> StepMount {
    StepMount::Bind(BindMount {
        target: path(target),
        from,
        source: TreePath::ROOT,
        writable: false,
    })
}

/// A path in an image.
pub(super) fn path(text: &str) -> TreePath {
    TreePath::clean(text.as_bytes()).unwrap_or_default()
}
