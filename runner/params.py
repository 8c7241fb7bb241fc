"""Parameters: which values each may have, and which value it has in one run and why. Values are never coerced."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .document import Document, Keys, kind_of
from .errors import Diagnostic, Invalid, suggest
from .expression import Type
from .pipeline import Files, Param, Pipeline, RunRequest
from .values import DURATION_HELP, Duration, canonical, to_seconds

RULES = {
    "minimum": ("integer", "number"), "maximum": ("integer", "number"),
    "exclusiveMinimum": ("integer", "number"), "exclusiveMaximum": ("integer", "number"),
    "minLength": ("string", "file", "dir"), "maxLength": ("string", "file", "dir"),
    "pattern": ("string", "file", "dir"), "items": ("list",), "minItems": ("list",), "maxItems": ("list",),
}  # fmt: skip
_ARTICLE = {"string": "a text", "integer": "an integer", "number": "a number", "boolean": "true or false", "duration": "a duration", "file": "a path", "dir": "a path", "list": "a list", "object": "a mapping"}  # fmt: skip


def check_value(param: Param, value: Any) -> str | None:
    """Return what is wrong with `value` for `param`, or None. Values are never coerced."""
    wrong = check_type(param.type, value) or _unwritable(value)
    if wrong:
        return wrong
    rules = param.rules
    if "enum" in rules and not any(
        value == option and isinstance(value, bool) == isinstance(option, bool) for option in rules["enum"]
    ):
        return f"{value!r} is none of: {', '.join(map(str, rules['enum']))}"
    bounds: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("minimum", lambda bound: value >= bound, "at least"),
        ("maximum", lambda bound: value <= bound, "at most"),
        ("exclusiveMinimum", lambda bound: value > bound, "greater than"),
        ("exclusiveMaximum", lambda bound: value < bound, "less than"),
    )
    for rule, holds, word in bounds:
        if rule in rules and not holds(rules[rule]):
            return f"{value} must be {word} {rules[rule]}"
    lengths: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("minLength", lambda bound: len(value) >= bound, "at least {} characters"),
        ("maxLength", lambda bound: len(value) <= bound, "at most {} characters"),
        ("minItems", lambda bound: len(value) >= bound, "at least {} elements"),
        ("maxItems", lambda bound: len(value) <= bound, "at most {} elements"),
    )
    for rule, holds, word in lengths:
        if rule in rules and not holds(rules[rule]):
            return f"it must have {word.format(rules[rule])}, not {len(value)}"
    if "pattern" in rules and not re.fullmatch(rules["pattern"], value):
        return f"{value!r} does not match the pattern {rules['pattern']}"
    return None


def _unwritable(value: Any) -> str | None:
    """Return why a value could not be written into a record: what a command line gives may be no text at all."""
    try:
        canonical(value).encode()
    except UnicodeEncodeError:
        return "the text is not UTF-8"
    except RecursionError:
        return "it is nested too deep"
    except ValueError:
        return "it holds a number that is not finite"
    return None


def check_type(type: Type, value: Any) -> str | None:
    expected = _ARTICLE[type.name]
    match type.name, value:
        case "string" | "file" | "dir", str():
            return (
                "the text holds a NUL character"
                if "\0" in value
                else None
                if value or type.name == "string"
                else "the path is empty"
            )
        case "duration", str():
            try:
                to_seconds(value)
            except ValueError as error:
                return f"{error}; {DURATION_HELP}"
            return None
        case "integer", int() if not isinstance(value, bool):
            return None
        case "number", int() | float() if not isinstance(value, bool):
            return None
        case "boolean", bool():
            return None
        case "list", list():
            for index, item in enumerate(value):
                if type.item and (wrong := check_type(type.item, item)):
                    return f"element {index}: {wrong}"
            return None
        case "object", dict():
            return None
    if isinstance(value, str) and type.name in ("integer", "number", "boolean"):
        quoted = re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?|true|false", value)
        return f'expected {expected}, got the text "{value}"' + ("; remove the quotes" if quoted else "")
    if type.name == "duration" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"expected {expected}, got {kind_of(value)}; write its unit: {value}s"
    if type.name in ("string", "file", "dir", "duration") and not isinstance(value, list | dict):
        return f"expected {expected}, got {kind_of(value) if value is not None else 'nothing'}; put it in quotes"
    return f"expected {expected}, got {kind_of(value) if value is not None else 'nothing'}"


def widen(param: Param, value: Any) -> Any:
    """Return a checked value in the form that expressions work on."""
    return Duration(value) if param.type.name == "duration" else value


def parse_value(param: Param, text: str) -> Any:
    """Return the value of `-p name=text` by the declared type; raises ValueError."""
    from .document import resolve

    match param.type.name:
        case "integer" | "number" | "boolean":
            value = resolve(text)
            if isinstance(value, str) or value is None:
                raise ValueError(f"expected {_ARTICLE[param.type.name]}, got {text!r}")
            return value
        case "list" | "object":
            import json

            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                shown = text if len(text) < 200 else f"{text[:200]}..."
                raise ValueError(f"expected {_ARTICLE[param.type.name]} as JSON, got {shown!r}") from None
        case _:
            return text


def resolve_params(
    pipeline: Pipeline,
    request: RunRequest,
    document: Document | None,
    files: Files,
    inherited: Mapping[str, Any] | None,
    written: Callable[[], Document] | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return each parameter's value and its source (request, reference, default).

    A file or dir is given as its location. `inherited` are the reference run's values, already located. `written` gives
    the pipeline's document, where a default stands.
    Raises Invalid with every value that does not fit.
    """
    mistakes: list[Diagnostic] = []

    def mistake(code: str, text: str, at: Keys, *, key: bool = False, help: str = "") -> None:
        if source == "default" and written is not None:
            mistakes.append(written().diagnostic(code, text, (*at, "default"), key=key, help=help))
        elif document is not None:
            mistakes.append(document.diagnostic(code, text, at, key=key, help=help))
        else:
            mistakes.append(Diagnostic("command line", 0, 0, code, text, help))

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    source = ""
    for name in request.params:
        if name not in pipeline.params:
            mistake(
                "E122",
                f"no parameter `{name}`",
                ("params", name),
                key=True,
                help=suggest(name, pipeline.params, "params"),
            )
    for index, name in enumerate(request.reset):
        if name not in pipeline.params:
            mistake("E122", f"no parameter `{name}`", ("reset", index), help=suggest(name, pipeline.params, "params"))
        elif name in request.params:
            mistake("E108", f"`{name}` is both set and reset", ("reset", index))
    for name, param in pipeline.params.items():
        at: Keys = ("params", name)
        base, source = pipeline.base, ""
        if name in request.params:
            value, source, base = request.params[name], "request", request.base
        elif (
            inherited is not None and name in inherited and request.inherit == "reference" and name not in request.reset
        ):
            value, source = inherited[name], "reference"
        elif not param.required:
            value, source = param.default, "default"
        else:
            mistake(
                "E104",
                f"the parameter `{name}` has no default and is not set",
                ("params",),
                key=True,
                help=f"add `params: {{{name}: ...}}`",
            )
            continue
        wrong = check_value(param, value)
        if wrong:
            if source == "reference":
                mistake(
                    "E123",
                    f"params.{name} has another type or rule than in the reference run: {wrong}",
                    ("params",),
                    key=True,
                    help=f"set it, or add `reset: [{name}]`",
                )
            else:
                mistake("E120", f"params.{name}: {wrong}", at)
            continue
        if param.type.name in ("file", "dir"):
            try:
                if source != "reference":
                    value = files.locate(value, base)
                found = files.kind(value)
            except ValueError as error:
                mistake("E108", f"params.{name}: {error}", at)
                continue
            if found != param.type.name:
                what = (
                    f"there is no {'file' if param.type.name == 'file' else 'directory'} {value}"
                    if found is None
                    else f"{value} is a {'directory' if found == 'dir' else 'file'}"
                )
                mistake("E109", f"params.{name}: {what}", at, help="the path is relative to the file that gives it")
                continue
        values[name], sources[name] = widen(param, value), source
    if mistakes:
        raise Invalid(mistakes)
    return values, sources
