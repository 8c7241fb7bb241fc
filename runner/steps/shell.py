"""`kind: shell`: a script as written, in a file of its own. Nothing is put into its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .kinds import Launch, Place


def launch(own: Mapping[str, Any], place: Place) -> Launch:
    script = f"{place.root}/script"
    return Launch((*own["shell"], script), {script: own["script"]})
