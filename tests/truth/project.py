"""A project as a plain value: documents and files; how it is written, and what its text says about who depends on whom.

Everything here is read from the text of the documents, with regular expressions: none of it is the product's own code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

Doc = dict[str, Any]
Project = dict[str, Any]  # {"docs": {path: document}, "files": {path: text}}

ROOT = "p.yaml"
HEAD = {"apiVersion": "runner/v1", "kind": "Pipeline"}

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_TAKEN = {"true", "false", "null", "and", "or", "not", "in", "all"}
_ITEM = re.compile(r"\[[^\]]*\]")


# --- writing


def flow(value: Any) -> str:
    """Return a value as YAML in one line, with as few quotes as a person would write."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value not in _TAKEN:
        return value
    if isinstance(value, str) and "'" not in value and "\n" not in value:
        return f"'{value}'"
    return json.dumps(value)


def yaml(doc: Doc) -> str:
    """Return a document as text: one line a field, one line a step."""
    lines = []
    for key, value in doc.items():
        if key in ("steps", "finally", "params") and value:
            lines += [f"{key}:", *(f"  {name}: {flow(item)}" for name, item in value.items())]
        else:
            lines.append(f"{key}: {flow(value)}")
    return "\n".join(lines) + "\n"


def texts(project: Project) -> dict[str, str]:
    """Return every file of a project as it lies on the disk."""
    docs = {path: yaml(doc) for path, doc in project["docs"].items()}
    return {"runner.toml": "", **docs, **project["files"]}


def write(project: Project, folder: str) -> None:
    """Write a project into a folder; files of before that it does not have any more go."""
    wanted = texts(project)
    for name in os.listdir(folder):
        if os.path.isfile(f"{folder}/{name}") and name not in wanted and not name.startswith("r-"):
            os.unlink(f"{folder}/{name}")
    for name, text in wanted.items():
        if not os.path.exists(f"{folder}/{name}") or _read(f"{folder}/{name}") != text:
            with open(f"{folder}/{name}", "w") as file:
                file.write(text)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


# --- who depends on whom, by the text


def strings(value: Any) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def refs(value: Any) -> set[str]:
    """Return the steps that the expressions in a value refer to."""
    return {name for text in strings(value) if "$(" in text for name in re.findall(r"steps\.([\w-]+)", text)}


def params_in(value: Any) -> set[str]:
    """Return the params that the expressions in a value refer to."""
    return {name for text in strings(value) if "$(" in text for name in re.findall(r"params\.([\w-]+)", text)}


def unguarded(value: Any) -> set[str]:
    """Return the steps that the expressions in a value refer to outside of `coalesce`."""
    plain = [re.sub(r"coalesce\([^()]*\)", "", text) for text in strings(value) if "$(" in text]
    return {name for text in plain for name in re.findall(r"steps\.([\w-]+)", text)}


def template(name: str) -> str:
    """Return the name that a step or item has in the documents: `sub[x=1]/t[y=2]` is an item of `sub/t`."""
    return _ITEM.sub("", name)


def steps_of(doc: Doc) -> dict[str, Doc]:
    """Return the steps of a document, those of `finally` too."""
    return {**doc["steps"], **doc.get("finally", {})}


class Shape:
    """The steps of a project by their whole names, with what each comes after; inner pipelines are put in their place."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.steps: dict[str, Doc] = {}
        self.before: dict[str, set[str]] = {}
        self.branch: dict[str, tuple[str, bool]] = {}  # step -> the condition and the side that it is on
        self.final: set[str] = set()
        self.params: dict[str, set[str]] = {}  # step -> params of the whole pipeline that it reads, or its gates
        self._add(ROOT, "", set(), {p: {p} for p in project["docs"][ROOT].get("params", {})}, frozenset())

    def _add(self, path: str, prefix: str, gates: set[str], known: dict[str, set[str]], inside: frozenset[str]) -> None:
        doc = self.project["docs"][path]
        for name, step in steps_of(doc).items():
            full = prefix + name
            self.steps[full] = step
            if name in doc.get("finally", {}):
                self.final.add(full)
            near = refs({k: v for k, v in step.items() if k != "script"}) | set(step.get("needs", []))
            self.before[full] = {prefix + n for n in near if prefix + n != full} | gates
            own = {k: v for k, v in step.items() if k != "params"}  # what is passed counts where it is read
            read = params_in(own) | (params_in(doc.get("defaults", {})) if step["kind"] == "shell" else set())
            self.params[full] = set().union(*(known.get(p, set()) for p in read))
        for name, step in doc["steps"].items():
            for side, taken in (("then", True), ("else", False)):
                for target in step.get(side, []):
                    self.branch[prefix + target] = (prefix + name, taken)
                    self.before.setdefault(prefix + target, set()).add(prefix + name)
        for name, step in steps_of(doc).items():
            if step["kind"] == "pipeline" and step["pipeline"] not in inside:
                self._inner(path, prefix + name, step, known, inside)

    def _inner(self, path: str, full: str, step: Doc, known: dict[str, set[str]], inside: frozenset[str]) -> None:
        given = step.get("params", {})
        passed = {
            name: set().union(*(known.get(p, set()) for p in params_in(given.get(name))))
            for name in self.project["docs"][step["pipeline"]].get("params", {})
        }
        outer = set(self.before[full])
        self._add(step["pipeline"], full + "/", outer, passed, inside | {path})
        inner = {n for n in self.steps if n.startswith(full + "/")}
        self.before[full] |= inner

    def above(self, name: str) -> set[str]:
        """Return all that comes before a step, by its name in the documents."""
        seen: set[str] = set()
        todo = list(self.before.get(name, ()))
        while todo:
            found = todo.pop()
            if found not in seen:
                seen.add(found)
                todo += self.before.get(found, ())
        return seen

    def below(self, name: str) -> set[str]:
        """Return all that comes after a step."""
        return {other for other in self.steps if name in self.above(other)}

    def hull(self, names: set[str]) -> set[str]:
        """Return the steps with all that lies between them."""
        ups = set().union(*(self.above(n) for n in names))
        downs = {n for n in self.steps if self.above(n) & names}
        return names | (ups & downs)
