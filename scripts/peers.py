"""Another root file system in which other builders live, and the dockerd that some of them need."""

import os
import subprocess
import sys
import time
from pathlib import Path


class Peers:
    """A namespace in which `root` is the root and the shared directories are where they are outside."""

    def __init__(self, root, shared):
        script = """set -e
            mount --rbind "$R" "$R"; mount -t tmpfs tmpfs "$R/run"; mount -t tmpfs tmpfs "$R/tmp"
            for d in /proc /dev $S; do mkdir -p "$R$d"; mount --rbind $d "$R$d"; done
            mount -t sysfs sysfs "$R/sys"
            mount -t cgroup2 none "$R/sys/fs/cgroup" 2>/dev/null || true
            mkdir -p "$R/oldroot"; cd "$R"; pivot_root . oldroot; cd /; umount -l /oldroot; mount --make-rprivate /
            echo ready; exec sleep infinity"""
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "bash", "-c", script],
            env={**os.environ, "R": str(root), "S": " ".join(map(str, shared))}, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            sys.exit(f"{root} cannot be entered")
        self.prefix = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt"]


def start_docker(prefix, scratch, store=None):
    """Starts a dockerd of its own, and returns the process and the option that reaches it.

    Its images are in the store that it takes by default, or in `classic` (its own) or `containerd`.
    """
    data = scratch / "docker"
    log = open(f"{data}.log", "w+", encoding="utf-8", errors="replace")
    feature = [f"--feature=containerd-snapshotter={str(store == 'containerd').lower()}"] if store else []
    daemon = subprocess.Popen(
        [*prefix, "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", f"--host=unix://{data}.sock",
         f"--data-root={data}", f"--exec-root={data}-run", f"--pidfile={data}.pid", *feature],
        stdout=subprocess.DEVNULL, stderr=log)
    for _ in range(600):
        if Path(f"{data}.sock").exists():
            return daemon, f"--host=unix://{data}.sock"
        if daemon.poll() is not None:
            break
        time.sleep(0.1)
    daemon.terminate()
    log.seek(0)
    sys.exit("dockerd did not start:\n" + log.read()[-2000:])
