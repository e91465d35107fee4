"""Output commit: what a guest says waits here until a checkpoint covers it.

What was held before a `seal()` (the driver seals when it saves) leaves with the next `release()`;
what came after waits for the checkpoint after that.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

Action = Callable[[], object]


class NotCommitted(Exception):
    """This side stopped before a checkpoint covered the output: it must not be sent, ever."""


class Outbox:
    """Held packets, in order. May be used from any thread; actions run on the driver's.

    `wanted` is called by the first one that waits for a checkpoint which has not begun: it is to begin soon.
    """

    def __init__(self, wanted: Action = lambda: None) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self._held: deque[tuple[int, Action, Action]] = deque()
        self._promised: deque[tuple[int, Action, Action]] = deque()
        self._epoch = 0
        self._through = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def wants(self) -> bool:
        """Whether something waits for a checkpoint that has not begun."""
        with self._lock:
            return self._wants

    @property
    def _wants(self) -> bool:
        held, promised = self._held, self._promised
        return bool((held and held[-1][0] == self._epoch) or (promised and promised[-1][0] == self._epoch))

    def hold(self, deliver: Action, drop: Action = lambda: None) -> None:
        """Call `deliver` when a checkpoint covers what is true now, or `drop` when none ever will.

        Call this after the state has changed, or inside the same turn, never before it.
        """
        with self._lock:
            if self._closed:
                action = drop
            elif self._through:
                action = deliver
            else:
                action = self._waits(self._held, deliver, drop)
        action()

    def promise(self, kept: Action, broken: Action) -> None:
        """Call `kept` when a checkpoint covers what is true now, whether packets wait for that or not."""
        with self._lock:
            action = broken if self._closed else self._waits(self._promised, kept, broken)
        action()

    def _waits(self, queue: deque[tuple[int, Action, Action]], deliver: Action, drop: Action) -> Action:
        """Put it there; what is to be done now, without the lock."""
        first = not self._wants
        queue.append((self._epoch, deliver, drop))
        return self._wanted if first else _nothing

    def seal(self) -> None:
        """The state is being saved: what is held now is covered by it."""
        with self._lock:
            self._epoch += 1

    def release(self) -> int:
        """The last sealed state is safe: deliver what it covers. How much that was.

        Everything is delivered; what the first failed delivery raised is raised then.
        """
        covered = [*self._take(covered_only=True), *self._kept()]
        _call(deliver for deliver, _ in covered)
        return len(covered)

    def release_all(self) -> None:
        """This side runs alone: deliver everything, now and from now on, in order.

        What is held while this delivers is delivered behind it, by this.
        """
        _call(self._all())

    def _all(self) -> Iterator[Action]:
        while taken := self._take():
            yield from (deliver for deliver, _ in taken)

    def hold_back(self) -> None:
        """After `release_all`: what comes from now on waits for its checkpoint again."""
        with self._lock:
            self._through = False

    def discard(self) -> None:
        """This side has stopped: drop everything, now and from now on."""
        with self._lock:
            self._closed = True
        _call(drop for _, drop in [*self._take(), *self._kept(everything=True)])

    def _take(self, covered_only: bool = False) -> list[tuple[Action, Action]]:
        """Without `covered_only`: all that is held; when nothing is, what comes goes through from now on."""
        taken = []
        with self._lock:
            while self._held and (not covered_only or self._held[0][0] < self._epoch):
                _, deliver, drop = self._held.popleft()
                taken.append((deliver, drop))
            self._through = self._through or not (covered_only or taken)
        return taken

    def _kept(self, everything: bool = False) -> list[tuple[Action, Action]]:
        """The promises that the last sealed state covers."""
        kept = []
        with self._lock:
            while self._promised and (everything or self._promised[0][0] < self._epoch):
                _, keep, broken = self._promised.popleft()
                kept.append((keep, broken))
        return kept


def _nothing() -> None:
    """Somebody has said already that a checkpoint is wanted."""


def _call(actions: Iterable[Action]) -> None:
    failed: Exception | None = None
    for action in actions:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - one packet's trouble must not keep the others back
            failed = failed or error
    if failed is not None:
        raise failed
