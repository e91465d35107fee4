"""Who waits for what of a pair, from any thread and for any driver: sans-IO.

Whoever waits makes attempts: `attempt(again)` returns an answer, or None and calls `again` once, from any
thread, when it is worth another attempt. A driver knows how to sleep until then, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

import attrs

T = TypeVar("T")
Again = Callable[[], object]
Attempt = Callable[[Again], T | None]


class NotRunning(Exception):
    """The guest does not run on this side any more: do not answer, the other side may."""


class Changing:
    """Something that changes, and who waits for that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Again, None] = {}  # in the order in which they came

    def forget(self, again: Again) -> None:
        """Whoever gave this does not wait any more."""
        with self._lock:
            self._waiting.pop(again, None)

    def _changed(self) -> None:
        """Let everybody who waits make another attempt. Without the lock: they may come at once."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for again in waiting:
            again()


class Answer(Changing):
    """Known once, and then for good: that something has happened, or the error that it did not."""

    def __init__(self) -> None:
        super().__init__()
        self.known = False
        self._error: BaseException | None = None

    def settle(self, error: BaseException | None = None) -> None:
        """It has happened, or never will; the first to say so is right."""
        with self._lock:
            if self.known:
                return
            self.known, self._error = True, error
        self._changed()

    def settled(self, again: Again) -> bool | None:
        """An attempt: True when it is known, whatever it is."""
        with self._lock:
            if not self.known:
                self._waiting[again] = None
            return self.known or None

    def get(self, again: Again) -> bool | None:
        """An attempt: True when it has happened. Raises the error."""
        known = self.settled(again)
        if known and self._error is not None:
            raise self._error
        return known


@attrs.define(eq=False)
class Turn:
    """One turn; a task that was begun inside it may outlive it."""

    gate: Gate
    open: bool = True


_turns: ContextVar[tuple[Turn, ...]] = ContextVar("colo_fsm_turns", default=())
"""The turns, each of another pair, that whoever asks is inside of."""


class Gate(Changing):
    """Lets turns in while the guest runs (see `Pair.turn`).

    `left` is called, on the thread that ended it, when the last turn of a closed gate is over.
    """

    def __init__(self, left: Callable[[], object]) -> None:
        super().__init__()
        self.turns = 0
        """How many are open."""
        self._left = left
        self._open = self._ran = False
        self._shut: tuple[str, BaseException | None] | None = None

    # -- the script's side ----------------------------------------------------------------------

    def open(self) -> None:
        """The guest runs: turns may begin."""
        self._open = self._ran = True
        self._changed()

    def close(self) -> bool:
        """No turn may begin any more. Whether none is open; if not, `left` is called."""
        with self._lock:
            self._open = False
            return not self.turns

    def shut(self, why: str = "this side has stopped", cause: BaseException | None = None) -> None:
        """No turn will ever begin again, because of this."""
        self._shut = why, cause
        self._changed()

    # -- everybody's side -----------------------------------------------------------------------

    def running(self, again: Again) -> bool | None:
        """An attempt: True when the guest runs. Raises NotRunning when it never will."""
        with self._lock:
            return self._is_open(again) or None

    def begun(self, again: Again) -> bool | None:
        """An attempt: True when the guest runs or has run. Raises NotRunning when it never will."""
        with self._lock:
            return self._ran or self._is_open(again) or None

    def enter(self, again: Again) -> Turn | None:
        """An attempt: a turn, which has begun. Raises NotRunning, and RuntimeError inside another turn."""
        self.check_outside("begin another turn")
        with self._lock:
            if not self._is_open(again):
                return None
            self.turns += 1
        turn = Turn(self)
        _turns.set((*_turns.get(), turn))
        return turn

    def _is_open(self, again: Again) -> bool:
        if self._shut is not None:
            why, cause = self._shut
            raise NotRunning(why) from cause
        if not self._open:
            self._waiting[again] = None
        return self._open

    def leave(self, turn: Turn) -> None:
        """This turn is over."""
        turn.open = False
        _turns.set(tuple(t for t in _turns.get() if t.open))
        with self._lock:
            self.turns -= 1
            last = not self.turns and not self._open
        if last:
            self._left()

    def check_outside(self, what: str) -> None:
        """A checkpoint waits for the turn to end, so waiting for one inside it might never end."""
        if any(turn.open and turn.gate is self for turn in _turns.get()):
            raise RuntimeError(f"{what} after the turn, not inside it: a checkpoint waits for the turn's end")


class TurnBlock:
    """A turn as a `with` block has it, from its driver's own way in to `leave`."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.turn: Turn | None = None

    def leave(self) -> None:
        """The block is over."""
        assert self.turn is not None
        self.gate.leave(self.turn)
