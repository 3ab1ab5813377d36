//! `load`: the images of an archive into the store.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use crate::cli::report::Report;
use crate::cli::{Session, ui};
use crate::store::archive::{self, Pick};

/// Read the images of an archive, with the names it gives them
///
/// The archive is one of docker or an OCI layout in a tar, and may be compressed.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// The archive; without it standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    /// Reads them.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        if self.input.is_none() && io::stdin().is_terminal() {
            return Err(Report::wrong_use("an archive is not read from a terminal")
                .hint("`-i FILE`, or a pipe before the command"));
        }
        let store = session.store()?;
        let shown = session.modest(self.quiet);
        let loaded = match &self.input {
            Some(file) => archive::read_archive(&store, file, Pick::All, &shown),
            None => {
                let name = Path::new("standard input");
                archive::read_stream(&store, io::stdin(), name, Pick::All, &shown)
            }
        };
        drop(shown);
        let loaded = loaded?;
        for image in &loaded {
            for name in &image.names {
                store.tag(name, &image.target)?;
            }
        }
        store.sync()?;
        for image in loaded {
            for name in &image.names {
                ui::data(&format!("Loaded image: {name}"))?;
            }
            if image.names.is_empty() {
                let id = store.image_meant(&image.target.digest, None)?.id();
                ui::data(&format!("Loaded image ID: {id}"))?;
            }
        }
        Ok(())
    }
}
