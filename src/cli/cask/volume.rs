//! `cask volume`: directories that outlive containers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::each::{self, each};
use super::mounts;
use crate::cli::args;
use crate::cli::filters::{self, Pruned};
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::verbs::{inspect_all, tell_freed};
use crate::cli::{Session, files, ui};
use crate::runner::{self, Volume};
use crate::store::Store;

const VOLUMES: Listing = Listing {
    columns: &["Driver", "Name"],
    heads: &[("Name", "VOLUME NAME")],
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
};

/// Manage volumes
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum VolumeVerb {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Inspect(Inspect),
    #[command(visible_alias = "remove")]
    Rm(Rm),
    Prune(Prune),
    Export(Export),
    Import(Import),
}

impl VolumeVerb {
    /// Does it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        match self {
            Self::Create(verb) => verb.run(&store),
            Self::Ls(verb) => verb.run(&store),
            Self::Inspect(verb) => verb.run(&store),
            Self::Rm(verb) => verb.run(&store),
            Self::Prune(verb) => verb.run(&store),
            Self::Export(verb) => verb.run(&store),
            Self::Import(verb) => verb.run(&store),
        }
    }
}

/// Make a volume, which may be there already, and print its name
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Its name [default: a random one]
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Label of the volume
    #[arg(long = "label", value_name = "KEY[=VALUE]", value_parser = args::label)]
    labels: Vec<(String, String)>,

    /// Option of docker's local driver: `type=none`, `o=bind` and `device=DIR` make it a directory
    /// of the machine, `type=tmpfs` and `o=size=64m,uid=1000,…` memory of the container that runs
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = mounts::pair)]
    options: Vec<(String, String)>,

    /// Driver: local is all there is
    #[arg(short, long, default_value = "local", value_parser = ["local"])]
    driver: String,
}

impl Create {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let labels = self.labels.into_iter().collect();
        let options = self.options.into_iter().collect();
        let (volume, _) = runner::create_volume(store, self.name.as_deref(), labels, options)?;
        ui::data(&volume.name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// List volumes
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// Names only
    #[arg(short, long)]
    quiet: bool,

    /// Only volumes that match: `name=PART`, `label=KEY[=VALUE]`, `dangling=true|false`, `driver=`
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,

    /// `table`, `json` (one object a line), or a template of Name, Driver, Labels, Mountpoint,
    /// Scope, and `.Label "KEY"`
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    format: Format,
}

#[derive(Debug, Clone)]
enum Filter {
    Name(String),
    Label(filters::Label),
    Dangling(bool),
    Driver(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("name", part)) => Ok(Self::Name(part.to_owned())),
            Some(("label", label)) => Ok(Self::Label(filters::Label::parse(label))),
            Some(("dangling", text)) => filters::switch(text).map(Self::Dangling),
            Some(("driver", driver)) => Ok(Self::Driver(driver.to_owned())),
            _ => Err("expected `name=`, `label=`, `driver=` or `dangling=true|false`".to_owned()),
        }
    }

    fn fits(&self, volume: &Volume, used: bool) -> bool {
        match self {
            Self::Name(part) => volume.name.contains(part.as_str()),
            Self::Label(label) => label.fits(&volume.labels),
            Self::Driver(driver) => driver == "local",
            Self::Dangling(dangling) => *dangling != used,
        }
    }
}

impl Ls {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let mut volumes = Vec::new();
        for volume in runner::list_volumes(store)? {
            let used = !runner::users_of_volume(store, &volume.name)?.is_empty();
            let is_label = |filter: &Filter| matches!(filter, Filter::Label(_));
            let fits = |filter: &Filter| filter.fits(&volume, used);
            if filters::pass(&self.filters, is_label, fits) {
                volumes.push(volume);
            }
        }
        if self.quiet {
            let names = volumes.into_iter().map(|volume| volume.name + "\n");
            ui::raw_data(names.collect::<String>().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Value> = volumes.iter().map(|volume| row(store, volume)).collect();
        let text = VOLUMES.render(&self.format, &rows).map_err(wrong_format)?;
        ui::raw_data(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What is listed of a volume.
pub(in crate::cli) fn row(store: &Store, volume: &Volume) -> Value {
    // What docker leaves to `system df -v`, or to clusters.
    let unknown = "N/A";
    let mut row = json!({
        "Availability": unknown,
        "Driver": "local",
        "Group": unknown,
        "Links": unknown,
        "Mountpoint": runner::data_dir(store, &volume.name).display().to_string(),
        "Name": volume.name,
        "Scope": "local",
        "Size": unknown,
        "Status": unknown,
    });
    filters::show_labels(&mut row, &volume.labels);
    row
}

/// Show everything about volumes
#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// Names of volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,

    /// `json`, or a template such as `{{.Mountpoint}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Inspect {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        inspect_all(&self.volumes, self.format.as_deref(), |name| {
            Ok(inspected(store, &runner::find_volume(store, name)?))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn inspected(store: &Store, volume: &Volume) -> Value {
    json!({
        "CreatedAt": volume.created,
        "Driver": "local",
        "Labels": (!volume.labels.is_empty()).then_some(&volume.labels),
        "Mountpoint": runner::data_dir(store, &volume.name).display().to_string(),
        "Name": volume.name,
        "Options": (!volume.options.is_empty()).then_some(&volume.options),
        "Scope": "local",
    })
}

/// Everything about a volume; `None` if there is none of that name.
pub(super) fn value(store: &Store, name: &str, _: bool) -> Result<Option<Value>, Report> {
    let found = runner::find_volume(store, name).ok();
    Ok(found.map(|volume| inspected(store, &volume)))
}

/// Remove volumes that no container mounts
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Names of volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,

    /// Volumes that are not there are no error
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        each(&self.volumes, |name| {
            match runner::find_volume(store, name) {
                Err(runner::Error::NoVolume { .. }) if self.force => return Ok(()),
                found => found?,
            };
            Ok(runner::remove_volume(store, name)?)
        })
    }
}

/// Remove volumes that no container mounts and that were made without a name
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Those with a name as well
    #[arg(short, long)]
    all: bool,

    /// Do not ask (nothing is ever asked)
    #[arg(short, long)]
    force: bool,

    /// Only volumes that match: `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`
    #[arg(long = "filter", value_name = "FILTER", value_parser = Pruned::parse_label)]
    filters: Vec<Pruned>,
}

impl Prune {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        tell_freed(prune(store, self.all, &self.filters)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes volumes that no container mounts, those with a name only if `all`, and returns how many
/// bytes that freed.
pub(super) fn prune(store: &Store, all: bool, filters: &[Pruned]) -> Result<u64, Report> {
    let mut names = Vec::new();
    for volume in runner::list_volumes(store)? {
        let used = !runner::users_of_volume(store, &volume.name)?.is_empty();
        let fits = |filter: &Pruned| filter.fits(&volume.created, &volume.labels);
        if !used && (all || volume.anonymous) && filters.iter().all(fits) {
            names.push(volume.name);
        }
    }
    each::prune("Deleted Volumes:", &names, |name| {
        let volume = runner::find_volume(store, name)?;
        // What can't be measured can be removed nevertheless.
        let held = runner::volume_size(store, &volume).unwrap_or(0);
        runner::remove_volume(store, name)?;
        Ok(held)
    })
}

/// Write the files of a volume as a tar
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Name of the volume
    #[arg(value_name = "VOLUME")]
    volume: String,

    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let volume = runner::find_volume(store, &self.volume)?;
        match &self.output {
            Some(path) => {
                files::write_with(path, |out| runner::export_volume(store, &volume, out))?;
            }
            None => runner::export_volume(store, &volume, &mut std::io::stdout().lock())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Put the files of a tar into a volume, over those that are there
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Name of the volume
    #[arg(value_name = "VOLUME")]
    volume: String,

    /// The tar, `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

impl Import {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let volume = runner::find_volume(store, &self.volume)?;
        if self.file == Path::new("-") {
            runner::import_volume(store, &volume, &mut std::io::stdin().lock())?;
        } else {
            let mut file = File::open(&self.file).map_err(|error| {
                Report::failed(format!("cannot open {}", self.file.display())).because(&error)
            })?;
            runner::import_volume(store, &volume, &mut file)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
