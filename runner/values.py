"""The values that params and outputs have: their text form, their canonical JSON, their digests."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any


class Duration(str):
    """A length of time as written (`30m`, `PT30M`): ordered by its seconds, shown as written."""


class Marked(str):
    """A text that stands for something else in a fingerprint: its `mark`, in JSON."""

    mark: Any

    def __new__(cls, text: str, mark: Any) -> Marked:
        self = super().__new__(cls, text)
        self.mark = mark
        return self


class Artifact(Marked):
    """A file or directory as a value. As text it is its path in the attempt, relative to the working directory.

    `source` says where the bytes are: `project:PATH`, `host:/PATH` for one outside the project, or `store:`.
    """

    kind: str  # file or dir
    name: str  # the last component of its path
    digest: str
    source: str

    def __new__(cls, text: str, kind: str, name: str, digest: str, source: str, executable: bool = False) -> Artifact:
        self = str.__new__(cls, text)
        self.kind, self.name, self.digest, self.source = kind, name, digest, source
        self.mark = {"digest": digest, "name": name, **({"executable": True} if executable else {})}
        return self


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SHORT = r"(\d{1,12}(?:\.\d{1,12})?)(ms|s|m|h|d|w)\Z"
_ISO = r"P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?\Z"
DURATION_HELP = "write 500ms, 30s, 10m, 2h, 7d, 1w or ISO 8601 (PT30M, P30D)"


def to_seconds(text: str) -> float:
    """Return the seconds of a duration; raises ValueError for any other text."""
    if found := re.match(_SHORT, text, re.A):
        return float(found.group(1)) * _UNITS[found.group(2)]
    found = re.match(_ISO, text, re.A)
    if not found or not any(found.groups()):
        raise ValueError(f"{text!r} is not a duration")
    parts = [float(part or 0) for part in found.groups()]
    return sum(part * unit for part, unit in zip(parts, (604800, 86400, 3600, 60, 1), strict=True))


def to_limit(text: str) -> float:
    """Return the seconds of a duration that is a limit; raises ValueError for none at all."""
    seconds = to_seconds(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} leaves no time: a timeout must be longer than 0 s")
    return seconds


def to_processors(value: Any) -> float:
    """Return a number of processors; raises ValueError for what is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = 0.0
    if not 0 < found < math.inf:
        raise ValueError(f"{value!r} is not a number of processors")
    return found


_SIZE = r"(\d{1,15}(?:\.\d{1,9})?)(B|K|M|G|T|Ki|Mi|Gi|Ti)\Z"
_FACTORS = {"B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def to_bytes(text: str) -> int:
    """Return the bytes of a size (`512M`, `1.5Gi`); raises ValueError for any other text."""
    found = re.match(_SIZE, text, re.A)
    if not found:
        raise ValueError(f"{text!r} is not a size")
    return int(float(found.group(1)) * _FACTORS[found.group(2)])


def text_of(value: Any) -> str:
    """Return the text form: numbers as the shortest that reads back, whole numbers without `.0`."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e16:
            return str(int(value))
        case float():
            return repr(value)
        case _:
            return str(value)


_PLAIN = frozenset((str, int, bool, type(None)))


def plain(value: Any) -> Any:
    """Return `value` as JSON for a fingerprint: marks for what is marked, whole floats as integers."""
    if type(value) in _PLAIN:
        return value
    match value:
        case Marked():
            return value.mark
        case str() | bool() | None | int():
            return str(value) if isinstance(value, str) else value
        case float():
            return int(value) if value.is_integer() and abs(value) < 1e16 else value
        case list() | tuple():
            return [plain(v) for v in value]
        case _:
            return {str(k): plain(v) for k, v in value.items()}


def marked(value: Any, mark: Any) -> Any:
    """Return a value of which `plain` gives `mark`."""
    match value:
        case str():
            return Marked(value, mark)
        case list():
            return [marked(v, m) for v, m in zip(value, mark, strict=True)]
        case dict():
            return {k: marked(v, mark[k]) for k, v in value.items()}
        case _:
            return value


_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(value: Any) -> str:
    """Return the one JSON text of a plain value: sorted keys, no spaces."""
    return _encode(value)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(value: Any) -> str:
    """Return the digest of a plain value."""
    return sha256(_encode(value).encode("utf-8", "surrogatepass"))


def short(digest: str) -> str:
    """Return the first digits of a digest, for people."""
    return digest.removeprefix("sha256:")[:8]


def file_name(step: str) -> str:
    """Return a step's name as the name of one file or folder that no program takes for a pattern or a path."""
    if _PLAIN_NAME.fullmatch(step):
        return step
    mark = hashlib.sha256(step.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_ODD.sub('_', step)[:60].strip('_')}~{mark}"


_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}", re.A)
_ODD = re.compile(r"[^A-Za-z0-9_.-]+", re.A)


def alike(a: Any, b: Any) -> bool:
    """Whether two values are one as JSON: `true` is not 1, and 1.0 is 1."""
    return canonical(plain(a)) == canonical(plain(b))


def plain_json(value: Any) -> Any:
    """Return `value` as JSON for a step to read: texts as they are, nothing marked, whole floats as integers.

    What has one fingerprint is one value for the step too.
    """
    match value:
        case float():
            return plain(value)
        case str():
            return str(value)
        case list() | tuple():
            return [plain_json(v) for v in value]
        case dict():
            return {str(k): plain_json(v) for k, v in value.items()}
        case _:
            return value
