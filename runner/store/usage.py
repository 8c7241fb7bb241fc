"""A store -> how many files and bytes each part of it has, and what is in quarantine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field

from ..frozen import frozen
from .garbage import measure as measured
from .local import LocalStore
from .reading import unreadable

PARTS = ("objects", "trees", "runs", "models", "compiled", "environments", "tmp", "quarantine")


@frozen
class Usage:
    """Files and bytes by part; `other` is the index and what is small."""

    path: str
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    quarantine: Mapping[str, int] = field(default_factory=dict)  # name -> bytes

    @property
    def total(self) -> tuple[int, int]:
        return sum(count for count, _ in self.parts.values()), sum(size for _, size in self.parts.values())


def measure(store: LocalStore) -> Usage:
    """Return the sizes of a store; of one that is not there, nothing."""
    if not store.exists:
        return Usage(store.path)
    parts = {name: measured(f"{store.path}/{name}") for name in PARTS}
    rest = [measured(f"{store.path}/{name}") for name in _names(store.path) if name not in PARTS]
    parts["other"] = sum(count for count, _ in rest), sum(size for _, size in rest)
    place = f"{store.path}/quarantine"
    aside = {name: measured(f"{place}/{name}")[1] for name in _names(place)}
    return Usage(store.path, parts, aside)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(folder, error) from error
