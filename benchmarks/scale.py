"""Measure how time and memory grow: with steps, edges, items and past runs. Ten times the work may cost eleven times.

python -m benchmarks.scale                     all, as Markdown
python -m benchmarks.scale --quick             to 1,000 in running, 10,000 in planning, 2,000 past runs
python -m benchmarks.scale --only plan-items   some of: {names}
python -m benchmarks.scale --out FILE.json     the figures, too
python -m benchmarks.scale --svg FILE.svg      and a chart of them
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from . import chart, history, measure, workloads
from .measure import Sample
from .rows import FOREACH
from .tools import RUNNER, write_files, write_ours

HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: {name}\n"


@dataclass(frozen=True)
class Series:
    """One way to grow. `write` makes a project with a pipeline of about so many steps; `command` is measured in it."""

    name: str
    title: str
    write: Callable[[Path, int], None]
    command: str
    sizes: tuple[int, ...]
    ready: bool = False  # whether all has run before


def layered(folder: Path, steps: int) -> None:
    write_ours(folder, workloads.layered(steps // 50))


def chain(folder: Path, steps: int) -> None:
    write_ours(folder, workloads.chain(steps))


def items(folder: Path, steps: int) -> None:
    text = FOREACH.replace("10000", str(max(steps, 1000))) % ", ".join(map(str, range(steps)))
    write_files(folder, {"runner.toml": "", "pipeline.yaml": text})


def plain(folder: Path, steps: int) -> None:
    """The steps that `items` means, written out."""
    lines = ["steps:"]
    for n in range(steps):
        lines += [f"  s{n}:", "    kind: shell", f"    env: {{N: '{n}'}}", "    shell: [sh, -eu]"]
        lines += ['    script: echo "s$N" > o', "    outputs: {o: {type: file}}"]
    text = HEAD.format(name="plain") + "\n".join(lines) + "\n"
    write_files(folder, {"runner.toml": "", "pipeline.yaml": text})


def inner(folder: Path, steps: int) -> None:
    """A hundred times the same pipeline, each time in another place."""
    each = steps // 100
    width = 10 if each >= 20 else 5
    write_ours(folder, workloads.layered(each // width, width))
    (folder / "pipeline.yaml").rename(folder / "inner.yaml")
    lines = ["steps:", *(f"  p{n}: {{kind: pipeline, pipeline: inner.yaml}}" for n in range(100))]
    (folder / "pipeline.yaml").write_text(HEAD.format(name="outer") + "\n".join(lines) + "\n")


def fan_in(folder: Path, steps: int) -> None:
    """So many steps, and one that reads them all: the inputs are files in its directory, not words of its script."""
    lines = ["steps:"]
    for n in range(steps):
        lines += [f"  s{n}: {{kind: shell, shell: [sh, -eu], script: echo {n} > o, outputs: {{o: {{type: file}}}}}}"]
    inputs = ", ".join(f"i{n}: $(steps.s{n}.outputs.o)" for n in range(steps))
    lines += ["  sum:", "    kind: shell", "    shell: [sh, -eu]", f"    inputs: {{{inputs}}}"]
    lines += ["    script: set -- .inputs/*/o/o; echo $# > o", "    outputs: {o: {type: file}}"]
    text = HEAD.format(name="fan-in") + "\n".join(lines) + "\n"
    write_files(folder, {"runner.toml": "", "pipeline.yaml": text})


SERIES = (
    Series("plan-layers", "plan, layered steps", layered, "plan", (100, 1_000, 10_000)),
    Series("plan-items", "plan, items of a `foreach`", items, "plan", (100, 1_000, 10_000, 100_000)),
    Series("plan-inner", "plan, inner pipelines", inner, "plan", (1_000, 10_000, 100_000)),
    Series("plan-fan-in", "plan, a fan-in", fan_in, "plan", (80, 800, 8_000)),
    Series("plan-chain", "plan, a chain", chain, "plan", (100, 1_000, 10_000)),
    Series("run-layers", "run, layered steps", layered, "apply", (100, 1_000, 10_000)),
    Series("run-fan-in", "run, a fan-in", fan_in, "apply", (80, 800, 8_000)),
    Series("run-chain", "run, a chain", chain, "apply", (100, 1_000, 10_000)),
    Series("again-layers", "nothing to do, layered steps", layered, "apply", (100, 1_000, 10_000), ready=True),
)
ALONE = ("items-against-steps", "past-runs")
NAMES = (*(series.name for series in SERIES), *ALONE)


@dataclass(frozen=True)
class Lab:
    place: Path
    turns: int
    quick: bool

    def ask(self, folder: Path, *words: str) -> Sample:
        return measure.measure([RUNNER, *words], folder, self.place / "log")

    def grow(self, series: Series) -> dict[str, Any]:
        """Return a series as JSON: its figures by size, and how the last ten times cost more."""
        most = (10_000 if series.command == "plan" else 1_000) if self.quick else series.sizes[-1]
        points = [(size, self.point(series, size)) for size in series.sizes if size <= most]
        growth = [
            (big, b.cpu / a.cpu / (big / small), b.memory / a.memory / (big / small))
            for (small, a), (big, b) in pairwise(points)
        ]
        return {
            "name": series.name, "title": series.title,
            "points": [{"size": n, "seconds": round(s.seconds, 4), "cpu": round(s.cpu, 4), "memory": round(s.memory, 1)} for n, s in points],
            "growth": [{"to": n, "cpu": round(c, 3), "memory": round(m, 3)} for n, c, m in growth],
        }  # fmt: skip

    def point(self, series: Series, size: int) -> Sample:
        samples = []
        turns = self.turns if size < 10_000 or series.command == "plan" else 1
        folder = self.place / f"{series.name}-{size}"
        for turn in range(turns):
            if not (series.ready and turn):
                shutil.rmtree(folder, ignore_errors=True)
                series.write(folder, size)
            if series.ready and not turn:
                self.ask(folder, "apply", "pipeline.yaml")
                self.ask(folder, "apply", "pipeline.yaml")
            samples.append(self.ask(folder, series.command, "pipeline.yaml"))
        shutil.rmtree(folder)
        return measure.middle(samples)

    def items_against_steps(self) -> dict[str, Any]:
        """Run the items of a `foreach` and the same written out as steps, in turns."""
        size = 1_000 if self.quick else 10_000
        pairs = []
        for turn in range(max(1, self.turns - 2)):
            pair = []
            for write in (items, plain):
                folder = self.place / f"{write.__name__}-{turn}"
                write(folder, size)
                pair.append(self.ask(folder, "apply", "pipeline.yaml"))
                shutil.rmtree(folder)
            pairs.append(pair)
        a, b = (measure.middle([pair[n] for pair in pairs]) for n in (0, 1))
        return {
            "name": "items-against-steps", "size": size, "items": vars(a), "steps": vars(b), "goal": 1.6,
            "ratio": round(statistics.median(i.seconds / s.seconds for i, s in pairs), 3),
            "cpu_ratio": round(statistics.median(i.cpu / s.cpu for i, s in pairs), 3),
        }  # fmt: skip

    def past_runs(self) -> dict[str, Any]:
        """Compare a store with one run and one with many, in turns."""
        count = 2_000 if self.quick else 50_000
        young, old = self.place / "young", self.place / "old"
        for folder in (young, old):
            write_ours(folder, workloads.layered(2, 2))
            self.ask(folder, "apply", "pipeline.yaml")
        reindex = history.extend(old, count)
        found: dict[str, dict[str, list[Sample]]] = {}
        for turn in range(self.turns):
            for folder in (young, old):
                for words in (["runs"], ["plan", "pipeline.yaml"], ["apply", "pipeline.yaml"]):
                    found.setdefault(words[0], {}).setdefault(folder.name, []).append(self.ask(folder, *words))
                (folder / "late.txt").write_text(f"{turn}\n")
                for words, name in (
                    (["plan", "pipeline.yaml"], "plan of a change"),
                    (["apply", "pipeline.yaml"], "apply of a change"),
                ):
                    found.setdefault(name, {}).setdefault(folder.name, []).append(self.ask(folder, *words))
        rows = {
            what: {
                **{name: vars(measure.middle(samples)) for name, samples in by.items()},
                "ratio": round(statistics.median(o.seconds / y.seconds for o, y in zip(by["old"], by["young"], strict=True)), 3),
                "cpu_ratio": round(statistics.median(o.cpu / y.cpu for o, y in zip(by["old"], by["young"], strict=True)), 3),
            }
            for what, by in found.items()
        }  # fmt: skip
        return {"name": "past-runs", "runs": count, "goal": 1.1, "reindex": reindex, "commands": rows}


def markdown(made: Mapping[str, Any]) -> Iterator[str]:
    if made["series"]:
        yield "| what | size | seconds | CPU | MB | CPU, ten times for ten | memory |"
        yield "|---|--:|--:|--:|--:|--:|--:|"
    for series in made["series"]:
        growth = {g["to"]: g for g in series["growth"]}
        for point in series["points"]:
            more = growth.get(point["size"])
            cells = [
                series["title"],
                f"{point['size']:,}",
                f"{point['seconds']:.3f}",
                f"{point['cpu']:.3f}",
                f"{point['memory']:.0f}",
            ]
            cells += [f"{10 * more['cpu']:.1f}", f"{10 * more['memory']:.1f}"] if more else ["", ""]
            yield "| " + " | ".join(cells) + " |"
    if found := made.get("items-against-steps"):
        yield ""
        yield (
            f"{found['size']:,} items of a `foreach` against as many steps: {found['items']['seconds']:.2f} s to {found['steps']['seconds']:.2f} s, "
            f"ratio {found['ratio']:.2f} (CPU {found['cpu_ratio']:.2f}; goal {found['goal']})."
        )
    if found := made.get("past-runs"):
        yield from [
            "",
            f"| with {found['runs']:,} past runs | one | many | ratio (goal {found['goal']}) | of CPU |",
            "|---|--:|--:|--:|--:|",
        ]
        for what, row in found["commands"].items():
            yield f"| `{what}` | {row['young']['seconds']:.3f} s | {row['old']['seconds']:.3f} s | {row['ratio']:.2f} | {row['cpu_ratio']:.2f} |"
        yield from ["", f"`store reindex` of them took {found['reindex']:.1f} s."]


def drawing(series: Sequence[Mapping[str, Any]]) -> str:
    """Return the chart of all series: time and memory by size."""

    def lines(figure: str) -> dict[str, list[tuple[float, float]]]:
        return {
            s["title"].replace("`", ""): [(p["size"], p[figure]) for p in s["points"]]
            for s in series
            if len(s["points"]) > 1
        }

    wanted = {"plan-layers", "plan-items", "run-layers", "again-layers"}
    series = [s for s in series if s["name"] in wanted] or list(series)
    return chart.svg([("Time", "s", lines("seconds")), ("Memory of the runner", "MB", lines("memory"))], "steps")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").format(names=" ".join(NAMES)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", default=NAMES)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--svg", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    made: dict[str, Any] = {"series": []}
    with tempfile.TemporaryDirectory() as scratch:
        lab = Lab(Path(scratch), options.turns, options.quick)
        for series in SERIES:
            if series.name in options.only:
                print(series.title, file=sys.stderr)
                made["series"].append(lab.grow(series))
        if "items-against-steps" in options.only:
            made["items-against-steps"] = lab.items_against_steps()
        if "past-runs" in options.only:
            made["past-runs"] = lab.past_runs()
    if options.out:
        options.out.write_text(json.dumps(made, indent=1) + "\n")
    if options.svg and made["series"]:
        options.svg.write_text(drawing(made["series"]))
    print("\n".join(markdown(made)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
