//! What a caller asks of a build, as plain data.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::dockerfile::Warning;
use crate::image::{Compression, Descriptor, ImageId, Platform, Reference, Shape};
use crate::layer::Time;
use crate::sandbox::userns::Refusal;
use crate::sandbox::{Isolation, Mount};
use crate::transfer::{self, CachePlace};

use super::annotations::Annotation;
use super::attest::Attest;
use super::git::{GitTools, GitUrl};
use super::named::NamedContext;
use super::policy::Policy;
use super::retouch::Retouch;
use super::scanner::{Scanned, Scanner};
use super::secret::Secret;
use super::ssh::SshAgent;

/// Where the Dockerfile's text comes from.
#[derive(Debug, Clone)]
pub enum DockerfileSource {
    /// `Dockerfile` (or `dockerfile`, `Containerfile`) at the root of the context.
    Default,
    /// A file on the caller's disk, as `-f` names it.
    File(PathBuf),
    /// Text that was read already, from standard input.
    Text(Vec<u8>),
}

/// Where the files of COPY and ADD come from.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// A directory.
    Dir(PathBuf),
    /// No files at all, as when the Dockerfile itself is standard input.
    Empty,
    /// A tar, possibly compressed, spooled to this file.
    Archive(PathBuf),
    /// A git repository.
    Git(GitUrl),
    /// What an `http` or `https` URL gives: a tar, possibly compressed, or a Dockerfile.
    Url(String),
}

/// When to ask the registry about a base image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// Only for images that are not there.
    #[default]
    Missing,
    /// Every time.
    Always,
    /// Never.
    Never,
    /// Every time, but a registry that does not answer is no error when the image is there.
    Newer,
}

/// The network of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// One of the step's own that reaches the world through the caller's.
    Private,
    /// The caller's network.
    Host,
    /// A loopback interface of the step's own and nothing else.
    None,
}

/// Something that a RUN may ask for and only the caller can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// `network.host`.
    NetworkHost,
    /// `security.insecure`.
    SecurityInsecure,
    /// `device`: this one, or any.
    Device(Option<String>),
}

/// The form in which an image leaves the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// How layers are compressed; gzip when unset.
    pub compression: Option<Compression>,
    /// Level of the compression, the algorithm's own default when unset.
    pub level: Option<i32>,
    /// Whether layers that came compressed, those of base images, are compressed anew.
    pub force: bool,
    /// Whether media types are docker's rather than OCI's.
    pub docker_types: bool,
    /// What attestations look like.
    pub attestations: Shape,
}

impl Form {
    /// Whether docker's media types are asked for and have no word for its layers.
    pub(super) fn has_no_types(&self) -> bool {
        self.docker_types && self.compression.is_some_and(Compression::is_oci_only)
    }
}

/// Where the result goes besides the store.
#[derive(Debug, Clone)]
pub enum Output {
    /// `type=local`: the final file system, into a directory.
    Local {
        /// The directory; made when missing.
        dest: PathBuf,
        /// Whether each platform has a directory of its own; by default when there are several.
        split: Option<bool>,
        /// Whether other files in the directory go (`mode=delete`).
        delete: bool,
        /// What the names of attestations begin with.
        prefix: String,
    },
    /// `type=tar`: the final file system, as a tar.
    Tar {
        /// The file, or `None` for standard output.
        dest: Option<PathBuf>,
        /// As for [`Output::Local`].
        split: Option<bool>,
        /// As for [`Output::Local`].
        prefix: String,
    },
    /// `type=oci`: an OCI layout, as a tar or a directory.
    Oci {
        /// The file or directory, or `None` for standard output.
        dest: Option<PathBuf>,
        /// Whether to write a tar.
        tar: bool,
        /// Names besides those of `-t`.
        names: Vec<Reference>,
        /// How it is written.
        form: Form,
    },
    /// `type=docker`: what `docker load` reads, or a layout with docker's media types.
    Docker {
        /// The file or directory, or `None` for standard output.
        dest: Option<PathBuf>,
        /// Whether to write a tar.
        tar: bool,
        /// Names besides those of `-t`.
        names: Vec<Reference>,
        /// How it is written; layers are plain tars when it names no compression.
        form: Form,
    },
    /// `type=image`: the store, and a registry when `push` is set.
    Image {
        /// Names besides those of `-t`.
        names: Vec<Reference>,
        /// Whether to push each name.
        push: bool,
        /// Whether a push leaves the names' tags alone.
        by_digest: bool,
        /// How it is pushed.
        form: Form,
    },
}

/// Where what a build knows goes, for other builds (`--cache-to`).
#[derive(Debug, Clone)]
pub struct CacheExport {
    /// The place.
    pub to: CacheTarget,
    /// Whether it holds the layers of all stages (`mode=max`), rather than of the result.
    pub max: bool,
    /// The form of its layers.
    pub form: Form,
    /// Whether it is an index, as older builders wrote it (`image-manifest=false`).
    pub index: bool,
    /// Whether a cache that can't be written is a warning only.
    pub ignore_error: bool,
}

/// The place of a cache.
#[derive(Debug, Clone)]
pub enum CacheTarget {
    /// The config of the image.
    Inline,
    /// A place of its own.
    Place {
        /// Where.
        place: CachePlace,
        /// Whether blobs go that nothing there leads to (`reset`).
        reset: bool,
    },
}

/// A build.
#[derive(Debug, Clone)]
pub struct Request {
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// `--from`: what the first FROM names, in place of what the file says.
    pub first_base: Option<String>,
    /// The context.
    pub context: ContextSource,
    /// `--ignorefile`: what the context is seen through, in place of the file that belongs to it.
    pub ignore_file: Option<PathBuf>,
    /// `--build-context`, in order.
    pub contexts: Vec<NamedContext>,
    /// `-t`, in order.
    pub tags: Vec<Reference>,
    /// `--build-arg`, later ones win; the value of `K` alone was looked up by the caller.
    pub build_args: Vec<(String, String)>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`; empty is the host's. Several give an index.
    pub platforms: Vec<Platform>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages whose steps run anyway.
    pub no_cache_filter: Vec<String>,
    /// `--cache-from`, in order.
    pub cache_from: Vec<CachePlace>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheExport>,
    /// `--cache-ttl`: results made longer ago than this do not count.
    pub cache_ttl: Option<Duration>,
    /// `--save-stages`: the stages that the result needs become images without a name.
    pub save_stages: bool,
    /// `--stage-labels`: images say by labels which stage they are.
    pub stage_labels: bool,
    /// `--pull`.
    pub pull: Pull,
    /// `--source-policy-file`.
    pub policy: Policy,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--annotation`, and those of outputs.
    pub annotations: Vec<Annotation>,
    /// What the config has besides or against what the Dockerfile says.
    pub retouch: Retouch,
    /// `--format=docker`: images have docker's media types wherever they go.
    pub docker_types: bool,
    /// `--attest`.
    pub attest: Attest,
    /// `--sbom-scanner-image` and what belongs to it.
    pub scanner: Option<Scanner>,
    /// Whether what is `inline-only` is reason enough for an index (`attestation-inline`).
    pub attest_inline: bool,
    /// `-o`; empty is the store.
    pub outputs: Vec<Output>,
    /// `--network`.
    pub network: Network,
    /// `--allow`.
    pub allow: Vec<Grant>,
    /// Why [`Request::network`] is not the private one that it would be elsewhere; told when the
    /// first step that uses it runs.
    pub network_note: Option<String>,
    /// `--secret`; of one id the last counts.
    pub secrets: Vec<Secret>,
    /// Whether a layer that holds the value of a secret fails the build (`--secret-guard`).
    pub secret_guard: bool,
    /// `--ssh`; of one id the last counts.
    pub ssh: Vec<SshAgent>,
    /// How far RUN steps are shut in.
    pub isolation: Isolation,
    /// What this machine can shut them in by.
    pub walls: Walls,
    /// The rung that was taken, for the provenance.
    pub rung: String,
    /// `--snapshotter`: how RUN gets at what it changed; the better one that works when unset.
    pub snapshotter: Option<Snapshotter>,
    /// `--add-host`, as `(host, address)`; an address may be `host-gateway`.
    pub add_hosts: Vec<(String, String)>,
    /// `--no-hosts`: `/etc/hosts` of RUN is the image's own.
    pub own_hosts: bool,
    /// `--dns`; empty is the caller's.
    pub dns: Vec<IpAddr>,
    /// `--dns-search`; empty is the caller's.
    pub dns_search: Vec<String>,
    /// `--dns-option`; empty is the caller's.
    pub dns_options: Vec<String>,
    /// `--dns=none`: `/etc/resolv.conf` of RUN is the image's own.
    pub own_resolv_conf: bool,
    /// `-v`: mounted into every RUN, whose key has the places and not what lies there.
    pub volumes: Vec<Mount>,
    /// `--stdin`: RUN reads the caller's standard input. No earlier result answers for such a step.
    pub stdin: bool,
    /// Proxy variables of the caller that predefined ARGs pass on to RUN.
    pub proxies: Vec<(String, String)>,
    /// `SOURCE_DATE_EPOCH` of the caller's environment or `--timestamp`, in seconds since 1970:
    /// written as `created`.
    pub source_date_epoch: Option<i64>,
    /// The same variable where it holds no number: what to take the time of.
    pub epoch_name: Option<String>,
    /// Whether a default of the Dockerfile's global `ARG SOURCE_DATE_EPOCH` counts, when nobody
    /// else named an epoch.
    pub epoch_from_file: bool,
    /// Whether files of new layers whose time is later than the epoch take the epoch
    /// (`rewrite-timestamp`); they do when unset.
    pub rewrite_timestamp: Option<bool>,
    /// Time written as `created` when there is no epoch.
    pub now: SystemTime,
    /// `--jobs`: stages built at the same time; `None` is the number of processors.
    pub jobs: Option<usize>,
    /// `--squash`: one layer on top of the base.
    pub squash: bool,
    /// How registries and URLs are reached.
    pub transfer: transfer::Options,
    /// How git repositories are reached.
    pub git: GitTools,
}

impl Request {
    /// A request for nothing, with the defaults of all that may be asked for: no context, no
    /// network, nothing given to programs.
    pub fn nothing(transfer: transfer::Options, git: GitTools, now: SystemTime) -> Self {
        Self {
            dockerfile: DockerfileSource::Default,
            first_base: None,
            context: ContextSource::Empty,
            ignore_file: None,
            contexts: Vec::new(),
            tags: Vec::new(),
            build_args: Vec::new(),
            target: None,
            platforms: Vec::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            cache_ttl: None,
            save_stages: false,
            stage_labels: false,
            pull: Pull::Missing,
            policy: Policy::default(),
            labels: Vec::new(),
            annotations: Vec::new(),
            retouch: Retouch::default(),
            docker_types: false,
            attest: Attest::default(),
            scanner: None,
            attest_inline: false,
            outputs: Vec::new(),
            network: Network::None,
            allow: Vec::new(),
            network_note: None,
            secrets: Vec::new(),
            secret_guard: true,
            ssh: Vec::new(),
            isolation: Isolation::default(),
            rung: String::new(),
            walls: Walls::Namespaces,
            snapshotter: None,
            add_hosts: Vec::new(),
            own_hosts: false,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            own_resolv_conf: false,
            volumes: Vec::new(),
            stdin: false,
            proxies: Vec::new(),
            source_date_epoch: None,
            epoch_from_file: false,
            epoch_name: None,
            rewrite_timestamp: None,
            now,
            jobs: None,
            squash: false,
            transfer,
            git,
        }
    }

    /// Returns the time to write into the image, as seconds since 1970.
    pub fn created(&self) -> Time {
        match self.source_date_epoch {
            Some(secs) => Time::from_secs(secs),
            None => self.begun(),
        }
    }

    /// Returns when the build began.
    pub(super) fn begun(&self) -> Time {
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        Time {
            secs: since.as_secs().cast_signed(),
            nanos: since.subsec_nanos(),
        }
    }

    /// Returns the latest time that the layers of the result may hold, in seconds since 1970.
    pub(super) fn latest(&self) -> Option<i64> {
        self.source_date_epoch
            .filter(|_| self.rewrite_timestamp != Some(false))
    }

    /// Returns the epoch where layers stay as the steps make them, which then date what they make
    /// themselves.
    pub(super) fn epoch_of_steps(&self) -> Option<i64> {
        self.source_date_epoch
            .filter(|_| self.rewrite_timestamp == Some(false))
    }
}

/// What keeps the program of a RUN step in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walls {
    /// Namespaces.
    Namespaces,
    /// A changed root, and why nothing better.
    Chroot(Refusal),
    /// Nothing, so none is run; all else is done without.
    Refused(Refusal),
}

/// How a RUN step gets a root file system to write to, and what it changed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Snapshotter {
    /// An overlay over the layers.
    Overlay,
    /// A copy of them, looked at before and after.
    Copy,
}

impl std::str::FromStr for Snapshotter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "overlay" => Ok(Self::Overlay),
            "copy" => Ok(Self::Copy),
            _ => Err("expected overlay or copy".to_owned()),
        }
    }
}

/// What a build gave.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Id of the image: the digest of its config. `None` for an index of several.
    pub image: Option<ImageId>,
    /// What the names mean: the manifest or index where it went last, as it was pushed or written.
    pub descriptor: Descriptor,
    /// The names it got.
    pub tags: Vec<Reference>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps an earlier result answered for.
    pub cached: usize,
    /// What the linter found.
    pub warnings: Vec<Warning>,
    /// The provenance of the image for each platform, where one was asked for.
    pub provenance: Vec<(Platform, serde_json::Value)>,
    /// What the scanner found in the image of each platform, where one was asked for.
    pub scanned: Vec<Scanned>,
}
