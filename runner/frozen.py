"""Class -> class whose instances are values: equal by their fields, hashable, and never changed.

What `dataclass(frozen=True)` gives, at a third of its cost in each instance, and at start-up for what is used only (0.45 ms
a class; a command loads ninety of them and uses half): `__init__` is all that is generated, and not before the first
instance is made; the rest is shared. That nobody assigns to a field is for the type checker to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def frozen(cls: type[T]) -> type[T]: ...
@overload
def frozen(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type | None = None, *, kw_only: bool = False) -> Any:
    """Make a class one of values; also as `@frozen(kw_only=True)`."""
    if cls is None:
        return lambda cls: _made(cls, kw_only)
    return _made(cls, kw_only)


def _made(cls: type, kw_only: bool) -> type:
    cls.__doc__ = cls.__doc__ or cls.__name__  # else its signature is inspected, which costs more than all the rest
    for name, shared in (("__eq__", _equal), ("__hash__", _hash), ("__repr__", _repr)):
        if name not in cls.__dict__:
            setattr(cls, name, shared)

    def make() -> None:
        del cls.__init__, cls.__dataclass_fields__  # type: ignore[misc, attr-defined]
        dataclass(eq=False, repr=False, kw_only=kw_only)(cls)

    def __init__(self: Any, *args: Any, **fields: Any) -> None:
        make()
        self.__init__(*args, **fields)

    cls.__init__ = __init__  # type: ignore[misc]
    cls.__dataclass_fields__ = _Unmade(make)  # type: ignore[attr-defined]
    return cls


class _Unmade:
    """The fields of a class of which there is no instance yet, or only one that was read from a file."""

    def __init__(self, make: Callable[[], None]) -> None:
        self.make = make

    def __get__(self, instance: object, cls: type) -> Any:
        self.make()
        return cls.__dataclass_fields__  # type: ignore[attr-defined]


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__dataclass_fields__])


def _equal(self: Any, other: object) -> bool:
    return self.__class__ is other.__class__ and _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
    return f"{type(self).__qualname__}({shown})"


def changed(value: T, **fields: Any) -> T:
    """Return a copy with other values in some fields: what `replace` gives, at a fifth of its cost.

    For the few places that do it for every step; the names of the fields are not checked. Not for a class that keeps
    what it computed.
    """
    made = object.__new__(type(value))
    made.__dict__.update(value.__dict__)
    made.__dict__.update(fields)
    return made
