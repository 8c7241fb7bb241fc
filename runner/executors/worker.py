"""One worker of the local pool: stages an attempt, starts it, collects and hashes what it leaves, reports.

A stand-alone program of the standard library, started by exec: calls come in on standard input, outcomes go out on
standard output (`messages.py`). It is the subreaper and supervisor of one attempt at a time; the end of its
input means that the engine is gone, so it kills everything and leaves. Its parent is a guard that does the same
should the worker itself be killed. The fields of a call are those of `executors.Call`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal

from .collecting import attempt_folder, collect, written_values
from .failed import Failed
from .files import full, pass_by
from .folders import relative
from .guard import clean_up, guarded
from .logs import mask_cells, redactor
from .messages import pack
from .processes import end_all
from .scratch import Scratch
from .staging import check_inputs, stage
from .starting import Parents
from .supervising import Control, run

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterable, Set
    from typing import Any

    from .folders import Inside

    Json = dict[str, Any]


def attempt(
    call: Json,
    scratch: Scratch,
    control: Control | None = None,
    parents: Parents | None = None,
    spare: Set[int] = frozenset(),
) -> Json:
    """Do one attempt; return its outcome, plain. Its directory is left to the caller to keep or to remove."""
    outcome = {
        "step": call["step"],
        "attempt": call["attempt"],
        "cause": "",
        "message": "",
        "outputs": {},
        "values": None,
    }
    try:
        heed = pass_by
        if control is not None:
            control.begin(call)
            heed = control.heed
        marks = stage(call, scratch, heed)
        if control is not None and control.stop:
            raise Failed("stopped", "stopped")
        ended = run_boxed(call, marks, control, parents, spare)
        outcome.update(
            seconds=ended["seconds"],
            exit_code=ended["exit_code"],
            signal=ended["signal"],
            tail=ended["tail"],
            leftover=ended["leftover"],
        )
        judge(call, ended)
        check_inputs(marks, heed)
        with attempt_folder(call) as inside:
            if call["secrets"] and call["printed"]:
                mask_printed(call, inside)
            outcome["outputs"], outcome["marks"] = collect(call, inside, heed)
            outcome["values"] = written_values(call, inside)
    except Failed as error:
        outcome.update(cause=error.cause, message=error.message)
        if error.digest:
            outcome["damaged"] = error.digest
    except OSError as error:
        outcome.update(
            cause="environment",
            message=f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            errno=error.errno,
        )
    except RecursionError:
        outcome.update(cause="output", message="E220 a directory among its outputs is too deep")
    except UnicodeError as error:
        outcome.update(cause="output", message=f"E220 a file name that is not UTF-8: {error}")
    if outcome["cause"] in ("exit", "signal", "output") and full(call["root"], outcome.get("tail", "")):
        outcome.update(
            cause="environment", errno=errno.ENOSPC, message=f"{outcome['message']}; the disk of the store is full"
        )
    return outcome


def run_boxed(
    call: Json, linked: Iterable[str], control: Control | None, parents: Parents | None, spare: Set[int]
) -> Json:
    """Run the attempt's process; where it is the client of a container, see that this ends, too."""
    if not call["cleanup"]:
        return run(call, linked, control, parents, spare)
    if control is not None:
        control.bequeath(call)
    why = "an error"
    try:
        ended = run(call, linked, control, parents, spare)
        why = ended["why"]
    finally:
        if why:
            clean_up(call["cleanup"], call["env"])
        if control is not None:
            control.bequeath(None)
    return ended


def mask_printed(call: Json, inside: Inside) -> None:
    """Mask the secrets in the notebook that is among the outputs, if there is one."""
    try:
        folder, name = inside.place(relative(call["printed"], call["root"]))
    except OSError:
        return  # told by who collects it
    mask_cells(folder, name, redactor(call["secrets"]))


def judge(call: Json, ended: Json) -> None:
    """Raise Failed for a process that did not end well."""
    if ended["why"] == "stopped":
        raise Failed("stopped", "stopped")
    if ended["oom"] and (ended["signal"] or ended["exit_code"] not in call["success_codes"]):
        raise Failed("oom", f"out of memory: it needed more than its {_size(call['memory'])}")
    if ended["why"] == "timeout":
        raise Failed("timeout", f"it ran longer than {call['timeout']:g} s")
    if ended["signal"]:
        raise Failed("signal", f"it was killed by {ended['signal']}")
    if ended["exit_code"] not in call["success_codes"]:
        raise Failed("exit", f"it exited with {ended['exit_code']}")


def _size(size: int) -> str:
    for unit, factor in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size} bytes"


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    control, parents, scratch = Control(0, *guarded()), Parents(), Scratch()
    with contextlib.suppress(BrokenPipeError):  # the engine has just gone
        while (call := control.next()) is not None:
            outcome = attempt(call, scratch, control, parents)
            if control.gone:
                break
            if outcome["cause"]:
                scratch.drop()  # room, perhaps, to tell of the failure
            line = pack(outcome)
            while line:
                line = line[os.write(1, line) :]
            if not outcome["cause"]:
                scratch.keep(reused=not call["boxed"] and not call["cleanup"])  # while the engine goes on
    end_all(frozenset())
    scratch.clear()
    os._exit(0)  # there is nothing to tidy, and whoever waits for the end waits for the engine
