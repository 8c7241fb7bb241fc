"""What the commands share that answer a waiting step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ..collect import Answer, WrongOutput, answer
from ..console import the_store
from ..errors import Moved, UsageError
from ..record import StepWaiting
from ..store.local import LocalStore


def waiting_step(run: str, step: str, store: str | None, kind: str) -> tuple[LocalStore, str, StepWaiting]:
    """Return what a step of a run waits for; raises UsageError where it waits for nothing of this kind."""
    opened = the_store(store)
    id = opened.resolve(run)
    record = opened.recorded(id)
    waiting = record.waiting.get(step)
    if waiting is None or record.finished:
        status = record.statuses.get(step)
        listed = [f"{n} ({w.kind})" for n, w in record.waiting.items()] if not record.finished else []
        what = f"has no step `{step}`" if status is None else f"does not wait for {step}, which is {status}"
        raise UsageError(
            f"run {id} {what}", help=f"it waits for: {', '.join(listed)}" if listed else f"the run is {record.status}"
        )
    if waiting.kind != kind:
        command = "approve" if waiting.kind == "approval" else "callback"
        raise UsageError(
            f"{step} of run {id} is of kind {waiting.kind}", help=f"answer it by `runner {command} {id} {step}`"
        )
    if waiting.until and time.time() >= waiting.until:
        raise Moved(f"it is too late to answer {step} of run {id}", help=f"see `runner show {id}`")
    for given in _answers(opened, id, waiting):
        said = "has its values" if kind == "callback" else "is approved" if given.approved else "is rejected"
        raise Moved(f"{step} of run {id} {said} already, by {given.by}", help=f"see `runner show {id}`")
    return opened, id, waiting


def _answers(opened: LocalStore, id: str, waiting: StepWaiting) -> Iterator[Answer]:
    """Yield what was answered to a step and not heeded yet; the first is what counts."""
    for _, message in opened.posted(id):
        if message.get("step") == waiting.step:
            try:
                yield answer(waiting, id, message)
            except WrongOutput:
                continue


def post(opened: LocalStore, id: str, kind: str, message: Mapping[str, Any]) -> None:
    """Drop an answer, and say how the run goes on."""
    opened.post(id, kind, {"run": id, **message})
    record = opened.run(id)
    if record is not None and not record.alive:
        click.echo(f"its runner has ended: go on with `runner resume {id}`", err=True)
