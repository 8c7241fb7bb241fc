"""The axes of a fan-out -> its items: which values each has, and its name. Identity comes from values, never from order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .expression import EvaluationError, Template
from .pipeline import Fan
from .values import canonical, digest_of, plain, text_of

_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,60}", re.A)
_NOT_TEXT = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?|true|false|null", re.A)

Combination = Mapping[str, Any]  # axis -> value


class AxisError(EvaluationError):
    """Axes that give no items: too many, or two of the same name."""

    def __init__(self, text: str, help: str = "give the axis fewer values, or raise `max_items`") -> None:
        super().__init__(text, code="E209", help=help)


def label(value: Any) -> str:
    """Return the text that stands for a value of an axis in the name of an item: equal only for equal values."""
    if found := getattr(value, "label", ""):
        return str(found)  # of an artifact: by its content
    match value:
        case str() if _WORD.fullmatch(value) and not _NOT_TEXT.fullmatch(value):
            return value
        case str() if len(value) <= 40 and not set(value) & set('"\\[]') and "$(" not in value and value.isprintable():
            return f'"{value}"'
        case str():
            return f"{re.sub(r'[^A-Za-z0-9]+', '-', value, flags=re.A)[:24].strip('-')}~{digest_of(value)[7:15]}"
        case None:
            return "null"
        case bool() | int() | float():
            return text_of(value)
        case _:
            text = canonical(plain(value))
            short = len(text) <= 40 and not set(text) & set('"[]{}\\')
            return text if short else f"~{digest_of(plain(value))[7:15]}"


def name_of(fan_out: str, values: Combination) -> str:
    """Return the name of an item."""
    return f"{fan_out}[{','.join(f'{axis}={label(value)}' for axis, value in values.items())}]"


def combinations(name: str, fan: Fan, axes: Mapping[str, Sequence[Any]]) -> list[Combination]:
    """Return the values of each item, in order: the product in written order, without `exclude`, then `include`."""
    count = 1
    for values in axes.values():
        count *= len(values)
    # The product is not made before it is known to be small enough; `exclude` can at most empty it.
    if count > fan.max_items * (10 if fan.exclude else 1):
        raise AxisError(too_many(name, count + len(fan.include), axes, fan))
    made: list[Combination] = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if fan.exclude:
        made = [m for m in made if not any(all(same(m[a], v) for a, v in out.items()) for out in fan.exclude)]
    made += [{axis: more[axis] for axis in axes} for more in fan.include]
    if len(made) > fan.max_items:
        raise AxisError(too_many(name, len(made), axes, fan))
    return made


def too_many(name: str, count: int, axes: Mapping[str, Sequence[Any]], fan: Fan) -> str:
    shown = ", ".join(f"{axis}: {len(values)}" for axis, values in axes.items())
    return f"{count} items of {name} ({shown}) are more than `max_items`, {fan.max_items}"


def same(a: Any, b: Any) -> bool:
    """Whether two values of an axis are one."""
    return label(a) == label(b)


def is_literal(fan: Fan) -> bool:
    """Whether the axes are written out."""
    return not fan.reads and all(
        isinstance(values, list) and not holds_expression(values) for values in fan.over.values()
    )


def holds_expression(tree: Any) -> bool:
    """Whether a value has something in it that is computed."""
    match tree:
        case list():
            return any(map(holds_expression, tree))
        case dict():
            return any(map(holds_expression, tree.values()))
        case _:
            return isinstance(tree, Template)
