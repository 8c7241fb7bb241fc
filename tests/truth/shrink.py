"""A failing case -> a smaller one that fails in the same way: what can be dropped is dropped, one thing at a time."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from .cases import Case, isolated, with_log

Json = dict[str, Any]


def shrunk(made: Case, violation: Json, say: Callable[[str], None]) -> Json:
    """Return the violation, with its log, of the smallest case that was found."""
    kind, best = _kind(violation), violation
    smaller = True
    while smaller:
        smaller = False
        for cut in list(_cuts(made)):
            candidate = copy.deepcopy(made)
            if not _applies(cut, candidate) or size(candidate) >= size(made):
                continue
            if found := _again(candidate, kind):
                made, best, smaller = candidate, found, True
                say(f"  smaller: {size(made)} characters")
    return best


def _applies(cut: Callable[[Case], bool], made: Case) -> bool:
    """Cut; say whether anything changed. What it was to cut may have gone with something else."""
    try:
        return cut(made)
    except (IndexError, KeyError):
        return False


def _again(made: Case, kind: str) -> Json | None:
    return next((v for v in with_log(isolated(made)) if _kind(v) == kind), None)


def _kind(violation: Json) -> str:
    """Return what makes two violations the same: the property, where, and what is wrong without names, runs and digests."""
    what = re.sub(r"r-\d+|sha256:\w+|\b\d{8}-\d{4}-\w{4}|\b[0-9a-f]{8}\b|\d+", "_", violation["what"])
    return f"{violation['property']} {re.sub(r'[0-9]+', '_', violation['where'])} {what[:60]}"


def size(made: Case) -> int:
    return len(repr([(s["project"], s["actions"]) for s in made["stages"]]))


def _cuts(made: Case) -> Iterator[Callable[[Case], bool]]:
    """Yield what makes a case smaller, the most first."""
    stages = made["stages"]
    if made["workers"] != 1:
        yield lambda c: bool(c.update(workers=1)) or True
    for i in reversed(range(len(stages))):
        if len(stages) > 1:
            yield lambda c, i=i: bool(c["stages"].pop(i))
        for j in reversed(range(len(stages[i]["actions"]))):
            yield lambda c, i=i, j=j: bool(c["stages"][i]["actions"].pop(j))
    paths = {p for s in stages for p in s["project"]["docs"]}
    for path in sorted(paths):
        if path != "p.yaml":
            yield lambda c, path=path: _each(c, lambda p: p["docs"].pop(path, None) is not None)
    for path in sorted(paths):
        names = {n for s in stages for n in s["project"]["docs"].get(path, {}).get("steps", {})}
        for name in sorted(names):
            yield lambda c, path=path, name=name: _each(c, lambda p: _without(p, path, name))
    yield from _fields(stages)
    for i, stage in enumerate(stages):
        for j, action in enumerate(stage["actions"]):
            for key in action.get("request", {}):
                yield lambda c, i=i, j=j, key=key: c["stages"][i]["actions"][j]["request"].pop(key, None) is not None
            for key in ("params",):
                for name in {**action.get(key, {}), **action.get("request", {}).get(key, {})}:
                    yield lambda c, i=i, j=j, name=name: _drop_param(c["stages"][i]["actions"][j], name)
    for i in range(1, len(stages)):
        yield from _undone(i, stages)


def _each(made: Case, change: Callable[[Json], bool]) -> bool:
    """Change the project of every stage; say whether any did."""
    changed = [change(stage["project"]) for stage in made["stages"]]  # all of them, not the first that does
    return any(changed)


def _without(project: Json, path: str, name: str) -> bool:
    """Take a step out of a document, with its place in branches and `needs`."""
    doc = project["docs"].get(path, {"steps": {}})
    if doc["steps"].pop(name, None) is None:
        return False
    for step in doc["steps"].values():
        for key in ("then", "else", "needs"):
            if name in step.get(key, []):
                step[key].remove(name)
                if not step[key]:
                    step.pop(key)
    return True


def _fields(stages: list[Json]) -> Iterator[Callable[[Case], bool]]:
    """Yield what takes one field out of a document or a step, everywhere."""
    places = {(p, *place) for s in stages for p, doc in s["project"]["docs"].items() for place in _places(doc)}
    for path, *place in sorted(places, key=lambda p: (len(p), p)):
        yield lambda c, path=path, place=place: _each(c, lambda p: _pop(p["docs"].get(path, {}), place))
    for name in sorted({f for s in stages for f in s["project"]["files"]}):
        yield lambda c, name=name: _each(c, lambda p: p["files"].pop(name, None) is not None)


def _places(doc: Json) -> Iterator[tuple[str, ...]]:
    for key, value in doc.items():
        if key in ("defaults", "failure_policy", "outputs", "finally"):
            yield (key,)
        if key in ("params", "outputs"):
            yield from ((key, name) for name in value)
    for group in ("steps", "finally"):
        for name, step in doc.get(group, {}).items():
            for key, value in step.items():
                if key not in ("kind", "script", "if"):
                    yield (group, name, key)
                if isinstance(value, dict) and key in ("env", "outputs", "params", "inputs", "foreach"):
                    yield from ((group, name, key, inner) for inner in value)


def _pop(doc: Json, place: list[str]) -> bool:
    for key in place[:-1]:
        doc = doc.get(key, {})
    return isinstance(doc, dict) and doc.pop(place[-1], None) is not None


def _drop_param(action: Json, name: str) -> bool:
    holder = action.get("params") or action.get("request", {}).get("params") or {}
    return holder.pop(name, None) is not None


def _undone(i: int, stages: list[Json]) -> Iterator[Callable[[Case], bool]]:
    """Yield what takes back one step or file of what stage `i` edited, in it and all after it."""
    before, after = stages[i - 1]["project"], stages[i]["project"]
    for name, text in before["files"].items():
        if after["files"].get(name) != text:
            yield lambda c, name=name, text=text: _set(c, i, lambda p: p["files"].__setitem__(name, text))
    for path, doc in before["docs"].items():
        for step, old in doc["steps"].items():
            new = after["docs"].get(path, {"steps": {}})["steps"].get(step)
            if new is not None and new != old:
                yield lambda c, path=path, step=step, old=old: _set(
                    c, i, lambda p: p["docs"][path]["steps"].__setitem__(step, old)
                )


def _set(made: Case, i: int, change: Callable[[Json], None]) -> bool:
    for stage in made["stages"][i:]:
        change(stage["project"])
    return True
