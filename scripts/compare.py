"""Compares what cooper and another builder make of the same Dockerfiles. Started by `scripts/compare`."""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from compare_images import compare_configs, compare_history, compare_trees, read_image
from peers import Peers, start_docker

SCRIPTS = Path(__file__).resolve().parent
COOPER = os.environ["COOPER"]
TAG = "localhost/compare:it"
# Seconds after which a build is given up.
PATIENCE = 1800
CONTEXT_TIME = "a directory made from the root of a context has that root's time, as from any other directory"
TOUCHED_TIME = "a directory in which a step made and removed something has the time of the step"
ROUNDED_TIME = "buildah rounds the times of files"
KEPT_TIME = "a directory that was there keeps its time when something is copied into it"
OTHER_FAULTS = "what is a fault, and its words, are BuildKit's; buildah has its own"
# What differs in every case: builder, what a line found begins with, why.
EVERYWHERE = [
    ("buildah", r"history\[", "buildah writes the history in words of its own"),
    ("buildah", r"config\.(Hostname|ArgsEscaped):", "buildah stores the host name, and not whether arguments are escaped"),
    ("buildah", r"/.*: directory time: ", "buildah gives directories the time of the build, and unpacked ones that of the archive"),
]


class Refused(Exception):
    """A builder did not build."""


class Builder:
    """One builder: what its commands are, and how an image becomes a docker archive."""

    def __init__(self, name, prefix, save, build=()):
        self.name, self.prefix, self.saving, self.options = name, prefix, save, list(build)

    def run(self, directory, *words):
        # nsenter forgets where it was called.
        command = [*self.prefix[:-1], "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", directory, *self.prefix[-1], *words]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        try:
            done = subprocess.run(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Refused(f"given up after {PATIENCE} s") from None
        if done.returncode:
            raise Refused(done.stdout.strip()[-1500:])
        return done.stdout.strip()

    def build(self, directory, options, tag=TAG):
        self.run(directory, "build", "--network=host", *self.options, *options, "-t", tag, ".")

    def save(self, archive):
        self.run("/", *self.saving(archive))

    def kinds(self):
        """The names by which a Dockerfile may mean this builder."""
        if self.name != "docker":
            return {"any", self.name}
        status = self.run("/", "info", "--format={{.DriverStatus}}")
        return {"any", "docker", "docker-containerd" if "io.containerd" in status else "docker-classic"}


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
        # A store of images is chosen when the daemon starts.
        if arguments.peers or arguments.store or not running(["docker", "version"]):
            daemon, option = start_docker(prefix, scratch, arguments.store)
            stop.insert(0, daemon)
            host = [option]
        return Builder("docker", [*prefix, ["docker", *host]], lambda archive: ["save", "-o", archive, TAG], build=["--no-cache"])
    root = [f"--root={scratch}/buildah/root", f"--runroot={scratch}/buildah/run"]
    return Builder("buildah", [*prefix, ["buildah", *root]], lambda archive: ["push", TAG, f"docker-archive:{archive}"],
                   build=["--layers", "--isolation=chroot", "--no-cache", "--format=docker", "--identity-label=false"])


def running(command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


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
    # Nearly all start from it, some by a name that only a builder can put together.
    named.add("busybox")
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


class Case:
    """A directory with its Dockerfile, and what the comments in that say of the comparison."""

    def __init__(self, directory, kinds, began):
        self.directory, self.began = directory, began
        self.text = (directory / "Dockerfile").read_text(errors="replace")
        self.options = [word for line in self.lines("compare: ") for word in shlex.split(line)]
        self.fails = next(iter(self.lines("compare-fails: ")), None)
        test = directory / "test.json"
        told = json.loads(test.read_text()) if test.exists() else {}
        self.before = told.get("before", [])
        # An example is there to be read, so what steers its comparison is not in its Dockerfile.
        differs = [*self.lines("compare-differs: "), *told.get("compare-differs", [])]
        expected = [line.split(maxsplit=2) for line in differs]
        self.rounds = "buildah" in kinds
        self.expected = [(pattern, why) for name, pattern, why in expected if name in kinds]
        self.expected += [(pattern, why) for name, pattern, why in EVERYWHERE if name in kinds]
        if self.fails is not None and "buildah" in kinds:
            self.expected.append(("buildah (refused|built it)", OTHER_FAULTS))

    def lines(self, word):
        return re.findall(rf"^# {word}(.+?)\r?$", self.text, re.M)

    def why(self, line):
        """Says why a difference is expected, or None."""
        time_of = re.match(r"/.*: directory time: ours (\d+), theirs (\d+)$", line)
        if time_of and int(time_of[2]) < self.began <= int(time_of[1]):
            return TOUCHED_TIME
        if time_of and int(time_of[1]) < self.began <= int(time_of[2]):
            below = [self.directory, *(path for path in self.directory.iterdir() if path.is_dir())]
            roots = {int(path.stat().st_mtime) for path in below}
            return CONTEXT_TIME if int(time_of[1]) in roots else KEPT_TIME
        time_of = re.match(r"/.*: time: ours (\d+), theirs (\d+)$", line)
        if self.rounds and time_of and int(time_of[2]) - int(time_of[1]) == 1:
            return ROUNDED_TIME
        return next((why for pattern, why in self.expected if re.match(pattern, line)), None)

    def differences(self, us, them, scratch):
        """Yields what differs between what both make of the directory."""
        for step in self.before:
            for builder in (us, them):
                builder.build(self.directory, ["-f", step["file"]], step["tag"])
        images, refusals = [], {}
        for builder in (us, them):
            archive = scratch / f"{builder.name}.tar"
            try:
                builder.build(self.directory, self.options)
                builder.save(archive)
                images.append(read_image(archive))
            except Refused as why:
                refusals[builder.name] = str(why)
            finally:
                archive.unlink(missing_ok=True)
        for name, why in refusals.items():
            if self.fails is None or not re.search(self.fails, why):
                yield f"{name} refused:\n      " + why.replace("\n", "\n      ")
        if self.fails is not None:
            for builder in (us, them):
                if builder.name not in refusals:
                    yield f"{builder.name} built it, and should refuse with {self.fails}"
        elif not refusals:
            (config, tree), (their_config, their_tree) = images
            yield from compare_trees(tree, their_tree, self.began)
            yield from compare_configs(config, their_config)
            yield from compare_history(config, their_config)


def compare(case, us, them, scratch, verbose):
    """Prints what differs, and answers `same`, `expected` or `different`."""
    reasons, surprising, foreseen = Counter(), [], []
    for line in case.differences(us, them, scratch):
        why = case.why(line)
        if why:
            reasons[why] += 1
            foreseen.append(line)
        else:
            surprising.append(line)
    verdict = "different" if surprising else "expected" if reasons else "same"
    if verdict != "same" or verbose:
        print(f"{case.directory.name}: {verdict}", flush=True)
    for line in surprising:
        print(f"    {line}")
    for why, number in reasons.items():
        print(f"    expected ({number}): {why}")
    if verbose:
        for line in foreseen:
            print(f"      {line}")
    sys.stdout.flush()
    return verdict


def main():
    parser = argparse.ArgumentParser(prog="compare", description=__doc__)
    parser.add_argument("--peers", type=Path, metavar="ROOT", help="a directory whose root/ has the other builder (needs root)")
    parser.add_argument("--with", dest="builder", choices=["docker", "buildah"], default="docker", help="the other builder")
    parser.add_argument("--store", choices=["classic", "containerd"], help="where a docker daemon of our own keeps images")
    parser.add_argument("--verbose", action="store_true", help="also name what agrees, and show what was expected to differ")
    parser.add_argument("directories", nargs="+", type=lambda text: Path(text).resolve(), metavar="DIR")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="cooper-compare-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    # Told to stop, it stops what it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Whatever is younger was made by a build.
    began = int(time.time())
    stop, known, verdicts = [], set(), Counter()
    try:
        us, them = cooper(), other(arguments, scratch, stop)
        version = them.run("/", "--version").splitlines()[0]
        kinds = them.kinds()
        for directory in arguments.directories:
            case = Case(directory, kinds, began)
            bring_bases(them, case.text + " ".join(case.options), known, scratch)
            verdicts[compare(case, us, them, scratch, arguments.verbose)] += 1
    finally:
        for process in stop:
            process.terminate()
            process.wait()
        subprocess.run(f"umount --recursive {scratch}/buildah/root/overlay", shell=True, stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{verdicts.total()} compared with {version}: {verdicts['same']} the same, {verdicts['expected']} with expected "
          f"differences only, {verdicts['different']} different")
    sys.exit(1 if verdicts["different"] else 0)


main()
