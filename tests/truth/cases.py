"""A case: a project with its past, its edits and three selections; a plain value that a seed gives."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from typing import Any

from .edits import edited
from .pipelines import chance, project
from .project import ROOT, Project, Shape
from .requests import request, target, values

Case = dict[str, Any]  # {"seed": int, "workers": int, "stages": [{"project": Project, "actions": [action, ...]}, ...]}


def case(seed: int) -> Case:
    """Return the case of a seed: a random past, edits, and three requests; some begin with a story of what is rare."""
    rng = random.Random(seed)
    made = project(rng)
    aim = target(made, rng)
    stages, made = rng.choice([_plain_past, _plain_past, _plain_past, _mended, _failed_trial])(made, rng, aim)

    def edit() -> Project:
        return edited(made, rng, Shape(made).above(aim) | {aim}, gates=chance(rng, 30))

    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        made = edit()
        stages.append({"project": made, "actions": [_action(made, rng, aim)]})
    if chance(rng, 25):
        made = edit()
        stages.append({"project": made, "actions": [_applied(made, rng), _quiet(made, rng)]})
    if chance(rng, 90):
        made = edit()
        stages.append({"project": made, "actions": []})
    for number in range(3):
        if number and chance(rng, 40):
            made = edit()
            stages.append({"project": made, "actions": []})
        stages[-1]["actions"].append(_asking(made, rng, aim))
    return {"seed": seed, "workers": rng.choice([1, 1, 2]), "stages": stages}


# --- how it began


def _plain_past(made: Project, rng: random.Random, aim: str) -> tuple[list[Any], Project]:
    """Mostly a full run, sometimes a part of one, or something after it."""
    first = _applied(made, rng) if chance(rng, 95) else _asking(made, rng, aim)
    return [{"project": made, "actions": [first, *([_action(made, rng, aim)] if chance(rng, 30) else [])]}], made


def _mended(made: Project, rng: random.Random, aim: str) -> tuple[list[Any], Project]:
    """A run in which a step fails; it is mended, and run again or retried."""
    places = [(p, n) for p, doc in made["docs"].items() for n in doc["steps"]]
    inner = [place for place in places if place[0] != ROOT]
    broken = _broken(made, rng, inner if inner and chance(rng, 50) else places)
    again = [_applied(made, rng) if chance(rng, 65) else {"do": "retry"}]
    if chance(rng, 70):
        again.append(_quiet(made, rng))
    return [{"project": broken, "actions": [_applied(made, rng)]}, {"project": made, "actions": again}], made


def _failed_trial(made: Project, rng: random.Random, aim: str) -> tuple[list[Any], Project]:
    """A full run, and a trial behind an assumed gate that fails; it is mended and retried."""
    trial = _trial(made, rng, aim)
    broken = _broken(made, rng, [(ROOT, n) for n in trial.get("select", []) if n in made["docs"][ROOT]["steps"]])
    first = [_applied(made, rng), {"do": "request", "request": trial, "then": "apply"}]
    again = [{"do": "retry"}] if chance(rng, 80) else []
    gone = {k: v for k, v in trial.items() if k != "assume"}
    again += [{"do": "request", "request": gone, "then": "apply"}] if chance(rng, 40) else []
    return [{"project": broken, "actions": first}, {"project": made, "actions": again}], made


def _broken(made: Project, rng: random.Random, places: list[tuple[str, str]]) -> Project:
    """Return the project with a step of these that fails."""
    shells = [(p, n) for p, n in places if made["docs"][p]["steps"][n]["kind"] == "shell"]
    broken = copy.deepcopy(made)
    if shells:
        path, name = rng.choice(shells)
        step = broken["docs"][path]["steps"][name]
        step["script"] = f"test 1 = 2; {step['script']}"
    return broken


def _applied(made: Project, rng: random.Random) -> Any:
    return {"do": "apply", "params": values(made, rng) if chance(rng, 35) else {}}


def _quiet(made: Project, rng: random.Random) -> Any:
    """Return a request after a whole run: nothing has changed. What comes after an inner pipeline is likelier."""
    shape = Shape(made)
    names = [n for n in shape.steps if n not in shape.final]
    behind = [
        n for n in names if "/" not in n and sum("/" in above for above in shape.above(n)) and len(shape.above(n)) > 2
    ]
    last = max(behind, key=lambda n: len(shape.above(n)), default="")
    name = last if last and chance(rng, 50) else rng.choice(behind or names)
    return {"do": "request", "request": {"select": [name], "islands": "allow"}, "then": "plan"}


# --- what is done then


def _action(made: Project, rng: random.Random, aim: str) -> Any:
    roll = rng.randrange(100)
    if roll < 45:
        return _applied(made, rng)
    if roll < 60:
        return {"do": "retry"}
    if roll < 75:
        return {"do": "request", "request": _trial(made, rng, aim), "then": "apply"}
    return _asking(made, rng, aim)


def _trial(made: Project, rng: random.Random, aim: str) -> Any:
    """Return a request that assumes what a condition says, and selects behind it."""
    shape = Shape(made)
    gates = [(c, s) for s, (c, _) in shape.branch.items() if "/" not in c]
    if not gates:
        return request(made, rng, aim)
    gate, step = rng.choice(gates)
    doc = {"select": [step], "assume": {gate: shape.branch[step][1]}}
    return {**doc, **({"params": values(made, rng)} if chance(rng, 40) else {})}


def _asking(made: Project, rng: random.Random, aim: str) -> Any:
    roll = rng.randrange(100)
    if roll < 8:
        return {"do": "retry"}
    if roll < 18:
        return _applied(made, rng)
    then = rng.choice(["apply", "apply", "apply", "accept", "accept one", "plan"])
    return {"do": "request", "request": request(made, rng, aim), "then": then}


# --- checking it


def isolated(made: Case, seconds: int = 300) -> list[Any]:
    """Check a case in a child process; return what does not hold, and last what happened: "stats", and the "log" of all that
    was done if something does not hold. What the product leaves in the process goes with it.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _in_child(made, write_end, seconds)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        content = file.read()
    _, status = os.waitpid(pid, 0)
    if not content:
        what = f"the case's process ended with wait status {status}"
        return [
            {"property": "P4", "what": what, "where": "harness", "at": 0},
            {"property": "stats", "stats": {}, "log": []},
        ]
    found: list[Any] = json.loads(content)
    return found


def _in_child(made: Case, write_end: int, seconds: int) -> None:
    """Check the case, write what was found, and leave without any of the clean-up of the parent's program."""
    from .property import check

    signal.signal(signal.SIGALRM, _late)
    signal.alarm(seconds)
    try:
        with tempfile.TemporaryDirectory(dir=scratch(), ignore_cleanup_errors=True) as folder:
            found = check(made, folder)
    except BaseException:
        what = traceback.format_exc()[-1500:]
        found = [
            {"property": "harness", "what": what, "where": "harness", "at": 0},
            {"property": "stats", "stats": {}, "log": []},
        ]
    with os.fdopen(write_end, "w") as file:
        file.write(json.dumps(found))
    sys.stderr.flush()
    os._exit(0)


class Late(BaseException):
    """A case takes too long. No `Exception`: the product must not take it for one of its own."""


def _late(number: int, frame: object) -> None:
    raise Late


def scratch() -> str | None:
    """Return a folder in memory, where there is one: most of the time of a case is spent on small files."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def with_log(found: list[Any]) -> list[Any]:
    """Return what does not hold, each with the log of what was done until then."""
    return [{**v, "log": found[-1]["log"][: v["at"]]} for v in found[:-1]]


def warm_up() -> None:
    """Load once, in this process, what every case needs: its child has it then."""
    from . import property  # noqa: F401 (loaded here, not in each child)
    from .worlds import World

    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        world = World(folder)
        step = {
            "kind": "shell",
            "shell": ["sh", "-eu"],
            "script": "echo a > o.txt",
            "outputs": {"o": {"type": "file", "path": "o.txt"}},
        }
        doc = {"apiVersion": "runner/v1", "kind": "Pipeline", "name": "p", "steps": {"a": step}}
        world.write({"docs": {"p.yaml": doc}, "files": {}})
        world.do("apply", "p.yaml", "-o", "json")
        world.do("plan", world.request("r-1.yaml", {"select": ["a"]}), "-o", "json")
        world.run(world.newest())
