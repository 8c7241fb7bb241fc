"""What a step kind gives: the process to launch, or an end that needs none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ..frozen import frozen

# How numeric libraries are told how many threads they may start.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


@frozen
class Place:
    """Where an attempt happens. Paths are absolute."""

    root: str  # the attempt's own directory, outside the working directory
    cwd: str
    values: str  # file that value outputs are written to
    interpreter: str
    env: Mapping[str, str]
    preload: tuple[str, ...] = ()  # what the warm parent of python steps imports


@frozen
class Launch:
    """A process to start."""

    argv: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)  # to write first
    warm: bool = False
    parent: tuple[str, ...] = ()  # argv of a warm parent
    task: str = ""
    printed: str = ""  # path of a notebook among the outputs, which holds what its cells printed


@frozen
class Ended:
    """The end of a step without a process."""

    status: str
    taken: bool | None = None
    cause: str = ""
    message: str = ""
