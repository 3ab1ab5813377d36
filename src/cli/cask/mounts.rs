//! `-v`, `--mount` and `--tmpfs`, as docker writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::args::label;
use crate::cli::report::Report;
use crate::cli::verbs::csv;
use crate::dockerfile::{go_bool, suggest};
use crate::runner::{Memory, VolumeMount, VolumeSource, bytes, octal};

/// Parses `-v [SOURCE:]TARGET[:OPTIONS]`. A source that starts with `/` or `.` is a path of the
/// host, any other the name of a volume, and without one the volume is the container's own.
pub(in crate::cli) fn volume(text: &str) -> Result<VolumeMount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (VolumeSource::Anonymous, target, ""),
        [target, options] if !options.starts_with('/') && target.starts_with('/') => {
            (VolumeSource::Anonymous, target, options)
        }
        [source, target] => (place(source)?, target, ""),
        [source, target, options] => (place(source)?, target, options),
        _ => return Err("expected `[SOURCE:]TARGET[:OPTIONS]`".to_owned()),
    };
    let mut mount = VolumeMount::new(source, absolute(target)?);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        flag(&mut mount, option)?;
    }
    check_shared(&mount)?;
    Ok(mount)
}

/// Refuses volumes, which are for containers that are kept.
pub(in crate::cli) fn only_paths(mounts: &[VolumeMount]) -> Result<(), Report> {
    let kept = |mount: &&VolumeMount| {
        matches!(
            mount.source,
            VolumeSource::Named(_) | VolumeSource::Anonymous
        )
    };
    mounts.iter().find(kept).map_or(Ok(()), |mount| {
        let target = mount.target.display();
        let text = format!("the mount at {target} needs a path of the machine");
        Err(Report::wrong_use(text).hint("`-v /HOST:/INSIDE`"))
    })
}

/// Refuses two mounts at one place, as docker does: one of them would never be seen.
pub(super) fn check_targets(mounts: &[VolumeMount]) -> Result<(), Report> {
    let mut seen = BTreeSet::new();
    let again = mounts.iter().find(|mount| !seen.insert(&mount.target));
    again.map_or(Ok(()), |mount| {
        let target = mount.target.display();
        Err(Report::wrong_use(format!(
            "two mounts are to be at {target}"
        )))
    })
}

/// What the machine is to see is a path of it.
fn check_shared(mount: &VolumeMount) -> Result<(), String> {
    match (mount.shares, &mount.source) {
        (true, VolumeSource::Bind(_)) | (false, _) => Ok(()),
        (true, _) => Err("`rshared` goes with a path of the machine".to_owned()),
    }
}

fn place(source: &str) -> Result<VolumeSource, String> {
    if source.is_empty() {
        return Err("the source is empty".to_owned());
    }
    if source.starts_with(['/', '.']) || source.contains('/') {
        return Ok(VolumeSource::Bind(host_path(source)?));
    }
    Ok(VolumeSource::Named(source.to_owned()))
}

fn host_path(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

fn absolute(target: &str) -> Result<PathBuf, String> {
    match target {
        "/" => Err("the root of the container can't be a mount".to_owned()),
        target if target.starts_with('/') => Ok(PathBuf::from(target)),
        _ => Err(format!("`{target}` is not absolute")),
    }
}

/// An option of `-v`.
fn flag(mount: &mut VolumeMount, option: &str) -> Result<(), String> {
    match option {
        "ro" | "readonly" => mount.read_only = true,
        "nocopy" => mount.no_copy = true,
        "U" => mount.give = true,
        "slave" | "rslave" => mount.follows = true,
        // Labels of SELinux, which Debian does not use, mean nothing here; mounts are private
        // and recursive as they are.
        "rw" | "z" | "Z" | "private" | "rprivate" | "rbind" | "copy" | "consistent" | "cached"
        | "delegated" => {}
        "shared" | "rshared" => mount.shares = true,
        _ => return Err(unknown("option", option, OPTIONS)),
    }
    Ok(())
}

/// Options of `-v`, those that mean something first.
const OPTIONS: &[&str] = &[
    "ro", "rw", "nocopy", "U", "rslave", "rshared", "rprivate", "slave", "private", "z", "Z",
    "readonly",
];

/// What is said of a word that is not known.
fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let all = known.iter().map(|word| format!("`{word}`"));
    let all: Vec<String> = all.collect();
    match suggest::nearest(word, known.iter().copied()) {
        Some(near) => format!("there is no {what} `{word}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{word}`, only {}", all.join(", ")),
    }
}

/// Parses `--tmpfs TARGET[:OPTIONS]`. As with docker nothing in it is executed, has the rights of
/// its owner or is a device, unless the options say so.
pub(in crate::cli) fn tmpfs(text: &str) -> Result<VolumeMount, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let memory = Memory::default().with(options)?;
    let read_only = memory.read_only;
    let mut mount = VolumeMount::new(VolumeSource::Tmpfs(memory), absolute(target)?);
    mount.read_only = read_only;
    Ok(mount)
}

/// Parses `--mount type=…,source=…,target=…`. A field that holds commas is quoted:
/// `"volume-opt=o=size=1m,uid=5"`.
pub(in crate::cli) fn mount(text: &str) -> Result<VolumeMount, String> {
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let (mut size, mut mode) = (None, None);
    let mut made = VolumeMount::new(VolumeSource::Anonymous, "/");
    let fields = csv(text)?;
    for field in fields.iter().map(String::as_str) {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let truth = || match value {
            "" => Ok(true),
            _ => go_bool(value).ok_or_else(|| format!("`{key}` is true or false, not `{value}`")),
        };
        match key {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "dst" | "destination" => target = Some(absolute(value)?),
            "readonly" | "ro" => made.read_only = truth()?,
            "volume-nocopy" => made.no_copy = truth()?,
            "volume-subpath" => made.subpath = Some(subpath(value)?),
            "volume-opt" => made.options.extend([pair(value)?]),
            "U" | "chown" => made.give = truth()?,
            "tmpfs-size" => size = Some(bytes(value)?),
            "tmpfs-mode" => mode = Some(octal(value)?),
            "bind-propagation" => flag(&mut made, value)?,
            "bind-recursive" => made.shallow = !recursive(value)?,
            "bind-nonrecursive" => made.shallow = truth()?,
            "volume-label" => made.labels.extend([label(value)?]),
            "volume-driver" if !matches!(value, "" | "local") => {
                return Err(format!("`{field}`: `local` is all there is"));
            }
            // Meanings that this runner has anyway, or that are about other machines.
            "consistency" | "volume-driver" => {}
            _ => return Err(unknown("field", key, FIELDS)),
        }
    }
    made.target = target.ok_or("the target is missing")?;
    let memory = Memory {
        size,
        mode,
        ..Memory::default()
    };
    made.source = source_of(kind, source, memory)?;
    let of_volume = made.subpath.is_some() || !made.options.is_empty() || !made.labels.is_empty();
    if kind != "volume" && of_volume {
        let text = "`volume-subpath`, `volume-opt` and `volume-label` go with `type=volume`";
        return Err(text.to_owned());
    }
    if kind != "bind" && made.shallow {
        return Err("`bind-recursive` goes with `type=bind`".to_owned());
    }
    check_shared(&made)?;
    Ok(made)
}

/// What a mount of this kind takes its files from.
fn source_of(kind: &str, source: Option<&str>, memory: Memory) -> Result<VolumeSource, String> {
    Ok(match (kind, source) {
        ("bind", Some(source)) => VolumeSource::Bind(host_path(source)?),
        ("bind", None) => return Err("the source is missing".to_owned()),
        ("volume", None) => VolumeSource::Anonymous,
        ("volume", Some(name)) if Path::new(name).is_absolute() => {
            return Err(format!(
                "`{name}` is no name of a volume; `type=bind` takes a path"
            ));
        }
        ("volume", Some(name)) => VolumeSource::Named(name.to_owned()),
        ("tmpfs", None) => VolumeSource::Tmpfs(memory),
        ("tmpfs", Some(_)) => return Err("a tmpfs has no source".to_owned()),
        _ => {
            return Err(format!(
                "there is no type `{kind}`, only bind, volume and tmpfs"
            ));
        }
    })
}

/// Fields of `--mount`.
const FIELDS: &[&str] = &[
    "type",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "volume-nocopy",
    "volume-subpath",
    "volume-opt",
    "volume-label",
    "volume-driver",
    "tmpfs-size",
    "tmpfs-mode",
    "bind-propagation",
    "bind-recursive",
    "bind-nonrecursive",
    "consistency",
    "U",
];

/// Whether what is mounted below a path comes along. It can then only be read where the mount
/// itself can.
fn recursive(text: &str) -> Result<bool, String> {
    match text {
        "enabled" | "readonly" => Ok(true),
        "disabled" => Ok(false),
        "writable" => {
            Err("`bind-recursive=writable`: what can only be read is so as a whole".into())
        }
        _ => Err(unknown(
            "way of `bind-recursive`",
            text,
            &["enabled", "disabled", "readonly"],
        )),
    }
}

/// A path inside a volume.
fn subpath(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let inside = |part| matches!(part, std::path::Component::Normal(_));
    match !text.is_empty() && path.components().all(inside) {
        true => Ok(path),
        false => Err(format!("`{text}` is no path inside a volume")),
    }
}

/// Parses `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key @ ("type" | "o" | "device"), value)) => Ok((key.to_owned(), value.to_owned())),
        Some((key, _)) => Err(unknown("volume option", key, &["type", "o", "device"])),
        None => Err(format!("`{text}`: expected `KEY=VALUE`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_paths_names_or_nothing() {
        let source = |text: &str| volume(text).unwrap().source;
        assert_eq!(source("/a:/b:ro"), VolumeSource::Bind("/a".into()));
        assert!(volume("/a:/b:ro").unwrap().read_only);
        assert!(matches!(source("./a:/b"), VolumeSource::Bind(path) if path.is_absolute()));
        assert_eq!(source("data:/b"), VolumeSource::Named("data".into()));
        assert_eq!(source("/b"), VolumeSource::Anonymous);
        assert!(!volume("/a:/b:rw,z").unwrap().read_only);
        assert!(volume("data:/b:nocopy").unwrap().no_copy);
        assert!(volume("data:/b:ro,U").unwrap().give);
        assert!(volume("/a:/b:ro,rslave").unwrap().follows);
        assert!(volume("/a:/b:rshared").unwrap().shares);
        assert!(!volume("/a:/b:rprivate").unwrap().follows);
        for (text, why) in [
            ("a", "`a` is not absolute"),
            ("/a:b", "there is no option `b`"),
            ("x:/", "can't be a mount"),
            ("data:/b:rshared", "path of the machine"),
            ("/a:/b:nocpy", "did you mean `nocopy`?"),
            ("/a:/b:rslve", "did you mean `rslave`?"),
            ("/a:/b:nope", "there is no option `nope`"),
            ("a:b:c:d", "expected"),
        ] {
            assert!(
                volume(text).unwrap_err().contains(why),
                "{text}: {:?}",
                volume(text)
            );
        }
    }

    #[test]
    fn a_place_is_for_one_mount() {
        let check = |mounts: &[&str]| {
            let mounts: Vec<_> = mounts.iter().map(|text| volume(text).unwrap()).collect();
            check_targets(&mounts).is_ok()
        };
        assert!(check(&["/a:/x", "/a:/x/y", "b:/z"]));
        assert!(!check(&["/a:/x", "b:/z", "/x/"]));
    }

    #[test]
    fn mounts_have_fields() {
        let made = mount("type=bind,src=/a,dst=/b,readonly").unwrap();
        assert_eq!(
            (made.source, made.read_only),
            (VolumeSource::Bind("/a".into()), true)
        );
        let made = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let wanted = VolumeSource::Tmpfs(Memory {
            size: Some(1 << 20),
            mode: Some(0o700),
            ..Memory::default()
        });
        assert_eq!(made.source, wanted);
        assert_eq!(
            mount("source=v,target=/b").unwrap().source,
            VolumeSource::Named("v".into())
        );
        let quoted = r#"src=v,target=/b,volume-opt=type=tmpfs,"volume-opt=o=size=1m,uid=5""#;
        assert_eq!(mount(quoted).unwrap().options["o"], "size=1m,uid=5");
        let made = mount("src=v,target=/b,volume-label=a=1,volume-driver=local").unwrap();
        assert_eq!(made.labels["a"], "1");
        let bind = |more: &str| mount(&format!("type=bind,src=/a,target=/b{more}")).unwrap();
        assert!(!bind("").shallow && !bind(",bind-recursive=readonly").shallow);
        assert!(bind(",bind-recursive=disabled").shallow && bind(",bind-nonrecursive").shallow);
        for (text, why) in [
            ("type=bind,target=/b", "source is missing"),
            ("src=v,\"target=/b", "a quote is not closed"),
            ("type=volume", "target is missing"),
            ("type=nfs,target=/b", "no type `nfs`"),
            ("type=volume,target=/b,colour=red", "no field `colour`"),
            ("src=/a,target=/b", "`type=bind` takes a path"),
            ("src=v,target=/b,volume-subpath=../x", "no path inside"),
            ("src=v,target=/b,volume-subpath=/x", "no path inside"),
            (
                "src=v,target=/b,volume-opt=typ=none",
                "did you mean `type`?",
            ),
            ("src=v,target=/b,readnly", "did you mean `readonly`?"),
            ("src=v,target=/b,volume-driver=nfs", "`local` is all"),
            (
                "src=v,target=/b,bind-recursive=disabled",
                "goes with `type=bind`",
            ),
            (
                "type=bind,src=/a,target=/b,bind-recursive=writable",
                "as a whole",
            ),
            (
                "type=bind,src=/a,target=/b,bind-recursive=none",
                "no way of `bind-recursive` `none`",
            ),
            (
                "type=bind,src=/a,target=/b,volume-label=a",
                "go with `type=volume`",
            ),
            (
                "type=tmpfs,target=/b,volume-subpath=x",
                "go with `type=volume`",
            ),
        ] {
            assert!(mount(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn memory_has_a_size_and_a_mode() {
        let made = tmpfs("/t:size=64m,exec").unwrap();
        let wanted = VolumeSource::Tmpfs(Memory {
            size: Some(64 << 20),
            exec: true,
            ..Memory::default()
        });
        assert_eq!((made.source, made.read_only), (wanted, false));
        assert!(tmpfs("/t:ro").unwrap().read_only);
        assert!(tmpfs("/t:size=x").is_err() && tmpfs("t").is_err() && tmpfs("/t:foo").is_err());
    }
}
