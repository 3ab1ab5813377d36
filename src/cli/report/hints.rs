//! What to do about an error: the one place that knows every room's errors.
//!
//! A hint is a command to type, an option to add or a line to change. Errors without one are
//! those whose text says it all.

use std::error::Error;
use std::io;

use super::{Excerpt, Report};
use crate::build::{self, GitError, ScanError, StepError};
use crate::dockerfile::{Source, Span};
use crate::registry;
use crate::runner;
use crate::sandbox::userns::{EnterError, Refusal};
use crate::sandbox::{self, LimitError, Remedy};
use crate::store;
use crate::transfer;

/// What to do where programs of another platform can't run.
const CROSS: &str = "`FROM --platform=$BUILDPLATFORM …` runs a stage here, where `ARG TARGETARCH` tells it what to \
     make; or give the kernel a binfmt_misc handler with flag F, as qemu-user-static does";

/// Makes the report of an error and of all it came from.
pub(super) fn report(error: &(dyn Error + 'static)) -> Report {
    match error.downcast_ref::<build::Error>() {
        Some(build::Error::Dockerfile { file, error }) => parse_error(file, error),
        Some(build::Error::Step {
            name,
            file,
            span,
            error,
        }) => step(name, file, *span, error),
        Some(wrong @ build::Error::Options(_)) => Report::wrong_use(wrong.to_string()),
        _ => Report::failed(error.to_string()).because(error),
    }
}

fn parse_error(file: &Source, error: &crate::dockerfile::Error) -> Report {
    let text = format!(
        "dockerfile parse error on line {}: {}",
        error.line, error.kind
    );
    let label = error
        .suggestion
        .as_ref()
        .map(|word| format!("did you mean `{word}`?"));
    Report::failed(text)
        .at(excerpt(file, error.span, label))
        .because_of(error)
}

fn step(name: &str, file: &Source, span: Span, error: &StepError) -> Report {
    let text = format!("{name}: {error}");
    let (error, place) = match error {
        // What was meant is told beside the marker; causes and hints are those of the failure.
        StepError::Meant { meant, span, error } => {
            (&**error, excerpt(file, *span, Some(meant.to_string())))
        }
        StepError::Text(wrong) => {
            let label = wrong
                .suggestion
                .as_ref()
                .map(|word| format!("did you mean `{word}`?"));
            (error, excerpt(file, wrong.span, label))
        }
        _ => (error, excerpt(file, span, None)),
    };
    Report::failed(text).at(place).because_of(error)
}

fn excerpt(file: &Source, span: Span, label: Option<String>) -> Excerpt {
    Excerpt {
        name: file.name().to_owned(),
        text: file.text().to_owned(),
        span: span.start..span.end,
        label,
    }
}

/// Returns the hint for one link of the chain, not for its sources.
pub(super) fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let error = handed_through(error);
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // An error that came through a `std::io` trait is no source of its wrapper.
        return match error.get_ref() {
            Some(inner) => hint(inner),
            None => of_errno(error.raw_os_error()?),
        };
    }
    if let Some(error) = error.downcast_ref::<registry::Error>() {
        return of_registry(error);
    }
    if let Some(error) = error.downcast_ref::<store::Error>() {
        return of_store(error);
    }
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return of_refusal(refusal);
    }
    if let Some(error) = error.downcast_ref::<EnterError>() {
        return of_namespace(error);
    }
    if let Some(sandbox::Error::Limit(error)) = error.downcast_ref() {
        return Some(limit_hint(error));
    }
    if let Some(error) = error.downcast_ref::<runner::Error>() {
        return of_runner(error);
    }
    if let Some(error) = error.downcast_ref::<Box<GitError>>() {
        return of_git(error);
    }
    if let Some(ScanError::Image(_)) = error.downcast_ref() {
        return Some("`--sbom generator=IMAGE` and `--sbom-scanner-image IMAGE` name another program that scans".to_owned());
    }
    if let Some(error) = error.downcast_ref::<StepError>() {
        return of_step(error);
    }
    of_build(error.downcast_ref::<build::Error>()?)
}

/// Takes off the variants that only hand another room's error through, since those do not show
/// up in the chain of sources.
fn handed_through<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let inner: Option<&'e (dyn Error + 'static)> =
        if let Some(error) = error.downcast_ref::<build::Error>() {
            match error {
                build::Error::Store(inner) => Some(inner),
                build::Error::Transfer(inner) => Some(inner),
                build::Error::Supply(inner) => Some(&**inner),
                _ => None,
            }
        } else if let Some(error) = error.downcast_ref::<StepError>() {
            match error {
                StepError::Store(inner) => Some(inner),
                StepError::Build(inner) => Some(&**inner),
                _ => None,
            }
        } else if let Some(error) = error.downcast_ref::<runner::Error>() {
            match error {
                runner::Error::Store(inner) => Some(inner),
                _ => None,
            }
        } else if let Some(transfer::Error::Registry(inner)) = error.downcast_ref() {
            Some(inner)
        } else if let Some(inner) = error.downcast_ref::<Box<registry::Error>>() {
            Some(&**inner)
        } else if let Some(transfer::Error::Store(inner)) = error.downcast_ref() {
            Some(inner)
        } else {
            None
        };
    inner.map_or(error, handed_through)
}

fn of_errno(errno: i32) -> Option<String> {
    Some(match errno {
        libc::ENOSPC | libc::EDQUOT => PRUNE.to_owned(),
        libc::EROFS => "`--root DIR` puts the store somewhere that can be written".to_owned(),
        libc::EMFILE | libc::ENFILE => {
            "`ulimit -n` shows how many files may be open, and raises it".to_owned()
        }
        _ => return None,
    })
}

const PRUNE: &str = "`cooper prune` removes what no image needs";

fn of_registry(error: &registry::Error) -> Option<String> {
    use registry::Error as E;
    Some(match error {
        E::NotTls { .. } => {
            "`--tls-verify=false` allows http, if that registry is meant to speak it".to_owned()
        }
        E::Untrusted { host, .. } => format!(
            "its CA belongs in `/etc/docker/certs.d/{host}/ca.crt`, or in a directory for \
             `--cert-dir`; `--tls-verify=false` trusts anybody"
        ),
        E::NoRoots { .. } => "`apt-get install ca-certificates`".to_owned(),
        E::NeedsLogin { host, .. } | E::WrongCredentials { host, .. } => {
            format!("`cooper login {host}`, or `--creds USER:PASSWORD`")
        }
        E::Ambiguous { .. } => "the name in full, `HOST/NAME`, says which".to_owned(),
        E::TooMuch { .. } => "several steps in place of one make smaller layers".to_owned(),
        E::Slow { .. } => "`timeout=` gives the cache more time".to_owned(),
        _ => return None,
    })
}

fn of_store(error: &store::Error) -> Option<String> {
    use store::Error as E;
    Some(match error {
        E::Full { .. } => PRUNE.to_owned(),
        E::NoImage { near, .. } => match near.first() {
            Some(name) => format!("did you mean `{name}`?"),
            None => "`cooper images` lists what is there".to_owned(),
        },
        E::Owner { .. } => "`--isolation=RUNG` names the rung that made it, `--root DIR` or \
             `COOPER_ROOT` another store"
            .to_owned(),
        E::Attributes { .. } | E::NotAStore { .. } => {
            "`--root DIR` or `COOPER_ROOT` names another store".to_owned()
        }
        E::InUse { running: false, .. } | E::SeveralNames { .. } => {
            "`rmi -f` removes it all the same".to_owned()
        }
        _ => return None,
    })
}

fn of_git(error: &GitError) -> Option<String> {
    Some(match error {
        GitError::NotInstalled => "`apt-get install git`".to_owned(),
        GitError::Failed { says, .. } if says.contains("could not read Username") => {
            "`--secret id=GIT_AUTH_TOKEN.HOST,env=VARIABLE` logs in with a token".to_owned()
        }
        GitError::Failed { says, .. } if says.contains("Permission denied (publickey") => {
            "`--ssh default` lets the agent in SSH_AUTH_SOCK answer".to_owned()
        }
        _ => return None,
    })
}

fn of_namespace(error: &EnterError) -> Option<String> {
    match error {
        EnterError::Refused(refusal) => of_refusal(refusal),
        EnterError::Kernel { source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
            Some(APPARMOR.to_owned())
        }
        _ => None,
    }
}

/// What lets user namespaces be made.
const APPARMOR: &str = "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, as root, where \
     AppArmor forbids user namespaces; `--security-opt seccomp=unconfined` for the container \
     around, where its filter does";

fn of_refusal(refusal: &Refusal) -> Option<String> {
    Some(match refusal {
        Refusal::NoRange { user, .. } | Refusal::SmallRange { user, .. } => format!(
            "`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`, as root"
        ),
        Refusal::NoHelper { .. } => "`apt-get install uidmap`, as root".to_owned(),
        Refusal::NamespacesOff { .. } => {
            "`sysctl user.max_user_namespaces=15000`, as root".to_owned()
        }
        Refusal::NamespacesForbidden { .. } => APPARMOR.to_owned(),
        Refusal::PowerlessRoot => "`--cap-add SYS_ADMIN`, or CAP_SETUID and CAP_SETGID, for the \
             container around"
            .to_owned(),
        Refusal::AskedFor => "leave `--isolation=chroot` out: the best there is will be taken, or \
             `--isolation=single-id`, which needs no privilege"
            .to_owned(),
        _ => return None,
    })
}

/// What to do about a limit that can't be kept.
pub(crate) fn limit_hint(error: &LimitError) -> String {
    of_remedy(error.remedy())
}

fn of_remedy(remedy: Remedy) -> String {
    match remedy {
        Remedy::Session => {
            "`machinectl shell USER@`, or ssh, logs in with a session of systemd, which gives one; \
             `--limits=best-effort` goes on without the limit"
        }
        Remedy::Delegation => {
            "`Delegate=cpu cpuset io memory pids` below `[Service]` in `systemctl edit \
             user@.service` lets sessions have it; `--limits=best-effort` goes on without the limit"
        }
        Remedy::Unified => {
            "`systemd.unified_cgroup_hierarchy=1` on the kernel's command line, or \
             `--limits=best-effort`"
        }
        Remedy::Memory => "stop the container first, or free some of its memory",
        Remedy::Restart => "stop the container first: limits then hold from its start",
        Remedy::None => "`--limits=best-effort` goes on without the limit",
    }
    .to_owned()
}

fn of_runner(error: &runner::Error) -> Option<String> {
    let nearest = |names: &[String]| names.first().map(|name| format!("did you mean `{name}`?"));
    match error {
        runner::Error::NotStarted(told) => told.remedy().map(of_remedy),
        runner::Error::NotShared { on, .. } => Some(format!(
            "as root, `mount --make-shared {}`; an ordinary user's mounts never reach the machine, \
             and `rslave` lets in what the machine mounts",
            on.display()
        )),
        runner::Error::NoImage { nearest: names, .. } => nearest(names),
        runner::Error::NoContainer { nearest: names, .. } => {
            Some(nearest(names).unwrap_or_else(|| "`cask ps -a` lists what is there".to_owned()))
        }
        runner::Error::NothingToDebug { nearest: names, .. } => Some(
            nearest(names)
                .unwrap_or_else(|| "`cask ps -a` and `cask images` list what is there".to_owned()),
        ),
        runner::Error::NoVolume { nearest: names, .. } => Some(
            nearest(names).unwrap_or_else(|| "`cask volume ls` lists what is there".to_owned()),
        ),
        runner::Error::NoNetwork { nearest: names, .. } => Some(
            nearest(names).unwrap_or_else(|| "`cask network ls` lists what is there".to_owned()),
        ),
        runner::Error::AddressTaken { .. } => {
            Some("without `--ip` and `--ip6` a free one is found".to_owned())
        }
        runner::Error::NetworkOverlap { .. } => {
            Some("without `--subnet` a free one is found".to_owned())
        }
        runner::Error::Running { name } => Some(format!("`cask stop {name}` first, or `rm -f`")),
        runner::Error::NotRunning { name } => Some(format!("`cask start {name}`")),
        runner::Error::Dead { name } => Some(format!("`cask rm {name}`")),
        runner::Error::Paused { name } => Some(format!("`cask unpause {name}`")),
        runner::Error::Journal { .. } => {
            Some("systemd-journald has to run; `--log-driver=json-file` needs none".to_owned())
        }
        runner::Error::NoHealthCheck { .. } => {
            Some("`--health-cmd` or HEALTHCHECK in the image gives one".to_owned())
        }
        runner::Error::BeyondIds { .. } => Some(
            "`/etc/subuid` and `/etc/subgid` say how many there are; `--user` names another user"
                .to_owned(),
        ),
        runner::Error::NameTaken { name, .. } => Some(format!("`cask rm {name}`, or another name")),
        runner::Error::PortTaken { .. } => {
            Some("without a port before the `:` a free one is found".to_owned())
        }
        runner::Error::PortPrivileged { port, .. } => Some(format!(
            "publish at 1024 or above, or let everyone have it: \
             `sysctl net.ipv4.ip_unprivileged_port_start={port}` as root"
        )),
        _ => None,
    }
}

fn of_step(error: &StepError) -> Option<String> {
    Some(match error {
        StepError::NotAllowed { grant } => {
            format!("`--allow {grant}`, if you trust this Dockerfile with it")
        }
        StepError::NoSecret { id } => {
            format!("`--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`")
        }
        StepError::NoEmulation { .. } => CROSS.to_owned(),
        StepError::UnfixedHandler { handler, .. } => format!(
            "`echo -1 > /proc/sys/fs/binfmt_misc/{handler}` as root removes it; register it again with flag F, \
             as qemu-user-static does"
        ),
        StepError::NoAgent { id } if id == "default" => "`--ssh default`".to_owned(),
        StepError::NoAgent { id } => format!("`--ssh {id}=SOCKET`"),
        StepError::SecretInLayer { .. } => {
            "`--secret-guard=off` builds it all the same, with the secret for all to read"
                .to_owned()
        }
        StepError::NoMounts { kind: "secret", .. } => {
            "`--mount=type=secret,id=…,env=VARIABLE` hands it over without a file".to_owned()
        }
        _ => return None,
    })
}

fn of_build(error: &build::Error) -> Option<String> {
    Some(match error {
        build::Error::NoDockerfile { .. } => "`-f FILE` names another".to_owned(),
        build::Error::NoTarget {
            nearest: Some(name),
            ..
        } => format!("`--target {name}`"),
        build::Error::NoContainer {
            nearest: Some(name),
            ..
        } => format!("did you mean `{name}`?"),
        build::Error::NoContainer { .. } => {
            "`cooper containers` lists them, `cooper from IMAGE` makes one".to_owned()
        }
        _ => return None,
    })
}
