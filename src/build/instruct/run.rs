//! RUN: its flags, its command and what the history says of it.

use crate::dockerfile::{Network as RunNetwork, Run, Script as Form, Security};

use super::super::error::{StepError, ValueError};
use super::super::eval::Evaluator;
use super::super::request::Network;
use super::super::scope::is_proxy;
use super::super::step::{Action, RunStep, Script};
use super::super::steps::run::with_shell;
use super::{At, StageState};

impl Evaluator<'_, '_> {
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        at: &At<'_>,
        run: &Run,
    ) -> Result<(), StepError> {
        let unsupported = |what: &str| {
            Err(StepError::Unsupported {
                what: what.to_owned(),
            })
        };
        if !run.devices.is_empty() {
            return unsupported("RUN --device");
        }
        if run.security == Some(Security::Insecure) {
            return unsupported("RUN --security=insecure");
        }
        let network = match run.network {
            None | Some(RunNetwork::Default) => self.request.network,
            Some(RunNetwork::None) => Network::None,
            Some(RunNetwork::Host) if self.request.network == Network::Host => Network::Host,
            Some(RunNetwork::Host) => {
                return Err(StepError::Value("host".to_owned(), ValueError::HostNetwork));
            }
        };
        let mounts = self.mounts(state, at, &run.mounts)?;
        let (argv, script) = match run.script() {
            Form::Shell(text) => (with_shell(&state.config, &text), None),
            Form::Exec(argv) => (argv.to_vec(), None),
            Form::File { name, body } => {
                let path = format!("/dev/pipes/{name}");
                (
                    vec![path.clone()],
                    Some(Script {
                        path,
                        text: body.as_bytes().to_vec(),
                    }),
                )
            }
        };
        let args = state.scope.arg_texts();
        let command = match &script {
            // Named as if the shell ran it, which is what docker writes.
            Some(script) => with_shell(&state.config, &script.path).join(" "),
            None => argv.join(" "),
        };
        let created_by = if args.is_empty() {
            format!("RUN {command} # buildkit")
        } else {
            format!(
                "RUN |{} {} {command} # buildkit",
                args.len(),
                args.join(" ")
            )
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
            shown: command,
        };
        state.shown_step(at, created_by, Action::Run(step));
        Ok(())
    }
}
