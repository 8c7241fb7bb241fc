"""The bytes of a notebook -> the names that its cell with the tag `parameters` assigns."""

from __future__ import annotations

import ast
import json
from typing import Any


def parameters(content: bytes) -> frozenset[str] | None:
    """Return the parameters of a notebook, or None where no cell has the tag; raises ValueError for no notebook.

    A cell that is not Python, or does not parse, may assign anything: then the set is empty.
    """
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    try:
        cells = value["cells"]
        tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
        sources = ["".join(cell["source"]) for cell in tagged if cell["cell_type"] == "code"]
    except (KeyError, TypeError, AttributeError):
        raise ValueError("it has no cells as nbformat 4 has them") from None
    if not sources:
        return None
    try:
        body = ast.parse(sources[0]).body
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    targets = [
        t for node in body for t in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
    ]
    return frozenset(target.id for target in targets if isinstance(target, ast.Name))
