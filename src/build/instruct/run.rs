//! RUN: its flags, its command and what the history says of it.

use crate::dockerfile::{Device, Network as RunNetwork, Run, Script as Form, Security};

use super::super::cdi;
use super::super::error::StepError;
use super::super::eval::Evaluator;
use super::super::request::{Grant, Network};
use super::super::scope::is_proxy;
use super::super::step::{Action, RunStep, Script};
use super::super::steps::run::with_shell;
use super::{At, StageState};

/// Host name that RUN sees, as BuildKit sets it.
const HOSTNAME: &str = "buildkitsandbox";
/// The build argument with another one.
const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";

impl Evaluator<'_, '_> {
    /// What a RUN may reach: the Dockerfile can narrow that by itself, and widen it with leave.
    fn network(&self, asked: Option<RunNetwork>) -> Result<Network, StepError> {
        let given = self.request.network;
        match asked {
            None | Some(RunNetwork::Default) => Ok(given),
            Some(RunNetwork::None) => Ok(Network::None),
            Some(RunNetwork::Host)
                if given == Network::Host || self.request.allow.contains(&Grant::NetworkHost) =>
            {
                Ok(Network::Host)
            }
            Some(RunNetwork::Host) => {
                let grant = "network.host".to_owned();
                Err(StepError::NotAllowed { grant })
            }
        }
    }

    /// The devices of a RUN, as far as they are allowed: by the command line, or by whoever
    /// installed their specification.
    fn devices(&self, devices: &[Device]) -> Result<Vec<(String, bool)>, StepError> {
        let allowed = |name: &str| {
            self.request.allow.iter().any(|grant| match grant {
                Grant::Device(None) => true,
                Grant::Device(Some(known)) => known == name,
                Grant::NetworkHost | Grant::SecurityInsecure => false,
            })
        };
        let decide = |device: &Device| match allowed(&device.name) || cdi::is_allowed(&device.name)
        {
            true => Ok((device.name.clone(), device.required)),
            false => Err(StepError::NotAllowed {
                grant: format!("device={}", device.name),
            }),
        };
        devices.iter().map(decide).collect()
    }

    /// Decides a RUN: its command, its mounts and what it may reach.
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        at: &At<'_>,
        run: &Run,
    ) -> Result<(), StepError> {
        let network = self.network(run.network)?;
        let insecure = run.security == Some(Security::Insecure);
        if insecure && !self.request.allow.contains(&Grant::SecurityInsecure) {
            let grant = "security.insecure".to_owned();
            return Err(StepError::NotAllowed { grant });
        }
        let devices = self.devices(&run.devices)?;
        let mounts = self.mounts(state, at, &run.mounts)?;
        let (argv, script) = match run.script() {
            Form::Shell(text) => (with_shell(&state.config, &text), None),
            Form::Exec(argv) => (argv.to_vec(), None),
            Form::File { name, body } => {
                let path = format!("/dev/pipes/{name}");
                // The shell starts it, so that one which prepares an environment does so here, too.
                let argv = with_shell(&state.config, &path);
                let text = body.as_bytes().to_vec();
                (argv, Some(Script { path, text }))
            }
        };
        let command = argv.join(" ");
        let created_by = match state.scope.arg_text() {
            None => format!("RUN {command} # buildkit"),
            Some(args) => format!("RUN {args} {command} # buildkit"),
        };
        let declared = |name: &str| state.scope.args.iter().any(|arg| arg.name == name);
        let proxies = self.build_args.proxies(&self.request.proxies);
        let step = RunStep {
            mounts,
            argv,
            script,
            env: state.scope.env.pairs().to_vec(),
            proxies: proxies
                .into_iter()
                .filter(|(k, _)| is_proxy(k) && !declared(k))
                .collect(),
            user: state.config.user.clone(),
            workdir: state.config.working_dir.clone(),
            network,
            insecure,
            devices,
            hostname: self
                .build_args
                .get(HOSTNAME_ARG)
                .unwrap_or(HOSTNAME)
                .to_owned(),
            shown: command,
        };
        state.shown_step(at, created_by, Action::Run(step));
        Ok(())
    }
}
