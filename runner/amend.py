"""A run file x causes to accept -> the same file with them in its `accept`, all other lines as they were."""

from __future__ import annotations

import json
from collections.abc import Sequence

import yaml

from .errors import UsageError
from .pipeline import Accepted
from .planfile import accept_item as _item


def amend(text: str, accepted: Sequence[Accepted]) -> str:
    """Return the text of a run file with `accepted` added; entries of the same step get the new causes and reasons.

    Raises UsageError where the file's form leaves no place for it.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    for index, one in enumerate(accepted):
        text = _amend(text, one, sum(before.step == one.step for before in accepted[:index]), end)
    return text


def _amend(text: str, accepted: Accepted, passed: int, end: str) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # it has just been read as a run file
    value = next((v for k, v in root.value if k.value == "accept"), None)
    if value is None:
        return _append(text, root, accepted, end)
    if not isinstance(value, yaml.SequenceNode):
        raise UsageError("its `accept` cannot be edited in place", help="paste the stanza: run this without -w")
    for item in value.value:
        fields = {k.value: v for k, v in item.value}
        if fields["step"].value == accepted.step:
            if not passed:
                return _replace(text, fields, accepted)
            passed -= 1  # an entry that has just been written
    if value.flow_style:
        return _into_flow(text, value, accepted)
    last = _last_line(value)
    lines = text.splitlines(keepends=True)
    if not lines[last].endswith(("\n", "\r")):
        lines[last] += end
    lines.insert(last + 1, " " * value.start_mark.column + f"- {_item(accepted)}{end}")
    return "".join(lines)


def _append(text: str, root: yaml.MappingNode, accepted: Accepted, end: str) -> str:
    if root.flow_style:
        place = root.end_mark.index - 1
        comma = "" if text[:place].rstrip().endswith(",") else ", "
        return f"{text[:place]}{comma}accept: [{_item(accepted)}]{text[place:]}"
    indent = " " * root.start_mark.column
    lines = text.splitlines(keepends=True)
    at = next((i for i, line in enumerate(lines) if i > root.start_mark.line and line.rstrip() == "..."), len(lines))
    if at and not lines[at - 1].endswith(("\n", "\r")):
        lines[at - 1] += end
    lines.insert(at, f"{indent}accept:{end}{indent}  - {_item(accepted)}{end}")
    return "".join(lines)


def _replace(text: str, fields: dict[str, yaml.Node], accepted: Accepted) -> str:
    new = {"cause": accepted.cause, "reason": json.dumps(accepted.reason, ensure_ascii=False)}
    for name in sorted(new, key=lambda n: -fields[n].start_mark.index):
        node = fields[name]
        assert isinstance(node, yaml.ScalarNode)
        if node.style in ("|", ">"):
            raise UsageError(
                f"the `{name}` of {accepted.step} in `accept` is a block of text, which is not edited in place",
                help="change it by hand, or run this without -w",
            )
        text = text[: node.start_mark.index] + new[name] + text[node.end_mark.index :]
    return text


def _into_flow(text: str, value: yaml.SequenceNode, accepted: Accepted) -> str:
    if value.value:
        place = value.value[-1].end_mark.index
        return f"{text[:place]}, {_item(accepted)}{text[place:]}"
    place = value.start_mark.index + 1
    return f"{text[:place]}{_item(accepted)}{text[place:]}"


def _last_line(node: yaml.Node) -> int:
    """Return the number, from 0, of the last line that a node's content is on."""
    while isinstance(node, yaml.SequenceNode | yaml.MappingNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end: yaml.Mark = node.end_mark
    return int(end.line) - (1 if end.column == 0 and end.line > node.start_mark.line else 0)
