"""The command line: options in, exit code out, nothing decided. One file a command, loaded when it is asked for."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import warnings

from .. import console
from ..settled import plain

COMMANDS = {
    "validate": "Check pipeline and run files.",
    "plan": "Show what a run would do, and why.",
    "why": "Show why a step runs or is reused.",
    "apply": "Plan, then run.",
    "retry": "Run again what did not succeed in a run.",
    "stop": "Ask a run to stop.",
    "approve": "Approve what a run waits for.",
    "reject": "Reject what a run waits for.",
    "callback": "Give a run the values that it waits for.",
    "resume": "Go on with a run that waits.",
    "runs": "List runs.",
    "show": "Show one run.",
    "diff": "Show what differs between two runs.",
    "logs": "Print what steps printed.",
    "outputs": "Print or restore what a step made.",
    "models": "List, show and decide on registered models.",
    "graph": "Draw a pipeline.",
    "schema": "Write the JSON Schemas.",
    "pin": "Keep a run whatever the limits of gc are.",
    "unpin": "Take the pin of a run away.",
    "doctor": "Check what this machine and the store have.",
    "store": "Check, mend, measure or clean the store.",
    "init": "Make a small project, or the workflow of a review.",
    "completion": "Print shell completion.",
}


def run(args: list[str]) -> int:
    """Run a command; return its exit code."""
    if not sys.warnoptions:  # what Python wonders about in a `pattern` is said to nobody who could heed it
        warnings.simplefilter("ignore", FutureWarning)
    for stream in (sys.stdout, sys.stderr):  # a name that is no UTF-8 is printed, with escapes
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    gc.disable()  # planning makes many values and no rings; looking for rings would take a fifth of its time
    return console.ended(lambda: _command(args))


def _command(args: list[str]) -> int:
    if (simple := plain(args)) is not None and not os.path.isdir(simple[1]):
        from .. import session  # there is no option to parse: the parser takes 10 ms to load

        command, file, params = simple
        return session.apply(file, params) if command == "apply" else session.plan(file, params)
    from .group import parsed

    return parsed(args)
