"""Step kinds: how each turns its values into a process, or settles at once. Adding one = a module and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import command, condition, fail, notebook, python, shell
from .kinds import THREADS, Ended, Launch, Place

PROCESS: Mapping[str, Callable[[Mapping[str, Any], Place], Launch]] = {
    "command": command.launch,
    "shell": shell.launch,
    "python": python.launch,
    "notebook": notebook.launch,
}
AT_ONCE: Mapping[str, Callable[[Mapping[str, Any]], Ended]] = {"condition": condition.settle, "fail": fail.settle}

__all__ = ["AT_ONCE", "PROCESS", "THREADS", "Ended", "Launch", "Place"]
