"""What scripts/rungs finds out: whether images hold the same files, and how long steps took.

    rungs.py compare ARCHIVE…        the first is what the others are held against
    rungs.py ratio LIMIT LOG…        logs of plain progress named RUNG-install-N.log
"""

import collections
import pathlib
import re
import sys
import tarfile

# Files whose presence depends on the moment and not on the rung.
PASSING = re.compile(r"var/lib/apt/lists/|var/cache/ldconfig/|var/lib/systemd/deb-systemd-helper-")


def listing(archive):
    """Returns type, mode, owner and target of every file by its path."""
    with tarfile.open(archive) as tar:
        return {
            entry.name: (entry.type.decode(), f"{entry.mode:o}", f"{entry.uid}:{entry.gid}", entry.linkname)
            for entry in tar
            if not PASSING.match(entry.name)
        }


def explained(want, got):
    """Returns why a file may be missing: with many ids of a user namespace, files are given away for real, and the
    kernel makes no devices there."""
    return got is None and want[0] in (tarfile.CHRTYPE.decode(), tarfile.BLKTYPE.decode())


def name(archive):
    return pathlib.Path(archive).parent.name


def compare(first, *others):
    want = listing(first)
    owners = collections.Counter(owner for _, _, owner, _ in want.values())
    print(f"{name(first)}: {len(want)} files, {len(owners)} pairs of owners")
    same = True
    for other in others:
        got = listing(other)
        differ = sorted(path for path in want.keys() | got.keys() if want.get(path) != got.get(path))
        known = [path for path in differ if explained(want.get(path), got.get(path))]
        differ = [path for path in differ if path not in known]
        print(f"{name(other)}: {len(got)} files, {len(differ)} differ; devices left out: {' '.join(known) or 'none'}")
        for path in differ[:40]:
            print(f"  {path}: {want.get(path)} there, {got.get(path)} here")
        same = same and not differ
    return same


def seconds(log):
    """Returns how long the last step took."""
    took = re.findall(r"^#\d+ DONE (?:(\d+)m)?([\d.]+)s$", pathlib.Path(log).read_text(), re.MULTILINE)
    minutes, rest = took[-1]
    return 60 * int(minutes or 0) + float(rest)


def ratio(limit, *logs):
    best = {}
    for log in logs:
        rung = pathlib.Path(log).name.split("-install-")[0]
        best[rung] = min(best.get(rung, float("inf")), seconds(log))
    unpacked = len(set(re.findall(r"Setting up (\S+)", pathlib.Path(logs[0]).read_text())))
    found = best["single-id"] / best["subid"]
    print(f"{unpacked} packages: sub-ids {best['subid']:.2f} s, one id {best['single-id']:.2f} s")
    print(f"ratio {found:.2f}, at most {limit}")
    return unpacked >= 30 and found <= float(limit)


if __name__ == "__main__":
    does = {"compare": compare, "ratio": ratio}[sys.argv[1]]
    sys.exit(0 if does(*sys.argv[2:]) else 1)
