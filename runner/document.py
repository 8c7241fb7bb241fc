"""YAML text -> Document: strict YAML 1.2, which knows the line and column of everything in it.

One pass over libyaml's events builds plain values without recursion and finds every mistake of form:
duplicate and non-string keys, tags, merge keys, several documents, and documents that are too deep or expand
too far. Places are kept out of the way: they are found by a second pass, only when there is something to point at.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from .errors import MANY, Diagnostic, Invalid, decoded

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
MAX_ALIAS_NODES = 50_000
MAX_ALIAS_BYTES = 4 * 2**20
MAX_LINES = 1_000_000  # and elements of lists and mappings that share a line
MAX_EVENTS = 1_500_000  # of the parser; a list or mapping has two

_SPLIT = "split the pipeline in several, or write alike steps once, with `foreach`"

Keys = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_MAYBE_NUMBER = frozenset("0123456789+-.")
_BASES = {"0x": (re.compile("[0-9a-fA-F]+"), 16), "0o": (re.compile("[0-7]+"), 8)}


def _events(text: str) -> Iterator[Any]:
    """Yield the parser's events; the stubs know only their base class."""
    import yaml  # what needs no YAML (a kept pipeline) does without its 15 ms

    loader = getattr(yaml, "CLoader", yaml.Loader)(text)
    return iter(loader.get_event, None)  # `yaml.parse` asks twice for each


def resolve(text: str) -> Any:
    """Return the value of a plain scalar by the YAML 1.2 core schema; a number with a zero in front stays text.

    Raises ValueError for a number that is not finite.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _MAYBE_NUMBER:
        return text
    if _INT.match(text):
        if len(text) > 400:
            raise ValueError("has too many digits")
        return int(text)
    if text[:2] in _BASES and _BASES[text[:2]][0].fullmatch(text, 2):
        if len(text) > 330:  # in decimal digits no longer than the longest above
            raise ValueError("has too many digits")
        return int(text[2:], _BASES[text[:2]][1])
    if _NOT_FINITE.match(text):
        raise ValueError("is not a finite number")
    if _FLOAT.match(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError("is too large for a number")
        return number
    return text


class Document:
    """One YAML file: its value, and where each part of it stands."""

    def __init__(self, path: str, text: str, value: Mapping[str, Any]) -> None:
        self.path = path
        self.text = text
        self.value = value
        self._lines: list[str] | None = None
        self._places: _Places | None = None

    def diagnostic(
        self, code: str, text: str, at: Sequence[str | int] = (), *, key: bool = False, offset: int = 0, help: str = ""
    ) -> Diagnostic:
        """Return a mistake at the value under `at`, at its key if `key`, or `offset` characters into its text."""
        line, column = self.place(tuple(at), key=key, offset=offset)
        return Diagnostic(self.path, line, column, code, text, help, self.source(line))

    def place(self, at: Keys, *, key: bool = False, offset: int = 0) -> tuple[int, int]:
        """Return line and column (from 1) of the nearest existing part on the way to `at`."""
        if self._places is None:
            self._places = _Places(self.text)
        return self._places.find(at, key=key, offset=offset)

    def source(self, line: int) -> str:
        if self._lines is None:
            self._lines = self.text.splitlines()
        return self._lines[line - 1] if 0 < line <= len(self._lines) else ""

    def cut_expression(self, line: int, column: int) -> tuple[int, int] | None:
        """Return where an expression starts that YAML has cut in two before this place of the same line."""
        found = _cut_expression([self.source(line)], 0)
        return (line, found[1] + 1) if found and found[1] + 1 <= column else None

    def written(self, at: Keys) -> str:
        """Return a scalar as it stands in the file, before YAML made a value of it."""
        if self._places is None:
            self._places = _Places(self.text)
        found = self._places.values.get(at)
        return found[4] if found else ""


def parse(raw: bytes, shown: str) -> Document:
    """Return the Document of `raw`; raises Invalid with every mistake of form."""
    if len(raw) > MAX_BYTES:
        raise Invalid([Diagnostic(shown, 0, 0, "E110", f"the file is larger than {MAX_BYTES // 2**20} MiB", _SPLIT)])
    if raw.count(b"\n") + raw.count(b",") > MAX_LINES:  # told before the time is spent that reading them takes
        raise Invalid(
            [Diagnostic(shown, 0, 0, "E110", f"the file has more than {MAX_LINES:,} lines and elements", _SPLIT)]
        )
    text = decoded(raw, shown, "YAML")
    builder = _Builder(shown, text)
    value = builder.build()
    if not builder.mistakes and not isinstance(value, dict):
        what = "the document is empty" if value is None else f"the document is {kind_of(value)}"
        builder.mistake(
            "E102", f"{what}; it must be a mapping of fields", builder.root, "start with `apiVersion: runner/v1`"
        )
    if builder.mistakes:
        raise Invalid(builder.mistakes, cut=len(builder.mistakes) >= MANY)
    return Document(shown, text, value)


def kind_of(value: Any) -> str:
    """Return what a value is, in the user's words."""
    match value:
        case None:
            return "empty"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


CUT = "YAML split this expression at the comma; put it in quotes"


class _TooMuch(Exception):
    pass


_BAD = "\0"  # a key that is noted as a mistake: its value is passed over


class _Frame:
    """One open mapping or list."""

    __slots__ = ("anchor", "bytes", "is_key", "items", "key", "lines", "nodes", "pairs")

    def __init__(self, pairs: dict[str, Any] | None, items: list[Any], anchor: str | None, is_key: bool) -> None:
        self.pairs = pairs  # of a mapping
        self.items = items  # of a list
        self.is_key = is_key  # a mapping or list in the place of a key: a mistake that is already noted
        self.anchor = anchor
        self.key: str | None = None  # a mapping's key that waits for its value
        self.lines: dict[str, int] = {}
        self.nodes = 1
        self.bytes = 0

    @property
    def value(self) -> Any:
        return self.items if self.pairs is None else self.pairs

    @property
    def awaits_key(self) -> bool:
        return self.pairs is not None and self.key is None


class _Builder:
    """Walks the events once, with a stack of its own, and collects mistakes instead of stopping at the first."""

    def __init__(self, shown: str, text: str) -> None:
        self.shown = shown
        self.text = text
        self.mistakes: list[Diagnostic] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.root = (0, 0)  # where the content starts
        self.alias_nodes = 0
        self.alias_bytes = 0

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def mistake(self, code: str, text: str, place: tuple[int, int], help: str = "") -> None:
        """Note a mistake; raises _TooMuch where there are enough."""
        line, column = place
        source = self.lines[line] if line < len(self.lines) else ""
        self.mistakes.append(Diagnostic(self.shown, line + 1, column + 1, code, text, help, source))
        if len(self.mistakes) >= MANY:
            raise _TooMuch

    def build(self) -> Any:
        import yaml

        with contextlib.suppress(_TooMuch):
            try:
                return self._walk()
            except yaml.YAMLError as error:
                self._refused(error)
        return None

    def _refused(self, error: Any) -> None:
        """Note what the parser stumbled over, in words that help."""
        import yaml

        if not isinstance(error, yaml.MarkedYAMLError):
            bad = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", self.text)
            at = bad.start() if bad else 0
            place = (self.text.count("\n", 0, at), at - self.text.rfind("\n", 0, at) - 1)
            self._syntax(f"the control character {bad.group()!r} is not allowed" if bad else str(error), place)
            return
        mark = error.problem_mark or error.context_mark
        place = (mark.line, mark.column) if mark else (0, 0)
        opened = error.context_mark
        if opened and opened.line < place[0] and re.search("flow|quoted", str(error.context)):
            # Where the rest of the file does not fit any more says little; what is to be closed says all.
            sign = self.lines[opened.line][opened.column : opened.column + 1]
            place, told = (
                (opened.line, opened.column),
                f"this {sign} is not closed: {error.problem} on line {place[0] + 1}",
            )
        else:
            told = str(error.problem or error.context)
        self._syntax(told, place)

    def _syntax(self, problem: str, place: tuple[int, int]) -> None:
        line, column = place
        if "nesting depth" in problem:  # the scanner, which looks ahead of the events, has a limit of its own
            self.mistake("E110", f"the document is nested deeper than {MAX_DEPTH} levels", place)
            return
        source = self.lines[line] if line < len(self.lines) else ""
        cut = _cut_expression(self.lines, line)
        if cut:
            self.mistake("E111", CUT, cut)
            return
        help = ""
        if "\t" in source[: column + 1] or (line and "\t" in source):
            help = "indent with spaces, not tabs"
        elif "cannot start any token" in problem and source[column : column + 1] in "@`%":
            help = "put the text in quotes"
        elif "mapping values are not allowed" in problem:
            help = "a text that holds `: ` needs quotes; or the line is indented too far"
        self.mistake("E100", f"YAML: {problem}", place, help)

    def _walk(self) -> Any:
        import yaml

        scalar, starts = yaml.ScalarEvent, (yaml.MappingStartEvent, yaml.SequenceStartEvent)
        ends = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
        root: Any = None
        stack: list[_Frame] = []
        frame: _Frame | None = None  # the innermost
        documents = 0
        for count, event in enumerate(_events(self.text)):
            kind = type(event)
            if kind is scalar:  # two thirds of all: what is only a text is resolved by nobody
                value = text = event.value
                if event.tag or (not event.style and (text in _WORDS or text[0] in _MAYBE_NUMBER)):
                    value = self._resolved(event, frame)
                if event.anchor:
                    self.anchors[event.anchor] = (value, 1, len(text))
                if frame is None:
                    root = value
                    self.root = _at(event) if value is not None else (0, 0)
                    continue
                frame.nodes += 1
                frame.bytes += len(text)
                self._put(frame, value, event)
            elif kind in starts:
                if event.tag:
                    self._tag(event)
                if len(stack) >= MAX_DEPTH:
                    self.mistake("E110", f"the document is nested deeper than {MAX_DEPTH} levels", _at(event))
                    raise _TooMuch
                new: Any = {} if kind is yaml.MappingStartEvent else []
                is_key = frame is not None and frame.awaits_key
                if is_key:
                    self.mistake("E108", f"keys must be strings; this one is {kind_of(new)}", _at(event))
                if frame is None:
                    root = new
                    self.root = _at(event)
                frame = (
                    _Frame(new, [], event.anchor, is_key)
                    if kind is starts[0]
                    else _Frame(None, new, event.anchor, is_key)
                )
                stack.append(frame)
            elif kind in ends:
                done = stack.pop()
                frame = stack[-1] if stack else None
                if done.anchor:
                    self.anchors[done.anchor] = (done.value, done.nodes, done.bytes)
                if frame is not None:
                    frame.nodes += done.nodes
                    frame.bytes += done.bytes
                    if done.is_key:
                        frame.key = _BAD
                    else:
                        self._put(frame, done.value, event)
            elif kind is yaml.AliasEvent:
                self._alias(event, stack)
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents == 2:
                    self.mistake("E100", "YAML: a file holds one document; here a second one starts", _at(event))
                    raise _TooMuch
                if event.tags:
                    self.mistake("E108", "YAML tags are not allowed", _at(event))
            if count > MAX_EVENTS:
                self.mistake("E110", f"the document has more than {MAX_EVENTS // 2:,} values", _at(event), _SPLIT)
                raise _TooMuch
        return root

    def _put(self, frame: _Frame, value: Any, event: Any) -> None:
        if frame.pairs is None:
            frame.items.append(value)
        elif frame.key is None:
            frame.key = self._key(frame, value, event)
        else:
            if frame.key is not _BAD:
                frame.pairs[frame.key] = value
            frame.key = None

    def _key(self, frame: _Frame, value: Any, event: Any) -> str:
        """Return a key as it waits for its value; _BAD for one that cannot be a key here."""
        line = event.start_mark.line
        if not isinstance(value, str):
            written = getattr(event, "value", "") or "empty"
            self.mistake(
                "E108", f"keys must be strings; this one is {kind_of(value)}: {written}", _at(event), "put it in quotes"
            )
            return _BAD
        if value == "<<" and not getattr(event, "style", None):
            self.mistake("E105", "merge keys are not part of YAML 1.2; use `defaults:`", _at(event))
            return _BAD
        if value[:1] == "\0":
            self.mistake("E108", "keys may not hold a NUL character", _at(event))
            return _BAD
        if value in frame.lines:
            if ")" in value and (cut := _cut_expression(self.lines, line)):
                self.mistake("E111", CUT, cut)
                return _BAD
            self.mistake("E103", f"key {value!r} is given twice (first on line {frame.lines[value] + 1})", _at(event))
            return _BAD
        frame.lines[value] = line
        return value

    def _resolved(self, event: Any, frame: _Frame | None) -> Any:
        """Return the value of a scalar that may be something else than its text."""
        if event.tag:
            self._tag(event)
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            if frame is None or not frame.awaits_key:
                self.mistake("E108", f"{event.value[:40]} {error}", _at(event), "put it in quotes if a text is meant")
            return event.value

    def _tag(self, event: Any) -> None:
        self.mistake("E108", f"YAML tags are not allowed: {event.tag}", _at(event), "remove the tag")

    def _alias(self, event: Any, stack: list[_Frame]) -> None:
        name = event.anchor
        if any(frame.anchor == name for frame in stack):
            self.mistake("E110", f"the anchor `{name}` refers to itself", _at(event))
            raise _TooMuch
        if name not in self.anchors:
            self.mistake("E100", f"YAML: there is no anchor `{name}` before this line", _at(event))
            raise _TooMuch
        value, nodes, size = self.anchors[name]
        self.alias_nodes += nodes
        self.alias_bytes += size
        if self.alias_nodes > MAX_ALIAS_NODES or self.alias_bytes > MAX_ALIAS_BYTES:
            self.mistake("E110", "aliases expand too far", _at(event), "write the repeated part once, as a parameter")
            raise _TooMuch
        if not stack:
            return
        frame = stack[-1]
        frame.nodes += nodes
        frame.bytes += size
        if frame.awaits_key and not isinstance(value, str):
            self.mistake("E108", f"keys must be strings; this one is {kind_of(value)}", _at(event))
            frame.key = _BAD
            return
        self._put(frame, value, event)


def _at(event: Any) -> tuple[int, int]:
    return event.start_mark.line, event.start_mark.column


def _cut_expression(lines: Sequence[str], line: int) -> tuple[int, int] | None:
    """Return where an expression starts that a comma inside a flow collection has cut in two."""
    if line >= len(lines):
        return None
    for match in re.finditer(r"(?<!\$)\$\(", lines[line]):
        head = lines[line][: match.start()]
        if ("[" in head or "{" in head) and head.count('"') % 2 == 0 and head.count("'") % 2 == 0:
            depth = 0
            for char in lines[line][match.end() - 1 :]:
                depth += (char == "(") - (char == ")")
                if char == "," and depth >= 1:
                    return line, match.start()
                if depth == 0:
                    break
    return None


_Spot = tuple[int, int, str | None, int, str]  # line, column; of a scalar its style, last line and value


class _Places:
    """Where each key and value of a document starts; made by a pass that trusts the first one."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        # Tuples, not events: those of ten thousand steps would take a third of a gigabyte.
        self.values: dict[Keys, _Spot] = {}
        self.keys: dict[Keys, tuple[int, int]] = {}
        stack: list[tuple[str, list[Any]]] = []  # (kind, [keys so far, pending key or next index])
        path: list[str | int] = []
        import yaml

        for event in _events(text):
            kind = type(event)
            if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                stack.pop()
                self._after(stack, path)
                continue
            if kind not in (yaml.ScalarEvent, yaml.AliasEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent):
                continue
            mark = event.start_mark
            if stack and stack[-1][0] == "map" and stack[-1][1][0] is None:
                key = event.value if kind is yaml.ScalarEvent else ""
                stack[-1][1][0] = key
                self.keys[(*path, key)] = (mark.line, mark.column)
                path.append(key)
                continue
            if stack and stack[-1][0] == "seq":
                path.append(stack[-1][1][0])
            here = tuple(path)
            if kind is yaml.ScalarEvent:
                self.values[here] = (mark.line, mark.column, event.style or "", event.end_mark.line, event.value)
            else:
                self.values[here] = (mark.line, mark.column, None, 0, "")
            if kind is yaml.MappingStartEvent:
                stack.append(("map", [None]))
            elif kind is yaml.SequenceStartEvent:
                stack.append(("seq", [0]))
            else:
                self._after(stack, path)

    @staticmethod
    def _after(stack: list[tuple[str, list[Any]]], path: list[str | int]) -> None:
        if not stack:
            return
        path.pop()
        kind, state = stack[-1]
        state[0] = None if kind == "map" else state[0] + 1

    def find(self, at: Keys, *, key: bool, offset: int) -> tuple[int, int]:
        while at and at not in self.values and at not in self.keys:
            at, key, offset = at[:-1], True, 0
        if at in self.values and not (key and at in self.keys):
            line, column = self._inside(self.values[at], offset) if offset and not key else self.values[at][:2]
        else:
            line, column = self.keys.get(at, (0, 0))
        return line + 1, column + 1

    def _inside(self, spot: _Spot, offset: int) -> tuple[int, int]:
        """Return line and column of the character `offset` of a scalar's value."""
        line, column, style, end, value = spot
        if style is None:  # an alias, a list or a mapping has no text to look into
            return line, column
        if style in ("|", ">"):
            before = value[:offset]
            wanted = line + 1 + before.count("\n")
            if style == ">" or wanted >= len(self.lines):
                return self._search(spot, offset)
            indent = len(self.lines[wanted]) - len(value.split("\n")[before.count("\n")])
            return wanted, max(indent, 0) + len(before) - (before.rfind("\n") + 1)
        if end != line:
            return self._search(spot, offset)
        if style == '"':
            source = self.lines[line]
            at, seen = column + 1, 0
            while seen < offset and at < len(source):
                at += {"x": 4, "u": 6, "U": 10}.get(source[at + 1 : at + 2], 2) if source[at] == "\\" else 1
                seen += 1
            return line, at
        if style == "'":
            quotes = value[:offset].count("'")
            return line, column + 1 + offset + quotes
        return line, column + offset

    def _search(self, spot: _Spot, offset: int) -> tuple[int, int]:
        """Return where the word at `offset` of a scalar stands whose lines YAML has joined: look for as many like it."""
        line, column, _, end, value = spot
        words = value[offset : offset + 24].split(maxsplit=1)
        if not words:
            return line, column
        before = value[:offset].count(words[0])
        for number in range(line, min(end + 1, len(self.lines))):
            at = self.lines[number].find(words[0], column if number == line else 0)
            while at >= 0:
                if not before:
                    return number, at
                before -= 1
                at = self.lines[number].find(words[0], at + 1)
        return line, column
