"""The kernel's own cost of a RUN step: new namespaces, an overlay mount, chroot, exec of `sh`, exit.

step.py ROOT WORK COUNT prints the seconds of each of COUNT steps over the root file system ROOT. It is a program of
its own because a fork costs what the forking process weighs. An ordinary user gets a user namespace on top.
"""

import ctypes
import os
import sys
import time

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_REC_PRIVATE = 0x4000 | 0x40000
LIBC = ctypes.CDLL(None, use_errno=True)


def must(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def inside(root, work):
    """Becomes the step; never returns."""
    uid, gid = os.geteuid(), os.getegid()
    namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    must(LIBC.unshare(namespaces | (CLONE_NEWUSER if uid else 0)))
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    first = os.fork()
    if first:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
    must(LIBC.mount(None, b"/", None, MS_REC_PRIVATE, None))
    options = f"lowerdir={root},upperdir={work}/upper,workdir={work}/work"
    must(LIBC.mount(b"overlay", f"{work}/merged".encode(), b"overlay", 0, options.encode()))
    os.chroot(f"{work}/merged")
    os.chdir("/")
    os.execv("/bin/sh", ["sh", "-c", "echo 1 > /step"])


def main(root, work, count):
    for number in range(int(count)):
        place = f"{work}/{number}"
        for name in ("upper", "work", "merged"):
            os.makedirs(f"{place}/{name}")
        start = time.perf_counter()
        process = os.fork()
        if not process:
            try:
                inside(root, place)
            finally:
                os._exit(1)
        _, status = os.waitpid(process, 0)
        took = time.perf_counter() - start
        if status:
            sys.exit(f"the step ended with {status}")
        print(took)


main(*sys.argv[1:])
