"""What the tests share: pipelines from text, files in a dict, an executor without processes, the real program."""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

from runner import document, engine, select
from runner.case import Case, Today
from runner.causes import changed_steps
from runner.compiler import compile_pipeline
from runner.executors.calls import Call, Outcome
from runner.expand import expand
from runner.fingerprint import World
from runner.graph import Graph, graph_of
from runner.language import check_document
from runner.params import resolve_params
from runner.pipeline import Pipeline, RunRequest
from runner.plan import Plan, make_plan, to_json
from runner.planschema import plan_schema
from runner.record import Event, RunRecord
from runner.reference import choose
from runner.request import compile_request
from runner.store.memory import MemoryStore
from runner.values import alike

PLAN_SCHEMA = jsonschema_rs.validator_for(plan_schema())

# --- pure: no file, no process ------------------------------------------------------------------------------------


class Files:
    """The project's files as a dict from location to content."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        self.files = dict(files or {})

    def locate(self, path: str, base: str) -> str:
        location = os.path.normpath(os.path.join(base, path))
        if path.startswith("/") or location.startswith(".."):
            raise ValueError(f"{path} leads out of the project")
        return location

    def kind(self, location: str) -> str | None:
        if location in self.files:
            return "file"
        return "dir" if any(place.startswith(location + "/") for place in self.files) else None

    def read(self, location: str) -> bytes:
        return self.files[location].encode()

    def expand(self, pattern: str, base: str) -> list[str]:
        location = self.locate(pattern, base)
        return sorted(
            f for f in self.files if f == location or f.startswith(location + "/") or fnmatch.fnmatch(f, location)
        )


def sha(text: str | bytes) -> str:
    return "sha256:" + hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def pipeline(text: str, files: Files | None = None) -> Pipeline:
    """Compile the steps (and more) of a pipeline; the head is added where it is missing."""
    text = textwrap.dedent(text)
    if "apiVersion" not in text:
        text = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n" + text
    found = document.parse(text.encode(), "p.yaml")
    check_document(found, "Pipeline")
    return compile_pipeline(found, files or Files(), "p.yaml")


def chain(drawing: str) -> dict[str, tuple[str, ...]]:
    """Return what each step comes after, from a drawing: `a > b > d; a > c > d`."""
    before: dict[str, list[str]] = {}
    for path in drawing.split(";"):
        names = [name.strip() for name in path.split(">")]
        for name in names:
            before.setdefault(name, [])
        for first, second in itertools.pairwise(names):
            if first not in before[second]:
                before[second].append(first)
    return {name: tuple(priors) for name, priors in before.items()}


def drawn(drawing: str, **extra: str) -> str:
    """Return the YAML of a pipeline whose steps read the outputs of those before them, as drawn."""
    out = ["steps:"]
    for name, priors in chain(drawing).items():
        command = ", ".join(
            ["make", name, *(f"$(steps.{p}.outputs.o)" for p in priors), *filter(None, [extra.get(name)])]
        )
        out += [
            f"  {name}:",
            "    kind: command",
            f"    command: [{command}]",
            "    outputs: {o: {type: file, path: o.txt}}",
        ]
    return "\n".join(out) + "\n"


class FakeExecutor:
    """Makes each file output a text that tells the step's arguments and the digests of its inputs."""

    def __init__(self, store: MemoryStore, fails: Callable[[Call], str] = lambda call: "", blind: bool = False) -> None:
        self.store, self.fails, self.blind = store, fails, blind
        self.calls: list[Call] = []
        self.started: list[str] = []

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        self.started.append(call.step)

    def wait(self, seconds: float | None) -> list[Outcome]:
        if not self.calls:
            return []
        call = self.calls.pop(0)
        if cause := self.fails(call):
            return [Outcome(call.step, call.attempt, cause, f"it failed by {cause}", exit_code=1)]
        made = {}
        for output in call.outputs:
            content = "|".join(
                [
                    *call.argv,
                    *sorted(link[2] for link in call.links),
                    *sorted(c[2] for c in call.copies if not self.blind),
                    output["name"],
                ]
            ).encode()
            made[output["name"]] = {"type": output["type"], "digest": self.store.put(content), "size": len(content)}
        return [Outcome(call.step, call.attempt, outputs=made, exit_code=0)]

    def stop(self, step: str | None, kill: bool) -> None:
        self.calls.clear()

    def close(self) -> None:
        pass


@dataclass
class Lab:
    """A pipeline with its files and its past, in memory."""

    text: str
    files: Files = field(default_factory=Files)
    store: MemoryStore = field(default_factory=MemoryStore)
    fails: Callable[[Call], str] = lambda call: ""
    blind: bool = False  # whether code changes nothing in the outputs

    def plan(self, request: str = "", now: float = 2e9) -> Plan:
        """Plan a request given as the lines of a run file."""
        compiled = expand(pipeline(self.text, self.files))
        text = "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n" + textwrap.dedent(request)
        found = document.parse(text.encode(), "run.yaml")
        check_document(found, "Run")
        asked: RunRequest = compile_request(found, Files({**self.files.files, "p.yaml": ""}), "run.yaml")
        graph = graph_of(compiled.steps, asked.assume)

        def values(record: RunRecord | None) -> tuple[dict[str, Any], dict[str, str]]:
            return resolve_params(compiled, asked, found, self.files, record.started.params if record else None)

        def changed(record: RunRecord, kind: str) -> set[str]:
            params, _ = values(record)
            return changed_steps(record, kind, Today(compiled, params, self.world(compiled, params), self.store))

        def same(record: RunRecord, name: str) -> bool:
            return alike(values(record)[0][name], record.started.params.get(name))

        selection, reference = choose(asked, lambda record: (compiled, graph), self.store, changed, same, now)
        params, sources = values(reference.record if reference else None)
        today = Today(compiled, params, self.world(compiled, params), self.store)
        made = make_plan(Case(today, graph, asked, sources, selection, reference, now))
        PLAN_SCHEMA.validate(to_json(made))
        return made

    def world(self, compiled: Pipeline, params: Mapping[str, Any]) -> World:
        places = {params[n] for n, p in compiled.params.items() if p.type.name == "file"}
        places |= {t.location for s in compiled.steps.values() for t in s.files}
        code = {c: (sha(self.files.files[c]), False) for s in compiled.steps.values() for c in s.code}
        return World({p: sha(self.files.files[p]) for p in places}, code, sha("host"), lambda artifact: None)

    def apply(self, request: str = "") -> RunRecord:
        """Plan and run; the plan must need no decision."""
        made = self.plan(request)
        made.refuse_findings()
        return self.run(made)

    def run(self, made: Plan) -> RunRecord:
        self.events: list[Event] = []
        self.executor = FakeExecutor(self.store, self.fails, self.blind)
        workshop = engine.Workshop(root="/project", workers=2, cpu=2, memory=None)
        for event in engine.execute(made, self.store, self.executor, workshop):
            self.events.append(event)
        record = self.store.run(list(self.store.journals)[-1])
        assert record is not None
        return record

    def decisions(self, request: str = "") -> dict[str, str]:
        return {name: decision.name for name, decision in self.plan(request).decisions.items()}


def selected(text: str, drawing: str, **more: Any) -> str:
    """Return the steps that a selector means on a drawn graph, joined by blanks."""
    compiled = pipeline(drawn(drawing))
    graph = Graph({n: s.before for n, s in compiled.steps.items()})
    facts = select.Facts(more.get("having_status", lambda s: set()), more.get("changed", lambda s: set()))
    return " ".join(graph.sorted(select.expand(text, compiled, graph, facts)))


# --- real: files and processes ------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What a command printed, with run ids, times and digests replaced by words, and its exit code."""

    code: int
    out: str
    err: str
    raw: str

    def __str__(self) -> str:
        return f"{self.out}{self.err}[exit {self.code}]"


class Project:
    """A project in a folder, and the real program in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ids: dict[str, str] = {}
        (root / "runner.toml").touch()
        # Where steps leave signs for a test: they are sealed from the project.
        self.beside = root.with_name(f"{root.name}-beside")
        self.beside.mkdir(exist_ok=True)

    def write(self, **files: str) -> None:
        """Write files; `__` in a name stands for `/`, a last `_` part for the ending: a__b_yaml."""
        for name, text in files.items():
            path = self.root / re.sub(r"_(yaml|py|csv|txt|toml|sh)$", r".\1", name.replace("__", "/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"))

    def pipeline(self, body: str, name: str = "p") -> None:
        self.write(
            **{
                f"{name}_yaml": f"apiVersion: runner/v1\nkind: Pipeline\nname: {name}\n"
                + textwrap.dedent(body).lstrip("\n")
            }
        )

    def request(self, body: str = "", name: str = "run", of: str = "p") -> None:
        self.write(
            **{
                f"{name}_yaml": f"apiVersion: runner/v1\nkind: Run\npipeline: {of}.yaml\n"
                + textwrap.dedent(body).lstrip("\n")
            }
        )

    def start(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("RUNNER_")} | more.pop("env", {})
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *args], cwd=more.pop("cwd", self.root), env={**env, "PYTHONPATH": str(Path(engine.__file__).parent.parent)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
        )  # fmt: skip

    def runner(self, *args: str, **more: Any) -> Answer:
        process = self.start(*args, **more)
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "Traceback (most recent call last)" not in err, err
        return Answer(process.returncode, self.plain(out), self.plain(err), out)

    def plain(self, text: str) -> str:
        """Replace what differs from run to run: run ids by R1, R2 …, times, digests, this folder."""

        def name(found: re.Match[str]) -> str:
            return self.ids.setdefault(found[0], f"R{len(self.ids) + 1}")

        text = text.replace(str(self.root), "ROOT")
        text = re.sub(r"\b\d{8}-\d{4}-[a-z2-9]{4}\b", name, text)
        text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:DIGEST", text)
        text = re.sub(r"\b[0-9a-f]{8}\b", "DIGEST", text)
        text = re.sub(r"\bc[0-9a-f]{8}\b", "CAUSE", text)
        # Estimates and durations: they stand at the end of a line or in brackets.
        text = re.sub(
            r",? *\(?~\d+[\dhm.s ]*(was estimated\)?|instead of ~[\dhm.s]+(, \d+ never ran)?|, \d+ never ran|\(.*\))?$",
            "",
            text,
            flags=re.M,
        )
        text = re.sub(r" +\(\+[\dhm.s]+\)$| \(~[\dhm.s]+ was estimated\)", "", text, flags=re.M)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", "TIME", text)
        return re.sub(r"(?<![\d.])(\d+m )?\d+\.\d s\b", "N s", text)

    def record(self, run: str = "") -> dict[str, Any]:
        """Return the newest run (or one) as JSON."""

        run = run or json.loads(self.runner("runs", "--limit", "1", "-o", "json").raw)[0]["run"]
        value: dict[str, Any] = json.loads(self.runner("show", run, "-o", "json").raw)
        return value

    def statuses(self, run: str = "") -> dict[str, str]:
        return {name: step["status"] for name, step in self.record(run)["steps"].items()}

    def output(self, step: str, name: str = "o") -> bytes:
        digest = self.record()["steps"][step]["outputs"][name]["digest"].removeprefix("sha256:")
        return (self.root / ".runner/objects/sha256" / digest[:2] / digest).read_bytes()
