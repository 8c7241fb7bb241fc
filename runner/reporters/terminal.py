"""A live table for a person at a terminal: state and time of what runs, progress of the whole."""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..plan import Plan
from ..record import Event, RunEnded, StepEnded, StepStarted
from .text import event_lines, seconds

_STYLES = {
    "succeeded": "green",
    "reused": "cyan",
    "cached": "cyan",
    "skipped": "dim",
    "failed": "bold red",
    "stopped": "yellow",
}


def silence() -> None:
    """Write to nowhere from now on: whoever read has gone, and that does not end a run."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(nowhere, output)
    os.close(nowhere)


class LiveTable:
    """Lines for what has ended scroll by; below them stand the running steps and the progress."""

    def __init__(self, plan: Plan, color: bool, estimate: float = 0.0) -> None:
        self.estimate = estimate
        self.console = Console(highlight=False, no_color=not color)
        self.total = sum(d.name in ("run", "reuse", "cached", "skip") for d in plan.decisions.values())
        self.ended = 0
        self.running: dict[str, tuple[float, int]] = {}
        self.start = time.monotonic()
        self.live = Live(console=self.console, refresh_per_second=8, get_renderable=self._render, transient=True)

    def __enter__(self) -> LiveTable:
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        try:
            self.live.__exit__(kind, error, place)
        except OSError:
            silence()

    def __call__(self, event: Event) -> None:
        try:
            self._tell(event)
        except OSError:
            silence()

    def _tell(self, event: Event) -> None:
        match event:
            case StepStarted():
                self.running[event.step] = (time.monotonic(), event.attempt)
                return
            case StepEnded():
                self.running.pop(event.step, None)
                self.ended += 1
            case RunEnded():
                self.running.clear()
        style = _STYLES.get(event.status, "") if isinstance(event, StepEnded | RunEnded) else ""
        for number, line in enumerate(event_lines(event, self.estimate)):
            self.console.print(Text(line, style=style if number == 0 else "dim"), soft_wrap=True)

    def _render(self) -> Group:
        now = time.monotonic()
        table = Table.grid(padding=(0, 2))
        shown = list(self.running.items())[: max(3, self.console.height - 6)]
        for name, (since, attempt) in shown:
            again = f"attempt {attempt}" if attempt > 1 else ""
            table.add_row(Text("  running", style="yellow"), Text(name), Text(seconds(now - since)), Text(again))
        if len(self.running) > len(shown):
            table.add_row(f"  and {len(self.running) - len(shown)} more")
        done = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self.total, 1), completed=self.ended, width=30)
        done.add_row(Text("  "), bar, Text(f"{self.ended}/{self.total} steps, {seconds(now - self.start)}"))
        return Group(table, done)
