"""Secrets and the bytes that a step writes -> the same bytes with each secret as `[secret NAME]`.

A second net below the rule that no secret is written at all: it finds a secret in eight encodings.

1. raw
2. by line: each line of a value of several, without the blanks around it (and the whole value without those)
3. JSON, non-ASCII characters escaped
4. JSON, non-ASCII characters as they are
5. URL: percent-encoded, upper- or lower-case, blanks as `%20` or `+`
6. base64, at any of the three alignments within a longer text
7. base64 of the URL-safe alphabet, likewise
8. hex, upper- or lower-case

The encodings 3 to 8 are those of the whole value and of each line. Within a longer base64 text the first and last
characters of a value depend on its neighbours, too: these stay. Base64 that is wrapped at 64 or 76 columns is found
if it begins with the value.

Not found: lines and encoded parts under 6 bytes; a part of a line; base64 wrapped elsewhere; two encodings on top of
each other; escapes that `json.dumps` does not write (`\\/`, `\\u003c`, `\\u00E4`); a quote within quotes of a shell or
of Python; hex with gaps; UTF-16; anything compressed or encrypted.

A stand-alone module of the standard library: the worker imports it by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

SHORTEST = 6  # bytes; what is shorter is found everywhere by chance
REACH = 26  # a window begins at most so far into its pattern, so that only a short end of the stream may lack it
# The bytes of logs, roughly the most frequent first; all others are rarer.
FREQUENT = b" etaoinsrl0d1c2u3pm4.:5-6789hf/gb_y=,wv\nkxT)(EIRSNADOCLP\"'][FUMGBHWVYjqz"
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Redactor:
    """Masks secrets in one stream of bytes; after `flush` it is ready for another.

    Every byte that belongs to any occurrence is masked. Occurrences that overlap make one gap, which tells each of
    their names once; of those that begin together the longest names it. The result does not depend on how the
    stream was cut into chunks.
    """

    def __init__(self, secrets: Iterable[tuple[str, bytes]]) -> None:
        """Take names and values; raise ValueError for a value under 6 bytes, blanks around it not counted."""
        names: dict[bytes, str] = {}
        for name, value in secrets:
            if len(value.strip()) < SHORTEST:
                raise ValueError(f"secret `{name}` is shorter than {SHORTEST} bytes, too short to be masked in logs")
            for pattern in patterns(value):
                names.setdefault(pattern, name)
        # Each pattern is looked for by a window into it. That begins with its rarest byte: in most logs the search
        # then runs from one such byte to the next and hardly ever compares more, however many the patterns are.
        self._windows: dict[bytes, list[tuple[int, bytes, str]]] = {}
        self._beginnings: set[bytes] = set()  # what is too short to hold its window
        for pattern, name in names.items():
            offset = max(range(min(len(pattern) - SHORTEST, REACH) + 1), key=lambda i: _rarity(pattern[i]))
            window = pattern[offset : offset + SHORTEST]
            self._windows.setdefault(window, []).append((offset, pattern, name))
            self._beginnings.update(pattern[:size] for size in range(1, offset + SHORTEST))
        self._search = _search_for(self._windows)
        self._held = b""
        self._open = 0  # so many of the held bytes belong to a gap that has begun
        self._told: set[str] = set()  # the names that this gap tells

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be written now; only what may yet turn out to be a secret is held back."""
        return self._mask(self._held + chunk if self._held else chunk, ended=False) if self._windows else chunk

    def flush(self) -> bytes:
        """Return the rest at the end of the stream."""
        return self._mask(self._held, ended=True)

    def once(self, data: bytes) -> bytes:
        """Return a whole value masked; the stream is not touched."""
        stream = self._held, self._open, self._told
        self._held, self._open = b"", 0
        masked = self._mask(data, ended=True)
        self._held, self._open, self._told = stream
        return masked

    def _mask(self, buffer: bytes, ended: bool) -> bytes:
        """Return the decided part of the buffer masked, and hold the rest."""
        found, cut = self._find(buffer)
        if ended:
            cut = len(buffer)
        written: list[bytes] = []
        done = self._open
        for start, _, end, name in sorted(found):
            if start >= cut:
                break
            if start >= done:
                written.append(buffer[done:start])
                self._told = set()
            if end > done and name not in self._told:
                written.append(b"[secret %s]" % name.encode())
                self._told.add(name)
            done = max(done, end)
        written.append(buffer[done:cut])
        self._held, self._open = buffer[cut:], max(done - cut, 0)
        return b"".join(written)

    def _find(self, buffer: bytes) -> tuple[list[tuple[int, int, int, str]], int]:
        """Return all occurrences (start, -end, end, name), and where one may begin that is not all there yet."""
        size = len(buffer)
        found: list[tuple[int, int, int, str]] = []
        cut = size
        hit = self._search(buffer)
        while hit:
            place = hit.start()
            for offset, pattern, name in self._windows[hit[0]]:
                start = place - offset
                end = start + len(pattern)
                if start < 0:
                    continue  # what begins before the buffer was decided before
                if end > size:
                    if start < cut and pattern.startswith(buffer[start:]):
                        cut = start
                elif buffer.startswith(pattern, start):
                    found.append((start, -end, end, name))
            hit = self._search(buffer, place + 1)
        for length in range(min(REACH + SHORTEST, size), 0, -1):
            if buffer[size - length :] in self._beginnings:
                cut = min(cut, size - length)
                break
        return found, cut


def masked(value: Any, mask: Redactor) -> Any:
    """Return a JSON value masked in all its texts; a list of lines is one text, as notebooks have it."""
    if isinstance(value, str):
        return mask.once(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {masked(key, mask): masked(item, mask) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) > 1 and all(isinstance(item, str) for item in value) and all(i.endswith("\n") for i in value[:-1]):
        return str(masked("".join(value), mask)).splitlines(keepends=True)
    return [masked(item, mask) for item in value]


def _rarity(byte: int) -> int:
    place = FREQUENT.find(byte)
    return len(FREQUENT) if place < 0 else place


def _search_for(windows: Iterable[bytes]) -> Callable[..., Any]:
    """Return the search for the next of the windows, as a tree of their first bytes."""
    import re

    tails: dict[bytes, list[bytes]] = {}
    for window in sorted(windows):
        tails.setdefault(window[:1], []).append(re.escape(window[1:]))
    if not tails:
        return lambda *_: None
    return re.compile(b"|".join(re.escape(h) + b"(?:" + b"|".join(t) + b")" for h, t in tails.items())).search


def patterns(value: bytes) -> set[bytes]:
    """Return all byte strings that tell a value."""
    texts = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    found = {form for text in texts if len(text) >= SHORTEST for form in _forms(text)}
    return {form for form in found if len(form) >= SHORTEST}


def _forms(text: bytes) -> Iterator[bytes]:
    import json

    yield text
    characters = text.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        yield json.dumps(characters, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape")
    for escape in (b"%%%02X", b"%%%02x"):
        for plain in (b"/", b"", b"!'()*"):  # of a path; of a query; of JavaScript's encodeURIComponent
            kept = UNRESERVED.union(plain)
            quoted = b"".join(b"%c" % byte if byte in kept else escape % byte for byte in text)
            yield quoted
            yield quoted.replace(b"%20", b"+")
    yield from _base64(text)
    yield text.hex().encode()
    yield text.hex().upper().encode()


def _base64(text: bytes) -> Iterator[bytes]:
    import binascii

    alone = binascii.b2a_base64(text, newline=False).rstrip(b"=")
    parts = [alone]
    for before in range(3):
        # Each character tells 6 bits: those that also tell bits of what is before or after the text are left out.
        encoded = binascii.b2a_base64(bytes(before) + text, newline=False)
        parts.append(encoded[-(-8 * before // 6) : 8 * (before + len(text)) // 6])
    for width in (64, 76):
        parts += [whole[i : i + width] for whole in parts[:2] for i in range(0, len(whole), width)]
    for part in parts:
        yield part
        yield part.translate(bytes.maketrans(b"+/", b"-_"))
