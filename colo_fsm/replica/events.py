"""What a pair tells its embedder: `pair.events()` yields these."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from enum import StrEnum
from typing import Final, Literal, TypeVar

import attrs

from colo_fsm.arbiter import Claim
from colo_fsm.fsm import Transition

from .gate import Again, Changing


@attrs.frozen
class CheckpointTaken:
    """A round is complete. On the Primary: answered by the Secondary; there: stored and loaded.

    `pages` changed, `sent` bytes on the wire, `pause` and `total` in seconds: how long the guest
    stood still, and the whole round (0 on the Secondary, which does not run). `used`: bytes of the guest's
    capacity that are in use, None where it does not say (`Saved.used`), and on the Secondary.
    """

    number: int
    pages: int
    sent: int
    pause: float
    total: float
    used: int | None = None


@attrs.frozen
class ClaimAnswered:
    """The arbiter has answered: this side runs on alone, or stops."""

    claim: Claim
    won: bool


@attrs.frozen
class ClaimUnanswered:
    """The arbiter does not answer, or the peer is not fenced yet (`NotFenced`): this side stays suspended and
    asks again in `retry` seconds.
    """

    cause: Exception
    retry: float


@attrs.frozen
class Serving:
    """A service on top of the guest has begun to answer at `address` (see `Pair.announce`)."""

    address: str


@attrs.frozen
class Refused:
    """`count` connections were not a Primary's, or not this guest's; `why` is what the last one was told, or
    what was wrong with it. Nothing has changed, and listening goes on.
    """

    why: str
    count: int = 1


@attrs.frozen
class NotServing:
    """A service on top of the guest cannot answer at `address`, and tries again in `retry` seconds."""

    address: str
    cause: Exception
    retry: float


@attrs.frozen
class MemberMoved:
    """A member of a data set is something else now. `why` is for people, "" where the state says it all.

    `protected`: whether its guest runs here and another machine has what is acknowledged.
    """

    member: str
    state: StrEnum
    why: str = ""
    protected: bool = False


@attrs.frozen
class Dropped:
    """Here `count` events are missing: nobody read them, and only the newest are kept."""

    count: int


Event = (
    Serving
    | NotServing
    | Transition
    | CheckpointTaken
    | ClaimAnswered
    | ClaimUnanswered
    | Refused
    | MemberMoved
    | Dropped
)

MOST_UNREAD: Final = 1000
"""Events kept for somebody who does not read them."""


class EventQueue(Changing):
    """The events for one who asked for them, the newest `MOST_UNREAD` of those not read yet."""

    def __init__(self) -> None:
        super().__init__()
        self._unread: deque[Event] = deque()
        self._dropped = 0
        self._over = False

    def put(self, event: Event) -> None:
        """This has happened."""
        with self._lock:
            self._unread.append(event)
            if len(self._unread) > MOST_UNREAD:
                self._unread.popleft()
                self._dropped += 1
        self._changed()

    def end(self) -> None:
        """Nothing will happen any more."""
        self._over = True
        self._changed()

    def take(self, again: Again) -> Event | Literal[False] | None:
        """An attempt: the next event, or False after the last one."""
        with self._lock:
            if self._dropped:
                count, self._dropped = self._dropped, 0
                return Dropped(count)
            if self._unread:
                return self._unread.popleft()
            if self._over:
                return False
            self._waiting[again] = None
            return None


QueueT = TypeVar("QueueT", bound=EventQueue)


class Feed:
    """Hands the events of one pair to all who follow them; who has gone is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: tuple[weakref.ref[EventQueue], ...] = ()
        self._over = False

    def follow(self, queue: QueueT) -> QueueT:
        """Everything from now on comes into this queue."""
        with self._lock:
            self._queues = (*(ref for ref in self._queues if ref() is not None), weakref.ref(queue))
            over = self._over
        if over:
            queue.end()
        return queue

    @property
    def followed(self) -> bool:
        """Whether anybody may want to know: what nobody follows need not be made."""
        return bool(self._queues)

    def put(self, event: Event) -> None:
        """This has happened."""
        for ref in self._queues:
            if (queue := ref()) is not None:
                queue.put(event)

    def end(self) -> None:
        """The pair is over."""
        with self._lock:
            self._over = True
        for ref in self._queues:
            if (queue := ref()) is not None:
                queue.end()
