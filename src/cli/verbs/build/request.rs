//! Options to a [`Request`]: everything that needs no store.

use std::io::IsTerminal;
use std::time::SystemTime;

use super::Build;
use crate::build::{self, Request};
use crate::cli::args;
use crate::cli::env;
use crate::cli::report::Report;
use crate::cli::verbs::{Form, Goal};
use crate::transfer::{self, Network};

/// The variable of reproducible-builds.org, in seconds since 1970.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

impl Build {
    /// Resolves everything that needs no store. The context follows in [`context::resolve`].
    pub(super) fn request(&self) -> Result<Request, Report> {
        if self.uses_stdout() && std::io::stdout().is_terminal() {
            return Err(Report::wrong_use("an archive is not written to a terminal")
                .hint("`-o type=…,dest=FILE`, or a pipe behind the command"));
        }
        self.buildah.check(self.reads_stdin())?;
        if self.platforms.len() > 1 && self.results.names_one() {
            let text = "`--iidfile` holds the id of one image, and several platforms give several";
            return Err(Report::wrong_use(text).hint("`--metadata-file` has the index's digest"));
        }
        let build_args = self.args.resolve()?;
        let outputs = self.output.all();
        let own_epoch = outputs.iter().find_map(|output| output.epoch.as_deref());
        let (epoch, epoch_name) = self.epoch(own_epoch, &build_args)?;
        let annotations = self.annotations.iter().flatten();
        let more = outputs.iter().flat_map(|output| &output.annotations);
        let mut registry = self.registry.options()?;
        if outputs.iter().any(|output| output.insecure) {
            registry.tls_verify = Some(false);
        }
        let network = Network::new(registry);
        let agents = self.secrets.agents()?;
        // Of one name the last counts.
        let ssh_agent = agents.iter().rfind(|agent| agent.id == "default");
        let ssh_agent = ssh_agent.map(|agent| agent.source.clone());
        let transfer = transfer::Options {
            network: network.clone(),
            ..transfer::Options::default()
        };
        let mut request = Request {
            contexts: self.contexts.clone(),
            tags: Goal::names(&self.tags).cloned().collect(),
            build_args,
            target: self.target.clone(),
            platforms: self.platforms.clone(),
            no_cache: self.cache.no_cache,
            no_cache_filter: self.cache.no_cache_filter.clone(),
            cache_from: self.cache.imports(&network),
            cache_to: self.cache.exports(&network),
            cache_ttl: self.cache.ttl,
            save_stages: self.cache.save_stages,
            stage_labels: self.cache.stage_labels,
            pull: self.pull,
            labels: self.labels.clone(),
            annotations: annotations.chain(more).cloned().collect(),
            docker_types: self.form == Some(Form::Docker),
            attest: self.attest.resolve()?,
            attest_inline: outputs.iter().any(|output| output.attest_inline),
            rewrite_timestamp: outputs.iter().find_map(|output| output.rewrite_timestamp),
            epoch_from_file: epoch.is_none() && own_epoch.is_none(),
            epoch_name,
            outputs: outputs.into_iter().map(|parsed| parsed.output).collect(),
            allow: self.grants.allow.clone(),
            secrets: self.secrets.secrets()?,
            secret_guard: self.secrets.guard(),
            ssh: agents,
            isolation: self.isolation.resolve()?,
            snapshotter: args::snapshotter(self.snapshotter)?,
            proxies: env::proxies(),
            source_date_epoch: epoch,
            jobs: self.jobs.filter(|&jobs| jobs > 0),
            squash: self.squash || !self.cache.layers,
            // The network is known when rights are, the context when there is a store.
            ..Request::nothing(transfer, args::git_tools(ssh_agent), SystemTime::now())
        };
        self.names.apply(&mut request);
        self.buildah.apply(&mut request)?;
        request.scanner = self.scanner(&request)?;
        Ok(request)
    }

    /// The scanner that is asked for.
    fn scanner(&self, request: &Request) -> Result<Option<build::Scanner>, Report> {
        let scans = &self.buildah.scans;
        let scanner = scans.scanner(self.attest.preset())?;
        if scanner.is_some() && request.attest.sbom.is_some() {
            let text = "`sbom` is asked for twice: of a generator and of a scanner";
            return Err(Report::wrong_use(text));
        }
        if scans.writes() && request.platforms.len() > 1 {
            let text = "`--sbom-output` and `--sbom-purl-output` are one file, and several \
                        platforms give several";
            return Err(
                Report::wrong_use(text).hint("`--sbom-image-output` keeps it in each image")
            );
        }
        Ok(scanner)
    }

    /// Finds the time to build with: that of an output, `--timestamp`, or the build argument,
    /// which may name something instead.
    fn epoch(
        &self,
        own: Option<&str>,
        build_args: &[(String, String)],
    ) -> Result<(Option<i64>, Option<String>), Report> {
        if own.is_none() && self.timestamp.is_some() {
            return Ok((self.timestamp, None));
        }
        let given = build_args.iter().rfind(|(key, _)| key == EPOCH);
        let text = own.or(given.map(|(_, value)| value.as_str()));
        match text.map(str::trim) {
            None | Some("") => Ok((None, None)),
            Some(text) => match text.parse() {
                Ok(seconds) => Ok((Some(seconds), None)),
                Err(_) if own.is_none() => Ok((None, Some(text.to_owned()))),
                Err(_) => Err(Report::wrong_use(format!(
                    "`source-date-epoch={text}`: expected seconds since 1970 as a number"
                ))),
            },
        }
    }
}
