"""What every search of ours comes to, whatever it explores."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import ClassVar, Generic, Self, TypeVar

import attrs


class Named(StrEnum):
    """A property: a name and, as `meaning`, the sentence that it stands for."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member


P = TypeVar("P", bound=Named)
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Found(Generic[P, T]):
    """How large it was, and a trail for each property that does not hold."""

    states: int
    transitions: int
    seconds: float
    broken: Mapping[P, T]

    properties: ClassVar[tuple[Named, ...]] = ()
    """All that are judged, in their order."""

    @property
    def fails(self) -> tuple[P, ...]:
        """Those that do not hold, in their order."""
        return tuple(sorted(self.broken, key=self.properties.index))

    def holds(self, which: P) -> bool:
        """Whether nothing that can happen breaks it."""
        return which not in self.broken

    @property
    def states_per_second(self) -> float:
        return self.states / self.seconds if self.seconds else 0.0


class TooLarge(Exception):
    """The system has more states than were allowed, or more of something than fits: nothing is proved."""

    @classmethod
    def beyond(cls, limit: int) -> Self:
        return cls(f"more than {limit:,} states: raise the limit, or narrow the scenario")


@contextmanager
def without_collector() -> Iterator[None]:
    """A search makes many small values that live on and no cycles: the collector would only walk them."""
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.enable()
