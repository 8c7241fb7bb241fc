"""A plan as a file: read back only if it is what was written, and compared with today's plan of the same request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .errors import Diagnostic, EnvironmentFailure, Invalid
from .pipeline import Accepted
from .plan import FORMAT, bound
from .select import quoted
from .values import digest_of, short

ANEW = "make it anew with `runner plan FILE --out PLAN`"


def written(value: Mapping[str, Any]) -> str:
    """Return a plan as the text of a file; its checksum covers all of it, what the digest leaves out too."""
    return json.dumps({**value, "checksum": digest_of(value)}, indent=1, ensure_ascii=True) + "\n"


def read(text: str, path: str) -> dict[str, Any]:
    """Return the plan that a file holds.

    Raises Invalid for a file that is no plan, is cut off, or was edited; EnvironmentFailure for a newer format.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
        raise _invalid(
            path, f"it is not a plan, or only a part of one: {getattr(error, 'msg', error)}", line, column
        ) from None
    if not isinstance(value, dict) or not isinstance(value.get("digest"), str) or "format_version" not in value:
        raise _invalid(path, "it is JSON, but not a plan")
    version = value["format_version"]
    if not isinstance(version, int) or isinstance(version, bool):
        raise _invalid(path, f"its format_version is {version!r}, which is no number")
    if version > FORMAT:
        raise EnvironmentFailure(
            f"{path} is a plan of format {version}; this runner knows {FORMAT}", help="use the runner that wrote it"
        )
    checksum = value.pop("checksum", None)
    try:
        if checksum != digest_of(value) or value["digest"] != digest_of(bound(value)):
            raise _invalid(path, "it was changed after it was written")
        _refuse_places(value, path)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise _invalid(path, "it has not the form of a plan") from None
    return value


def _refuse_places(value: Mapping[str, Any], path: str) -> None:
    """Raise Invalid for a plan whose files are not in the project: whoever knows the rule can redo digest and checksum."""
    request, pipeline = value["request"]["path"], value["pipeline"]["path"]
    places = {"request": request} if request else {"pipeline": pipeline, "folder": value["request"]["base"]}
    if not (request or (pipeline and isinstance(value["request"]["params"], dict))):
        raise _invalid(path, "it names neither a request nor a pipeline")
    for what, place in places.items():
        # The folder may lie above the project: what is named from there may not.
        if place.startswith("/") or "\0" in place or (what != "folder" and ".." in place.split("/")):
            raise _invalid(path, f"it is no plan of this project: its {what} is {place[:200]}")


def _invalid(path: str, text: str, line: int = 0, column: int = 0) -> Invalid:
    return Invalid([Diagnostic(path, line, column, "E407", text, ANEW)])


def moved(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return, a line each, in what a plan as planned differs from the plan of the same request now."""
    then, now = bound(then), bound(now)
    lines = [*_moved(then, now)]
    return lines or (["something that the digest binds"] if then != now else [])


def _moved(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then["runner"] != now["runner"]:
        yield f"the runner: version {then['runner']} -> {now['runner']}"
    for what in ("pipeline", "request"):
        old, new = then[what], now[what]
        if old["digest"] != new["digest"]:
            yield f"the {what} {new['path'] or new.get('name', '')}: {short(old['digest'])} -> {short(new['digest'])}"
    old, new = then["preconditions"], now["preconditions"]
    if old["runtime"] != new["runtime"]:
        yield "the interpreter, platform or machine"
    for kind, word in (("code", "code"), ("files", "input")):
        for path in sorted({*old[kind], *new[kind]}):
            if old[kind].get(path) != new[kind].get(path):
                yield f"{word} {path}: {_short(old[kind].get(path))} -> {_short(new[kind].get(path))}"
    runs = [r["run"] if r else "none" for r in (then["reference"], now["reference"])]
    if runs[0] != runs[1]:
        pin = f" (`reference: {runs[0]}` in the request would have kept it)" if then["reference"] else ""
        yield f"the reference run: {runs[0]} -> {runs[1]}{pin}"
    elif then["reference"] != now["reference"]:
        yield f"the reference run {runs[0]}: it was {then['reference']['status']}, it is {now['reference']['status']}"
    for name in sorted({*then["params"], *now["params"]}):
        a, b = then["params"].get(name), now["params"].get(name)
        if a != b and (a is None or b is None or a["value"] != b["value"]):
            yield f"param {name}: {a['value'] if a else 'none'} -> {b['value'] if b else 'none'}"
    for name in [*now["steps"], *(n for n in then["steps"] if n not in now["steps"])]:
        a, b = then["steps"].get(name), now["steps"].get(name)
        if a == b:
            continue
        if a is None or b is None:
            yield f"step {name}: {'new' if a is None else 'gone'}"
        elif a["decision"] != b["decision"]:
            yield f"step {name}: {a['decision']} -> {b['decision']}"
        elif a.get("verdict") != b.get("verdict"):
            yield f"step {name}: {a.get('verdict')} -> {b.get('verdict')}"
        elif a.get("outputs") != b.get("outputs") or a.get("produced_by") != b.get("produced_by"):
            yield f"step {name}: its result of {a.get('produced_by')} -> {b.get('produced_by')}"
        elif {**a, "reused_from": ""} != {**b, "reused_from": ""}:
            yield f"step {name}: what it is made of"
    if then["findings"] != now["findings"]:
        codes = [", ".join(f"{f['code']} {f['subject']}" for f in p["findings"]) or "none" for p in (then, now)]
        yield f"the findings: {codes[0]} -> {codes[1]}"


def _short(digest: str | None) -> str:
    return short(digest) + " executable" * digest.endswith(" x") if digest else "none"


def stanza(accepted: Sequence[Accepted]) -> str:
    """Return the lines to paste into a run file."""
    return "accept:\n" + "".join(f"  - {accept_item(a)}\n" for a in accepted)


def accept_item(accepted: Accepted) -> str:
    """Return one entry of `accept`."""
    return f"{{step: {quoted(accepted.step)}, cause: {accepted.cause}, reason: {json.dumps(accepted.reason, ensure_ascii=False)}}}"
