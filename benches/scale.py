"""Measures how cooper's cost grows with the work. Started by `scripts/bench --scale`.

Four things grow, one at a time: the steps of a file, the files of a context, the stages that run beside each other,
and the images in the store. Each is built cold, again with one thing changed, and again unchanged: the first should grow
no faster than what there is to do, the others should hardly grow. Prints a table and draws it.
"""

import argparse
import math
import os
import statistics
import tempfile
from pathlib import Path

from table import BUSYBOX, Cooper, remove, shown

LINES = {  # what a line is called, and its colour on light and on dark ground
    "cold": ("#0969da", "#58a6ff"),
    "one changed": ("#bc4c00", "#f0883e"),
    "unchanged": ("#1a7f37", "#3fb950"),
}


class Panel:
    """What was measured of one thing that grows."""

    def __init__(self, title, sizes):
        self.title, self.sizes = title, sizes
        self.lines = {}

    def note(self, line, size, *seconds):
        self.lines.setdefault(line, {})[size] = statistics.median(seconds)


class Bench:
    """A program, a store of its own for each thing that grows, and a place for contexts."""

    def __init__(self, scratch, rootfs, rounds):
        self.program = Cooper("cooper", [os.environ["COOPER"]], scratch)
        self.scratch, self.rootfs, self.rounds = scratch, rootfs, rounds
        self.empty = self.place("empty")

    def place(self, name):
        """A new directory. It stays until the end, as all stores do: see `table`."""
        place = self.scratch / name
        place.mkdir()
        return place

    def fresh(self):
        """Begins with a store that has the base only."""
        self.program.reset()
        self.build(BUSYBOX, self.rootfs.parent, "busybox")

    def build(self, text, context, tag="scale"):
        file = self.scratch / "Dockerfile"
        file.write_text(text)
        return self.program.build(tag, file, context)[0]

    def again(self, text, context):
        return [self.build(text, context) for _ in range(self.rounds)]

    def steps(self, panel):
        for count in panel.sizes:
            self.fresh()
            text = "FROM busybox\n" + "".join(f"RUN echo {i} > /step-{i}\n" for i in range(count - 1))
            panel.note("cold", count, self.build(text + "RUN echo last > /last\n", self.empty))
            panel.note("one changed", count, *[self.build(text + f"RUN echo {n} > /last\n", self.empty) for n in range(self.rounds)])
            panel.note("unchanged", count, *self.again(text + "RUN echo last > /last\n", self.empty))

    def files(self, panel):
        for count in panel.sizes:
            self.fresh()
            tree = self.place(f"files-{count}")
            for number in range(count):
                if number % 100 == 0:
                    directory = tree / f"{number // 10_000:03}" / f"{number // 100:04}"
                    directory.mkdir(parents=True)
                (directory / f"{number:06}").write_text(f"{number}\n" * 20)
            text = "FROM busybox\nCOPY . /data\n"
            panel.note("cold", count, self.build(text, tree))
            for number in range(self.rounds):
                (tree / "000/0000/000000").write_text(f"changed {number}")
                panel.note("one changed", count, self.build(text, tree))
            panel.note("unchanged", count, *self.again(text, tree))

    def stages(self, panel):
        for count in panel.sizes:
            self.fresh()
            first = "".join(f"FROM busybox AS stage{i}\nRUN echo {i} > /result\n" for i in range(count))
            last = "FROM busybox\n" + "".join(f"COPY --from=stage{i} /result /{i}\n" for i in range(count))
            panel.note("cold", count, self.build(first + last, self.empty))
            changed = [first.replace("echo 0 ", f"echo changed {n} ", 1) + last for n in range(self.rounds)]
            panel.note("one changed", count, *[self.build(text, self.empty) for text in changed])
            panel.note("unchanged", count, *self.again(first + last, self.empty))

    def images(self, panel):
        self.fresh()
        text = "FROM busybox\nRUN echo 1 > /step\n"
        made = 1
        for count in panel.sizes:
            while made < count:
                made += 1
                self.build(f"FROM busybox\nLABEL number={made}\n", self.empty, f"image{made}")
            cold = [self.build(text.replace("1", f"cold-{count}-{n}", 1), self.empty) for n in range(self.rounds)]
            panel.note("cold", count, *cold)
            self.build(text, self.empty)
            panel.note("unchanged", count, *self.again(text, self.empty))


def print_table(panels):
    for panel in panels:
        print(f"\n| {panel.title} |", " | ".join(f"{size:,}" for size in panel.sizes), "|")
        print("|---" * (len(panel.sizes) + 1) + "|")
        for line, points in panel.lines.items():
            print(f"| {line} |", " | ".join(shown(line, points.get(size)) for size in panel.sizes), "|", flush=True)


WIDTH, HEIGHT, LEFT, TOP, GAP = 420, 250, 56, 34, 34


def draw(panels):
    """Both axes are logarithmic, so what grows with the work rises as the dotted line does, and what does not is level."""
    columns, rows = 2, (len(panels) + 1) // 2
    style = ["text{font:12px system-ui,sans-serif;fill:#57606a}", ".title{font-weight:600;fill:#24292f}",
             ".grid{stroke:#8c959f;stroke-opacity:.25}", ".linear{stroke:#8c959f;stroke-dasharray:2 4}"]
    dark = ["text{fill:#9198a1}", ".title{fill:#e6edf3}"]
    for number, (light, other) in enumerate(LINES.values()):
        for rules, colour in ((style, light), (dark, other)):
            rules.append(f".l{number}{{stroke:{colour};fill:none;stroke-width:2}}.d{number}{{fill:{colour}}}")
    style.append("@media(prefers-color-scheme:dark){" + "".join(dark) + "}")
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * WIDTH} {rows * HEIGHT + 24}" role="img">',
           "<title>Seconds of a build as the work grows</title>", "<style>" + "".join(style) + "</style>"]
    for number, name in enumerate(LINES):
        at = LEFT + number * 130
        out.append(f'<path class="l{number}" d="M{at} 12h22"/><circle class="d{number}" cx="{at + 11}" cy="12" r="3"/>'
                   f'<text x="{at + 28}" y="16">{name}</text>')
    out.append(f'<path class="linear" d="M{LEFT + 390} 12h22"/><text x="{LEFT + 418}" y="16">in step with the work</text>')
    for number, panel in enumerate(panels):
        x0, y0 = number % columns * WIDTH + LEFT, number // columns * HEIGHT + 24 + TOP
        width, height = WIDTH - LEFT - GAP, HEIGHT - TOP - 36
        values = [value for points in panel.lines.values() for value in points.values()]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        first, last = math.log10(panel.sizes[0]), math.log10(panel.sizes[-1])
        x = lambda size: x0 + (math.log10(size) - first) / (last - first or 1) * width
        y = lambda value: y0 + (high - math.log10(value)) / (high - low) * height
        out.append(f'<text class="title" x="{x0}" y="{y0 - 10}">{panel.title}</text>')
        for power in range(low, high + 1):
            label = f"{10 ** power:,} s" if power >= 0 else f"{10 ** (power + 3)} ms"
            out.append(f'<path class="grid" d="M{x0} {y(10.0 ** power):.1f}h{width}"/>'
                       f'<text x="{x0 - 6}" y="{y(10.0 ** power) + 4:.1f}" text-anchor="end">{label}</text>')
        for size in panel.sizes:
            out.append(f'<text x="{x(size):.1f}" y="{y0 + height + 18}" text-anchor="middle">{size:,}</text>')
        cold = panel.lines["cold"]
        start = cold[panel.sizes[0]]
        rise = min(last - first, high - math.log10(start))
        out.append(f'<path class="linear" d="M{x0} {y(start):.1f}L{x(10 ** (first + rise)):.1f} {y(start * 10 ** rise):.1f}"/>')
        for kind, name in enumerate(LINES):
            points = [(x(size), y(value)) for size, value in panel.lines.get(name, {}).items()]
            if points:
                out.append(f'<path class="l{kind}" d="M' + "L".join(f"{a:.1f} {b:.1f}" for a, b in points) + '"/>')
                out += [f'<circle class="d{kind}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points]
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(prog="bench --scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often a build that changes little is repeated")
    parser.add_argument("--up-to", type=int, default=10 ** 9, metavar="N", help="leave larger sizes out")
    parser.add_argument("--draw", type=Path, metavar="FILE", default=Path(__file__).resolve().parent.parent / "docs/scale.svg",
                        help="where the picture goes (docs/scale.svg)")
    parser.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = lambda *all_sizes: [size for size in all_sizes if size <= arguments.up_to]
    scratch = Path(tempfile.mkdtemp(prefix="cooper-scale-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    try:
        bench = Bench(scratch, arguments.cache / "bases/busybox/rootfs.tar", arguments.rounds)
        panels = {
            bench.steps: Panel("RUN steps in a file", sizes(1, 10, 100, 500)),
            bench.files: Panel("files in the context", sizes(1_000, 10_000, 100_000, 500_000)),
            bench.stages: Panel("stages beside each other", sizes(1, 10, 50)),
            bench.images: Panel("images in the store", sizes(10, 1_000, 10_000)),
        }
        panels = {measure: panel for measure, panel in panels.items() if panel.sizes}
        for measure, panel in panels.items():
            measure(panel)
        print_table(panels.values())
        arguments.draw.write_text(draw(list(panels.values())))
    finally:
        os.chdir("/")
        bench.program.clean()
        remove(scratch)


if __name__ == "__main__":
    main()
