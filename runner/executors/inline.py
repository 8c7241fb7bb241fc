"""Attempts one after another in this process, for tests: the same staging and collecting, no pool."""

from __future__ import annotations

from dataclasses import asdict

from .calls import Call, Outcome
from .processes import become_subreaper, descendants
from .scratch import Scratch
from .worker import attempt


class InlineExecutor:
    """Runs each attempt when it is waited for."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        become_subreaper()

    def submit(self, call: Call) -> None:
        self.calls.append(call)

    def wait(self, seconds: float | None) -> list[Outcome]:
        if not self.calls:
            return []
        call = asdict(self.calls.pop(0))
        scratch = Scratch()
        outcome = attempt({**call, "warm": False}, scratch, spare=frozenset(descendants()))
        scratch.drop()
        return [Outcome(**outcome)]

    def stop(self, step: str | None, kill: bool) -> None:
        self.calls = [call for call in self.calls if step is not None and call.step != step]

    def close(self) -> None:
        self.calls.clear()
