//! `doctor`: what works on this machine, and what to do about the rest.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::report::{Report, limit_hint, wrong_format};
use crate::cli::ui;
use crate::cli::ui::template::Template;
use crate::cli::{Session, env};
use crate::sandbox::probe::{Gate, GateKind, Shut, gates};
use crate::sandbox::userns::{HostInfo, Refusal, Rung};

/// Show what works on this machine, and how to mend what does not
///
/// Every gate is tried. The exit code is 0 if RUN steps can run, else 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// `json` or a template such as `{{.Rung}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Doctor {
    /// Tries everything and prints what came of it.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let host = HostInfo::detect()
            .map_err(|error| Report::failed("cannot read /proc").because(&error))?;
        let gates = gates(
            &host,
            session.root().unwrap_or(Path::new("")),
            env::session_bus().as_deref(),
        );
        let rung = rung(&host, &gates);
        let facts = [
            ("Rung", rung.to_string()),
            ("Snapshotter", snapshotter(rung, &gates)),
            ("Network", network(rung, &gates).to_owned()),
        ];
        let text = match self.format.as_deref() {
            None => table(&facts, &gates),
            Some("json") => value(&facts, &gates).to_string(),
            Some(text) => {
                let template = Template::parse(text).map_err(wrong_format)?;
                template
                    .render(&value(&facts, &gates))
                    .map_err(wrong_format)?
            }
        };
        ui::data(&text)?;
        let runs = rung != Rung::Chroot || host.chroots();
        Ok(ExitCode::from(u8::from(!runs)))
    }
}

fn is_open(gates: &[Gate], kind: GateKind) -> bool {
    gates
        .iter()
        .any(|gate| gate.kind == kind && gate.outcome.is_ok())
}

/// The rung that a build would take: namespaces may be forbidden though nothing else lacks.
fn rung(host: &HostInfo, gates: &[Gate]) -> Rung {
    match host.rung() {
        Ok(Rung::Root) => Rung::Root,
        Ok(rung) if is_open(gates, GateKind::UserNamespaces) => rung,
        _ => Rung::Chroot,
    }
}

/// How RUN gets at what it changed.
fn snapshotter(rung: Rung, gates: &[Gate]) -> String {
    if rung == Rung::Chroot {
        return "copy, because nothing can be mounted".to_owned();
    }
    let overlay = gates.iter().find(|gate| gate.kind == GateKind::Overlay);
    match overlay.map(|gate| &gate.outcome) {
        Some(Err(shut)) => format!("copy, because an overlay can't be mounted ({shut})"),
        _ => "overlay".to_owned(),
    }
}

/// What `--network` can be, the default first.
fn network(rung: Rung, gates: &[Gate]) -> &'static str {
    match (rung, is_open(gates, GateKind::Tun)) {
        (Rung::Chroot, _) => "host",
        (_, true) => "private, host, none",
        (_, false) => "host, none",
    }
}

fn title(kind: GateKind) -> &'static str {
    match kind {
        GateKind::UserNamespaces => "user namespaces",
        GateKind::IdMaps => "id maps",
        GateKind::Overlay => "overlay",
        GateKind::Proc => "fresh /proc",
        GateKind::PivotRoot => "pivot_root",
        GateKind::Seccomp => "seccomp",
        GateKind::SeccompNotify => "seccomp notify",
        GateKind::Tun => "tun device",
        GateKind::ControlGroups => "control groups",
        GateKind::OpenFiles => "open files",
    }
}

/// What to type to open a gate.
fn fix(kind: GateKind, shut: &Shut) -> String {
    match (kind, shut) {
        (_, Shut::AppArmor) => "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        (_, Shut::DebianSwitch) => "sysctl kernel.unprivileged_userns_clone=1",
        (_, Shut::NoneLeft(_)) => "sysctl user.max_user_namespaces=15000",
        (_, Shut::Ids(Refusal::NoHelper { .. })) => "apt-get install uidmap",
        (_, Shut::Ids(Refusal::NoRange { user, .. } | Refusal::SmallRange { user, .. })) => {
            return format!(
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            );
        }
        (_, Shut::Ids(_)) => "start it without no_new_privs, or as root",
        (GateKind::Overlay, _) => "modprobe overlay",
        (GateKind::Tun, Shut::Kernel(error)) => match error.kind() {
            std::io::ErrorKind::PermissionDenied => "chmod 666 /dev/net/tun",
            _ => "modprobe tun, and hand /dev/net/tun into the container if this is one",
        },
        (_, Shut::Limits(error)) => {
            return limit_hint(error);
        }
        (GateKind::OpenFiles, _) => "ulimit -Hn 1048576",
        (GateKind::Proc, _) => "start the container around this with nothing masked in /proc",
        (GateKind::PivotRoot, _) => "move the root off the initramfs (switch_root)",
        _ => "allow it in the seccomp profile of the container around this",
    }
    .to_owned()
}

fn table(facts: &[(&str, String)], gates: &[Gate]) -> String {
    let mut lines: Vec<String> = facts
        .iter()
        .map(|(name, text)| format!("{:<16}{text}", format!("{}:", name.to_lowercase())))
        .collect();
    lines.push(String::new());
    for gate in gates {
        let title = title(gate.kind);
        match &gate.outcome {
            Ok(()) => lines.push(format!("ok   {title}")),
            Err(shut) => {
                lines.push(format!("no   {title}: {shut}"));
                lines.push(format!("     fix: {}", fix(gate.kind, shut)));
            }
        }
    }
    lines.join("\n")
}

fn value(facts: &[(&str, String)], gates: &[Gate]) -> serde_json::Value {
    let gates: Vec<_> = gates
        .iter()
        .map(|gate| {
            let shut = gate.outcome.as_ref().err();
            json!({
                "Name": title(gate.kind),
                "Open": shut.is_none(),
                "Cause": shut.map(ToString::to_string),
                "Fix": shut.map(|shut| fix(gate.kind, shut)),
            })
        })
        .collect();
    let mut value = serde_json::Map::new();
    for (name, text) in facts {
        value.insert((*name).to_owned(), json!(text));
    }
    value.insert("Gates".to_owned(), json!(gates));
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shut_gate_has_a_cause_and_a_fix() {
        let shut = |kind, outcome| Gate {
            kind,
            outcome: Err(outcome),
        };
        let gates = [
            Gate {
                kind: GateKind::Seccomp,
                outcome: Ok(()),
            },
            shut(GateKind::UserNamespaces, Shut::NoneLeft(0)),
            shut(
                GateKind::IdMaps,
                Shut::Ids(Refusal::NoRange {
                    file: "/etc/subuid",
                    user: "ann".to_owned(),
                }),
            ),
            shut(
                GateKind::Tun,
                Shut::Kernel(std::io::Error::from_raw_os_error(libc::EACCES)),
            ),
        ];
        let text = table(&[("Rung", "single-id".to_owned())], &gates);
        insta::assert_snapshot!(text, @r"
        rung:           single-id

        ok   seccomp
        no   user namespaces: no more user namespaces may exist (user.max_user_namespaces is 0)
             fix: sysctl user.max_user_namespaces=15000
        no   id maps: /etc/subuid has no range for `ann` (a line such as `ann:100000:65536` gives one)
             fix: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ann
        no   tun device: Permission denied
             fix: chmod 666 /dev/net/tun
        ");
        let json = value(&[("Rung", "single-id".to_owned())], &gates);
        assert_eq!(json["Rung"], "single-id");
        assert_eq!(
            json["Gates"][1]["Fix"],
            "sysctl user.max_user_namespaces=15000"
        );
        assert_eq!(json["Gates"][0]["Open"], true);
        assert!(json["Gates"][0]["Cause"].is_null());
    }
}
