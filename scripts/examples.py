"""Builds and runs the examples, each against its test.json. Started by `scripts/examples`.

test.json holds
  before   builds to do first: [{file, tag}]
  first    the name of the first stage, whose size is compared with the image's
  config   values that the image's config must have; null stands for nothing
  absent   paths that must not exist in the image
  runs     [{args, env, exit, stdout, stderr, http: {url, body, contains}, stop}]: the exit code (default 0), all of
           stdout, a part of stderr; for a server what it answers, and the signal that ends it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
EXAMPLES = SCRIPTS.parent / "Dockerfile.examples"
COOPER, CASK = os.environ["COOPER"], os.environ["CASK"]
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Wrong(Exception):
    """The example did something else than its test.json says."""


def check(what, want, got):
    if want != got:
        raise Wrong(f"{what}: want {want!r}, got {got!r}")


def bases_of(example):
    """Returns the names under which scripts/bases makes what the Dockerfiles of `example` stand on."""
    makers = {}
    for maker in (SCRIPTS / "bases.d").glob("*.Dockerfile"):
        for tag in re.findall(r"^# makes: (\S+)", maker.read_text(), re.M):
            makers[tag] = maker.name.removesuffix(".Dockerfile")
    text = "\n".join(file.read_text() for file in example.glob("*Dockerfile"))
    images = set(re.findall(r"^FROM (?:--\S+ )*(\S+)", text, re.M))
    images |= {f"{image}:latest" for image in images}
    return sorted({makers[image] for image in images & makers.keys()})


def build(example, tag, file="Dockerfile", *options):
    names = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")]
    proxies = [f"--build-arg={name}" for name in names]
    command = [COOPER, "build", "--network=host", *proxies, *options, "-t", tag, "-f", example / file, example]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Wrong(f"the build of {file} ended with {done.returncode}:\n{done.stdout}")


def inspect(tag):
    found = json.loads(subprocess.check_output([COOPER, "inspect", tag]))
    return found[0] if isinstance(found, list) else found


def answer(url, server):
    """Returns what `url` says, as soon as it says something."""
    for _ in range(150):
        try:
            return LOCAL.open(url, timeout=5).read().decode()
        except OSError as refused:
            if server.poll() is not None:
                break
            reason = refused
            time.sleep(0.1)
    server.kill()
    raise Wrong(f"nothing answers at {url} ({reason}): {server.communicate()}")


def run(tag, case):
    environment = [f"--env={name}={value}" for name, value in case.get("env", {}).items()]
    command = [CASK, "run", "--rm", "--network=host", *environment, tag, *case.get("args", [])]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        if "http" in case:
            body = answer(case["http"]["url"], process)
            process.send_signal(signal.Signals[f"SIG{case['stop']}"])
            check("the answer", case["http"].get("body", body), body)
            check("the answer has the text", True, case["http"].get("contains", "") in body)
        stdout, stderr = process.communicate(timeout=120)
    asked = " ".join(case.get("args", [])) or "the default command"
    check(f"exit code of {asked} (stderr: {stderr.strip()})", case.get("exit", 0), process.returncode)
    check(f"stdout of {asked}", case.get("stdout", stdout), stdout)
    check(f"{case.get('stderr')!r} in stderr {stderr!r}", True, case.get("stderr", "") in stderr)


def example(path):
    """Builds and runs one example; returns the sizes of its first and its last stage."""
    expected = json.loads((path / "test.json").read_text())
    tag = f"localhost/examples/{path.name}"
    bases = bases_of(path)
    if bases:
        command = [SCRIPTS / "bases", *bases]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check(f"exit code of scripts/bases {' '.join(bases)}, which said\n{done.stdout}", 0, done.returncode)
    for step in expected.get("before", []):
        build(path, step["tag"], step["file"])
    build(path, tag)
    found = inspect(tag)
    for name, value in expected.get("config", {}).items():
        check(name, value, found["Config"].get(name) or None)
    for case in expected["runs"]:
        run(tag, case)
    for absent in expected.get("absent", []):
        command = [CASK, "run", "--rm", "--network=host", f"--entrypoint={absent}", tag]
        check(f"exit code of {absent}", 127, subprocess.run(command, stderr=subprocess.DEVNULL).returncode)
    if "first" not in expected:
        return "", found["Size"]
    build(path, f"{tag}-first", "Dockerfile", f"--target={expected['first']}")
    return inspect(f"{tag}-first")["Size"], found["Size"]


def main(names):
    wrong = []
    print("| example | first stage | last stage | seconds |\n|---|---|---|---|", flush=True)
    for path in [EXAMPLES / name for name in names] or sorted(EXAMPLES.iterdir()):
        start = time.monotonic()
        try:
            first, last = [f"{size / 1e6:.1f} MB" if size else "" for size in example(path)]
        except Wrong as reason:
            wrong.append(path.name)
            print(f"{path.name}: {reason}", file=sys.stderr, flush=True)
        else:
            print(f"| {path.name} | {first} | {last} | {time.monotonic() - start:.1f} |", flush=True)
    if wrong:
        sys.exit(f"examples: these are wrong: {', '.join(wrong)}")


main(sys.argv[1:])
