"""Whether a history of operations on one key could have happened one at a time.

Wing and Gong's search as Lowe sped it up: take an operation that may be next, and remember which sets
of operations have already led to which value. Our own, some forty lines: no Python package for it is kept
up (porcupine is Go). Keys are independent, so each is checked alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import attrs

V = TypeVar("V")
A = TypeVar("A")
R = TypeVar("R")


@attrs.frozen
class Operation(Generic[A, R]):
    """From `invoked` to `returned` (infinite: never answered, so `answer` says nothing)."""

    invoked: float
    returned: float
    argument: A
    answer: R | None

    @property
    def pending(self) -> bool:
        """It may have happened at any time since, or not at all."""
        return self.returned == math.inf


def linearizable(
    operations: Sequence[Operation[A, R]], value: V, apply: Callable[[A, V], tuple[V, R]]
) -> bool:
    """Whether some order explains every answer, and none puts one before another that had returned.

    `apply(argument, value)` gives the value after an operation and its answer; values are hashable.
    """
    history = sorted(operations, key=lambda o: (o.invoked, o.returned))
    wanted = sum(1 << at for at, operation in enumerate(history) if not operation.pending)
    seen: set[tuple[int, V]] = set()
    stack: list[tuple[int, V]] = [(0, value)]
    while stack:
        taken, value = stack.pop()
        if taken & wanted == wanted:
            return True
        if (taken, value) in seen:
            continue
        seen.add((taken, value))
        stack.extend(_next(history, taken, value, apply))
    return False


def _next(
    history: Sequence[Operation[A, R]], taken: int, value: V, apply: Callable[[A, V], tuple[V, R]]
) -> list[tuple[int, V]]:
    """What may come next: an operation that was invoked before any that is left had returned."""
    found = []
    first = math.inf
    start = (~taken & (taken + 1)).bit_length() - 1  # all before it are taken
    for at in range(start, len(history)):
        operation = history[at]
        if operation.invoked > first:
            break
        if taken >> at & 1:
            continue
        first = min(first, operation.returned)
        after, answer = apply(operation.argument, value)
        if operation.pending or answer == operation.answer:
            found.append((taken | 1 << at, after))
    return found
