"""`kind: notebook`: a notebook executed by papermill; the executed copy is an output."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..values import plain_json
from .kinds import Launch, Place

_PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "executors", "notebook_step.py")


def launch(own: Mapping[str, Any], place: Place) -> Launch:
    task = f"{place.root}/task.json"
    content = {
        "notebook": own["notebook"],
        "executed": str(own["executed"]),
        "kernel": own["kernel"],
        "parameters": {name: plain_json(value) for name, value in own["parameters"].items()},
    }
    executed = os.path.join(place.cwd, str(own["executed"]))
    return Launch((place.interpreter, "-P", _PROGRAM, task), {task: json.dumps(content)}, printed=executed)
