//! `version`: which program this is.

use serde_json::json;

use crate::cli::report::{Report, wrong_format};
use crate::cli::ui;
use crate::cli::ui::template::Template;
use crate::image::Platform;

/// Show the version
#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    /// `json` or a template such as `{{.Version}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl Version {
    /// Prints it.
    pub(crate) fn run(self) -> Result<(), Report> {
        let platform = Platform::host();
        let own = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Os": platform.os,
            "Arch": platform.architecture,
        });
        let mut value = own.clone();
        // docker's two programs are one here.
        value["Client"] = own.clone();
        value["Server"] = own;
        let text = match self.format.as_deref().or(self.json.then_some("json")) {
            None => format!("version {}\n{platform}", env!("CARGO_PKG_VERSION")),
            Some("json") => value.to_string(),
            Some(text) => {
                let template = Template::parse(text).map_err(wrong_format)?;
                template.render(&value).map_err(wrong_format)?
            }
        };
        ui::data(&text)
    }
}
