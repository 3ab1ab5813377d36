"""What two builders made of one Dockerfile, read from docker archives and compared. Used by `scripts/compare`."""

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile

MOUNTS = ("dev", "proc", "sys")
TYPES = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link",
         tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"}


def inside(archive, name, work):
    """Opens a member of an archive, whose blobs may be links to each other, as a file of its own."""
    member = archive.getmember(name)
    if member.issym():
        member = archive.getmember(os.path.normpath(os.path.join(os.path.dirname(name), member.linkname)))
    with tempfile.NamedTemporaryFile(dir=work, delete=False) as file:
        shutil.copyfileobj(archive.extractfile(member), file)
    return file.name


def read_image(path):
    """Returns the config and the final file system of a docker archive; hard links are known by the first of their names."""
    with tarfile.open(path) as archive:
        listed = json.load(archive.extractfile("manifest.json"))[0]
        config = json.load(archive.extractfile(listed["Config"]))
        tree = {}
        for layer in listed["Layers"]:
            name = inside(archive, layer, path.parent)
            with tarfile.open(name) as tar:
                apply(tree, tar)
            os.unlink(name)
    first = {}
    for path in sorted(tree):
        tree[path] = dict(tree[path], linked=first.setdefault(id(tree[path]), path))
    return config, tree


def remove(tree, path):
    for name in [name for name in tree if name == path or name.startswith(f"{path}/")]:
        del tree[name]


def apply(tree, tar):
    """Puts one layer on top of a tree of path → what is there."""
    own = set()
    for member in tar:
        name = os.path.normpath(member.name).lstrip("/")
        directory, last = os.path.split(name)
        if last == ".wh..wh..opq":
            for below in [path for path in tree if path.startswith(f"{directory}/") and path not in own]:
                del tree[below]
        elif last.startswith(".wh."):
            remove(tree, os.path.join(directory, last[4:]))
        elif member.islnk():
            tree[name] = tree[os.path.normpath(member.linkname).lstrip("/")]
            own.add(name)
        else:
            if name in tree and not (member.isdir() and tree[name]["type"] == "dir"):
                remove(tree, name)
            tree[name] = entry(tar, member)
            own.add(name)


def entry(tar, member):
    xattrs = {key.removeprefix("SCHILY.xattr."): value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")}
    found = {"type": TYPES.get(member.type, str(member.type)), "mode": oct(member.mode & 0o7777), "owner": f"{member.uid}:{member.gid}",
             "xattrs": xattrs, "time": int(member.mtime)}
    if member.issym():
        found["target"] = member.linkname
        found["mode"] = "0o777"
    elif member.isfile():
        data = tar.extractfile(member)
        found["size"] = member.size
        found["digest"] = hashlib.file_digest(data, "sha256").hexdigest()[:12]
    elif member.ischr() or member.isblk():
        found["device"] = f"{member.devmajor}:{member.devminor}"
    return found


def show(value):
    return json.dumps(value, sort_keys=True)


def compare_trees(ours, theirs, began):
    for path in sorted(ours.keys() | theirs.keys()):
        if path in (".", ""):
            continue
        a, b = ours.get(path), theirs.get(path)
        if a is None and path in MOUNTS:
            continue
        if a is None or b is None:
            yield f"/{path}: only in {'ours' if b is None else 'theirs'}: {show(a or b)}"
            continue
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) == b.get(key) or (key == "time" and b[key] >= began and (a[key] >= began or path == "etc")):
                continue
            name = "directory time" if key == "time" and b["type"] == "dir" else key
            yield f"/{path}: {name}: ours {show(a.get(key))}, theirs {show(b.get(key))}"


def normal(value):
    """Drops what says nothing: null, empty lists and texts, false."""
    if isinstance(value, dict):
        return {key: normal(below) for key, below in value.items() if below or below == 0 and below is not False} or None
    return value


def compare_configs(ours, theirs, prefix=""):
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = normal(ours.get(key)), normal(theirs.get(key))
        if prefix == "" and key in ("created", "history", "rootfs", "container", "docker_version", "id", "parent", "container_config"):
            continue
        if key == "config":
            yield from compare_configs(a or {}, b or {}, "config.")
        elif (a or None) != (b or None):
            yield f"{prefix}{key}: ours {show(a)}, theirs {show(b)}"


def compare_history(ours, theirs):
    def lines(config):
        keys = ("created_by", "comment", "author", "empty_layer")
        return [{key: entry[key] for key in keys if entry.get(key)} for entry in config.get("history") or []]
    a, b = lines(ours), lines(theirs)
    for number in range(max(len(a), len(b))):
        one, two = (side[number] if number < len(side) else None for side in (a, b))
        if one != two:
            yield f"history[{number}]: ours {show(one)}, theirs {show(two)}"
