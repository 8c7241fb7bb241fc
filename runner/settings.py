"""runner.toml -> Settings: what a project sets for all who work in it; each mistake with its place and its remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

from . import reading
from .errors import MANY, Diagnostic, Invalid, decoded, suggest
from .frozen import frozen

MAX_BYTES = 1 << 16
_DOTS = 100
_LARGEST = 1 << 53  # what every reader of JSON can count to
_VERIFY = ("always", "changed")
_WORKERS = 1024
# The type of each key, and what to write.
_KEYS: dict[str, dict[str, tuple[type, str]]] = {
    "runner": {
        "store": (str, 'a path in quotes, such as `store = "../store"`'),
        "workers": (int, f"a whole number from 1 to {_WORKERS}, such as `workers = 4`"),
    },
    "store": {"verify": (str, '`verify = "always"` or `verify = "changed"`')},
    "logs": {"max_bytes": (int, f"a whole number from 1 to {_LARGEST}, such as `max_bytes = 1_000_000`")},
}
_MOST = {"workers": _WORKERS, "max_bytes": _LARGEST}
_WORDS: dict[type, str] = {
    bool: "true or false", int: "a number", float: "a number with a fraction", str: "a text", dict: "a section", list: "a list",
}  # fmt: skip
_INSIDE = "replace it with a file that holds the settings"


@frozen
class Settings:
    """What runner.toml says; flags and variables go before it."""

    store: str = ""
    workers: int | None = None
    verify: str = "always"
    log_limit: int = 1 << 30


@frozen
class Changed:
    """What differs in a runner.toml since a revision: each key with its value then and now, as JSON; None is not set."""

    file: str  # added, removed or changed
    keys: tuple[tuple[str, str | None, str | None], ...] = ()
    error: str = ""  # why one of both says nothing


def differing(base: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[tuple[str, str | None, str | None], ...]:
    """Return each key whose value differs, with both values as JSON."""
    then, today = _flat(base), _flat(now)
    keys = dict.fromkeys([*then, *today])
    return tuple((key, then.get(key), today.get(key)) for key in keys if then.get(key) != today.get(key))


def _flat(value: Mapping[str, Any]) -> dict[str, str]:
    """Return all that the sections hold, by `section.key`."""
    import json

    flat: dict[str, str] = {}
    for section, body in value.items():
        inside = {f"{section}.{key}": v for key, v in body.items()} if isinstance(body, dict) else {section: body}
        flat |= {key: json.dumps(v, ensure_ascii=False, default=str) for key, v in inside.items()}
    return flat


def of(path: str) -> Settings:
    """Return the settings that a runner.toml holds; raises Invalid for what it may not say."""
    raw = read(path)
    if not raw.strip():
        return Settings()
    text, value = parsed(raw, path)
    mistakes = list(islice(_mistakes(path, text, value), MANY))
    if mistakes:
        raise Invalid(mistakes, cut=len(mistakes) == MANY)
    runner, store, logs = (value.get(section, {}) for section in _KEYS)
    return Settings(
        runner.get("store", ""), runner.get("workers"), store.get("verify", "always"), logs.get("max_bytes", 1 << 30)
    )


def read(path: str) -> bytes:
    """Return the bytes of a runner.toml, none where there is none; nothing is read of a file outside its folder."""
    try:
        if os.path.islink(path) and not reading.within(os.path.realpath(path), os.path.dirname(path)):
            raise reading.Refused("it is a symlink that leads out of the project")
        raw = reading.content(path, MAX_BYTES)
    except FileNotFoundError:
        if not os.path.lexists(path):
            return b""
        text, help = "it is a symlink that leads nowhere", _INSIDE
    except reading.Refused as error:
        text, help = str(error), _INSIDE
    except OSError as error:
        text, help = f"it cannot be read: {error.strerror}", ""
    else:
        if len(raw) <= MAX_BYTES:
            return raw
        text, help = f"it is larger than {MAX_BYTES >> 10} KiB", "it holds a few settings; leave out all else"
    raise Invalid([Diagnostic(path, 0, 0, "E109", text, help)])


def parsed(raw: bytes, path: str) -> tuple[str, dict[str, Any]]:
    """Return the text and the tables of a runner.toml; raises Invalid for what is not TOML."""
    import tomllib

    text = decoded(raw, path, "TOML")
    lines = text.split("\n")
    for number, source in enumerate(lines, 1):
        if source.count(".") > _DOTS and not source.lstrip().startswith("#"):  # parsing takes their number squared
            raise Invalid([Diagnostic(path, number, 1, "E110", "this line has too many dots", "a key has one", source)])
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line, column = (int(found[1]), int(found[2])) if found else (0, 0)
        source = lines[line - 1].rstrip("\r") if 0 < line <= len(lines) else ""
        what = f"TOML: {str(error).split(' (at')[0]}"
        raise Invalid([Diagnostic(path, line, column, "E100", what, source=source)]) from None
    except RecursionError:
        raise Invalid([Diagnostic(path, 0, 0, "E110", "it is nested too deeply", "settings need no nesting")]) from None
    except ValueError:
        raise Invalid([Diagnostic(path, 0, 0, "E100", "TOML: a number has too many digits")]) from None


def _mistakes(path: str, text: str, value: dict[str, Any]) -> Iterator[Diagnostic]:
    places = _Places(path, text)
    for section, body in value.items():
        if section not in _KEYS:
            help = _home(section) or suggest(section, _KEYS, "sections")
            yield places.mistake("E101", f"unknown section `{section}`", section, help=help)
        elif not isinstance(body, dict):
            yield places.mistake(
                "E108", f"`{section}` must be a section, not {_kind(body)}", section,
                help=_home(section) or f"write its keys ({', '.join(_KEYS[section])}) below a line `[{section}]`",
            )  # fmt: skip
        else:
            for key, given in body.items():
                yield from _wrong(places, section, key, given)


def _home(key: str) -> str:
    """Return where a key belongs that is written outside of its section."""
    home = next((section for section, keys in _KEYS.items() if key in keys), "")
    return f"write `{key} = ...` below a line `[{home}]`" if home else ""


def _wrong(places: _Places, section: str, key: str, given: Any) -> Iterator[Diagnostic]:
    """Yield what is wrong with one setting."""
    if key not in _KEYS[section]:
        help = suggest(key, _KEYS[section], "keys")
        yield places.mistake("E101", f"unknown key `{key}` in [{section}]", section, key, help)
        return
    wanted, example = _KEYS[section][key]
    if not isinstance(given, wanted) or isinstance(given, bool):
        yield places.mistake("E108", f"`{key}` must not be {_kind(given)}", section, key, f"write {example}")
    elif isinstance(given, int) and not 1 <= given <= _MOST[key]:
        few = "at least 1" if given < 1 else f"at most {_MOST[key]}"
        yield places.mistake("E108", f"`{key}` must be {few}", section, key, f"write {example}")
    elif key == "verify" and given not in _VERIFY:
        yield places.mistake(
            "E107", f"`verify` is {str(given)[:80]!r}, which is none of: {', '.join(_VERIFY)}", section, key
        )
    elif key == "store" and "\0" in str(given):
        yield places.mistake("E108", "`store` holds a NUL character", section, key, f"write {example}")


def _kind(value: Any) -> str:
    """Return what a value of TOML is, in the user's words."""
    return next((word for kind, word in _WORDS.items() if isinstance(value, kind)), "a date or time")


_HEADER = r"\s*\[+\s*[\"']?([\w-]+)"
_KEY = r"(?:^|[{,.])\s*([\"']?)([\w-]+)\1\s*(?=[.=])"


class _Places:
    """Where the sections and keys of a runner.toml are, which the parser of TOML does not say."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.split("\n")

    def mistake(self, code: str, text: str, section: str, key: str = "", help: str = "") -> Diagnostic:
        places = ((section, key), ("", key or section), (section, ""))  # `section.key = ...` stands in no section
        line, column = next((self.found[place] for place in places if place in self.found), (0, 0))
        source = self.lines[line - 1].rstrip("\r") if line else ""
        return Diagnostic(self.path, line, column, code, text, help, source)

    @cached_property
    def found(self) -> dict[tuple[str, str], tuple[int, int]]:
        """The line and column of each key by its section, and of each section."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        section = ""
        for number, line in enumerate(self.lines, 1):
            code = line.partition("#")[0]
            if head := re.match(_HEADER, code):
                section = head[1]
                found.setdefault((section, ""), (number, head.start(1) - head[0].count("[") + 1))
                continue
            for key in re.finditer(_KEY, code):
                found.setdefault((section, key[2]), (number, key.start(2) + 1))
        return found
