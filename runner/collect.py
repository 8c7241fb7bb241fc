"""What an attempt left x the outputs that its step declares -> typed values, or what is wrong with them.

The same for what a person or a program outside answers to a step that waits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any

from .expression import EvaluationError, Type, pointer
from .frozen import frozen
from .pipeline import Output, Step
from .record import StepWaiting

LIMIT = 16 << 20  # bytes of a JSON file that values are read from


class WrongOutput(Exception):
    """A value is missing or not of its declared type: the step fails, and none of its outputs is stored."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(f"{code} {text}".strip())
        self.text, self.code = text, code


def values_of(
    step: Step, text: str | None, artifacts: Mapping[str, Mapping[str, Any]], read: Callable[[str], bytes]
) -> dict[str, Any]:
    """Return the value outputs. `text` is the values file; `read` gives a stored file. Raises WrongOutput."""
    declared = [o for o in step.outputs.values() if not o.is_artifact]
    written = _parse("the values file", text.encode()) if text is not None else {}
    return checked(declared, written, artifacts, read)


@frozen
class Answer:
    """What somebody outside has said to a step that waits."""

    by: str
    at: float  # UTC seconds
    approved: bool = True
    comment: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def answer(waiting: StepWaiting, run: str, message: Mapping[str, Any]) -> Answer:
    """Return what a message of the inbox of `run` says to a step that waits; raises WrongOutput where that is nothing."""
    by, at = str(message["by"]), float(message["at"])
    if message.get("run", run) != run:
        raise WrongOutput(f"it was written for run {message['run']}")
    if waiting.until and at >= waiting.until:
        raise WrongOutput("it came too late")
    if waiting.kind == "callback":
        return Answer(by, at, values=answered(expected(waiting), message.get("values")))
    if "run" not in message:  # whoever may write the store could move a decision from one run to another
        raise WrongOutput("it does not say for which run it is")
    approved, comment = message.get("approve"), message.get("comment", "")
    if not isinstance(approved, bool) or not isinstance(comment, str):
        raise WrongOutput("`approve` must be true or false, and `comment` a text")
    if waiting.approvers and by not in waiting.approvers:
        raise WrongOutput(f"{by} is not one of the approvers: {', '.join(waiting.approvers)}")
    return Answer(by, at, approved, comment)


def expected(waiting: StepWaiting) -> list[Output]:
    """Return the outputs that a callback waits for."""
    return [
        Output(name, Type(o["type"], Type(o["items"]) if "items" in o else None), optional=o.get("optional", False))
        for name, o in waiting.outputs.items()
    ]


def answered(outputs: Iterable[Output], values: Any) -> dict[str, Any]:
    """Return the values that came from outside, each of its declared type; raises WrongOutput."""
    declared = {output.name: output for output in outputs}
    if not isinstance(values, dict):
        raise WrongOutput("`values` must be a JSON object", "E222")
    if unknown := sorted(values.keys() - declared.keys()):
        raise WrongOutput(f"it waits for no value {', '.join(unknown)}", "E220")
    if missing := [name for name, output in declared.items() if name not in values and not output.optional]:
        raise WrongOutput(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", "E220")
    return checked(declared.values(), _parse("the message", json.dumps(values).encode()))


def _nothing(digest: str) -> bytes:
    raise AssertionError(digest)


def checked(
    outputs: Iterable[Output],
    written: Any,
    artifacts: Mapping[str, Mapping[str, Any]] | None = None,
    read: Callable[[str], bytes] = _nothing,
) -> dict[str, Any]:
    """Return the values of declared outputs out of what was written for them. Raises WrongOutput."""
    declared = list(outputs)
    artifacts = artifacts or {}
    if not isinstance(written, dict):
        raise WrongOutput("the values file must hold a JSON object", "E222")
    if declared or written:
        known = {o.name for o in declared if not o.source}
        if unknown := sorted(set(written) - known):
            raise WrongOutput(f"it wrote the values {', '.join(unknown)}, which are not declared", "E220")
    found: dict[str, Any] = {}
    wrong: list[WrongOutput] = []
    for output in declared:
        try:
            value = _value(output, written, artifacts, read)
            if value is not _ABSENT:
                found[output.name] = value
        except WrongOutput as error:
            wrong.append(error)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else WrongOutput("; ".join(map(str, wrong)))
    return found


_ABSENT = object()


def _value(
    output: Output, written: Mapping[str, Any], artifacts: Mapping[str, Mapping[str, Any]], read: Callable[[str], bytes]
) -> Any:
    if output.source:
        if output.source not in artifacts:
            if output.optional:
                return _ABSENT
            raise WrongOutput(
                f"output `{output.name}`: the output `{output.source}` that holds it was not written", "E221"
            )
        artifact = artifacts[output.source]
        if artifact["size"] > LIMIT:
            raise WrongOutput(f"output `{output.name}`: `{output.source}` is larger than {LIMIT >> 20} MiB", "E221")
        content = _parse(f"output `{output.name}`: `{output.source}`", read(artifact["digest"]))
        try:
            value = pointer(content, output.pointer)
        except EvaluationError as error:
            if output.optional:
                return _ABSENT
            raise WrongOutput(f"output `{output.name}`: `{output.source}`: {error}", "E221") from None
    elif output.name in written:
        value = written[output.name]
    elif output.optional:
        return _ABSENT
    else:
        raise WrongOutput(f"it ended but did not write the value `{output.name}` to the values file", "E220")
    if value is None and output.optional:
        return _ABSENT
    if wrong := _misfit(output.type, value):
        raise WrongOutput(f"output `{output.name}` {wrong}", "E222")
    return value


def _parse(what: str, content: bytes) -> Any:
    def refuse(text: str) -> Any:
        raise WrongOutput(f"{what} holds {text}, which is not a number of JSON", "E222")

    try:
        return json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise WrongOutput(f"{what} is not JSON: {error}", "E221") from None


_ARTICLE = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "object": "an object",
}


def _misfit(type: Type, value: Any) -> str:
    """Return what is wrong with a value for a type, or ''."""
    match type.name, value:
        case "string", str():
            return ""
        case "boolean", bool():
            return ""
        case "integer", int() if not isinstance(value, bool):
            return ""
        case "number", int() | float() if not isinstance(value, bool):
            return "" if math.isfinite(value) else f"is {value}; a finite number is declared"
        case "list", list():
            wrong = [w for item in value if type.item and (w := _misfit(type.item, item))]
            return f"has an element that {wrong[0]}" if wrong else ""
        case "object", dict():
            return ""
    shown = json.dumps(value, ensure_ascii=False)
    kind = (
        "the text "
        if isinstance(value, str)
        else "the list "
        if isinstance(value, list)
        else "the object "
        if isinstance(value, dict)
        else ""
    )
    return f"is {kind}{shown if len(shown) < 60 else shown[:57] + '...'}; {_ARTICLE[type.name]} is declared"
