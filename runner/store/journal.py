"""Events -> the lines of a journal, and lines -> the first one that is not as it was written.

A line is one JSON event. From format 2 on it ends with `"sum"`, the CRC-32 of its text and of all lines before it, so
that a changed, lost or moved line is known; a line torn by a crash has no line feed, and is no damage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

from ..errors import EnvironmentFailure
from ..fingerprint import FORMAT as FINGERPRINT_FORMAT
from ..record import FORMAT, Event, to_json
from .reading import parsed

_KEY = b',"sum":"'
_END = len(_KEY) + 10  # bytes of the key, eight digits, a quotation mark and a brace


def written(events: Iterable[Event], sum: int | None) -> tuple[bytes, int | None]:
    """Return events as lines that follow lines with a sum, and the sum then; None leaves sums out."""
    lines = []
    for event in events:
        # Mappings keep their order, which is that of the steps.
        text = json.dumps(to_json(event), separators=(",", ":")).encode()
        if sum is not None:
            sum = crc32(text[:-1], sum)
            text = text[:-1] + _ended(sum)
        lines.append(text + b"\n")
    return b"".join(lines), sum


def _ended(sum: int) -> bytes:
    return b'%s%08x"}' % (_KEY, sum)


def damaged_line(lines: Sequence[bytes]) -> int:
    """Return the number, from 1, of the first line that is not as it was written, or 0; the last one is what is torn."""
    if not has_sums(lines):
        return 0
    sum = 0
    for number, line in enumerate(lines[:-1], 1):
        sum = crc32(line[:-_END], sum)
        if line[-_END:] != _ended(sum):
            return number
    # Of a line that was torn, the end is missing; one that is whole and goes on has lost its line feed otherwise.
    rest = lines[-1][:-1]
    return len(lines) if rest[-_END:] == _ended(crc32(rest[:-_END], sum)) else 0


def has_sums(lines: Sequence[bytes]) -> bool:
    """Whether each line must have a sum: one has, or the first says so."""
    return any(line[-_END:].startswith(_KEY) for line in lines) or _should_have_sums(lines[0])


def _should_have_sums(first: bytes) -> bool:
    try:
        return bool(parsed(first).get("format", 1) > 1)
    except (ValueError, AttributeError, TypeError):
        return False


def last_sum(content: bytes) -> int | None:
    """Return the sum that the next line of a sound journal goes on from; None where it has none."""
    line = content[: content.rfind(b"\n") + 1].rstrip(b"\n").rpartition(b"\n")[2]
    if not line:
        return 0
    return int(line[-10:-2], 16) if line[-_END:].startswith(_KEY) else None


def refuse_newer(value: Mapping[str, Any], run: str) -> None:
    """Raise EnvironmentFailure for an event of a format that this runner does not know."""
    for what, format, known in (
        ("journal", value.get("format", 1), FORMAT),
        ("fingerprint", value.get("recipe", {}).get("format", 1), FINGERPRINT_FORMAT),
    ):
        if format > known:
            raise EnvironmentFailure(
                f"the {what} format of run {run} is {format}; this runner knows {known}",
                help="use the runner that wrote it, or a newer one",
            )
