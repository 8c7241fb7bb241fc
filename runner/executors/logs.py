"""What a step prints -> its log file, cut in the middle past its limit, with secrets masked."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from typing import Any

TAIL = 4096  # bytes of output that a failure report may quote


class Log:
    """A log file that is made with its first byte; past its limit the middle is cut. Secrets are masked."""

    def __init__(self, path: str, limit: int, secrets: list[tuple[str, str]]) -> None:
        self.path, self.limit = path, limit
        self.mask = redactor(secrets) if secrets else None
        self.size = 0
        self.half = max(limit // 2, 1)
        self.file: Any = None
        self.ring, self.rest = -1, 0  # a file of the last half, written round and round, and what went there

    def write(self, content: bytes) -> None:
        content = self.mask.feed(content) if self.mask else content
        if content:
            self.put(content)

    def put(self, content: bytes) -> None:
        if self.file is None:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
        room = max(0, self.limit // 2 - self.size)
        if room:
            self.file.write(content[:room])
            self.size += min(room, len(content))
        rest = content[room:]
        if rest and self.ring < 0:
            place = f"{os.path.dirname(os.path.dirname(self.path))}/end-{os.getpid()}"
            self.ring = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.unlink(place)  # whoever dies leaves none
        while rest:
            at = self.rest % self.half
            count = os.pwrite(self.ring, rest[: self.half - at], at)
            self.rest += count
            rest = rest[count:]

    def close(self) -> bytes:
        """Write the end of a log that was cut; return its last bytes."""
        if self.mask and (rest := self.mask.flush()):
            self.put(rest)
        if self.file is None:
            return b""
        if self.ring >= 0:
            oldest = self.rest % self.half if self.rest > self.half else 0
            if self.rest > self.half:
                self.file.write(b"\n[... %d bytes cut ...]\n" % (self.rest - self.half))
            self._copy(oldest, min(self.rest, self.half))
            self._copy(0, oldest)
            os.close(self.ring)
        self.file.close()
        with open(self.path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read()

    def _copy(self, start: int, end: int) -> None:
        """Append a part of the ring."""
        while start < end:
            content = os.pread(self.ring, min(1 << 20, end - start), start)
            self.file.write(content)
            start += len(content)


_redactors: dict[tuple[tuple[str, str], ...], Any] = {}  # making one for a key of many lines takes a while


def redactor(secrets: list[tuple[str, str]]) -> Any:
    key = tuple((name, value) for name, value in secrets)
    if key not in _redactors:
        values = [(name, value.encode("utf-8", "surrogateescape")) for name, value in key]
        from .redact import Redactor

        _redactors[key] = Redactor(values)
    return _redactors[key]


def mask_cells(folder: int, name: str, mask: Any) -> None:
    """Mask what the cells of an executed notebook have put out; what is no notebook is left to `collect`.

    The notebook in the open folder becomes another file: the one that is there may have a name elsewhere, too.
    """
    import json

    from .redact import masked

    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=folder), encoding="utf-8") as file:
            notebook = json.load(file)
        for cell in notebook["cells"]:
            if "outputs" in cell:
                cell["outputs"] = masked(cell["outputs"], mask)
    except (OSError, ValueError, KeyError, TypeError):
        return
    partial = f"{os.urandom(16).hex()}.new"  # no step can have put anything there
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(partial, flags, 0o644, dir_fd=folder), "w", encoding="utf-8") as file:
        json.dump(notebook, file, ensure_ascii=False, indent=1)
    os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
