"""Compares what cooper and another builder make of the same Dockerfiles. Started by `scripts/compare`."""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from peers import Peers

SCRIPTS = Path(__file__).resolve().parent
COOPER = os.environ["COOPER"]
MOUNTS = ("dev", "proc", "sys")
TAG = "localhost/compare:it"
TYPES = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link",
         tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"}


class Refused(Exception):
    """A builder did not build."""


class Builder:
    """One builder: what its commands are, and how an image becomes a docker archive."""

    def __init__(self, name, prefix, save, environment=None, build=()):
        self.name, self.prefix, self.saving = name, prefix, save
        self.environment, self.options = environment or {}, list(build)

    def run(self, directory, *words):
        # nsenter forgets where it was called.
        command = [*self.prefix[:-1], "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", directory, *self.prefix[-1], *words]
        done = subprocess.run(list(map(str, command)), env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if done.returncode:
            raise Refused(done.stdout.strip()[-1500:])

    def build(self, directory, options):
        self.run(directory, "build", "--network=host", *self.options, *options, "-t", TAG, ".")

    def save(self, archive):
        self.run("/", *self.saving(archive))


def cooper():
    return Builder("cooper", [[COOPER]], lambda archive: ["save", "-o", archive, TAG], build=["--no-cache"])


def other(arguments, scratch, stop):
    """Returns the builder to compare with, and starts what it needs."""
    prefix, host = [], []
    if arguments.peers:
        peers = Peers((arguments.peers / "root").resolve(), [scratch, SCRIPTS.parent, *shared(arguments.directories)])
        stop.append(peers.holder)
        prefix = peers.prefix
        if arguments.builder == "docker":
            daemon, option = peers.start_docker(scratch)
            stop.insert(0, daemon)
            host = [option]
    if arguments.builder == "docker":
        return Builder("docker", [*prefix, ["docker", *host]], lambda archive: ["save", "-o", archive, TAG],
                       build=["--no-cache", "--provenance=false"])
    root = [f"--root={scratch}/buildah/root", f"--runroot={scratch}/buildah/run"]
    return Builder("buildah", [*prefix, ["buildah", *root]], lambda archive: ["push", TAG, f"docker-archive:{archive}"],
                   build=["--layers", "--isolation=chroot", "--no-cache", "--format=docker"])


def shared(directories):
    """The directories outside the repository, which the other builder must see too."""
    return [path for path in directories if not path.is_relative_to(SCRIPTS.parent)]


def bases_of(text):
    """Returns the images of scripts/bases that a Dockerfile names, and the makers of each."""
    makers = {}
    for maker in (SCRIPTS / "bases.d").glob("*.Dockerfile"):
        for tag in re.findall(r"^# makes: (\S+)", maker.read_text(), re.M):
            makers[tag] = maker.name.removesuffix(".Dockerfile")
    named = set(re.findall(r"(?:^FROM (?:--\S+ )*|--from=|from=|docker-image://)([^\s,]+)", text, re.M | re.I))
    named |= {f"{name}:latest" for name in named}
    return {tag: makers[tag] for tag in named & makers.keys()}


def bring_bases(builder, text, known, scratch):
    """Makes the bases, and gives the other builder the very same images."""
    wanted = {tag: maker for tag, maker in bases_of(text).items() if tag not in known}
    if not wanted:
        return
    subprocess.run([SCRIPTS / "bases", *sorted(set(wanted.values()))], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
    for tag in wanted:
        archive = scratch / "base.tar"
        subprocess.run([COOPER, "save", "-o", archive, tag], check=True)
        if builder.name == "docker":
            builder.run("/", "load", "-i", archive)
        else:
            builder.run("/", "pull", "-q", f"docker-archive:{archive}")
        archive.unlink()
        known.add(tag)


def inside(archive, name, work):
    """Opens a member of an archive, whose blobs may be links to each other, as a file of its own."""
    member = archive.getmember(name)
    if member.issym():
        member = archive.getmember(os.path.normpath(os.path.join(os.path.dirname(name), member.linkname)))
    with tempfile.NamedTemporaryFile(dir=work, delete=False) as file:
        shutil.copyfileobj(archive.extractfile(member), file)
    return file.name


def read_image(path):
    """Returns the config and the final file system of a docker archive."""
    with tarfile.open(path) as archive:
        listed = json.load(archive.extractfile("manifest.json"))[0]
        config = json.load(archive.extractfile(listed["Config"]))
        tree = {}
        for layer in listed["Layers"]:
            name = inside(archive, layer, path.parent)
            with tarfile.open(name) as tar:
                apply(tree, tar)
            os.unlink(name)
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
            yield f"/{path}: {key}: ours {show(a.get(key))}, theirs {show(b.get(key))}"


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


def compare(directory, us, them, known, scratch):
    """Returns the differences between what both make of a directory."""
    text = (directory / "Dockerfile").read_text(errors="replace")
    options = [word for line in re.findall(r"^# compare: (.*)$", text, re.M) for word in shlex.split(line)]
    fails = re.search(r"^# compare-fails", text, re.M)
    bring_bases(them, text + " ".join(options), known, scratch)
    before = directory / "test.json"
    for step in json.loads(before.read_text()).get("before", []) if before.exists() else []:
        for builder in (us, them):
            builder.run(directory, "build", "--network=host", "-t", step["tag"], "-f", step["file"], ".")
    began, images, refusals = int(time.time()), [], {}
    for builder in (us, them):
        archive = scratch / f"{builder.name}.tar"
        try:
            builder.build(directory, options)
            builder.save(archive)
            images.append(read_image(archive))
        except Refused as why:
            refusals[builder.name] = str(why)
        finally:
            archive.unlink(missing_ok=True)
    if fails and len(refusals) == 2:
        return []
    if refusals or fails:
        said = [f"{name} refused:\n      " + why.replace("\n", "\n      ") for name, why in refusals.items()]
        return said + (["a refusal was expected of both"] if fails else [])
    (config, tree), (their_config, their_tree) = images
    return [*compare_trees(tree, their_tree, began), *compare_configs(config, their_config), *compare_history(config, their_config)]


def main():
    parser = argparse.ArgumentParser(prog="compare", description=__doc__)
    parser.add_argument("--peers", type=Path, metavar="ROOT", help="a directory whose root/ has the other builder (needs root)")
    parser.add_argument("--with", dest="builder", choices=["docker", "buildah"], default="docker", help="the other builder")
    parser.add_argument("--verbose", action="store_true", help="also name what agrees")
    parser.add_argument("directories", nargs="+", type=lambda text: Path(text).resolve(), metavar="DIR")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="cooper-compare-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    stop, known, different = [], set(), 0
    try:
        us, them = cooper(), other(arguments, scratch, stop)
        for directory in arguments.directories:
            found = compare(directory, us, them, known, scratch)
            expected = re.search(r"^# compare-differs: (.*)$", (directory / "Dockerfile").read_text(errors="replace"), re.M)
            different += bool(found) and not expected
            if found or arguments.verbose:
                because = f", as expected: {expected[1]}" if expected else ""
                print(f"{directory.name}: {'differs' if found else 'the same'}{because}", flush=True)
            for line in found:
                print(f"    {line}", flush=True)
    finally:
        for process in stop:
            process.terminate()
            process.wait()
        subprocess.run(f"umount --recursive {scratch}/buildah/root/overlay", shell=True, stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{len(arguments.directories) - different} of {len(arguments.directories)} are the same as with {them.name}")
    sys.exit(1 if different else 0)


main()
