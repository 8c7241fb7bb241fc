"""`kind: command`: an argv, executed without a shell. One list element is one argument, always."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..values import text_of
from .kinds import Launch, Place


def launch(own: Mapping[str, Any], place: Place) -> Launch:
    argv = [text_of(item) for item in own["command"]]
    # `python` is the interpreter that runs this, also where its folder has none of that name.
    return Launch((place.interpreter if argv[0] == "python" else argv[0], *argv[1:]))
