"""`kind: condition`: do all expressions hold? The result is `taken`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..fingerprint import holds
from .kinds import Ended


def settle(own: Mapping[str, Any]) -> Ended:
    return Ended("succeeded", taken=holds(own["if"]))
