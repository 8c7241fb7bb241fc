"""`kind: python`: one function of the project, called in a process of its own. The module runs as in the project."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..values import Artifact, Marked, plain_json
from .kinds import THREADS, Launch, Place

_PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "executors", "python_step.py")

_READ_EARLY = ("BLIS_", "GOMP_", "KMP_", "MKL_", "NPY_", "NUMPY_", "OMP_", "OPENBLAS_", "PANDAS_", "SCIPY_", "VECLIB_")


def launch(own: Mapping[str, Any], place: Place) -> Launch:
    task = f"{place.root}/task.json"
    content = {
        "function": own["function"],
        "args": {name: _tree(value) for name, value in own["args"].items()},
        "values": place.values,
    }
    # What the parent has imported has read these by then: another number of threads is another parent, and who sets more
    # of what such libraries read has one that imports nothing by itself.
    early = [f"{name}={place.env[name]}" for name in THREADS if name in place.env]
    if any(name.startswith(_READ_EARLY) and name not in THREADS for name in place.env):
        early.append("LEARN=0")
    parent = (place.interpreter, "-P", _PROGRAM, *early, *place.preload)
    # Some variables are read by the interpreter as it starts: such a step needs one of its own.
    warm = not any(name.startswith(("PYTHON", "LD_")) for name in place.env)
    return Launch((*parent[:3], task), {task: json.dumps(content)}, warm, parent, task)


def _tree(value: Any) -> list[Any]:
    """Tag a value, so that paths arrive as paths."""
    match value:
        case Artifact():
            return ["path", str(value)]
        case Marked(mark=dict(mark)) if "output" in mark:
            return ["path", str(value)]
        case list():
            return ["list", [_tree(item) for item in value]]
        case dict():
            return ["map", {key: _tree(item) for key, item in value.items()}]
        case _:
            return ["value", plain_json(value)]
