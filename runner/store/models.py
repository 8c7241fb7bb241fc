"""The model registry: a file for each version of a group, and its way from pending to approved or rejected.

`register` is the one place that makes a version; another registry would be told there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import EnvironmentFailure, Moved, StoreDamaged, UsageError, suggest
from ..values import digest_of
from . import checked, sync_folder
from .reading import Denied, content, opened, parsed, unreadable

FORMAT = 1
_NUMBERED = re.compile(r"([1-9][0-9]{0,8})\.json")
STATUSES = ("pending", "approved", "rejected")
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "format": int, "group": str, "version": int, "status": str, "metrics": dict, "metadata": dict, "model": dict,
    "run": str, "step": str, "pipeline": str, "at": (int, float), "history": list,
}  # fmt: skip
_OF_MODEL = ("digest", "name", "run", "step", "output")
_MEND_FOLDER = "bring the folder back from a backup, or move away what is in its place: no model is registered then"
_MEND = "bring the file back from a backup, or move it away: the version is then gone"


def register(folder: str, version: Mapping[str, Any]) -> int:
    """Keep a version in its group and return its number, from 1; the same run and step get the same version again."""
    place = f"{folder}/{version['group']}"
    try:
        os.makedirs(place, exist_ok=True)
        with _locked(place):
            known = _numbers(place)
            for number in reversed(known):
                found = _read(place, number)
                if (found["run"], found["step"]) == (version["run"], version["step"]):
                    return number
            number = known[-1] + 1 if known else 1
            at = round(time.time(), 3)
            history = [{"status": version["status"], "by": version["by"], "at": at, "comment": ""}]
            _write(place, number, {"format": FORMAT, **version, "version": number, "at": at, "history": history})
            return number
    except OSError as error:
        raise EnvironmentFailure(f"the registry {folder} cannot be written: {error.strerror}") from error


def groups(folder: str) -> list[str]:
    """Return the names of all groups."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        if os.path.islink(folder):
            raise StoreDamaged(f"{folder} is a link that leads nowhere", help=_MEND_FOLDER) from None
        return []
    except OSError as error:
        found = unreadable(folder, error)
        raise found if isinstance(found, Denied) else StoreDamaged(found.text, help=_MEND_FOLDER) from error


def versions(folder: str, group: str) -> list[dict[str, Any]]:
    """Return the versions of a group, the newest first; raises UsageError for a group that is not there."""
    place = _place(folder, group)
    return [_read(place, number) for number in reversed(_numbers(place))]


def numbers(folder: str, group: str) -> list[int]:
    """Return the numbers of a group's versions."""
    return _numbers(_place(folder, group))


def _place(folder: str, group: str) -> str:
    known = groups(folder)
    if group not in known:
        raise UsageError(f"there is no group `{group}`", help=suggest(group, known, "groups"))
    return f"{folder}/{group}"


def version(folder: str, group: str, number: int | None) -> dict[str, Any]:
    """Return one version of a group, the newest if `number` is None."""
    place = _place(folder, group)
    known = _numbers(place)
    wanted = known[-1] if number is None and known else number
    if wanted is None or wanted not in known:
        there = ", ".join(map(str, reversed(known))) or "none"
        raise UsageError(
            f"group `{group}` has no version {'' if number is None else number}".rstrip(), help=f"there are: {there}"
        )
    return _read(place, wanted)


def decide(folder: str, group: str, number: int, status: str, by: str, comment: str) -> dict[str, Any]:
    """Approve or reject a version; return it. What was decided before stays in its history."""
    version(folder, group, number)
    place = f"{folder}/{group}"
    try:
        with _locked(place):
            found = _read(place, number)
            if found["status"] == status:
                raise Moved(f"version {number} of `{group}` is {status} already", help="see `runner models show`")
            entry = {"status": status, "by": by, "at": round(time.time(), 3), "comment": comment}
            found = {**found, "status": status, "history": [*found["history"], entry]}
            _write(place, number, found)
            return found
    except OSError as error:
        raise EnvironmentFailure(f"the registry {folder} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _locked(place: str) -> Iterator[None]:
    fd = opened(f"{place}/.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _numbers(place: str) -> list[int]:
    try:
        return sorted(int(found[1]) for name in os.listdir(place) if (found := _NUMBERED.fullmatch(name)))
    except OSError as error:
        raise unreadable(place, error) from error


def _read(place: str, number: int) -> dict[str, Any]:
    try:
        value = parsed(content(f"{place}/{number}.json"))
    except PermissionError as error:
        raise Denied(f"{place}/{number}.json") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise StoreDamaged(f"{place}/{number}.json cannot be read: {why}", help=_MEND) from error
    if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > FORMAT:
        raise EnvironmentFailure(f"{place}/{number}.json has format {value['format']}; this runner knows {FORMAT}")
    if not isinstance(value, dict) or not _is_version(value, number):
        raise StoreDamaged(f"{place}/{number}.json is not a version of a model", help=_MEND)
    checksum = value.pop("checksum", None)
    # Without one it was written before there were any, or the name of that field was changed.
    if checksum != digest_of(value) if checksum is not None else value.keys() - _FIELDS.keys() - {"by"}:
        raise StoreDamaged(f"{place}/{number}.json was changed after it was written", help=_MEND)
    return value


def _is_version(value: Mapping[str, Any], number: int) -> bool:
    """Whether all fields are there, each of its type."""
    if not all(isinstance(value.get(name), kind) for name, kind in _FIELDS.items()):
        return False
    return (
        value["version"] == number and value["status"] in STATUSES and checked.is_date(value["at"])
        and checked.is_output(value["model"]) and all(isinstance(value["model"].get(n), str) for n in _OF_MODEL)
        and isinstance(value["model"].get("size"), int) and all(map(_is_decision, value["history"]))
    )  # fmt: skip


def _is_decision(value: object) -> bool:
    return (
        isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("status", "by", "comment"))
        and checked.is_date(value.get("at"))
    )  # fmt: skip


def _write(place: str, number: int, value: Mapping[str, Any]) -> None:
    """Write a version: afterwards the file is as it was, or all of this, also at a power cut."""
    partial = f"{place}/.{number}-{os.getpid()}"
    with open(opened(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8") as file:
        file.write(json.dumps({**value, "checksum": digest_of(value)}, indent=1, ensure_ascii=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, f"{place}/{number}.json")
    sync_folder(place)
