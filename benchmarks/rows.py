"""The rows of the table: which workload, what is done with it, and the goal; and the runs that fill them.

The tools take turns (A B A B …), so that what else the machine does falls on all of them. After every run the outputs
of every step are compared with what the workload demands: a tool that left other bytes gets no figure.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import measure, workloads
from .measure import Sample
from .tools import WORKERS, Tool, table, write_ours
from .workloads import Workload

FOREACH = """\
apiVersion: runner/v1
kind: Pipeline
name: items
steps:
  item:
    kind: shell
    foreach: {over: {n: [%s]}, max_items: 10000}
    env: {N: $(each.n)}
    shell: [sh, -eu]
    script: echo "s$N" > o
    outputs: {o: {type: file}}
"""
FORKS = """\
import json, os, time
import numpy, work
jobs = json.load(open("jobs.json"))
started = time.perf_counter()
for job in jobs:
    pid = os.fork()
    if not pid:
        work.squares(job["n"], job["output"])
        os._exit(0)
    os.waitpid(pid, 0)
print(time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Row:
    """A line of the table. `what` is done: version run again redo plan touch; `goal` in seconds, for ours."""

    name: str
    title: str
    what: str
    workload: Callable[[], Workload] = workloads.one
    goal: float = 0.0
    alone: bool = False  # only ours is measured
    slow: bool = False  # left out by --quick
    write: Callable[[Path, Workload], None] | None = None  # ours in another way


def big() -> Workload:
    return workloads.layered(200)


def thousand() -> Workload:
    return workloads.layered(20)


def edits() -> Workload:
    return workloads.layered(20, kind="edit")


def write_items(folder: Path, workload: Workload) -> None:
    folder.mkdir(parents=True)
    (folder / "runner.toml").touch()
    (folder / "pipeline.yaml").write_text(FOREACH % ", ".join(map(str, range(len(workload.jobs)))))


def write_preload(folder: Path, workload: Workload) -> None:
    write_ours(folder, workload, "runtimes: {main: {kind: host, preload: [numpy]}}\ndefaults: {runtime: main}")


ROWS = (
    Row("version", "`--version`", "version", goal=0.04),
    Row("one", "one trivial step, all in", "run", goal=0.08),
    Row("wide-100", "100 independent shell steps", "run", lambda: workloads.wide(100), 0.18),
    Row("layers-1000", "1,000 shell steps, 20 layers x 50, 3 inputs each", "run", thousand, 1.4),
    Row("commands-1000", "the same as `command` steps, no shell", "run", edits, 1.05, alone=True),
    Row("chain-200", "a chain of 200", "run", lambda: workloads.chain(200), 0.6),
    Row("again-1000", "1,000 layered, nothing to do", "again", thousand, 0.06),
    Row("again-10000", "10,000 layered, nothing to do", "again", big, 0.12, slow=True),
    Row("redo", "100 of 1,000 to redo", "redo", thousand, 0.25),
    Row("plan-1000", "plan of 1,000, files not seen before", "plan", thousand, 0.12),
    Row("plan-10000", "plan of 10,000, files not seen before", "plan", big, 0.8),
    Row("plan-items", "… of 10,000 items of one `foreach`", "plan", lambda: workloads.wide(10000), 0.35, alone=True, write=write_items),
    Row("plan-unchanged", "… of 10,000 steps in unchanged files, after a run", "replan", big, 0.25, alone=True, slow=True),
    Row("gib", "a step that writes 1 GiB, and one that reads its tail", "run", workloads.gib, 1.5),
    Row("gib-again", "… nothing to do", "again", workloads.gib, 0.06),
    Row("gib-touch", "… after `touch` of the file, bytes equal", "touch", workloads.gib, 0.9),
    Row("functions", "200 Python functions that import numpy", "run", lambda: workloads.functions(200), 0.6),
    Row("functions-preload", "… with `preload: [numpy]`", "run", lambda: workloads.functions(200), 0.6, alone=True, write=write_preload),
)  # fmt: skip


class Wrong(Exception):
    """A tool did not do what it was asked for."""


@dataclass
class Bench:
    """A session: the tools that are there, a folder to work in, and what was run so far."""

    tools: Sequence[Tool]
    place: Path
    times: int
    spawners: Mapping[str, list[str]]
    prepared: dict[tuple[str, str], tuple[Path, Sample]] = field(default_factory=dict)
    folders: int = 0

    def row(self, row: Row) -> dict[str, Any]:
        """Measure one row; return it as JSON."""
        workload = row.workload()
        samples: dict[str, list[Sample]] = {}
        notes: dict[str, str] = {}
        fit = [self._of(row, tool) for tool in self.tools if self._fits(row, tool, workload, notes)]
        for turn in range(self.times):
            for tool in fit:
                if tool.name in notes:
                    continue
                try:
                    sample = getattr(self, f"_{row.what}")(tool, workload, turn)
                    samples.setdefault(tool.name, []).append(sample)
                except (Wrong, RuntimeError) as error:
                    notes[tool.name] = str(error)
                    samples.pop(tool.name, None)
        limit = self.limit(row, workload)
        return {
            "name": row.name, "title": row.title, "goal": row.goal, "limit": limit, "notes": notes,
            "tools": {name: _figures(found, samples, limit) for name, found in samples.items()},
        }  # fmt: skip

    def _of(self, row: Row, tool: Tool) -> Tool:
        return replace(tool, write=row.write) if row.write and tool.name == "ours" else tool

    def _fits(self, row: Row, tool: Tool, workload: Workload, notes: dict[str, str]) -> bool:
        if row.alone and tool.name != "ours":
            return False
        if row.name in tool.lacks:
            notes[tool.name] = tool.lacks[row.name]
            return False
        asked = {"version": "version", "plan": "plan", "replan": "plan"}.get(row.what, "run")
        return asked in tool.commands and (row.what == "version" or tool.does(workload))

    def fresh(self, tool: Tool, workload: Workload) -> Path:
        self.folders += 1
        folder = self.place / f"{tool.name}-{workload.name}-{self.folders}"
        tool.write(folder, workload)
        return folder

    def ask(self, tool: Tool, asked: str, folder: Path) -> Sample:
        return measure.measure(tool.commands[asked], folder, self.place / "log")

    def check(self, tool: Tool, folder: Path, workload: Workload, version: int = 0) -> None:
        found, wanted = tool.digests(folder, workload), workload.digests(version)
        if wrong := [name for name, digest in wanted.items() if found.get(name) != digest]:
            raise Wrong(f"{len(wrong)} of {len(wanted)} outputs are wrong, {wrong[0]} first")

    # what is done

    def _version(self, tool: Tool, workload: Workload, turn: int) -> Sample:
        return self.ask(tool, "version", self.place)

    def _run(self, tool: Tool, workload: Workload, turn: int) -> Sample:
        folder = self.fresh(tool, workload)
        sample = self.ask(tool, "run", folder)
        self.check(tool, folder, workload)
        shutil.rmtree(folder)
        return sample

    def prepare(self, tool: Tool, workload: Workload) -> Path:
        """Return a folder in which all has been done once, which no row but those that say so changes."""
        key = tool.name, workload.name
        if key not in self.prepared:
            folder = self.fresh(tool, workload)
            first = self.ask(tool, "run", folder)
            self.check(tool, folder, workload)
            self.ask(tool, "run", folder)
            self.prepared[key] = folder, first
        return self.prepared[key][0]

    def _again(self, tool: Tool, workload: Workload, turn: int) -> Sample:
        folder = self.prepare(tool, workload)
        before = _times(folder, workload)
        sample = self.ask(tool, "run", folder)
        if _times(folder, workload) != before:
            raise Wrong("it ran steps again")
        if tool.name == "ours" and not (self.place / "log").read_text().startswith("nothing to do"):
            raise Wrong("it did something")
        self.check(tool, folder, workload)
        return sample

    def _redo(self, tool: Tool, workload: Workload, turn: int) -> Sample:
        folder = self.prepare(tool, workload)
        version = turn + 1
        for name, text in workload.changed(version).items():
            (folder / name).write_text(text)
        sample = self.ask(tool, "run", folder)
        self.check(tool, folder, workload, version)
        if turn == self.times - 1:
            del self.prepared[tool.name, workload.name]
        return sample

    def _touch(self, tool: Tool, workload: Workload, turn: int) -> Sample:
        folder = self.prepare(tool, workload)
        name = next(iter(workload.jobs))
        store = f"{folder}/.runner/objects/sha256/{workload.digests()[name][:2]}/{workload.digests()[name]}"
        os.utime(store if tool.name == "ours" else folder / "out" / name)
        sample = self.ask(tool, "run", folder)
        self.check(tool, folder, workload)
        return sample

    def _plan(self, tool: Tool, workload: Workload, turn: int) -> Sample:
        folder = self.fresh(tool, workload)
        sample = self.ask(tool, "plan", folder)
        if any((folder / "out" / name).exists() for name in workload.jobs) or (folder / ".runner/runs").exists():
            raise Wrong("its plan ran something")
        shutil.rmtree(folder)
        return sample

    def _replan(self, tool: Tool, workload: Workload, turn: int) -> Sample:
        return self.ask(tool, "plan", self.prepare(tool, workload))

    # the limit of a row

    def limit(self, row: Row, workload: Workload) -> float:
        """Return the seconds that the machine takes for the same commands or looks and nothing else; 0: none is told."""
        match row.what:
            case "version":
                return measure.interpreter_seconds(self.place)
            case "run" if any(job.kind == "function" for job in workload.jobs.values()):
                return statistics.median(self._fork_limit(workload) for _ in range(self.times))
            case "run":
                return statistics.median(self._spawn_limit(workload) for _ in range(self.times))
            case "again":
                return self._look_limit(workload)
        return 0.0

    def _bare(self, workload: Workload, name: str) -> Path:
        self.folders += 1
        folder = self.place / f"limit-{self.folders}"
        (folder / "out").mkdir(parents=True)
        for file, text in {**workload.files, "jobs.json": table(workload) if name else ""}.items():
            (folder / file).write_text(text)
        return folder

    def _spawn_limit(self, workload: Workload) -> float:
        """The same processes by posix_spawn, as many at once, level by level."""
        folder = self._bare(workload, "")
        shell = all(job.kind != "edit" for job in workload.jobs.values())
        lines = []
        for level in workload.levels:
            for job in level:
                inputs, output = [*(f"out/{n}" for n in job.steps), *job.files], f"out/{job.name}"
                lines.append(job.script(inputs, output) if shell else "\t".join(job.argv(inputs, output)))
            lines.append("-")
        program = self.spawners.get("c") or self.spawners["python"]
        seconds = measure.spawn(program, lines, shell, WORKERS, folder)
        shutil.rmtree(folder)
        return seconds

    def _fork_limit(self, workload: Workload) -> float:
        """A fork for each function, from an interpreter that has imported numpy."""
        folder = self._bare(workload, "jobs")
        done = measure.output([sys.executable, "-c", FORKS], folder)
        shutil.rmtree(folder)
        return float(done)

    def _look_limit(self, workload: Workload) -> float:
        """One `stat` for each output."""
        folder = self._bare(workload, "")
        paths = [f"{folder}/out/{name}" for name in workload.jobs]
        for path in paths:
            open(path, "w").close()
        started = time.perf_counter()
        for path in paths:
            os.stat(path)
        seconds = time.perf_counter() - started
        shutil.rmtree(folder)
        return seconds


def _times(folder: Path, workload: Workload) -> list[int]:
    return [os.stat(p).st_mtime_ns for n in workload.jobs if os.path.exists(p := f"{folder}/out/{n}")]


def _figures(found: Sequence[Sample], samples: Mapping[str, Sequence[Sample]], limit: float) -> dict[str, Any]:
    """Return the medians of a tool, and of its turns against those of ninja, of ours and the limit."""

    def ratio(of: Iterable[float]) -> float:
        return round(statistics.median(a.seconds / b for a, b in zip(found, of, strict=True)), 3)

    against = {n: ratio(s.seconds for s in samples[n]) for n in ("ninja", "ours") if n in samples}
    if limit:
        against["limit"] = ratio([limit] * len(found))
    figures = measure.middle(found)
    return {
        "seconds": round(figures.seconds, 4), "cpu": round(figures.cpu, 4), "memory": round(figures.memory, 1),
        "samples": [round(s.seconds, 4) for s in found], "cpu_samples": [round(s.cpu, 4) for s in found], "against": against,
    }  # fmt: skip
