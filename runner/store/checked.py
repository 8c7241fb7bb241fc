"""JSON of a journal -> Event, or ValueError for a field that is missing or has a value of another type.

What a field may hold is read off the event's annotations. Fields that this runner does not know are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ..pipeline import RunRequest
from ..record import EVENTS, Event, of_json

RUN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # an id is the name of a folder
_DIGEST = r"[a-z0-9]{1,20}:[0-9a-f]{1,128}|"
LAST_DATE = 253_402_300_799  # seconds
_MOST = 1 << 62  # of counts, bytes and seconds

Check = Callable[[Any], bool]


def is_run(id: object) -> bool:
    """Whether this can be the id of a run: it becomes the name of a folder."""
    return type(id) is str and re.fullmatch(RUN, id) is not None


def event(value: Any) -> Event:
    """Return the event that was written as `value`."""
    checks = _checks_of(value["event"])
    for name, given in value.items():
        if name in checks and not checks[name](given):
            raise ValueError(name)
    return of_json(value)


def summary(value: Any) -> Any:
    """Return what the index says of a run, if its fields are what they should be; raise ValueError else."""
    if type(value) is not dict or not all(name in _SUMMARY and _SUMMARY[name](value[name]) for name in value):
        raise ValueError("summary")
    return value


_known: dict[str, Mapping[str, Check]] = {}


def _checks_of(name: str) -> Mapping[str, Check]:
    if name not in _known:  # few kinds happen in a run
        _known[name] = {
            f.name: is_date if f.name == "at" else _SPECIAL.get((name, f.name)) or _CHECKS[str(f.type)]
            for f in fields(EVENTS[name])
        }
    return _known[name]


def _text(value: Any) -> bool:
    return type(value) is str


def _flag(value: Any) -> bool:
    return type(value) is bool


def _count(value: Any) -> bool:
    return type(value) is int and -_MOST < value < _MOST


def is_number(value: Any) -> bool:
    return type(value) in (float, int) and bool(-_MOST < value < _MOST)


def is_date(value: Any) -> bool:
    return type(value) in (float, int) and bool(0 <= value < LAST_DATE)


def _mapping(value: Any) -> bool:
    return type(value) is dict


def _mappings(value: Any) -> bool:
    return type(value) is dict and all(type(item) is dict for item in value.values())


def _texts(value: Any) -> bool:
    return type(value) is list and all(type(item) is str for item in value)


def _named_texts(value: Any) -> bool:
    return type(value) is dict and all(type(item) is str for item in value.values())


def _reads(value: Any) -> bool:
    return type(value) is list and all(_texts(item) and len(item) == 4 for item in value)


def _acceptances(value: Any) -> bool:
    return type(value) is list and all(map(_named_texts, value))


def _outputs(value: Any) -> bool:
    return type(value) is dict and all(map(is_output, value.values()))


def is_output(value: Any) -> bool:
    """Whether this is an output as a record has it: its digest becomes a path, its numbers a text."""
    if type(value) is not dict or type(value.get("type")) is not str or type(value.get("run", "")) is not str:
        return False
    if "items" in value:
        return type(value["items"]) is list and all(item is None or is_output(item) for item in value["items"])
    if "digest" not in value:
        return True
    size = value.get("size", 0)
    return (
        type(value["digest"]) is str and bool(re.fullmatch(_DIGEST, value["digest"]))
        and type(size) is int and 0 <= size < _MOST and type(value.get("name", "")) is str
    )  # fmt: skip


def _waited(value: Any) -> bool:
    """Whether these are the values that a callback waits for, by name."""
    return type(value) is dict and all(type(v) is dict and type(v.get("type")) is str for v in value.values())


def _recipe(value: Any) -> bool:
    """Whether this can be compared with the recipe of today; what it holds deeper is compared as it is."""
    return (
        type(value) is dict
        and all(type(value.get(name, "")) is str for name in ("kind", "runtime", "workdir", "content"))
        and all(type(value.get(name, {})) is dict for name in ("own", "env", "inputs", "outputs", "each"))
        and all(type(entry) is list and len(entry) == 3 and type(entry[0]) is str for entry in value.get("code", ()))
        and type(value.get("items", [])) is list
    )


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _flags(value: Any) -> bool:
    return type(value) is dict and all(type(item) is bool for item in value.values())


def _expect(value: Any) -> bool:
    return (
        type(value) is dict and value.keys() <= {"status", "run", "steps"} and _maybe(_text)(value.get("status"))
        and _maybe(_texts)(value.get("run")) and _named_texts(value.get("steps", {}))
    )  # fmt: skip


def _latest(value: Any) -> bool:
    return (
        type(value) is dict and value.keys() <= {"status", "labels", "where", "max_age"} and _texts(value.get("status"))
        and _named_texts(value.get("labels", {})) and _mapping(value.get("where", {}))
        and _maybe(is_number)(value.get("max_age"))
    )  # fmt: skip


def _accepted(value: Any) -> bool:
    return _acceptances(value) and all(item.keys() == {"step", "reason", "cause"} for item in value)


def _request(value: Any) -> bool:
    """Whether this is a request as a record has it."""
    known = {f.name: _CHECKS[str(f.type)] for f in fields(RunRequest)}
    return type(value) is dict and all(name in known and known[name](given) for name, given in value.items())


_CHECKS: Mapping[str, Check] = {
    "str": _text, "bool": _flag, "int": _count, "float": is_number, "Mapping[str, Any]": _mapping,
    "str | None": _maybe(_text), "bool | None": _maybe(_flag), "int | None": _maybe(_count), "float | None": _maybe(is_number),
    "Mapping[str, str]": _named_texts, "Mapping[str, bool]": _flags, "Mapping[str, Mapping[str, Any]]": _mappings,
    "tuple[str, ...]": _texts, "tuple[str, ...] | None": _maybe(_texts), "tuple[tuple[str, str, str, str], ...]": _reads,
    "tuple[Mapping[str, str], ...]": _acceptances, "tuple[Accepted, ...]": _accepted, "Latest | None": _latest, "Expect | None": _expect,
}  # fmt: skip
_SPECIAL: Mapping[tuple[str, str], Check] = {
    ("run_started", "request"): _request, ("step_ended", "outputs"): _outputs, ("step_ended", "recipe"): _recipe,
    ("step_ended", "answered"): is_date, ("step_waiting", "outputs"): _waited, ("step_waiting", "until"): is_date,
}  # fmt: skip
_SUMMARY: Mapping[str, Check] = {
    **dict.fromkeys(("pipeline", "title", "path", "request", "reference"), _text), "started": is_date, "trial": _flag,
    "labels": _named_texts, "seconds": is_number, "exit_code": _count,
}  # fmt: skip


def manifest(value: Any) -> Any:
    """Return what a manifest says, if it is one; of a newer format its entries are not looked at."""
    if type(value["format"]) is not int:
        raise ValueError("format")
    for path, kind, content, size in value["entries"] if value["format"] == 1 else ():
        if not (_text(path) and _text(kind) and type(size) is int):
            raise ValueError("entries")
        if type(content) is not str or (kind in ("file", "exec") and not re.fullmatch(_DIGEST, content)):
            raise ValueError("entries")
    return value
