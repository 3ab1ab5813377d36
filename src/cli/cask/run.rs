//! `cask run`: a container in the foreground.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::args::{self, IsolationArgs, Registry};
use crate::cli::report::{RUN_FAILED, Report};
use crate::cli::{Session, env, files, signals};
use crate::runner::{self, Bind, Container, Request, Terminal};
use crate::sandbox::{Exit, Isolation};
use crate::store::Store;
use crate::transfer::{Network, Options};

/// Run a program in a new container
///
/// Options stop at IMAGE; what follows is the program's. An image that is not in the store is
/// pulled. The exit code is the program's own, 125 when cask itself fails, 126 when the program
/// can't be executed, 127 when there is none.
///
/// The container uses the network of the machine unless `--network=none` is given; a private
/// network is not there yet.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cask run [OPTIONS] IMAGE [ARG]...")]
pub(super) struct Run {
    /// The image, and what the program gets in place of the image's CMD
    #[arg(value_names = ["IMAGE", "ARG"], num_args = 1.., required = true, trailing_var_arg = true)]
    image_and_args: Vec<String>,

    /// Remove the container when its program ends
    #[arg(long)]
    rm: bool,

    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,

    /// Name of the container
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Variable for the program; without a value the environment's
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// File with such variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// Name or id of the user, `:GROUP` may follow
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Directory or file of the machine that the program sees; `:ro` keeps it from writing
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:ro]", value_parser = bind)]
    volumes: Vec<Bind>,

    /// Program to run in place of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// Network: host or none
    #[arg(
        long,
        visible_alias = "net",
        value_name = "NETWORK",
        default_value = "host",
        value_parser = args::network
    )]
    network: args::Network,

    /// Host name in the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// Keep the program from writing to the container's file system
    #[arg(long)]
    read_only: bool,

    /// Whether to pull the image: missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["missing", "never"])]
    pull: String,

    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// No progress of a pull
    #[arg(short, long)]
    quiet: bool,

    /// Give the program all capabilities and mask nothing
    #[arg(long)]
    privileged: bool,

    #[command(flatten)]
    isolation: IsolationArgs,

    #[command(flatten)]
    registry: Registry,
}

/// Parses `-v`. A source that starts with a dot is relative to the working directory.
fn bind(text: &str) -> Result<Bind, String> {
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err("expected `HOST:CONTAINER` or `HOST:CONTAINER:ro`".to_owned());
    };
    let mut read_only = false;
    for option in parts.flat_map(|options| options.split(',')) {
        match option {
            "ro" => read_only = true,
            // Labels of SELinux, which Debian does not use, mean nothing here.
            "rw" | "z" | "Z" => {}
            _ => return Err(format!("there is no option `{option}`, only `ro` and `rw`")),
        }
    }
    if !source.starts_with(['/', '.']) {
        return Err(format!(
            "`{source}` is no path: volumes with a name are not there yet, so it begins with `/` or `.`"
        ));
    }
    if !target.starts_with('/') {
        return Err(format!("`{target}` is not absolute"));
    }
    let source = std::path::absolute(source).map_err(|error| error.to_string())?;
    Ok(Bind {
        source,
        target: PathBuf::from(target),
        read_only,
    })
}

impl Run {
    /// Runs it. Whatever goes wrong before the program runs has docker's exit code for that.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        self.prepare_and_run(session)
            .map_err(|report| report.exit_if_own(RUN_FAILED))
    }

    fn prepare_and_run(self, session: &Session) -> Result<ExitCode, Report> {
        let request = self.request()?;
        let pull = match self.pull.as_str() {
            "never" => None,
            _ => Some(self.registry.options()?),
        };
        if let Some(path) = self.cidfile.as_deref().filter(|path| path.exists()) {
            return Err(Report::failed(format!("{} exists already", path.display())));
        }
        let (store, rung) = session.store_with_power()?;
        // Threads of a pull must not take the signals that are the program's.
        let held = signals::Held::new()?;
        let shown = session.modest(self.quiet);
        rung.announce(&shown);
        let pull = pull.map(|options| Options {
            network: Network::new(options),
            ..Options::default()
        });
        let container = runner::create(&store, &request, pull.as_ref(), &shown);
        drop(shown);
        drop(held);
        let container = container?;
        if let Some(path) = &self.cidfile {
            files::write(path, container.id.as_bytes())?;
        }
        let ended = run(&store, &container, session);
        if self.rm {
            let removed = runner::remove(container);
            // How the program ended is what the caller wants to know first.
            let exit = ended?;
            removed?;
            return Ok(exit);
        }
        ended
    }

    fn request(&self) -> Result<Request, Report> {
        let (image, args) = match self.image_and_args.split_first() {
            Some((image, args)) => (image, args.to_vec()),
            None => return Err(Report::wrong_use("no image is named")),
        };
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(read_env_file(file)?);
        }
        env.extend(self.env.iter().filter_map(|pair| variable(pair)));
        Ok(Request {
            args,
            name: self.name.clone(),
            entrypoint: self.entrypoint.clone(),
            env,
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            binds: self.volumes.clone(),
            network: match self.network {
                args::Network::Host => runner::Network::Host,
                args::Network::None => runner::Network::None,
            },
            isolation: self.isolation.over(match self.privileged {
                true => Isolation::privileged(),
                false => Isolation::default(),
            })?,
            tty: self.tty,
            interactive: self.interactive,
            remove: self.rm,
            read_only: self.read_only,
            ..Request::new(image)
        })
    }
}

fn run(store: &Store, container: &Container, session: &Session) -> Result<ExitCode, Report> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let terminal = Terminal {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    match runner::run(store, container, &terminal, &session.modest(true)) {
        Ok(Exit::Code(code)) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        Ok(Exit::Signal(signal)) => Ok(ExitCode::from(128 + u8::try_from(signal).unwrap_or(0))),
        Err(error) => {
            let exit = error.exit_code();
            Err(Report::from(error).exit(exit))
        }
    }
}

/// Looks up the value of a `KEY` alone; one that is not set is left out.
fn variable(pair: &str) -> Option<String> {
    match pair.contains('=') {
        true => Some(pair.to_owned()),
        false => env::exact(pair).map(|value| format!("{pair}={value}")),
    }
}

/// Reads docker's `--env-file`: a variable a line, `#` begins a comment line, no quotes.
fn read_env_file(path: &Path) -> Result<Vec<String>, Report> {
    let text = fs::read_to_string(path).map_err(|error| {
        Report::failed(format!("cannot read {}", path.display())).because(&error)
    })?;
    let mut out = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            let place = format!("{}:{}", path.display(), at + 1);
            return Err(Report::wrong_use(format!(
                "{place}: `{name}` can't be the name of a variable"
            )));
        }
        out.extend(variable(line));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        run: Run,
    }

    fn parse(args: &[&str]) -> Result<Run, String> {
        let args = std::iter::once("run").chain(args.iter().copied());
        Alone::try_parse_from(args)
            .map(|alone| alone.run)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn options_stop_at_the_image() {
        let run = parse(&["--rm", "-it", "-e", "A=1", "app", "-e", "--rm", "--", "-x"]).unwrap();
        assert!(run.rm && run.interactive && run.tty);
        assert_eq!(run.env, ["A=1"]);
        assert_eq!(run.image_and_args, ["app", "-e", "--rm", "--", "-x"]);
        assert!(parse(&["--bogus", "app"]).is_err());
        assert!(parse(&[]).is_err());
        assert_eq!(
            parse(&["--", "app", "-x"]).unwrap().image_and_args,
            ["app", "-x"]
        );
    }

    #[test]
    fn volumes_are_paths() {
        let read = bind("/a:/b:ro").unwrap();
        assert_eq!(
            (read.source.as_path(), read.read_only),
            (Path::new("/a"), true)
        );
        assert!(bind("./a:/b").unwrap().source.is_absolute());
        assert!(!bind("/a:/b:rw,z").unwrap().read_only);
        for (text, why) in [
            ("/a", "expected `HOST:CONTAINER`"),
            ("data:/b", "volumes with a name are not there yet"),
            ("/a:b", "`b` is not absolute"),
            ("/a:/b:nocopy", "there is no option `nocopy`"),
        ] {
            assert!(bind(text).unwrap_err().contains(why), "{text}");
        }
    }
}
