//! Options that open or close the walls around a step or container, as docker spells them.

use std::path::{Path, PathBuf};

use super::Given;
use super::limits::LimitArgs;
use crate::cli::env;
use crate::cli::report::Report;
use crate::cli::ui::human;
use crate::runner::Wording;
use crate::sandbox::{Caps, Device, Groups, Isolation, Profile, Resource, Rlimit, Seccomp};

/// What `--group-add` says instead of a group.
const KEEP_GROUPS: &str = "keep-groups";

/// Options of `build` and `run` about what programs may do and use.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Isolation options")]
pub(crate) struct IsolationArgs {
    /// Capability to add to docker's set, with or without `CAP_`, or `ALL`
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',', value_parser = capability)]
    cap_add: Vec<Caps>,

    /// Capability to take from docker's set, or `ALL`
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',', value_parser = capability)]
    cap_drop: Vec<Caps>,

    /// `seccomp=unconfined`, `seccomp=FILE` (a profile in docker's format), `no-new-privileges`,
    /// `mask=PATH[:PATH]`, `unmask=ALL` or `unmask=PATH[:PATH]`
    #[arg(long, value_name = "OPTION", value_parser = |text: &str| Given::parse(text, security))]
    security_opt: Vec<Given<Security>>,

    /// Resource limit of the program, such as `nofile=1024:2048`; -1 is none
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<Rlimit>,

    /// Device of the machine that programs may use
    #[arg(long, value_name = "HOST[:INSIDE[:rwm]]", value_parser = device)]
    device: Vec<Device>,

    /// Size of `/dev/shm` [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    shm_size: Option<u64>,

    /// Further group of the program, by its name in the image or its number; `keep-groups` gives
    /// it the caller's groups instead
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    group_add: Vec<String>,

    #[command(flatten)]
    limit: LimitArgs,

    /// Whether a limit of memory, processors or processes that can't be kept is an error
    #[arg(
        long,
        value_name = "HOW",
        default_value = "strict",
        hide_default_value = true,
        value_parser = ["strict", "best-effort"]
    )]
    limits: Option<String>,
}

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq)]
enum Security {
    Seccomp(Seccomp),
    NoNewPrivileges(bool),
    Mask(Vec<PathBuf>),
    Unmask(Vec<PathBuf>),
    /// Of a module that does not confine our programs anyway.
    Idle,
    /// Of a module that would have to confine them.
    Unsupported(String),
}

impl IsolationArgs {
    /// Says what the options mean, from docker's defaults on.
    pub(crate) fn resolve(&self) -> Result<Isolation, Report> {
        self.over(Isolation::default())
    }

    /// Says what the options mean, from `base` on.
    pub(crate) fn over(&self, base: Isolation) -> Result<Isolation, Report> {
        let mut out = base;
        out.caps = out.caps.tweaked(&self.cap_add, &self.cap_drop);
        for option in &self.security_opt {
            match option.means.clone() {
                Security::Seccomp(seccomp) => out.seccomp = seccomp,
                Security::NoNewPrivileges(on) => out.no_new_privs = on,
                Security::Mask(paths) => out.masked.extend(paths),
                Security::Unmask(paths) => out.unmasked.extend(paths),
                Security::Idle => {}
                Security::Unsupported(text) => {
                    let text = format!(
                        "`--security-opt {text}`: programs are not confined by AppArmor or SELinux here"
                    );
                    return Err(Report::wrong_use(text)
                        .hint("`apparmor=unconfined` and `label=disable` say what holds anyway"));
                }
            }
        }
        out.rlimits.extend(&self.ulimit);
        out.devices.extend(self.device.iter().cloned());
        // 0 is docker's word for the usual.
        out.shm_size = self.shm_size.filter(|size| *size > 0).or(out.shm_size);
        if !self.group_add.is_empty() {
            out.groups = self.groups()?;
        }
        let best_effort = self.limits.as_deref() == Some("best-effort");
        out.limits = self.limit.over(out.limits)?;
        out.limits.best_effort |= best_effort;
        if !out.limits.is_empty() {
            out.limits.session_bus = env::session_bus();
        }
        Ok(out)
    }

    /// Tells `inspect` what was said, capabilities by the names they have in the kernel.
    pub(crate) fn word(&self, wording: &mut Wording) {
        let names = |sets: &[Caps]| {
            let names = sets.iter().filter_map(|set| set.name());
            let mut names: Vec<String> = names.collect();
            // All says enough.
            if names.iter().any(|name| name == "ALL") {
                names = vec!["ALL".to_owned()];
            }
            names.sort_unstable();
            names.dedup();
            names
        };
        wording.cap_add = names(&self.cap_add);
        wording.cap_drop = names(&self.cap_drop);
        // What it opens is told by the paths themselves.
        let options = self.security_opt.iter().map(|option| option.text.clone());
        wording.security_opt = options
            .filter(|text| !text.starts_with("systempaths"))
            .collect();
    }

    /// Refuses limits that no container can start with.
    pub(crate) fn check_range(&self) -> Result<(), Report> {
        self.limit.check_range()
    }

    fn groups(&self) -> Result<Groups, Report> {
        match self.group_add.as_slice() {
            [only] if only == KEEP_GROUPS => Ok(Groups {
                keep: true,
                ..Groups::default()
            }),
            all if all.iter().any(|group| group == KEEP_GROUPS) => {
                let text = "`--group-add keep-groups` leaves the caller's groups as they are, so \
                    no other can be added";
                Err(Report::wrong_use(text))
            }
            all => Ok(Groups {
                extra: all.to_vec(),
                keep: false,
            }),
        }
    }
}

fn capability(text: &str) -> Result<Caps, String> {
    Caps::named(text).ok_or_else(|| "there is no such capability (capabilities(7))".to_owned())
}

fn security(text: &str) -> Result<Security, String> {
    let (name, value) = match text.split_once(['=', ':']) {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let paths = |value: &str| -> Result<Vec<PathBuf>, String> {
        let all = value.split(':').map(|path| match path.starts_with('/') {
            true => Ok(PathBuf::from(path)),
            false => Err(format!("`{path}` is not absolute")),
        });
        all.collect()
    };
    match (name, value) {
        ("seccomp", Some("unconfined")) => Ok(Security::Seccomp(Seccomp::Unconfined)),
        ("seccomp", Some("builtin")) => Ok(Security::Seccomp(Seccomp::Docker)),
        ("seccomp", Some(file)) => profile(Path::new(file)),
        ("no-new-privileges", None | Some("true")) => Ok(Security::NoNewPrivileges(true)),
        ("no-new-privileges", Some("false")) => Ok(Security::NoNewPrivileges(false)),
        ("mask", Some(value)) => paths(value).map(Security::Mask),
        ("unmask", Some("ALL" | "all")) | ("systempaths", Some("unconfined")) => {
            Ok(Security::Unmask(vec![PathBuf::from("/")]))
        }
        ("unmask", Some(value)) => paths(value).map(Security::Unmask),
        ("apparmor", Some("unconfined")) | ("label", Some("disable")) => Ok(Security::Idle),
        ("apparmor" | "label", Some(_)) => Ok(Security::Unsupported(text.to_owned())),
        _ => Err(
            "expected seccomp=, no-new-privileges, mask=, unmask=, apparmor= or label=".to_owned(),
        ),
    }
}

fn profile(file: &Path) -> Result<Security, String> {
    let cause = |error: &dyn std::error::Error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let json =
        std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Profile::parse(&json)
        .map(|profile| Security::Seccomp(Seccomp::Profile(profile)))
        .map_err(|error| format!("{}: {}", file.display(), cause(&error)))
}

fn ulimit(text: &str) -> Result<Rlimit, String> {
    let bad = || "expected `NAME=SOFT` or `NAME=SOFT:HARD`, such as `nofile=1024:2048`".to_owned();
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    let resource = Resource::named(name)
        .ok_or_else(|| format!("there is no limit `{name}` (getrlimit(2))"))?;
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        number => number.parse().map(Some).map_err(|_| bad()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    let above = match (soft, hard) {
        (Some(soft), Some(hard)) => soft > hard,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if above {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok(Rlimit {
        resource,
        soft,
        hard,
    })
}

fn device(text: &str) -> Result<Device, String> {
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let is_rule = |text: &&str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (target, rule) = match rest.as_slice() {
        [] => (source, "rwm"),
        [rule] if is_rule(rule) => (source, *rule),
        [target] => (*target, "rwm"),
        [target, rule] if is_rule(rule) => (*target, *rule),
        _ => return Err("expected `HOST`, `HOST:INSIDE` or `HOST:INSIDE:rwm`".to_owned()),
    };
    if !(rule.contains('r') && rule.contains('w')) {
        return Err(format!(
            "`{rule}` can't be kept here: a device is for reading and writing"
        ));
    }
    for path in [source, target] {
        if !path.starts_with('/') {
            return Err(format!("`{path}` is not absolute"));
        }
    }
    if !Device::exists(Path::new(source)) {
        return Err(format!("there is no device {source}"));
    }
    Ok(Device {
        source: PathBuf::from(source),
        target: PathBuf::from(target),
    })
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    human::parse_size(text).ok_or_else(|| "expected a size, such as `512m` or `2g`".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::sandbox::{Limits, Swap};

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        args: IsolationArgs,
    }

    fn parse(words: &str) -> Result<Isolation, String> {
        let words = std::iter::once("x").chain(words.split_whitespace());
        let parsed = Alone::try_parse_from(words).map_err(|error| error.to_string())?;
        let resolved = parsed.args.resolve();
        let mut resolved = resolved.map_err(|report| format!("{report:?}"))?;
        // Whoever runs the tests may be in a session.
        resolved.limits.session_bus = None;
        Ok(resolved)
    }

    #[test]
    fn nothing_given_is_dockers_default() {
        assert_eq!(parse(""), Ok(Isolation::default()));
        let privileged = Isolation::privileged();
        let args = IsolationArgs::default();
        assert_eq!(args.over(privileged.clone()).ok(), Some(privileged));
    }

    #[test]
    fn capabilities_have_names_of_either_spelling() {
        let caps = |words| parse(words).map(|isolation| isolation.caps);
        assert_eq!(
            caps("--cap-drop all --cap-add CAP_CHOWN,fowner"),
            Ok(Caps(0b1001))
        );
        assert!(
            caps("--cap-add NOPE")
                .unwrap_err()
                .contains("no such capability")
        );
        let less = Alone::try_parse_from(["x", "--cap-drop", "CHOWN"]).unwrap();
        let less = less.args.over(Isolation::privileged()).unwrap();
        assert_eq!(less.caps, Caps(!1));
    }

    #[test]
    fn security_options_are_dockers_and_podmans() {
        let of = |text: &str| parse(&format!("--security-opt {text}"));
        assert_eq!(
            of("seccomp=unconfined").unwrap().seccomp,
            Seccomp::Unconfined
        );
        assert!(of("no-new-privileges").unwrap().no_new_privs);
        assert!(of("no-new-privileges:true").unwrap().no_new_privs);
        assert!(of("no-new-privileges=true").unwrap().no_new_privs);
        assert!(!of("no-new-privileges:false").unwrap().no_new_privs);
        let paths = |words: &[&str]| words.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(of("mask=/a:/b").unwrap().masked, paths(&["/a", "/b"]));
        assert_eq!(
            of("unmask=/proc/kcore").unwrap().unmasked,
            paths(&["/proc/kcore"])
        );
        assert_eq!(of("unmask=ALL").unwrap().unmasked, paths(&["/"]));
        assert_eq!(
            of("systempaths=unconfined").unwrap().unmasked,
            paths(&["/"])
        );
        assert_eq!(of("apparmor=unconfined"), Ok(Isolation::default()));
        assert_eq!(of("label=disable"), Ok(Isolation::default()));
        for (text, why) in [
            ("apparmor=mine", "not confined by AppArmor"),
            ("label=type:x_t", "not confined by AppArmor"),
            ("mask=a", "`a` is not absolute"),
            ("seccomp=/nowhere/x.json", "cannot read /nowhere/x.json"),
            ("seccomp=/dev/null", "no seccomp profile"),
            ("nonsense", "expected seccomp="),
        ] {
            assert!(of(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn ulimits_have_a_soft_and_a_hard_value() {
        let of = |text: &str| parse(&format!("--ulimit {text}")).map(|i| i.rlimits[0]);
        let limit = |resource, soft, hard| {
            Ok(Rlimit {
                resource,
                soft,
                hard,
            })
        };
        assert_eq!(of("nofile=10"), limit(Resource::Nofile, Some(10), Some(10)));
        assert_eq!(
            of("nofile=10:20"),
            limit(Resource::Nofile, Some(10), Some(20))
        );
        assert_eq!(of("core=0:-1"), limit(Resource::Core, Some(0), None));
        for (text, why) in [
            ("nofile", "expected `NAME=SOFT`"),
            ("nofile=a", "expected `NAME=SOFT`"),
            ("files=1", "there is no limit `files`"),
            ("nofile=20:10", "above the hard one"),
            ("nofile=-1:10", "above the hard one"),
        ] {
            assert!(of(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn devices_are_paths_for_reading_and_writing() {
        let of = |text: &str| parse(&format!("--device {text}")).map(|i| i.devices[0].clone());
        let device = |source: &str, target: &str| {
            Ok(Device {
                source: source.into(),
                target: target.into(),
            })
        };
        assert_eq!(of("/dev/null"), device("/dev/null", "/dev/null"));
        assert_eq!(of("/dev/null:rwm"), device("/dev/null", "/dev/null"));
        assert_eq!(of("/dev/null:/dev/x"), device("/dev/null", "/dev/x"));
        assert_eq!(of("/dev/null:/dev/x:rw"), device("/dev/null", "/dev/x"));
        for (text, why) in [
            ("/dev/null:/dev/x:r", "can't be kept"),
            ("/dev/nothing-there", "there is no device"),
            ("/etc/passwd", "there is no device"),
            ("/dev/null:x", "`x` is not absolute"),
        ] {
            assert!(of(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn groups_are_added_or_kept() {
        let of = |words| parse(words).map(|isolation| isolation.groups);
        let added = of("--group-add adm,50 --group-add wheel").unwrap();
        assert_eq!(added.extra, ["adm", "50", "wheel"]);
        assert!(!added.keep);
        let kept = of("--group-add keep-groups").unwrap();
        assert!(kept.keep && kept.extra.is_empty());
        assert!(of("--group-add keep-groups,adm").is_err());
    }

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        let limits = parse(
            "-m 1g --memory-swap 2g --memory-reservation 1m --cpus 1.5 -c 512 --cpuset-cpus 0-1,3 \
             --cpuset-mems 0 --pids-limit 100 --blkio-weight 10",
        );
        let want = Limits {
            memory: Some(1 << 30),
            memory_swap: Some(Swap::Total(2 << 30)),
            memory_reservation: Some(1 << 20),
            cpus: Some(150_000),
            cpu_quota: None,
            cpu_period: None,
            cpu_shares: Some(512),
            cpuset_cpus: Some("0-1,3".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            pids: Some(100),
            blkio_weight: Some(10),
            best_effort: false,
            session_bus: None,
        };
        assert_eq!(limits.map(|isolation| isolation.limits), Ok(want));
        let none = parse("--pids-limit -1 --cpu-shares 0").unwrap().limits;
        assert_eq!(none, Limits::default());
        let swap = parse("-m 1m --memory-swap -1").unwrap().limits.memory_swap;
        assert_eq!(swap, Some(Swap::Unlimited));
        assert!(parse("--limits best-effort").unwrap().limits.best_effort);
        for bad in [
            "--memory-swap 1g",
            "-m 2g --memory-swap 1g",
            "-m 1g --memory-reservation 2g",
            "--blkio-weight 9",
            "--blkio-weight 1001",
            "--cpus 0",
            "--cpus 1 --cpu-quota 5",
            "--cpuset-cpus a",
            "--cpuset-mems a",
            "-m much",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
