"""What engine and worker tell each other: plain values, each after its length.

Both are of one interpreter and one version, so its own form serves: it is written and read in a fifth of the time that JSON
takes, and a worker that loads no JSON starts in two thirds of the time.
"""

from __future__ import annotations

import marshal

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from typing import Any

_LENGTH = 8  # bytes


def pack(value: Any) -> bytes:
    """Return a message of what is made of dict, list, tuple, str, bytes, numbers, booleans and None."""
    content = marshal.dumps(value)
    return len(content).to_bytes(_LENGTH, "little") + content


class Inbox:
    """Bytes as they come in -> messages."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, content: bytes) -> list[Any]:
        """Take more bytes; return the messages that are whole."""
        self.buffer += content
        found = []
        start = 0
        while len(self.buffer) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(self.buffer[start : start + _LENGTH], "little")
            if end > len(self.buffer):
                break
            found.append(marshal.loads(self.buffer[start + _LENGTH : end]))
            start = end
        del self.buffer[:start]
        return found
