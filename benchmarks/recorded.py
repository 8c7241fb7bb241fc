"""Run recorded scientific workflows through the runner, and prove every byte from the recorded graph alone.

python -m benchmarks.recorded FOLDER               all workflows of a folder, as a Markdown table
python -m benchmarks.recorded FOLDER --only NAME   one of them
python -m benchmarks.recorded FOLDER --out DIR     keep the projects: DIR/<name>/pipeline.yaml

In go WfCommons instances (JSON, WfFormat 1.5), out comes one row each; the exit code is 1 if anything is not right.
A task becomes a step that compares the bytes of its inputs with what the graph demands and writes its outputs; an
edge is a file that one task writes and another reads. Four requests follow: all steps, the same again, one step and
all after it, the same with another parameter. After each, every file of the workflow must have the bytes that a
full run would give it, whether it was made, reused or left alone.

A file that two tasks write, or tasks that wait for each other's files (one that reads what it writes is the shortest
such ring), cannot be told from the graph: which bytes would a reader find? Such a workflow is refused, by name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from runner.errors import StoreDamaged
from runner.store.local import LocalStore

RUNNER = shutil.which("runner", path=os.path.dirname(sys.executable)) or "runner"
SALT = "sea"  # what the parameter becomes in the last run

# Copied into each project. A `kind: python` step is forked from a warm parent: of the ways to check and write the same
# bytes it took the least time per step, before `python -I -S` and `sh`, which start an interpreter and a few tools each.
STEP = '''\
"""One recorded task: its inputs must have the bytes that the graph demands; each output tells what it was made of."""

import hashlib
import json
import os


def run(task, inputs, outputs, **more):
    with open(os.environ["RUNNER_CONTEXT"]) as file:
        paths = json.load(file)["inputs"]
    found = []
    for name, id in inputs.items():
        with open(paths[name], "rb") as file:
            found.append([id, hashlib.sha256(file.read()).hexdigest()])
    with open(paths["demand"]) as file:
        demanded = json.load(file)
    if found != demanded:
        wrong = ", ".join(id for id, digest in found if [id, digest] not in demanded)
        raise SystemExit(f"{task} found other bytes than the graph demands: {wrong or found}")
    for name, id in outputs.items():
        with open(name, "w") as file:
            file.write(json.dumps({"task": task, "file": id, "inputs": found, **more}) + "\\n")
'''


class Unfit(Exception):
    """A workflow whose bytes do not follow from its graph."""


@dataclass(frozen=True)
class Task:
    id: str
    inputs: tuple[str, ...]  # ids of files
    outputs: tuple[str, ...]
    parents: frozenset[str]  # as declared
    children: frozenset[str]


@dataclass(frozen=True)
class Workflow:
    """A recorded graph. `tasks` are in topological order; `writer` tells for each file which task writes it."""

    name: str
    tasks: Mapping[str, Task]
    writer: Mapping[str, str]
    sizes: Mapping[str, int]

    def declared(self) -> set[tuple[str, str]]:
        """Return the edges (parent, child) that the record states, whatever its files say."""
        return {(parent, t.id) for t in self.tasks.values() for parent in t.parents}

    def after(self, task: str) -> set[str]:
        """Return a task and all that read from it, near or far."""
        found = {task}
        for name, other in self.tasks.items():  # in topological order
            if not found.isdisjoint(other.parents):
                found.add(name)
        return found

    @cached_property
    def middle(self) -> str:
        """The task with parents that has nearest to half of all tasks after it, itself included."""
        inner = [t.id for t in self.tasks.values() if t.parents] or list(self.tasks)
        return min(inner, key=lambda task: abs(2 * len(self.after(task)) - len(self.tasks)))


def load(path: Path) -> Workflow:
    """Return the workflow of a WfFormat file; raises Unfit where its bytes would not follow from its graph."""
    document = json.loads(path.read_text())
    if document.get("schemaVersion") != "1.5":
        raise Unfit(f"its schemaVersion is {document.get('schemaVersion')}, not 1.5")
    specification = document["workflow"]["specification"]
    tasks: dict[str, Task] = {}
    writer: dict[str, str] = {}
    for body in specification["tasks"]:
        task = Task(
            body["id"],
            tuple(dict.fromkeys(body.get("inputFiles", ()))),
            tuple(dict.fromkeys(body.get("outputFiles", ()))),
            frozenset(body["parents"]),
            frozenset(body["children"]),
        )
        if task.id in tasks:
            raise Unfit(f"two tasks have the id {task.id}")
        if not task.outputs:
            raise Unfit(f"{task.id} writes no file, so that no bytes could tell what it did")
        tasks[task.id] = task
        for file in task.outputs:
            if file in writer:
                raise Unfit(f"{writer[file]} and {task.id} both write {file}")
            writer[file] = task.id
    if not tasks:
        raise Unfit("it has no tasks")
    try:
        before = {t.id: {writer[f] for f in t.inputs if f in writer} for t in tasks.values()}
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise Unfit(f"tasks wait for each other's files: {' -> '.join(error.args[1])}") from None
    sizes = {f["id"]: f["sizeInBytes"] for f in specification.get("files", ())}
    return Workflow(path.stem, {name: tasks[name] for name in order}, writer, sizes)


def demanded(workflow: Workflow, salt: str) -> dict[str, bytes]:
    """Return the bytes of every file, from the graph alone; `salt` goes into the middle task."""
    found: dict[str, bytes] = {}
    for task in workflow.tasks.values():
        for file in task.inputs:
            if file not in workflow.writer:
                found[file] = json.dumps({"file": file, "sizeInBytes": workflow.sizes.get(file)}).encode()
        made = {"inputs": digests(task, found), **({"salt": salt} if task.id == workflow.middle else {})}
        for file in task.outputs:
            found[file] = json.dumps({"task": task.id, "file": file, **made}).encode() + b"\n"
    return found


def digests(task: Task, files: Mapping[str, bytes]) -> list[list[str]]:
    return [[file, hashlib.sha256(files[file]).hexdigest()] for file in task.inputs]


# --- the project --------------------------------------------------------------------------------------------------


def names(letter: str, ids: Iterable[str]) -> dict[str, str]:
    """Return a name of the language for each id. The number makes it the only one, the rest lets it be recognized."""
    return {id: f"{letter}{n}_{re.sub(r'[^A-Za-z0-9]+', '_', id)[-40:]}" for n, id in enumerate(ids)}


def quoted(text: str) -> str:
    """Return a YAML scalar that is this text and nothing else: no expression, no other type."""
    return '"' + re.sub(r'[^ -~]|["\\]', lambda c: f"\\U{ord(c[0]):08x}", text.replace("$(", "$$(")) + '"'


@dataclass(frozen=True)
class Project:
    """A workflow as a project in a folder, with the names that its tasks and files have there."""

    workflow: Workflow
    folder: Path

    @cached_property
    def steps(self) -> dict[str, str]:
        return names("t", self.workflow.tasks)

    @cached_property
    def files(self) -> dict[str, str]:
        return names("f", dict.fromkeys(f for t in self.workflow.tasks.values() for f in (*t.inputs, *t.outputs)))

    def write(self) -> None:
        selected = f"select: [{self.steps[self.workflow.middle]}+]"
        request = f"apiVersion: runner/v1\nkind: Run\npipeline: ../pipeline.yaml\n{selected}\nmode: full\n"
        for place, text in {
            "runner.toml": "",
            "task.py": STEP,
            "pipeline.yaml": "\n".join(self.pipeline()) + "\n",
            "runs/selective.yaml": request,
            "runs/salted.yaml": f"{request}params: {{salt: {SALT}}}\n",
        }.items():
            (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / place).write_text(text)
        (self.folder / "inputs").mkdir()
        for file, content in demanded(self.workflow, "").items():
            if file not in self.workflow.writer:
                (self.folder / "inputs" / self.files[file]).write_bytes(content)
        self.demand("")

    def demand(self, salt: str) -> None:
        """Write what each step must find. It is an input outside the fingerprint: it checks, and decides nothing."""
        files = demanded(self.workflow, salt)
        (self.folder / "demand").mkdir(exist_ok=True)
        for task in self.workflow.tasks.values():
            (self.folder / "demand" / self.steps[task.id]).write_text(json.dumps(digests(task, files)))

    def source(self, file: str) -> str:
        """Return where a file comes from: a step, or the folder of what no task writes."""
        if file not in self.workflow.writer:
            return f"inputs/{self.files[file]}"
        return f"$(steps.{self.steps[self.workflow.writer[file]]}.outputs.{self.files[file]})"

    def pipeline(self) -> Iterator[str]:
        """Yield the lines of the pipeline; its edges are the references in `inputs`, and nothing else."""
        workflow, steps, files = self.workflow, self.steps, self.files
        yield from ("apiVersion: runner/v1", "kind: Pipeline", "name: recorded")
        yield f"description: {quoted(workflow.name)}"
        yield from ("params: {salt: {type: string, default: ''}}", "defaults: {cache: {ignore: [demand]}}", "steps:")
        for task in workflow.tasks.values():
            yield from (f"  {steps[task.id]}:", "    kind: python", "    function: task:run", "    inputs:")
            yield f"      demand: demand/{steps[task.id]}"
            for file in task.inputs:
                yield f"      {files[file]}: {self.source(file)}"
            yield from ("    args:", f"      task: {quoted(task.id)}")
            for key, ids in (("inputs", task.inputs), ("outputs", task.outputs)):
                yield f"      {key}: {{{', '.join(f'{files[file]}: {quoted(file)}' for file in ids)}}}"
            if task.id == workflow.middle:
                yield "      salt: $(params.salt)"
            yield f"    outputs: {{{', '.join(f'{files[file]}: {{type: file}}' for file in task.outputs)}}}"


# --- the runs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What is told of one workflow; `wrong` is empty where all is right."""

    name: str
    steps: int
    edges: int
    selected: int
    seconds: tuple[float, ...]  # of the full run, the same again, the selective run, the one with another parameter
    wrong: tuple[str, ...]


def check(workflow: Workflow, folder: Path) -> Row:
    """Write a workflow as a project, run it in the four ways, and compare graph, decisions and bytes."""
    project = Project(workflow, folder)
    project.write()
    selected = workflow.after(workflow.middle)
    seconds: list[float] = []
    wrong = list(wrong_edges(project))

    def row() -> Row:
        size = len(workflow.tasks), len(workflow.declared()), len(selected)
        return Row(workflow.name, *size, tuple(seconds), tuple(wrong))

    if wrong:
        return row()  # what comes after what is not agreed on
    reused = {parent for name in selected for parent in workflow.tasks[name].parents} - selected
    whole = dict.fromkeys(project.steps.values(), "succeeded")
    part = {
        step: "succeeded" if task in selected else "reused" if task in reused else "not_selected"
        for task, step in project.steps.items()
    }
    outputs: dict[str, str] = {}  # file -> digest of what its step last left
    for request, salt, statuses in (
        ("pipeline.yaml", "", whole),
        ("pipeline.yaml", "", whole),
        ("runs/selective.yaml", "", part),
        ("runs/salted.yaml", SALT, part),
    ):
        if salt:
            project.demand(salt)
        done, took = run("apply", request, folder=folder)
        seconds.append(took)
        title = f"run {len(seconds)} ({request})"
        if done.returncode:
            wrong.append(f"{title} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
            break
        if len(seconds) == 2 and not done.stdout.startswith("nothing to do: "):
            wrong.append(f"{title} did something: {done.stdout.splitlines()[0]}")
        wrong += [f"{title}: {text}" for text in wrong_results(project, salt, statuses, outputs)]
    return row()


def run(*arguments: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run the real program with nothing of this shell's settings; return how it ended, and its seconds."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RUNNER_") and k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    done = subprocess.run([RUNNER, *arguments], cwd=folder, env=env, capture_output=True, text=True)
    return done, time.perf_counter() - started


def wrong_edges(project: Project) -> Iterator[str]:
    """Yield how the graph that the runner infers differs from the parents and children that are declared."""
    done, _ = run("graph", "pipeline.yaml", "-o", "json", folder=project.folder)
    if done.returncode:
        yield f"runner graph ended with {done.returncode}: {done.stderr.strip()[-400:]}"
        return
    inferred = {(edge["from"], edge["to"], edge["why"]) for edge in json.loads(done.stdout)["edges"]}
    tasks, steps = project.workflow.tasks, project.steps
    for who, edges in (
        ("parents", project.workflow.declared()),
        ("children", {(t.id, child) for t in tasks.values() for child in t.children}),
    ):
        wanted = {(steps.get(a, a), steps.get(b, b), "data") for a, b in edges}
        yield from (
            f"the declared {who} have an edge {a} -> {b} that no file makes" for a, b, _ in sorted(wanted - inferred)
        )
        yield from (f"the declared {who} lack the edge {a} -> {b} ({why})" for a, b, why in sorted(inferred - wanted))


def wrong_results(project: Project, salt: str, statuses: Mapping[str, str], outputs: dict[str, str]) -> Iterator[str]:
    """Yield what the newest run decided or left otherwise than the graph demands; `outputs` is brought up to date."""
    store = LocalStore(f"{project.folder}/.runner", create=False)
    record = store.run(store.runs(limit=1)[0].run)
    assert record is not None  # it was listed
    yield from (
        f"step {step} ended {record.statuses.get(step)}, not {status}"
        for step, status in statuses.items()
        if record.statuses.get(step) != status
    )
    for ended in record.steps.values():
        outputs.update((name, output["digest"]) for name, output in ended.outputs.items())
    files = demanded(project.workflow, salt)
    for file, writer in project.workflow.writer.items():
        name = project.files[file]
        try:
            if store.read(outputs[name]) != files[file]:
                yield f"{name} of {project.steps[writer]} has other bytes than the graph demands"
        except KeyError:
            yield f"{name} of {project.steps[writer]} was never made"
        except StoreDamaged as error:
            yield f"{name} of {project.steps[writer]}: {error.text}"


# --- the table ----------------------------------------------------------------------------------------------------


def table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| workflow | steps | edges | full run | nothing to do | one step and all after it | with another parameter | edges and bytes right |"
    yield "|---|--:|--:|--:|--:|--:|--:|---|"
    for row in rows:
        full, again, selective, salted = [f"{s:.2f} s" for s in row.seconds] + ["-"] * (4 - len(row.seconds))
        cells = [row.name, str(row.steps), str(row.edges), full, again, f"{row.selected}: {selective}", salted]
        yield "| " + " | ".join([*cells, "no" if row.wrong else "yes"]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the *.json files are")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the projects here")
    parser.add_argument("--only", metavar="NAME", help="one workflow: the name of its file without .json")
    options = parser.parse_args()
    paths = sorted(options.folder.glob(f"{options.only or '*'}.json"))
    if not paths:
        parser.error(f"{options.folder} has no workflow {options.only or ''}".rstrip())
    if there := [name for path in paths if options.out and (name := options.out / path.stem).exists()]:
        parser.error(f"{there[0]} is there already; its store knows the results")
    rows, refused = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for path in paths:
            try:
                rows.append(check(load(path), (options.out or Path(scratch)) / path.stem))
            except Unfit as error:
                refused.append(f"{path.stem} is refused: {error}")
    print("\n".join(table(rows)))
    wrong = [f"{row.name}: {text}" for row in rows for text in row.wrong] + refused
    if wrong:
        print("\n" + "\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
