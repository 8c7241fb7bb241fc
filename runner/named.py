"""Request x pipeline -> mistakes in the names that a request says, as far as they are known without a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .document import Document, Keys
from .errors import Diagnostic, suggest
from .graph import Graph
from .pipeline import Pipeline
from .request import selector_of
from .select import Facts, Meanings, SelectorError, generalized


def mistakes(document: Document, pipeline: Pipeline, graph: Graph) -> list[Diagnostic]:
    """Return what a request names that the pipeline does not have. `status:` and `changed:` are asked of no run."""
    return [*_selectors(document, pipeline, graph), *_names(document, pipeline)]


def _selectors(document: Document, pipeline: Pipeline, graph: Graph) -> Iterator[Diagnostic]:
    value: Mapping[str, Any] = document.value
    lists: list[tuple[Keys, list[Any]]] = [((field,), value.get(field, [])) for field in ("select", "exclude", "force")]
    lists.append((("expect", "run"), value.get("expect", {}).get("run", [])))
    whole = set(pipeline.steps)
    facts = Facts(lambda status: whole, lambda kind: whole)  # which steps they are decides nothing about names
    meanings = Meanings(pipeline, graph, facts)
    deferred = any(step.deferred for step in pipeline.steps.values())
    for at, written in lists:
        for index, item in enumerate(written):
            text = selector_of(item)
            try:
                meanings.of(generalized(text, pipeline), "select", index)
            except SelectorError as error:
                if deferred and ("*" in text or "?" in text):
                    continue  # it may mean steps inside of items that are not known yet
                offset = error.offset if isinstance(item, str) else 0
                yield document.diagnostic(error.code, error.text, (*at, index), offset=offset, help=error.help)


def _names(document: Document, pipeline: Pipeline) -> Iterator[Diagnostic]:
    value: Mapping[str, Any] = document.value
    conditions = [name for name, step in pipeline.steps.items() if step.kind == "condition"]
    written = [name for name, step in pipeline.steps.items() if not step.within]
    for name in value.get("assume", {}):
        if name not in conditions:
            yield document.diagnostic(
                "E406", f"assume: there is no condition `{name}`", ("assume", name), key=True, help=suggest(name, conditions, "conditions")
            )  # fmt: skip
    places: list[tuple[Keys, str, bool]] = [
        (("expect", "steps", name), name, True) for name in value.get("expect", {}).get("steps", {})
    ]
    places += [(("accept", index, "step"), a["step"], False) for index, a in enumerate(value.get("accept", ()))]
    for at, name, key in places:
        if generalized(name, pipeline) not in pipeline.steps:
            yield document.diagnostic(
                "E406", f"{at[0]}: no step `{name}`", at, key=key, help=suggest(name, written, "steps")
            )
