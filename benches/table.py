"""Measures cooper and cask beside other builders and beside the raw cost of the same work. Started by `scripts/bench`.

Every round resets every program's storage and then does the same things in the same order, program after program,
so that a busy moment of the machine hits all of them; the table shows medians. What was written before is brought to
the disk before a clock starts, and nothing is removed before the end: after thousands of files were removed ext4 is
slow to make new ones for some minutes (it passes over their inodes, one by one; docs/speed.md). The raw column is the kernel's and
coreutils' cost of the same work on the same files. Peak memory is the largest resident set of the command itself
and its children (as /usr/bin/time -v counts it); docker's work happens in its daemon and is not shown.

With --peers DIR, DIR/root is a root file system that has the other programs; they run in it, under their own dockerd.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from peers import Peers, start_docker

FILES, BYTES = 16_660, 308_000_000
MANY = 100_000
BUSYBOX = "FROM scratch\nADD rootfs.tar /\nCMD [\"sh\"]\n"
STEPS = "FROM busybox\n" + "".join(f"RUN echo {i} > /step-{i}\n" for i in range(10))
COPY = "FROM busybox\nCOPY . /data\n"

ROWS = {  # key: (what is shown, target in seconds or MiB)
    "step": ("one `RUN echo` step, cold (of a 10-step file)", 0.005),
    "cached": ("the same file again, all cached, whole process", 0.010),
    "copy": (f"`COPY .` of {FILES:,} files, {BYTES / 1e6:.0f} MB, cold", 1.0),
    "copy again": ("the same again, unchanged", 0.1),
    "push": ("push of that image, first time, gzip", 1.5),
    "push again": ("push, second time", 0.05),
    "pull": ("pull of that image into an empty store, and `true` in it", 2.5),
    "run host": ("`run --rm --network=host IMAGE true`, whole process", 0.015),
    "run private": ("`run --rm IMAGE true`, network as by default", 0.030),
    "exec": ("`exec CONTAINER true`, whole process", 0.008),
    "fifty": ("`start` of 50 containers, host network", 0.75),
    "first step": ("a private network for the first RUN of a build, beside `--network=host`", 0.005),
    "later step": ("the same for each later RUN", 0.001),
    "send": ("1 GB from a private network to the machine, TCP", 4.0),
    "take": ("1 GB from the machine to a private network, TCP", 4.0),
    "members": ("1 GB between two containers on a network of their own, TCP", 4.0),
    "port send": ("1 GB out of a published port, on loopback", 1.6),
    "port take": ("1 GB into a published port, on loopback", 1.6),
    "parse": ("a Dockerfile of 2,000 lines, parsed, beyond the start of the binary", 0.005),
    "check": ("the same file, checked by all rules", 0.020),
    "ignore": (f"what 200 patterns of `.dockerignore` add to a cold walk over {MANY:,} files", 0.150),
    "start": ("start of the binary (`--version`)", 0.003),
    "copy memory": ("peak memory of COPY, cold", 64),
    "push memory": ("peak memory of push", 64),
    "pull memory": ("peak memory of pull", 64),
}


GIGABYTE = 1_000_000_000
FIFTY = [f"one-of-{number}" for number in range(50)]


class Broken(Exception):
    """A command of a program under test did not do its work."""


def timed(command, environment=None, weigh=False):
    """Runs a command; returns its seconds and, if asked, its peak memory in MiB.

    GNU time weighs it: a process that was started from here directly would be counted with the weight of Python.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile() as weight:
        scales = ["/usr/bin/time", "--quiet", "--format=%M", f"--output={weight.name}"] if weigh else []
        start = time.perf_counter()
        status = subprocess.run([*scales, *words], env={**os.environ, **(environment or {})},
                                stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode
        took = time.perf_counter() - start
        if status:
            output.seek(0)
            raise Broken(f"{' '.join(words)}\n{output.read().decode(errors='replace')[-2000:]}")
        return took, int(weight.read()) / 1024 if weigh else None


def make_tree(tree):
    """Fills `tree` with files of many sizes whose contents are pieces of this machine's own /usr, always the same."""
    if (tree / "complete").exists():
        return tree / "files"
    shutil.rmtree(tree, ignore_errors=True)
    dice = random.Random(1)
    weights = [dice.lognormvariate(0, 1.6) for _ in range(FILES)]
    sizes = [int(weight * BYTES / sum(weights)) for weight in weights]
    sizes[-1] += BYTES - sum(sizes)
    sources = (Path(top) / name for top, dirs, names in os.walk("/usr") if dirs.sort() is None for name in sorted(names))
    pending = bytearray()
    for number, size in enumerate(sizes):
        while len(pending) < size:
            source = next(sources)
            if source.is_file() and not source.is_symlink() and os.access(source, os.R_OK):
                pending += source.read_bytes()[:2_000_000]
        file = tree / "files" / f"{number % 12:02}" / f"{number // 100:03}" / f"{number:05}.dat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pending[:size])
        del pending[:size]
    (tree / "complete").touch()
    return tree / "files"


def long_dockerfile(lines=2000):
    """Variables, mounts, heredocs and continuations, and an ENV or ARG in every fourth line."""
    text = ["FROM scratch", "ARG V=1"]
    for number in range(lines):
        text += [
            f'ENV NAME_{number}="value $V {number}" OTHER_{number}=${{V:-x}}',
            f"RUN --mount=type=cache,target=/c{number} echo {number} \\\n  && echo more {number}",
            f"COPY --chmod=644 a{number} b{number} /dir{number}/",
            f'LABEL label{number}="text $V"',
            f"WORKDIR /w{number}/$V",
            f"# argument {number}\nARG ARG_{number}=${{V}}",
            f"COPY <<EOF /h{number}\nline $V {number}\nEOF",
            f"EXPOSE {1000 + number % 60_000}/tcp",
        ]
    return "\n".join("\n".join(text).split("\n")[:lines]) + "\n"


def make_many(tree):
    """Fills `tree` with empty files, all of which the first pattern of `patterns` hides."""
    if not (tree / "complete").exists():
        shutil.rmtree(tree, ignore_errors=True)
        for number in range(MANY):
            if number % 100 == 0:
                directory = tree / "files" / f"{number // 10_000}" / f"{number // 100:04}"
                directory.mkdir(parents=True)
            (directory / f"{number % 100:02}.dat").touch()
        (tree / "complete").touch()
    return tree / "files"


def patterns(count):
    kinds = ["dir{}/*.log", "**/target{}", "docs/**/build{}/*.html", "name{}.txt", "!**/keep{}.dat"]
    return "".join(line + "\n" for line in ["**/*.dat", *(kinds[n % 5].format(n) for n in range(count - 1))])


class Program:
    """One program under test: how its commands are written, and how its storage becomes empty."""

    memory, private = True, True
    unlimited, by_force = [], ["-f"]

    def __init__(self, name, prefix, scratch, runs=True, builds=True):
        self.name, self.prefix, self.scratch, self.runs, self.builds = name, prefix, scratch, runs, builds
        self.storage, self.environment, self.weigh = None, {}, False
        self.storages = []

    def reset(self):
        """Begins with an empty storage; the one before goes at the end."""
        self.storage = tempfile.mkdtemp(dir=self.scratch)
        self.storages.append(self.storage)

    def clean(self):
        for storage in self.storages:
            remove(storage)

    def __call__(self, *words):
        os.sync()
        return timed([*self.prefix, *words], self.environment, self.weigh)

    def build(self, tag, file, context, *options):
        return self("build", "--network=host", *options, "-t", tag, "-f", file, context)

    def push(self, image):
        return self("push", "--tls-verify=false", image)

    def pull(self, image):
        return self("pull", "--tls-verify=false", image)

    def verb(self, *words):
        """A verb of the program that runs containers."""
        return self(*words)

    def run(self, *words):
        return self.verb("run", *self.unlimited, "--rm", *words)

    def containers(self, note):
        """What it costs to join a container, and to start fifty."""
        of, program = ["--network=host", *self.unlimited], ["busybox", "sleep", "1000"]
        self.verb("run", "-d", *of, "--name=stays", *program)
        for name in FIFTY:
            self.verb("create", *of, f"--name={name}", *program)
        try:
            for _ in range(5):
                note("exec", self.verb("exec", "stays", "true")[0])
            note("fifty", self.verb("start", *FIFTY)[0])
        finally:
            self.verb("rm", *self.by_force, "stays", *FIFTY)

    def version(self):
        return self("--version")


class Cooper(Program):
    """cooper builds, pushes and pulls; cask runs."""

    def reset(self):
        super().reset()
        self.environment = {"COOPER_ROOT": self.storage}

    def verb(self, *words):
        os.sync()
        return timed([os.environ["CASK"], *words], self.environment)

    def cask(self, *words):
        return subprocess.check_output([os.environ["CASK"], *words], env={**os.environ, **self.environment}, text=True).strip()

    def texts(self, note, scratch, many):
        """What a long Dockerfile costs and, beside one pattern, many in an ignore file."""
        context = scratch / "long"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(long_dockerfile())
        timings = collections.defaultdict(list)
        for _ in range(7):
            timings["start"].append(self.version()[0])
            timings["parse"].append(self("build", "--call=targets", context)[0])
            timings["check"].append(self("check", context)[0])
        start, parse, check = (statistics.median(timings[key]) for key in ("start", "parse", "check"))
        note("parse", parse - start), note("check", check - start)
        file = scratch / "ignored.Dockerfile"
        file.write_text("FROM scratch\nCOPY . /data\n")
        for _ in range(5):
            for count in (1, 200):
                Path(f"{file}.dockerignore").write_text(patterns(count))
                timings[count].append(self.build("ignored", file, many, "--no-cache")[0])
        note("ignore", statistics.median(timings[200]) - statistics.median(timings[1]))

    def networks(self, note, scratch):
        """What a network of its own costs a step, and what goes through it."""
        file, empty = scratch / "steps.Dockerfile", scratch / "empty"
        one = scratch / "one.Dockerfile"
        one.write_text(STEPS[:STEPS.index("\n", len("FROM busybox\n")) + 1])
        took = {}
        for network in ("host", "private"):
            for count, text in ((1, one), (10, file)):
                times = [self("build", "--no-cache", f"--network={network}", "-f", text, empty)[0] for _ in range(5)]
                took[network, count] = statistics.median(times)
        first = took["private", 1] - took["host", 1]
        note("first step", first)
        note("later step", (took["private", 10] - took["host", 10] - first) / 9)
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        self.cask("run", "-d", "--name=streams", "--network=private", "--add-host=host:host-gateway", f"-p{port}:{port}",
                  "busybox", "sleep", "1000")
        inside = self.inside("streams")
        try:
            for what in ("send", "take"):
                note(what, stream([], "10.217.93.1", inside, 0, what))
                note(f"port {what}", stream(inside, "127.0.0.1", [], port, {"send": "take", "take": "send"}[what]))
        finally:
            self.cask("rm", "-f", "streams")
        self.cask("network", "create", "between")
        for name in ("one", "other"):
            self.cask("run", "-d", f"--name={name}", "--network=between", "busybox", "sleep", "1000")
        try:
            address = self.cask("inspect", "-f", "{{.NetworkSettings.Networks.between.IPAddress}}", "one")
            note("members", stream(self.inside("one"), address, self.inside("other"), 0, "take"))
        finally:
            self.cask("rm", "-f", "one", "other")
            self.cask("network", "rm", "between")

    def inside(self, name):
        """What makes a command run in the network of a container."""
        enter = ["nsenter", f"--target={self.cask('inspect', '-f', '{{.State.Pid}}', name)}", "--net"]
        return [*enter, "--user", "--preserve-credentials"] if os.getuid() else enter


class Containers(Program):
    """buildah or podman, which keep their storage where they are told."""

    # podman's default limit needs a cgroup that not every machine has, and its rm waits for a sleep to end.
    unlimited, by_force = ["--pids-limit=0"], ["-f", "-t", "0"]

    def __init__(self, name, prefix, scratch, **what):
        super().__init__(name, prefix, scratch, **what)
        self.command = prefix

    def reset(self):
        super().reset()
        self.prefix = [*self.command, f"--root={self.storage}/root", f"--runroot={self.storage}/run"]

    def build(self, tag, file, context, *options):
        return super().build(tag, file, context, "--layers", *options)

class Docker(Program):
    """docker with BuildKit; its work is its daemon's, so its memory is not known here."""

    memory = False

    def reset(self):
        images = subprocess.check_output([*self.prefix, "images", "--quiet"], text=True).split()
        if images:
            self("rmi", "--force", *sorted(set(images)))
        self("builder", "prune", "--all", "--force")

    def push(self, image):
        return self("push", image)

    def pull(self, image):
        return self("pull", image)


def remove(path):
    """Removes a store, which may hold files of the caller's sub-ids or mounts that a program left behind."""
    subprocess.run(f"umount --recursive {path}/root/overlay", shell=True, stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path):
        subprocess.run(["unshare", "--map-root-user", "--map-auto", "rm", "-rf", path], check=True)


def stream(listener, host, client, port, what):
    """Moves a gigabyte from end to end and returns the seconds; both ends are prefixes of `stream.py`."""
    script, other = str(Path(__file__).with_name("stream.py")), {"send": "take", "take": "send"}[what]
    command = [*listener, sys.executable, script, "listen", "0.0.0.0", str(port), other, str(GIGABYTE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        inner = serving.stdout.readline().strip()
        command = [*client, sys.executable, script, "connect", host, str(port or inner), what, str(GIGABYTE)]
        return float(subprocess.check_output(command, text=True))


class Registry:
    """An empty registry on a free loopback port."""

    def __init__(self, scratch):
        self.directory = tempfile.mkdtemp(dir=scratch)
        config = {"version": 0.1, "log": {"level": "info", "accesslog": {"disabled": True}}, "http": {"addr": "127.0.0.1:0"},
                  "storage": {"filesystem": {"rootdirectory": f"{self.directory}/blobs"}}}
        Path(self.directory, "config.yml").write_text(json.dumps(config))
        self.process = subprocess.Popen(["docker-registry", "serve", f"{self.directory}/config.yml"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "listening on " in line:
                self.address = line.split("listening on ")[1].split()[0].rstrip(',"')
                return
        sys.exit("bench: the registry did not start")

    def stop(self):
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.directory)


class Raw:
    """What the kernel and coreutils need for the same work."""

    name, prefix = "raw", []

    def __init__(self, scratch, rootfs):
        self.scratch = Path(tempfile.mkdtemp(dir=scratch))
        (self.scratch / "root").mkdir()
        subprocess.run(["tar", "-C", self.scratch / "root", "-xf", rootfs], check=True)

    def shell(self, script):
        os.sync()
        return timed(["sh", "-ec", f"cd {self.scratch}; {script}"])[0]

    def steps(self, count):
        work = tempfile.mkdtemp(dir=self.scratch)
        os.sync()
        command = [sys.executable, Path(__file__).with_name("step.py"), self.scratch / "root", work, count]
        return [float(line) for line in subprocess.check_output(list(map(str, command)), text=True).split()]

    def measure(self, note, tree, many):
        for key in ("step", "run host", "run private"):
            for took in self.steps(10):
                note(key, took)
        took = timed(["true"])[0]
        note("start", took), note("exec", took)
        note("fifty", sum(self.steps(50)))
        (self.scratch / "Dockerfile").write_text(long_dockerfile())
        note("parse", self.shell("cat Dockerfile > /dev/null"))
        note("check", self.shell("cat Dockerfile > /dev/null"))
        note("ignore", self.shell(f"find {many} > list"))
        for what in ("send", "take"):
            took = stream([], "127.0.0.1", [], 0, what)
            note(what, took), note(f"port {what}", took)
        note("members", took)
        note("copy", self.shell(f"tar -C {tree} -cf layer.tar . && sha256sum layer.tar"))
        note("copy again", self.shell(f"find {tree} -printf '%s %T@ %p\\n' > list"))
        half = "$(( ($(stat -c %s layer.tar) + 1) / 2 ))"
        note("push", self.shell(f"head -c {half} layer.tar | gzip -4 > a & tail -c +{half} layer.tar | gzip -4 > b; wait"))
        self.shell("gzip -1 < layer.tar > layer.tar.gz")
        out = tempfile.mkdtemp(dir=self.scratch)
        note("pull", self.shell(f"gzip -dc layer.tar.gz | tar -C {out} -x"))

    def clean(self):
        pass


def measure(program, note, tree, many, scratch, rootfs):
    """One round of one program, from an empty store to the last row."""
    files = {"busybox": BUSYBOX, "steps": STEPS, "copy": COPY, "base": "FROM busybox\n"}
    for name, text in files.items():
        (scratch / f"{name}.Dockerfile").write_text(text)
    file = {name: scratch / f"{name}.Dockerfile" for name in files}
    for _ in range(5):
        note("start", program.version()[0])
    if not program.builds:
        return
    registry = Registry(scratch)
    image = f"{registry.address}/bench:1"
    try:
        program.reset()
        program.build("busybox", file["busybox"], rootfs.parent)
        empty = scratch / "empty"
        empty.mkdir(exist_ok=True)
        program.build("base", file["base"], empty)
        base = program.build("base", file["base"], empty, "--no-cache")[0]
        note("step", (program.build("steps", file["steps"], empty)[0] - base) / 10)
        for _ in range(3):
            note("cached", program.build("steps", file["steps"], empty)[0])
        for network in ("host", "private"):
            option = [f"--network={network}"] if network == "host" else []
            try:
                for _ in range(5 if program.runs and (option or program.private) else 0):
                    note(f"run {network}", program.run(*option, "busybox", "true")[0])
            except Broken as reason:
                print(f"{program.name} has no {network} network: {reason}", file=sys.stderr)
        try:
            if program.runs:
                program.containers(note)
        except Broken as reason:
            print(f"{program.name} does not keep containers: {reason}", file=sys.stderr)
        if isinstance(program, Cooper):
            program.networks(note, scratch)
            program.texts(note, scratch, many)
        program.weigh = program.memory
        took, memory = program.build(image, file["copy"], tree)
        note("copy", took), note("copy memory", memory)
        note("copy again", program.build(image, file["copy"], tree)[0])
        took, memory = program.push(image)
        note("push", took), note("push memory", memory)
        note("push again", program.push(image)[0])
        program.reset()
        took, memory = program.pull(image)
        if program.runs:
            took += program.run("--network=host", image, "true")[0]
        note("pull", took), note("pull memory", memory)
    finally:
        program.weigh = False
        registry.stop()


def find_programs(arguments, scratch, shared):
    """Returns the programs to measure, and what to stop at the end."""
    found, stop = [Cooper("cooper", [os.environ["COOPER"]], scratch)], []
    prefix, host = [], []
    if arguments.peers:
        peers = Peers((arguments.peers / "root").resolve(), shared)
        stop.append(peers.holder)
        daemon, host = start_docker(peers.prefix, scratch)
        stop.insert(0, daemon)
        prefix, host = peers.prefix, [host]

    def works(*words):
        try:
            return subprocess.run([*prefix, *words], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False

    if works("docker", *host, "buildx", "version") and works("docker", *host, "info"):
        found.append(Docker("docker", [*prefix, "docker", *host], scratch))
        found[-1].private = not arguments.peers  # its dockerd was started without a bridge
    if works("buildah", "--version"):
        found.append(Containers("buildah", [*prefix, "buildah"], scratch, runs=False))
    if works("podman", "--version"):
        found.append(Containers("podman", [*prefix, "podman"], scratch))
    return found, stop


def shown(key, value):
    if value is None:
        return "–"
    if key.endswith("memory"):
        return f"{value:.0f} MiB"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def print_table(programs, samples):
    names = [program.name for program in programs if program.name != "raw"]
    others = [name for name in names if name != "cooper"]
    title = {"cooper": "cooper, cask"}
    print("| Work |", " | ".join(title.get(name, name) for name in names), "| raw | best other ÷ cooper | cooper ÷ raw | target |")
    print("|---" * (len(names) + 5) + "|")
    for key, (text, target) in ROWS.items():
        middle = {name: statistics.median(samples[name, key]) for name in [*names, "raw"] if samples[name, key]}
        own, best = middle.get("cooper"), min((middle[name] for name in others if name in middle), default=None)
        ratios = [f"{best / own:.1f}" if own and best else "–", f"{own / middle['raw']:.1f}" if own and "raw" in middle else "–"]
        verdict = "–" if own is None else f"≤ {shown(key, target)} {'met' if own <= target else 'missed'}"
        cells = [shown(key, middle.get(name)) for name in [*names, "raw"]]
        print("|", " | ".join([text, *cells, *ratios, verdict]), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="a directory whose root/ has the other programs (needs root)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cooper, docker, buildah, podman, raw")
    parser.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rootfs = arguments.cache / "bases/busybox/rootfs.tar"
    tree, many = make_tree(arguments.cache / "bench-tree"), make_many(arguments.cache / "bench-many")
    scratch = Path(tempfile.mkdtemp(prefix="cooper-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    programs, stop, samples = [], [], collections.defaultdict(list)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        programs, stop = find_programs(arguments, scratch, [scratch, arguments.cache])
        programs.append(Raw(scratch, rootfs))
        programs = [program for program in programs if not arguments.only or program.name in arguments.only]
        for number in range(arguments.rounds):
            for program in programs:
                print(f"round {number + 1} of {arguments.rounds}: {program.name}", file=sys.stderr, flush=True)

                def note(key, value):
                    if value is not None:
                        samples[program.name, key].append(value)

                try:
                    if program.name == "raw":
                        program.measure(note, tree, many)
                    else:
                        measure(program, note, tree, many, scratch, rootfs)
                except Broken as reason:
                    print(f"{program.name} did not finish: {reason}", file=sys.stderr)
        print_table(programs, samples)
    finally:
        for process in stop:
            process.terminate()
            process.wait()
        os.chdir("/")
        for program in programs:
            program.clean()
        remove(scratch)


if __name__ == "__main__":
    main()
