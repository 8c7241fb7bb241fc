"""`kind: fail`: ends the run as failed, with its message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .kinds import Ended


def settle(own: Mapping[str, Any]) -> Ended:
    return Ended("failed", cause="message", message=str(own["message"]))
