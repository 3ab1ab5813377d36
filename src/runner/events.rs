//! What happens to containers, networks and volumes, for `cask events`: one JSON line each in `$ROOT/events`.
//!
//! Whoever does something appends a line in one write, so lines of several processes never mix.
//! A file that has grown long becomes `events.old` and the next one begins. An event that can't
//! be written is no error: what was done is done.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::container::Config;
use super::networks::UserNetwork;

/// Bytes after which another file begins.
const LONG: u64 = 1 << 20;

/// Something that happened, in docker's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// To what kind of thing: `container`, `network` or `volume`.
    #[serde(rename = "Type", default = "container")]
    pub kind: String,
    /// What: `create`, `start`, `die`, `destroy`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// To which one: its id, or a volume's name.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name and labels, a container's image and exit code.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time: u64,
}

/// Appends an event about a container.
pub(super) fn emit(root: &Path, action: &str, id: &str, config: &Config, more: &[(&str, String)]) {
    let mut attributes = config.request.labels.clone();
    attributes.insert("name".to_owned(), config.name.clone());
    attributes.insert("image".to_owned(), config.image_name.clone());
    attributes.extend(
        more.iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone())),
    );
    tell(root, CONTAINER, action, id, attributes);
}

/// Appends an event about a network, and about the container that is meant, if one is.
pub(super) fn emit_network(
    root: &Path,
    action: &str,
    network: &UserNetwork,
    container: Option<&str>,
) {
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), network.name.clone()),
        ("type".to_owned(), "bridge".to_owned()),
    ]);
    if let Some(container) = container {
        attributes.insert("container".to_owned(), container.to_owned());
    }
    tell(root, "network", action, &network.id, attributes);
}

/// Appends an event about a volume.
pub(super) fn emit_volume(root: &Path, action: &str, name: &str) {
    let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
    tell(root, "volume", action, name, attributes);
}

const CONTAINER: &str = "container";

/// What older versions wrote is about containers.
fn container() -> String {
    CONTAINER.to_owned()
}

fn tell(root: &Path, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let event = Happened {
        kind: kind.to_owned(),
        action: action.to_owned(),
        id: id.to_owned(),
        attributes,
        time: now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)),
    };
    // As documented: nobody is told of an event that can't be written.
    let _ = append(root, &event);
}

fn append(root: &Path, event: &Happened) -> io::Result<()> {
    let path = root.join("events");
    let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
    if file.metadata()?.len() > LONG {
        fs::rename(&path, root.join("events.old"))?;
        file = OpenOptions::new().append(true).create(true).open(&path)?;
    }
    let line = [serde_json::to_vec(event)?, b"\n".to_vec()].concat();
    file.write_all(&line)
}

/// Reads events in order, from the oldest that is kept.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    part: Vec<u8>,
}

impl Events {
    /// Begins with what is there; `root` is the store's.
    pub fn open(root: &Path) -> Self {
        Self {
            path: root.join("events"),
            file: File::open(root.join("events.old")).ok(),
            at: 0,
            part: Vec::new(),
        }
    }

    /// The events that came since the last call.
    pub fn more(&mut self) -> io::Result<Vec<Happened>> {
        let mut found = Vec::new();
        loop {
            self.drain(&mut found)?;
            let newest = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
                opened => opened?,
            };
            let same =
                |file: &File| Some(file.metadata().ok()?.ino() == newest.metadata().ok()?.ino());
            if self.file.as_ref().and_then(same) == Some(true) {
                return Ok(found);
            }
            // What came between the two looks.
            self.drain(&mut found)?;
            (self.file, self.at) = (Some(newest), 0);
            self.part.clear();
        }
    }

    fn drain(&mut self, found: &mut Vec<Happened>) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.at))?;
        self.at += file.read_to_end(&mut self.part)? as u64;
        while let Some(end) = self.part.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.part.drain(..=end).collect();
            // A line that another version wrote is passed over.
            found.extend(serde_json::from_slice::<Happened>(&line).ok());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sees_every_event_across_files() {
        let root = std::env::temp_dir().join(format!("cask-events-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let event = |time| Happened {
            kind: container(),
            action: "start".to_owned(),
            id: "x".repeat(64),
            attributes: BTreeMap::from([("name".to_owned(), "n".repeat(2000))]),
            time,
        };
        let mut events = Events::open(&root);
        let mut seen = Vec::new();
        for time in 0..1200 {
            append(&root, &event(time)).unwrap();
            if time % 7 == 0 {
                seen.extend(events.more().unwrap());
            }
        }
        seen.extend(events.more().unwrap());
        let times: Vec<u64> = seen.iter().map(|event| event.time).collect();
        assert_eq!(times, (0..1200).collect::<Vec<_>>());
        assert!(root.join("events.old").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
