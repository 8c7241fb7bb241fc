"""Run recorded scientific workflows with steps that only sleep: how near to the shortest possible time do they end?

python -m benchmarks.sleeping FOLDER               all workflows of a folder, as a Markdown table
python -m benchmarks.sleeping FOLDER --only NAME   one of them
python -m benchmarks.sleeping FOLDER --workers 8   so many steps at once; sleeping takes no processor
python -m benchmarks.sleeping FOLDER --known       a second run of each, which knows what its steps took

Each step sleeps a thousandth of the time that its task took when it was recorded, and tells when it began and ended.
No schedule is shorter than the longest path, nor than all work shared by the workers. A run must end within that, or
within what a greedy schedule of the same times takes, and 20 ms for each step of the path; and no more steps than
workers may be alive at any time, by what the steps themselves have told.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.store.local import LocalStore

from .recorded import Project, Unfit, Workflow, load, quoted, run

FACTOR = 1000
OVERHEAD = 0.02  # seconds that a step of the path may cost
START = 0.3  # seconds that planning and ending a run may cost


@dataclass(frozen=True)
class Row:
    name: str
    steps: int
    path: int  # steps on the longest path
    least: float  # seconds that no schedule goes below
    greedy: float  # seconds of starting whatever is ready
    seconds: float  # from the first begin to the last end, as the steps tell
    whole: float  # seconds of the whole command
    most: int  # steps that were alive at once

    def wrong(self, workers: int) -> list[str]:
        limit = max(self.least, self.greedy) + OVERHEAD * self.path + START
        late = [f"{self.name} took {self.whole:.2f} s, more than {limit:.2f} s"] if self.whole > limit else []
        return late + ([f"{self.name} had {self.most} steps at once"] if self.most > workers else [])


def times(path: Path) -> dict[str, float]:
    """Return the seconds that each task sleeps."""
    tasks = json.loads(path.read_text())["workflow"]["execution"]["tasks"]
    return {task["id"]: task["runtimeInSeconds"] / FACTOR for task in tasks}


def write(workflow: Workflow, seconds: Mapping[str, float], folder: Path, workers: int) -> Project:
    project = Project(workflow, folder)
    lines = ["apiVersion: runner/v1", "kind: Pipeline", "name: sleeping", "steps:"]
    for task in workflow.tasks.values():
        inputs = ", ".join(f"{project.files[f]}: {project.source(f)}" for f in task.inputs if f in workflow.writer)
        names = [project.files[file] for file in task.outputs]
        lines += [f"  {project.steps[task.id]}:", "    kind: shell", "    shell: [sh, -eu]"]
        lines += [f"    description: {quoted(task.id)}", *([f"    inputs: {{{inputs}}}"] if inputs else [])]
        lines += [
            "    script: |",
            f"      {{ date +%s.%N; sleep {seconds[task.id]:.4f}; date +%s.%N; }} > times",
            f"      for file in {' '.join(names)}; do echo $file > $file; done",
            f"    outputs: {{times: {{type: file}}, {', '.join(f'{name}: {{type: file}}' for name in names)}}}",
        ]
    request = f"apiVersion: runner/v1\nkind: Run\npipeline: pipeline.yaml\nmode: full\nconcurrency: {{workers: {workers}, cpu: {workers}}}\n"
    folder.mkdir(parents=True)
    for place, text in {"runner.toml": "", "pipeline.yaml": "\n".join(lines) + "\n", "run.yaml": request}.items():
        (folder / place).write_text(text)
    return project


def longest(workflow: Workflow, seconds: Mapping[str, float]) -> tuple[float, int]:
    """Return the seconds of the longest path, and its steps."""
    ends: dict[str, tuple[float, int]] = {}
    for name in workflow.tasks:
        before = max((ends[p] for p in parents(workflow, name)), default=(0.0, 0))
        ends[name] = before[0] + seconds[name], before[1] + 1
    return max(ends.values())


def parents(workflow: Workflow, name: str) -> set[str]:
    return {workflow.writer[file] for file in workflow.tasks[name].inputs if file in workflow.writer}


def greedy(workflow: Workflow, seconds: Mapping[str, float], workers: int) -> float:
    """Return the seconds of a schedule that starts, in the order of the file, whatever is ready."""
    waits = {name: parents(workflow, name) for name in workflow.tasks}
    now, running = 0.0, list[tuple[float, str]]()
    while waits or running:
        for name in [n for n, before in waits.items() if not before][: workers - len(running)]:
            del waits[name]
            heapq.heappush(running, (now + seconds[name], name))
        now, done = heapq.heappop(running)
        for before in waits.values():
            before.discard(done)
    return now


def measured(project: Project) -> list[tuple[float, float]]:
    """Return when each step began and ended, as it has told."""
    store = LocalStore(f"{project.folder}/.runner", create=False)
    record = store.run(store.runs(limit=1)[0].run)
    assert record is not None  # it was listed
    spans = []
    for ended in record.steps.values():
        begin, end = map(float, store.read(ended.outputs["times"]["digest"]).split())
        spans.append((begin, end))
    return spans


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    now = most = 0
    for _, change in sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans]):
        now += change
        most = max(most, now)
    return most


def check(path: Path, folder: Path, workers: int, known: bool) -> Row:
    workflow, seconds = load(path), times(path)
    project = write(workflow, seconds, folder, workers)
    for _ in range(1 + known):
        done, whole = run("apply", "run.yaml", "--again", "--workers", str(workers), folder=folder)
    if done.returncode:
        raise RuntimeError(f"{path.stem} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    spans = measured(project)
    length, steps = longest(workflow, seconds)
    return Row(
        workflow.name, len(workflow.tasks), steps, max(length, sum(seconds.values()) / workers), greedy(workflow, seconds, workers),
        max(end for _, end in spans) - min(begin for begin, _ in spans), whole, most_at_once(spans),
    )  # fmt: skip


def table(rows: Sequence[Row], workers: int) -> Iterator[str]:
    yield f"| workflow, {workers} workers | steps | on the path | shortest possible | greedy | first begin to last end | whole command | over, per step of the path | at once |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for r in rows:
        over = (r.whole - max(r.least, r.greedy)) / r.path * 1000
        yield (
            f"| {r.name} | {r.steps} | {r.path} | {r.least:.2f} s | {r.greedy:.2f} s | {r.seconds:.2f} s "
            f"| {r.whole:.2f} s | {over:.0f} ms | {r.most} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the *.json files are")
    parser.add_argument("--only", metavar="NAME", help="one workflow: the name of its file without .json")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--known", action="store_true", help="measure a second run, which knows what its steps took")
    options = parser.parse_args()
    paths = sorted(options.folder.glob(f"{options.only or '*'}.json"))
    if not paths:
        parser.error(f"{options.folder} has no workflow {options.only or ''}".rstrip())
    rows, refused = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for path in paths:
            try:
                rows.append(check(path, Path(scratch) / path.stem, options.workers, options.known))
            except Unfit as error:
                refused.append(f"{path.stem} is refused: {error}")
    print("\n".join(table(rows, options.workers)))
    wrong = [text for row in rows for text in row.wrong(options.workers)] + refused
    if wrong:
        print("\n" + "\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
