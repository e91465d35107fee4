"""The time in which a member's guest runs here, whatever pair it is in: what a service uses in a pair's
place.

A member that runs goes from pair to pair: to its own store while it is alone, to a Secondary once one has
come. Its guest's state goes on through all of them, so a turn waits for the next one, and an answer that one
pair no longer covers is covered by the next. Only when the member does not run any more nothing is answered.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial

from colo_fsm.fsm import Side
from colo_fsm.replica import NotCommitted, NotRunning
from colo_fsm.replica.aio import Pair, until
from colo_fsm.replica.events import Event, Feed, NotServing, Serving
from colo_fsm.replica.gate import Answer, TurnBlock
from colo_fsm.replica.outbox import Action, Outbox


class Held:
    """Output that waits for a checkpoint, whichever pair takes it. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._between: deque[tuple[Action, Action]] = deque()
        self._outbox: Outbox | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._between) + (0 if self._outbox is None else len(self._outbox))

    def hold(self, deliver: Action, drop: Action = lambda: None) -> None:
        """See `Outbox.hold`."""
        with self._lock:
            outbox = self._outbox
            if outbox is None and not self._closed:
                self._between.append((deliver, drop))
                return
        if outbox is None:
            drop()
        else:
            outbox.hold(deliver, partial(self._uncovered, deliver, drop))

    def _uncovered(self, deliver: Action, drop: Action) -> None:
        """That pair has ended before it covered this."""
        with self._lock:
            if not self._closed:
                self._between.append((deliver, drop))
                return
        drop()

    def goes_to(self, outbox: Outbox) -> None:
        """From now on the checkpoints of this pair cover it; call it before its guest is saved.

        What is held meanwhile comes behind what waits already.
        """
        while True:
            with self._lock:
                waiting, self._between = self._between, deque()
                if not waiting:
                    self._outbox = outbox
                    return
            for deliver, drop in waiting:
                outbox.hold(deliver, partial(self._uncovered, deliver, drop))

    def end(self) -> None:
        """No pair will cover it any more."""
        with self._lock:
            self._closed, self._outbox = True, None
            waiting, self._between = self._between, deque()
        for _, drop in waiting:
            drop()


class ActiveTurn(TurnBlock):
    """See `Active.turn`."""

    def __init__(self, active: Active) -> None:
        self.active = active
        self.turn = None

    async def __aenter__(self) -> None:
        while True:
            pair = await self.active.pair_that_runs()
            self.gate = pair._replica.gate
            try:
                self.turn = await until(self.gate, self.gate.enter)
                return
            except NotRunning:
                await self.active.without(pair)

    async def __aexit__(self, *_: object) -> None:
        self.leave()


class Active:
    """From the moment that a member's guest runs here to the moment that it does not any more.

    Use it as a `Pair`: `turn`, `committed`, `outbox`, `running`, `wait`, `announce`.
    """

    def __init__(self, events: Feed) -> None:
        self.outbox = Held()
        self.token = 0
        """The fencing token under which it runs."""
        self.protected = False
        """Whether a Secondary has what is acknowledged; else its own store has it (`AloneCommit`)."""
        self.generation: int | None = None
        self._events = events
        self._pair: Pair | None = None
        self._moved = asyncio.Condition()
        self._held_up = False
        self._over = Answer()
        self._ended: NotRunning | None = None
        self.service: Serving | NotServing | None = None

    # -- for the member ---------------------------------------------------------------------------

    async def goes_to(self, pair: Pair) -> None:
        """The pair that covers it from now on; it is about to begin."""
        self.outbox.goes_to(pair.outbox)
        async with self._moved:
            self._pair = pair
            self._moved.notify_all()

    async def hold_up(self, held_up: bool) -> None:
        """Whether turns have to wait, although a pair runs; those that are open go on."""
        async with self._moved:
            self._held_up = held_up
            self._moved.notify_all()

    async def end(self, why: NotRunning) -> None:
        """The guest does not run here any more."""
        self.outbox.end()
        async with self._moved:
            self._pair, self._ended = None, why
            self._moved.notify_all()
        self._over.settle()

    # -- for services -----------------------------------------------------------------------------

    @property
    def side(self) -> Side:
        """A member whose guest runs is the Primary, to a Secondary or to its own store."""
        return Side.PRIMARY

    @property
    def pair(self) -> Pair | None:
        """The newest pair that its guest is in, or was in."""
        return self._pair

    @property
    def checkpoint(self) -> int:
        """The newest checkpoint that let output go, of the generation that is under way."""
        return 0 if self._pair is None else self._pair.checkpoint

    async def pair_that_runs(self) -> Pair:
        """The pair of now, or the next one. Raises NotRunning."""
        async with self._moved:
            await self._moved.wait_for(
                lambda: self._ended is not None or (self._pair is not None and not self._held_up)
            )
            if self._pair is None:
                assert self._ended is not None
                raise self._ended
            return self._pair

    async def without(self, pair: Pair) -> None:
        """Until there is another pair than this, or none any more."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._pair is not pair)

    def turn(self) -> ActiveTurn:
        """See `Pair.turn`; between two pairs it waits for the next one."""
        return ActiveTurn(self)

    async def running(self) -> None:
        """Until the guest runs, which may be between two pairs. Raises NotRunning."""
        while True:
            pair = await self.pair_that_runs()
            try:
                await until(pair._replica.gate, pair._replica.gate.running)
                return
            except NotRunning:
                await self.without(pair)

    async def committed(self) -> None:
        """See `Pair.committed`."""
        answer = Answer()
        stopped = NotCommitted("this member does not run any more")
        self.outbox.hold(answer.settle, lambda: answer.settle(stopped))
        await until(answer, answer.get)

    async def wait(self) -> None:
        """Until the guest does not run here any more."""
        await until(self._over, self._over.settled)

    def announce(self, address: str) -> None:
        """See `Pair.announce`."""
        self._serves(Serving(address))

    def announce_trouble(self, address: str, cause: Exception, retry: float) -> None:
        """See `Pair.announce_trouble`."""
        self._serves(NotServing(address, cause, retry))

    def _serves(self, event: Serving | NotServing) -> None:
        self.service = event
        self.put(event)

    def put(self, event: Event) -> None:
        """Tell those who follow the member's events."""
        self._events.put(event)
