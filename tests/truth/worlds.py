"""The product as a user drives it: a folder, commands, what they print. And what a full run in an empty store would make.

Commands run in this process, since to start an interpreter for each would take ten times as long. What a command leaves in
the process (handlers of signals, open pipes) is why each case runs in a child process of its own: see `cases.isolated`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Any

from .project import Doc, Project, write

RUN = {"apiVersion": "runner/v1", "kind": "Run", "pipeline": "p.yaml"}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Done:
    """How a command ended, and what it printed."""

    args: list[str]
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def command(folder: str, *args: str) -> Done:
    """Run a command of the product in a folder, with files as its standard streams."""
    from runner.cli import run

    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    streams, kept, here = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2)), os.getcwd()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        try:
            code = run(list(args))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = streams
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
            os.chdir(here)
            signal.set_wakeup_fd(-1)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Done(list(args), code, _all(out), _all(err))


def _all(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


@dataclass
class Run:
    """A run as `show RUN -o json` tells it, with the world that it ran in."""

    id: str
    status: str
    params: dict[str, Any]
    steps: dict[str, Any]
    outputs: dict[str, Any]
    finals: list[str]
    decisions: dict[str, str]
    project: Project = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)  # as it was told before the run began
    exit: int = 0

    @property
    def accepted(self) -> bool:
        return bool(self.plan.get("accepted"))

    @property
    def trial(self) -> bool:
        return bool(self.plan.get("request", {}).get("trial"))


class World:
    """A folder with a project and its store."""

    def __init__(self, folder: str, workers: int = 1) -> None:
        self.folder, self.workers = folder, workers
        self.project: Project = {}
        self.log: list[tuple[str, Any]] = []  # what was done, for the script of a person

    def write(self, project: Project) -> None:
        write(project, self.folder)
        self.project = project
        self.log.append(("project", project))

    def request(self, name: str, doc: Doc) -> str:
        """Write a run request; return its file."""
        from .project import yaml

        text = yaml({**RUN, **doc})
        with open(f"{self.folder}/{name}", "w") as file:
            file.write(text)
        self.log.append(("file", (name, text)))
        return name

    def do(self, *args: str) -> Done:
        """Run a command that a person would run as well."""
        done = command(self.folder, *args)
        self.log.append(("command", done))
        return done

    def ask(self, *args: str) -> Any:
        """Return what a command prints as JSON; not part of the script."""
        done = command(self.folder, *args, "-o", "json")
        if done.code:
            raise Broken(done)
        return done.json()

    def newest(self) -> str:
        found = self.ask("runs", "--limit", "1")
        return found[0]["run"] if found else ""

    def run(self, name: str) -> Run:
        """Return a run of the store."""
        found = self.ask("show", name)
        started, ended = found["started"], found.get("ended") or {}
        return Run(
            found["run"], found["status"], started["params"], found["steps"], ended.get("outputs", {}),
            started.get("finals", []), started["decisions"],
        )  # fmt: skip

    def go_on(self, run: str, code: int) -> Done | None:
        """Approve what a run waits for until it ends; return the last command, None where nothing waited."""
        done = None
        while code == 7:
            waiting = [n for n, s in self.ask("show", run)["steps"].items() if s["status"] == "waiting"]
            for step in waiting:
                self.do("approve", run, step)
            done = self.do("resume", run)
            code = done.code if waiting else 0
        return done


class Broken(Exception):
    """A command that only reads ended otherwise than with 0."""

    def __init__(self, done: Done) -> None:
        super().__init__(f"{done.args} exit {done.code}: {done.err[-400:]}")
        self.done = done


class Oracle:
    """Full runs in empty stores, one for each state of a project and its params."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.known: dict[str, Run | None] = {}

    def full(self, project: Project, params: dict[str, Any]) -> Run | None:
        """Return the full run of a project with these params; None where it cannot be planned."""
        key = json.dumps([project, params], sort_keys=True)
        if key not in self.known:
            self.known[key] = self._full(project, params)
        return self.known[key]

    def _full(self, project: Project, params: dict[str, Any]) -> Run | None:
        folder = tempfile.mkdtemp(dir=self.folder)
        world = World(folder)
        world.write(project)
        doc = {"params": params, "reference": "none", "failure_policy": "finish_independent"}
        name = world.request("r-full.yaml", doc)
        done = world.do("apply", name, "--workers", "1")
        if done.code not in (0, 1, 7):
            return None
        run = world.newest()
        world.go_on(run, done.code)
        found = world.run(run)
        found.project = project
        shutil.rmtree(folder, ignore_errors=True)
        return found
