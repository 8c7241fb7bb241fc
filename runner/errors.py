"""Every failure that a user can cause or mend: one base, a code, an exit status, a place.

A `Diagnostic` is one mistake in one file. A `RunnerError` ends a command; only `cli/` catches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .frozen import frozen

SHOWN = 20  # diagnostics printed before the rest is only counted


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
        path = printable(self.path)
        place = f"{path}:{self.line}:{self.column}" if self.line else path
        out = [f"{place}: {self.severity}[{self.code}]: {self.text}"]
        if self.source and self.line:
            # A very long line is shown as the part around the mistake.
            start = max(0, self.column - 81) if len(self.source) > 160 else 0
            shown = self.source[start : start + 160].replace("\t", " ")
            out += [f"{self.line:>5} | {printable(shown)}", f"      | {' ' * (self.column - 1 - start)}^"]
        if self.help:
            out.append(f"      = help: {self.help}")
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
        head = f"error[{self.code}]: {self.text}" if self.code else f"error: {self.text}"
        return f"{head}\n  = help: {self.help}" if self.help else head


class Invalid(RunnerError):
    """One or more mistakes in files, all of one stage."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(f"{len(diagnostics)} mistakes")
        self.diagnostics = tuple(diagnostics)

    def __str__(self) -> str:
        shown = [str(d) for d in self.diagnostics[:SHOWN]]
        more = len(self.diagnostics) - SHOWN
        if more > 0:
            shown.append(f"... and {more} more {'error' if more == 1 else 'errors'}")
        return "\n".join(shown)


class UsageError(RunnerError):
    """A command line that means nothing."""


class SelectionError(RunnerError):
    """A selection that names no step, leaves a hole, or lacks a reference run to stand on."""


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


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean `x`?" for the closest of `known`, or "" where none is close."""
    import difflib  # only for a mistake

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""


def suggest(name: str, known: Iterable[str], noun: str) -> str:
    """Return the nearest name, or else what there is."""
    names = sorted(known)
    if not names:
        return f"there are no {noun}"
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return nearest(name, names) or f"there are: {listed}"


def printable(text: str) -> str:
    """Escape what could move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
