"""All that planning looks at: a request, its selection, its reference run, and today's pipeline, values and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fingerprint import World
from .frozen import frozen
from .graph import Graph
from .pipeline import Pipeline, RunRequest
from .reference import Past, Reference
from .select import Selection

NO_RUN: Mapping[str, str] = {}


@frozen
class Today:
    """What an earlier result is compared with: today's pipeline, values and files, and all other results."""

    pipeline: Pipeline
    params: Mapping[str, Any]
    world: World
    past: Past


@frozen
class Case:
    """One request against one reference run: all that planning looks at."""

    today: Today
    graph: Graph
    request: RunRequest
    sources: Mapping[str, str]  # of the params: request, reference or default
    selection: Selection
    reference: Reference | None
    now: float  # UTC seconds, for what expires

    @property
    def pipeline(self) -> Pipeline:
        return self.today.pipeline

    def accepts(self, step: str, cause: str) -> bool:
        """Whether the request accepts this very cause of a step."""
        return any(a.step == step and len(a.cause) >= 9 and cause.startswith(a.cause) for a in self.request.accept)
