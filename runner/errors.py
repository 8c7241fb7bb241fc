"""Every failure that a user can cause or mend: one base, a code, an exit status, a place.

A `Diagnostic` is one mistake in one file. A `RunnerError` ends a command; only `cli/` catches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .frozen import frozen

# Patterns are compiled where they are used: at each start that would take longer than what most starts need them for.
SHOWN = 20  # diagnostics printed before the rest is only counted
MANY = 200  # mistakes of one stage after which nobody looks for more: each costs a search for its place and remedy
_WORD = r"\S{1001,}"  # a name that is too long
_LONGEST = 1000  # characters of a text that is shown; what a file says in a name may have millions


@frozen
class Diagnostic:
    """One mistake (or warning) at one place; `line` and `column` count from 1, 0 means the whole file."""

    path: str
    line: int
    column: int
    code: str
    text: str
    help: str = ""
    source: str = ""  # the line of the file, as written

    @property
    def severity(self) -> str:
        return "warning" if self.code.startswith("W") else "error"

    def __str__(self) -> str:
        path = printable(_short(self.path))
        place = f"{path}:{self.line}:{self.column}" if self.line else path
        out = [f"{place}: {self.severity}[{self.code}]: {_shown(_short(self.text), _NO_RUN)}"]
        if self.source and self.line:
            # A very long line is shown as the part around the mistake.
            start = max(0, self.column - 81) if len(self.source) > 160 else 0
            shown = self.source[start : start + 160].replace("\t", " ")
            out += [f"{self.line:>5} | {printable(shown)}", f"      | {' ' * (self.column - 1 - start)}^"]
        if self.help:
            out.append(f"      = help: {_shown(self.help)}")
        return "\n".join(out)


class RunnerError(Exception):
    """What a user can cause or mend. `exit_status` is the command's exit code."""

    exit_status = 2

    def __init__(self, text: str, *, help: str = "", code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.help = help
        self.code = code

    def __str__(self) -> str:
        text = _shown(re.sub(_WORD, lambda found: _short(found[0]), self.text))
        head = f"error[{self.code}]: {text}" if self.code else f"error: {text}"
        return f"{head}\n  = help: {_shown(self.help)}" if self.help else head


class Invalid(RunnerError):
    """One or more mistakes in files, all of one stage; `cut`: there may be more, which nobody looked for."""

    def __init__(self, diagnostics: Sequence[Diagnostic], *, cut: bool = False) -> None:
        super().__init__(f"{len(diagnostics)} mistakes")
        self.diagnostics = tuple(diagnostics)
        self.cut = cut

    def __str__(self) -> str:
        shown = [str(d) for d in self.diagnostics[:SHOWN]]
        more = len(self.diagnostics) - SHOWN
        if more > 0:
            shown.append(f"... and {'at least ' if self.cut else ''}{more} more {'error' if more == 1 else 'errors'}")
        return "\n".join(shown)


class LeadsOut(ValueError):
    """A path of the project is a symlink to a place outside of it."""


class UsageError(RunnerError):
    """A command line that means nothing."""


class SelectionError(RunnerError):
    """The selection of a request, or what it asks for beside it, cannot be; `field` is the field that asks for it."""

    def __init__(self, text: str, *, help: str = "", field: tuple[str, ...] = ("select",)) -> None:
        super().__init__(text, help=help)
        self.field = field


class ReferenceRunError(RunnerError):
    """A reference run that is missing, unfinished, or lacks what the selection needs."""


class NeedsDecision(RunnerError):
    """Findings that only a person can settle: nothing starts."""

    exit_status = 3


class Moved(RunnerError):
    """The world is no longer what the plan saw, or somebody holds it."""

    exit_status = 4


class StoreDamaged(RunnerError):
    """Bytes in the store are missing or are not what their record says."""

    exit_status = 5


class EnvironmentFailure(RunnerError):
    """Disk full, a tool or interpreter that is missing, a store of a newer format."""

    exit_status = 6


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 100]} ... {text[-90:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean `x`?" for the closest of `known`, or "" where none is close."""
    import difflib  # only for a mistake

    names = list(known)
    if len(names) > 1000:  # comparing with each would take longer than compiling
        alike = rf"^(?:{re.escape(name[:3])}.*|.*{re.escape(name[-3:])})$"
        found = re.findall(alike, "\n".join(names), re.MULTILINE)
        names = [k for k in found if abs(len(k) - len(name)) < 3][:200]
    found = difflib.get_close_matches(name[:200], names, n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""


def decoded(raw: bytes, shown: str, form: str) -> str:
    """Return the text of a file in UTF-8; raises Invalid with the place of the first byte that is not."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        text = f"{form}: the file is not UTF-8"
        raise Invalid([Diagnostic(shown, line, column, "E100", text, "save it as UTF-8")]) from None


def suggest(name: str, known: Iterable[str], noun: str) -> str:
    """Return the nearest name, or else what there is."""
    names = sorted(known)
    if not names:
        return f"there are no {noun}"
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return nearest(name, names) or f"there are: {listed}"


def printable(text: str) -> str:
    """Escape what could move a terminal's cursor or change its colours."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shown(text: str, foreign: str = "") -> str:
    """Return a text that can be shown: what a file says moves no cursor, and gives no command to who reads lines."""
    return "\n".join(printable(line) for line in re.sub(foreign or _COMMAND, r"\\n", text).split("\n"))


_NO_RUN = r"\n(?!  (\d{8}-|\.\.\. |and ))"  # the one text of several lines is a list of runs
_COMMAND = r"\n(?!\s*[\w./|=\[])"  # none of our own lines begins so; `::error::` of a CI does
