//! Options of buildah that ask for what is not done here: refused with the reason, since a script
//! that says them relies on them. The values that ask for what is so anyway are accepted.

use crate::cli::report::Report;

/// Namespaces that a program may be asked to share with the machine.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NamespaceArgs {
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    userns: Option<String>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    pid: Option<String>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    ipc: Option<String>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    uts: Option<String>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    cgroupns: Option<String>,
    #[arg(long, hide = true, value_name = "MAP")]
    userns_uid_map: Vec<String>,
    #[arg(long, hide = true, value_name = "MAP")]
    userns_gid_map: Vec<String>,
    #[arg(long, hide = true, value_name = "NAME")]
    userns_uid_map_user: Option<String>,
    #[arg(long, hide = true, value_name = "NAME")]
    userns_gid_map_group: Option<String>,
}

impl NamespaceArgs {
    /// Refuses what can't be had.
    pub(crate) fn check(&self) -> Result<(), Report> {
        let shared = [
            ("pid", &self.pid),
            ("ipc", &self.ipc),
            ("uts", &self.uts),
            ("cgroupns", &self.cgroupns),
        ];
        for (option, value) in shared {
            match value.as_deref() {
                None | Some("private" | "container" | "") => {}
                Some(value) => {
                    let text = format!(
                        "`--{option} {value}`: a program in the making of an image has this \
                         namespace to itself, or its result would depend on the machine"
                    );
                    return Err(Report::wrong_use(text).hint(format!("`--{option} private`")));
                }
            }
        }
        let maps = self.userns_uid_map_user.is_some()
            || self.userns_gid_map_group.is_some()
            || !self.userns_uid_map.is_empty()
            || !self.userns_gid_map.is_empty();
        // Without root there is one namespace, which is what buildah calls the host's, too.
        let own = !matches!(self.userns.as_deref(), None | Some("host" | "auto" | ""));
        match maps || own {
            true => Err(Report::wrong_use(
                "a user namespace of its own can't be had: a store belongs to one id map",
            )
            .hint("another user, or another `--root` under `--isolation`, has another map")),
            false => Ok(()),
        }
    }
}

/// What other programs than ours would do, or keys that nothing here can use.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(mut_args(super::switches))]
pub(crate) struct RefusedArgs {
    #[arg(long, hide = true, value_name = "PATH")]
    runtime: Option<String>,
    #[arg(long, hide = true, value_name = "FLAG", allow_hyphen_values = true)]
    runtime_flag: Vec<String>,
    #[arg(long, hide = true, value_name = "DIR")]
    hooks_dir: Vec<String>,
    #[arg(long, hide = true, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    #[arg(long, hide = true, value_name = "KEY")]
    decryption_key: Vec<String>,
    #[arg(long, hide = true, value_name = "KEY")]
    encryption_key: Vec<String>,
    #[arg(long, hide = true, value_name = "LAYER", allow_hyphen_values = true)]
    encrypt_layer: Vec<String>,
    #[arg(long, hide = true, value_name = "FINGERPRINT")]
    sign_by: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    signature_policy: Option<String>,
    #[arg(long, hide = true, value_name = "OPTIONS")]
    cw: Option<String>,
    #[arg(long, hide = true, value_name = "BOOL")]
    no_pivot: Option<bool>,
}

const RUNTIME: &str = "programs are started by this one itself, not by an OCI runtime";
const KEYS: &str = "encrypted layers are not read or written";
const SIGNING: &str = "images are not signed, and no signature is asked for";

impl RefusedArgs {
    /// Refuses what was asked for.
    pub(crate) fn check(&self) -> Result<(), Report> {
        let table = [
            ("--runtime", self.runtime.is_some(), RUNTIME, ""),
            ("--runtime-flag", !self.runtime_flag.is_empty(), RUNTIME, ""),
            ("--hooks-dir", !self.hooks_dir.is_empty(), RUNTIME, ""),
            (
                "--no-pivot",
                self.no_pivot == Some(true),
                "the root is always left by pivot_root(2), which programs can't undo",
                "`--isolation chroot` does without",
            ),
            (
                "--cgroup-parent",
                self.cgroup_parent.is_some(),
                "control groups are made below the caller's own, which the system delegates",
                "`systemd-run --user --scope --slice NAME cooper …` puts all below another",
            ),
            (
                "--decryption-key",
                !self.decryption_key.is_empty(),
                KEYS,
                "",
            ),
            (
                "--encryption-key",
                !self.encryption_key.is_empty(),
                KEYS,
                "",
            ),
            ("--encrypt-layer", !self.encrypt_layer.is_empty(), KEYS, ""),
            (
                "--sign-by",
                self.sign_by.is_some(),
                SIGNING,
                "`cosign sign NAME@DIGEST` after the push, with the digest of `--digestfile`",
            ),
            (
                "--signature-policy",
                self.signature_policy.is_some(),
                SIGNING,
                "`NAME@sha256:…` pins what is used",
            ),
            (
                "--cw",
                self.cw.is_some(),
                "no encrypted disk images are made for confidential machines",
                "",
            ),
        ];
        refuse(&table)
    }
}

/// Option, whether it was given, why it can't be had, and what to do instead.
pub(crate) type Row = (&'static str, bool, &'static str, &'static str);

/// Refuses the first of the options that was given.
pub(crate) fn refuse(table: &[Row]) -> Result<(), Report> {
    let asked = table.iter().find(|(_, asked, ..)| *asked);
    asked.map_or(Ok(()), |(option, _, why, hint)| {
        Err(refusal(option, why, hint))
    })
}

/// The report of an option that is not for here.
pub(crate) fn refusal(option: &str, why: &str, hint: &str) -> Report {
    let report = Report::wrong_use(format!("`{option}` can't be had: {why}"));
    match hint {
        "" => report,
        hint => report.hint(hint),
    }
}
