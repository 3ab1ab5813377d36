//! Argument groups and value parsers that several subcommands share.

mod isolation;
mod limits;
mod made;
mod names;
mod packing;
mod platform;
mod refused;
mod scan;
mod snapshotter;

pub(crate) use isolation::IsolationArgs;
pub(crate) use limits::LimitArgs;
pub(crate) use made::MadeArgs;
pub(crate) use names::NameArgs;
pub(crate) use packing::{PackingArgs, compression};
pub(crate) use platform::PlatformArgs;
pub(crate) use refused::{NamespaceArgs, RefusedArgs, Row, refusal, refuse};
pub(crate) use scan::{ScanArgs, preset};
pub(crate) use snapshotter::snapshotter;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use super::env;
use super::report::Report;
use super::ui::{Level, human};
use crate::build::{self, GitTools, Pull, SshSource};
use crate::dockerfile::go_bool;
use crate::registry::{Credentials, Options, Proxies, Secret};
use crate::sandbox::network::addresses::HOST_GATEWAY;
use crate::sandbox::userns::Rung;
use crate::sandbox::{network, reason};

/// Options of every subcommand.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of the store; `COOPER_ROOT` names another default
    /// [default: /var/lib/cooper for root, else ~/.local/share/cooper]
    #[arg(long, global = true, value_name = "DIR", hide_default_value = true)]
    pub(crate) root: Option<PathBuf>,

    /// How privileges are come by: root, subid, outer-userns, single-id or chroot (RUN for root
    /// only); buildah's `oci` and `rootless` mean the best there is;
    /// `COOPER_ISOLATION` names another default [default: the best there is]
    #[arg(long, global = true, value_name = "RUNG", hide_default_value = true)]
    pub(crate) isolation: Option<Power>,

    /// What a build or pull leaves on disk at most: beyond it, results of build steps go, least
    /// recently used first; `COOPER_MAX_STORE` names a default
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub(crate) max_store: Option<u64>,

    /// How much is said on standard error besides progress
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<Level>,
}

/// An option as it was written, and what it means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given<T> {
    pub(crate) text: String,
    pub(crate) means: T,
}

impl<T> Given<T> {
    /// Parses `text` by `parse`.
    pub(crate) fn parse(
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Self, String> {
        let means = parse(text)?;
        Ok(Self {
            text: text.to_owned(),
            means,
        })
    }
}

/// Reads a size such as `512m` or `10GB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    human::parse_size(text).ok_or_else(|| "expected a size such as `512m` or `10GB`".to_owned())
}

/// Completes the options with a `BOOL`, for `#[command(mut_args(switches))]`: without a value they
/// are true.
pub(crate) fn switches(arg: clap::Arg) -> clap::Arg {
    let names = arg.get_value_names();
    if names.is_none_or(|names| names.iter().all(|name| name != "BOOL")) {
        return arg;
    }
    arg.num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(boolean)
}

/// Reads a truth value in docker's words.
fn boolean(text: &str) -> Result<bool, String> {
    go_bool(text).ok_or_else(|| "expected true or false".to_owned())
}

/// How registries are reached.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registry options", mut_args(switches))]
pub(crate) struct Registry {
    /// `false` accepts http and certificates that do not verify. Without the option https is
    /// required, except of a registry on a loopback address
    #[arg(long, value_name = "BOOL")]
    pub(crate) tls_verify: Option<bool>,

    /// User name and password for this run; without a password it is asked for
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<String>,

    /// File with logins, in the format of docker's `config.json`
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,

    /// Directory with `*.crt` (CAs), `*.cert` and `*.key` for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,

    /// How often a transfer that failed is tried again [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) retry: Option<u32>,

    /// Seconds before the first of these, and twice as many before each further one [default: 0.5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) retry_delay: Option<Duration>,
}

/// What `--isolation` asks for: a rung, or the best that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Power(pub(crate) Option<Rung>);

impl std::str::FromStr for Power {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            // There is one runtime, our own, and whether it needs a namespace is found out.
            "default" | "oci" | "rootless" => Ok(Self(None)),
            rung => rung.parse().map(|rung| Self(Some(rung))),
        }
    }
}

impl Registry {
    /// Resolves the options; asks for a password where one is missing.
    pub(crate) fn options(&self) -> Result<Options, Report> {
        let credentials = self.creds.as_deref().map(credentials).transpose()?;
        let usual = Options::default();
        Ok(Options {
            attempts: self.retry.map_or(usual.attempts, |n| n.saturating_add(1)),
            backoff: self.retry_delay.unwrap_or(usual.backoff),
            tls_verify: self.tls_verify,
            credentials,
            registries: env::registries_conf(),
            authfiles: match &self.authfile {
                Some(file) => vec![file.clone()],
                None => env::authfiles(),
            },
            helper_path: env::os("PATH"),
            cert_dir: self.cert_dir.clone(),
            ca_files: env::path("SSL_CERT_FILE").into_iter().collect(),
            proxies: proxies(),
            docker_socket: docker_socket().unwrap_or_else(|| usual.docker_socket.clone()),
            ..usual
        })
    }
}

/// Where docker's daemon listens, as far as `DOCKER_HOST` says. A place that is no socket of this
/// machine is tried like one, and named by the error.
fn docker_socket() -> Option<PathBuf> {
    let text = env::text("DOCKER_HOST").filter(|text| !text.is_empty())?;
    let path = text.strip_prefix("unix://").unwrap_or(&text);
    Some(PathBuf::from(path))
}

/// Reads a time in seconds, with or without an `s`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let time = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| "expected a number of seconds".to_owned())
}

fn credentials(text: &str) -> Result<Credentials, Report> {
    let (username, password) = match text.split_once(':') {
        Some((user, password)) => (user.to_owned(), password.to_owned()),
        None => (text.to_owned(), ask_password()?),
    };
    if username.is_empty() {
        return Err(Report::wrong_use(
            "`--creds` begins with a user name: `USER:PASSWORD`",
        ));
    }
    Ok(Credentials::Password {
        username,
        password: Secret::new(password),
    })
}

/// How git repositories are reached.
pub(crate) fn git_tools(ssh_agent: Option<SshSource>) -> GitTools {
    GitTools {
        path: env::os("PATH"),
        proxies: env::proxies(),
        ssh_agent,
        known_hosts: env::path("HOME").map(|home| home.join(".ssh/known_hosts")),
        ca_file: env::path("SSL_CERT_FILE"),
        settings: env::git_settings(),
    }
}

/// Parses `--pull`.
pub(crate) fn pull_policy(text: &str) -> Result<Pull, String> {
    match text {
        "always" | "true" => Ok(Pull::Always),
        "missing" | "false" => Ok(Pull::Missing),
        "never" => Ok(Pull::Never),
        "newer" => Ok(Pull::Newer),
        _ => Err("expected always, missing, never or newer".to_owned()),
    }
}

fn proxies() -> Proxies {
    let either = |upper: &str| {
        // The lower-case spelling wins, as in curl and Go.
        env::text(&upper.to_ascii_lowercase()).or_else(|| env::text(upper))
    };
    let all = either("ALL_PROXY");
    Proxies {
        http: either("HTTP_PROXY").or_else(|| all.clone()),
        https: either("HTTPS_PROXY").or(all),
        no_proxy: either("NO_PROXY"),
    }
}

/// Reads a password: from the terminal without showing it, or from standard input when it is
/// none.
pub(crate) fn ask_password() -> Result<String, Report> {
    use std::io::IsTerminal;
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return password_from(&mut stdin.lock());
    }
    super::ui::prompt("Password: ");
    let hidden = super::ui::Hidden::enter(&stdin)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    drop(hidden);
    super::ui::note("");
    read.map_err(|error| Report::failed("cannot read the password").because(&error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads a password up to the end of `input`; one line end at its end is not part of it.
pub(crate) fn password_from(input: &mut dyn Read) -> Result<String, Report> {
    /// Longer than any token in use.
    const LIMIT: u64 = 1 << 20;
    let mut text = String::new();
    let read = input.take(LIMIT).read_to_string(&mut text);
    read.map_err(|error| Report::failed("cannot read the password").because(&error))?;
    let end = text.strip_suffix('\n').unwrap_or(&text);
    Ok(end.strip_suffix('\r').unwrap_or(end).to_owned())
}

/// Network of RUN steps and containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// A private one where it can be made, else the machine's.
    Default,
    /// One of its own that reaches the world through the machine's.
    Private,
    /// The machine's.
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// Parses `--network`. `bridge` is docker's name for what is private here.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    match text {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        "private" | "bridge" => Ok(Network::Private),
        "default" => Ok(Network::Default),
        _ => Err("expected `default`, `private`, `host` or `none`".to_owned()),
    }
}

impl Network {
    /// The default where no network can be made: the machine's.
    pub(crate) fn shared(self) -> Self {
        match self {
            Self::Default => Self::Host,
            asked => asked,
        }
    }

    /// Returns what it is to the steps of a build.
    pub(crate) fn of_steps(self) -> build::Network {
        match self {
            Self::Default | Self::Private => build::Network::Private,
            Self::Host => build::Network::Host,
            Self::None => build::Network::None,
        }
    }

    /// Settles what is the default here. The error of a private network that can't be made is
    /// returned where that was asked for, and is the second value where the machine's takes its
    /// place; `own` says that nothing can. Must come after [`super::Session::store_with_power`],
    /// whose rights count.
    pub(crate) fn settle(self, own: bool) -> Result<(Self, Option<String>), Report> {
        let (asked, refused) = match (self, network::probe()) {
            (Self::Host | Self::None, _) => return Ok((self, None)),
            (Self::Default | Self::Private, Ok(())) => return Ok((Self::Private, None)),
            (asked, Err(refused)) => (asked, refused),
        };
        if own || asked == Self::Private {
            return Err(Report::failed("cannot make a private network")
                .because(&refused)
                .hint(TUN_HINT));
        }
        let refused = reason(&refused);
        let why = format!("no private network ({refused}): the machine's is used; {TUN_HINT}");
        Ok((Self::Host, Some(why)))
    }
}

/// How `/dev/net/tun` can be opened by everyone; the kernel checks what may be done with it.
const TUN_HINT: &str = "`modprobe tun` makes /dev/net/tun, `chmod 0666 /dev/net/tun` opens it to \
    everyone; `--network=host` needs neither";

/// Parses `KEY=VALUE`; `KEY` alone has an empty value, as docker's `--label` reads it.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err("expected `KEY=VALUE`".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Parses `HOST:IP` or `HOST=IP`; an IPv6 address may stand in brackets, and `host-gateway` in
/// place of an address is the machine.
pub(crate) fn host_address(text: &str) -> Result<(String, String), String> {
    let bad = || "expected `HOST:IP`, such as `db:10.0.0.5`".to_owned();
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(bad)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match address {
        HOST_GATEWAY => HOST_GATEWAY.to_owned(),
        _ => {
            let address: std::net::IpAddr = bare.unwrap_or(address).parse().map_err(|_| bad())?;
            address.to_string()
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(bad());
    }
    Ok((host.to_owned(), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parted_from_addresses() {
        let host = |text| host_address(text).ok();
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(host("db:10.0.0.5"), pair("db", "10.0.0.5"));
        assert_eq!(host("db=::1"), pair("db", "::1"));
        assert_eq!(host("db:[::1]"), pair("db", "::1"));
        assert_eq!(host("db:fe80::1"), pair("db", "fe80::1"));
        assert_eq!(host("db:host-gateway"), pair("db", "host-gateway"));
        for bad in [
            "db",
            "db:",
            ":1.2.3.4",
            "db:host",
            "a b:1.2.3.4",
            "a\nb:1.2.3.4",
        ] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn isolations_have_buildahs_names_too() {
        for text in ["default", "oci", "rootless"] {
            assert_eq!(text.parse(), Ok(Power(None)), "{text}");
        }
        assert_eq!("chroot".parse(), Ok(Power(Some(Rung::Chroot))));
        assert!("kata".parse::<Power>().is_err());
    }

    #[test]
    fn labels_may_have_no_value() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a"), Ok(("a".to_owned(), String::new())));
        assert!(label("=x").is_err());
    }

    #[test]
    fn passwords_lose_one_line_end() {
        let read = |text: &str| password_from(&mut text.as_bytes()).unwrap();
        assert_eq!(read("s3cret\n"), "s3cret");
        assert_eq!(read("a\nb\r\n"), "a\nb");
        assert_eq!(read("a b "), "a b ");
    }
}
