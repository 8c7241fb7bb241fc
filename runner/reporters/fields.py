"""The JSON Schemas of the documents -> the reference of their fields as Markdown: one table, two readers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]


def fields_markdown(schemas: Mapping[str, Schema]) -> str:
    """Return a section for each object of each document, with what every field may hold."""
    out = [
        "# Fields",
        "",
        "Printed by `runner schema --fields`. What they mean together: [language.md](language.md).",
        "",
    ]
    for schema in schemas.values():
        for title, found in objects(schema):
            out += [f"## {title}", "", found["description"], "", "| field | type | default | |", "|---|---|---|---|"]
            out += [_row(name, field, name in found.get("required", ())) for name, field in found["properties"].items()]
            out.append("")
    return "\n".join(out)


def objects(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield title and schema of every closed object of a document, itself first, each once."""
    seen: set[str] = set()
    todo: list[Any] = [schema, *schema.get("$defs", {}).values()]
    while todo:
        found = todo.pop(0)
        if isinstance(found, list):
            todo = [*found, *todo]
        if not isinstance(found, dict):
            continue
        title = found.get("title", "")
        if title and found.get("additionalProperties") is False and title not in seen:
            seen.add(title)
            yield title, found
        todo = [*(v for k, v in found.items() if k != "$defs" and isinstance(v, dict | list)), *todo]


def _row(name: str, field: Schema, required: bool) -> str:
    default = f"`{json.dumps(field['default'])}`" if "default" in field else "required" if required else ""
    said = str(field.get("description", "")).replace("|", "\\|")
    return f"| `{name}` | {_type(field)} | {default} | {said} |"


def _type(field: Schema) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field:
        return " ".join(f"`{value}`" for value in field["enum"])
    kinds = field.get("type", "any value")
    words = {"array": "list", "object": "map", "boolean": "true or false"}
    named = [words.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    inner = field.get("additionalProperties")
    if isinstance(inner, dict) and "$ref" in inner:
        named = [f"map of {str(inner['$ref']).rpartition('/')[2]}"]
    return " or ".join(named)
