"""An attempt that failed for a cause which the engine is told."""

from __future__ import annotations


class Failed(Exception):
    """The attempt failed for a cause that is told to the engine."""

    def __init__(self, cause: str, message: str, digest: str = "") -> None:
        super().__init__(message)
        self.cause, self.message, self.digest = cause, message, digest
