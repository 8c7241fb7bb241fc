"""What an executor is given and gives back: calls and outcomes. It knows nothing of plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Protocol

from ..frozen import frozen


@frozen
class Call:
    """One attempt of one step: all that a worker needs, in plain JSON. Paths are absolute."""

    step: str
    attempt: int
    root: str  # the attempt's directory, made and removed by the worker
    work: str  # where output paths start: RUNNER_OUTPUT_DIR
    cwd: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: str
    objects: str  # of the store
    trees_dir: str
    values: str  # RUNNER_VALUES
    files: Mapping[str, str] = field(default_factory=dict)  # path -> text to write before the start
    links: tuple[tuple[str, str, str, Any], ...] = ()  # target, source, digest, signature it must have or None
    copies: tuple[tuple[str, str, str], ...] = ()  # target, source, digest
    trees: tuple[tuple[str, str, str], ...] = ()  # target, manifest, objects
    folders: tuple[str, ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()  # name, type, path, shown, optional
    success_codes: tuple[int, ...] = (0,)
    timeout: float = 0.0  # seconds; 0 means none
    grace: float = 10.0
    log_limit: int = 1 << 30
    warm: bool = False  # fork it from a warm parent
    interpreter: tuple[str, ...] = ()  # argv of the parent
    task: str = ""  # file that tells the child what to do
    memory: int = 0  # bytes that its processes may have together; 0 means no limit
    secrets: tuple[tuple[str, str], ...] = ()  # name, value: masked in all that it prints
    printed: str = ""  # a notebook among the outputs: what its cells have put out is masked, too
    closed: tuple[str, ...] = ()  # folders of which its processes see what it is given only; empty: it is not sealed
    readable: tuple[str, ...] = ()  # what they may read there beside its links
    boxed: bool = False  # argv starts bubblewrap, which starts the step's program
    cleanup: tuple[str, ...] = ()  # argv that ends what a KILL does not reach: a container


@frozen
class Outcome:
    """How an attempt ended. `cause` is empty for a success."""

    step: str
    attempt: int
    cause: str = ""
    message: str = ""
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    values: str | None = None  # text of the values file
    seconds: float = 0.0
    exit_code: int | None = None
    signal: str = ""
    tail: str = ""  # the end of what it printed
    leftover: bool = False  # whether processes were left and ended
    marks: Mapping[str, list[int]] = field(default_factory=dict)  # of stored files by digest, as the worker left them
    damaged: str = ""  # digest of a stored input that the step changed
    errno: int = 0


class Executor(Protocol):
    """Runs attempts; at most as many at once as it was made for."""

    def submit(self, call: Call) -> None:
        """Begin an attempt."""

    def wait(self, seconds: float | None) -> list[Outcome]:
        """Return what has ended, after at most `seconds`; [] also when a signal came."""

    def stop(self, step: str | None, kill: bool) -> None:
        """Ask the attempts of one step, or all, to end: TERM, or KILL at once."""

    def close(self) -> None:
        """End everything that is left; a second time there is nothing."""
