"""Document -> RunRequest: what one run asks for, every mistake in it reported at once."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from .document import Document, Keys
from .errors import Diagnostic, Invalid, printable
from .pipeline import Accepted, Expect, Files, Latest, RunRequest
from .values import to_bytes, to_seconds


def compile_request(document: Document, files: Files, path: str) -> RunRequest:
    """Return the RunRequest of a document that fits its schema; raises Invalid with every mistake."""
    value = document.value
    base = posixpath.dirname(path) or "."
    mistakes: list[Diagnostic] = []
    pipeline = ""
    try:
        pipeline = files.locate(value["pipeline"], base)
        if "://" in value["pipeline"] or files.kind(pipeline) != "file":
            mistakes.append(
                document.diagnostic(
                    "E109",
                    f"there is no file {printable(value['pipeline'])}",
                    ("pipeline",),
                    help="the path is relative to this file",
                )
            )
    except ValueError as error:
        mistakes.append(document.diagnostic("E108", str(error), ("pipeline",)))
    mistakes += [
        document.diagnostic("E205", "expressions are not allowed in a run request", at, offset=offset)
        for at, offset in _expressions({k: v for k, v in value.items() if k not in ("description", "accept")})
    ]
    if mistakes:
        raise Invalid(mistakes)
    concurrency = value.get("concurrency", {})
    expect = value.get("expect")
    return RunRequest(
        pipeline=pipeline,
        path=path,
        base=base,
        name=value.get("name", ""),
        description=value.get("description", ""),
        labels=value.get("labels", {}),
        params=value.get("params", {}),
        inherit=value.get("inherit", "reference"),
        reset=tuple(value.get("reset", ())),
        select=tuple(selector_of(s) for s in value["select"]) if "select" in value else None,
        exclude=tuple(selector_of(s) for s in value.get("exclude", ())),
        islands=value.get("islands") == "allow",
        reference="latest" if isinstance(value.get("reference"), Mapping) else value.get("reference"),
        latest=_latest(value["reference"]["latest"]) if isinstance(value.get("reference"), Mapping) else None,
        mode=value.get("mode"),
        force=tuple(selector_of(s) for s in value.get("force", ())),
        assume=value.get("assume", {}),
        accept=tuple(Accepted(a["step"], a["reason"], a["cause"]) for a in value.get("accept", ())),
        expect=Expect(
            expect.get("status"),
            frozenset(selector_of(s) for s in expect["run"]) if "run" in expect else None,
            expect.get("steps", {}),
        )
        if expect is not None
        else None,
        failure_policy=value.get("failure_policy"),
        timeout=to_seconds(value["timeout"]) if "timeout" in value else None,
        workers=concurrency.get("workers"),
        cpu=concurrency.get("cpu"),
        memory=to_bytes(concurrency["memory"]) if "memory" in concurrency else None,
        group=concurrency.get("group", ""),
        conflict=concurrency.get("conflict", "queue"),
    )


def request_of_json(value: Mapping[str, Any]) -> RunRequest:
    """Return the request that a record has as JSON."""
    given = dict(value)
    for name in ("reset", "select", "exclude", "force"):
        if name in given:
            given[name] = tuple(given[name])
    if "accept" in given:
        given["accept"] = tuple(Accepted(**a) for a in given["accept"])
    if "expect" in given:
        run = given["expect"].get("run")
        given["expect"] = Expect(**{**given["expect"], "run": None if run is None else frozenset(run)})
    if "latest" in given:
        given["latest"] = Latest(**{**given["latest"], "status": frozenset(given["latest"]["status"])})
    return RunRequest(**given)


def _latest(value: Mapping[str, Any]) -> Latest:
    status = value.get("status", ())
    return Latest(
        frozenset([status] if isinstance(status, str) else status),
        value.get("labels", {}),
        {name.removeprefix("params."): wanted for name, wanted in value.get("where", {}).items()},
        to_seconds(value["max_age"]) if "max_age" in value else None,
    )


def selector_of(item: str | Mapping[str, str]) -> str:
    """Return a selector as text; a mapping of one key is a method and its value."""
    return item if isinstance(item, str) else "".join(f"{key}:{value}" for key, value in item.items())


def _expressions(value: Any, at: Keys = ()) -> Iterator[tuple[Keys, int]]:
    match value:
        case str():
            if "$(" in value.replace("$$(", "  "):
                yield at, value.find("$(")
        case Mapping():
            for key, inner in value.items():
                yield from _expressions(inner, (*at, key))
        case list():
            for index, inner in enumerate(value):
                yield from _expressions(inner, (*at, index))
