"""What is known of a side or a member that runs, in one place: `ctl`, HTTP and systemd tell the same.

Figures follow the events and look at the pair when they are asked; on the event loop that runs it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from colo_fsm.fsm import Side, Transition
from colo_fsm.membership import Active, Member
from colo_fsm.membership.machine import S
from colo_fsm.replica import (
    AsyncGuest,
    CheckpointTaken,
    ClaimAnswered,
    ClaimUnanswered,
    Event,
    Guest,
    MemberMoved,
    NotServing,
    Pair,
    Serving,
)
from colo_fsm.replica.aio import until
from colo_fsm.replica.gate import Again, Changing
from colo_fsm.replica.pair import PairBase

from .report import unanswered, why


class Figures(Changing):
    """What a pair is and does; `MemberFigures` is the same for a member. Times in seconds."""

    claims_if_ready = False
    """Whether it claims only as a Secondary with a whole checkpoint."""
    taken_over = "this side goes on alone"
    """What follows a claim that was won."""

    def __init__(
        self,
        guest: Guest | AsyncGuest,
        pair: Pair | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._guest = guest
        self._of = pair
        self._clock = clock
        self._newest: CheckpointTaken | None = None
        self._newest_at: float | None = None
        self._taken = self._pages = self._sent = 0
        self._paused = 0.0
        self._claiming: float | None = None
        self._claim_took: float | None = None
        self._trouble = ""
        """What a claim waits for."""
        self._failovers = self._moves = 0
        self.begun = False
        """Whether it has got as far as to know what it is: a Secondary listens, a Primary runs."""
        self.leaving = False
        """Whether it was asked to end."""
        self._unprotected, self._since, self._counts = 0.0, clock(), False

    # -- what it is ---------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """What a member is called."""
        return None

    @property
    def pair(self) -> PairBase | None:
        """The pair of now."""
        return self._of

    @property
    def host(self) -> Pair | Active | None:
        """Whatever the guest's service answers for."""
        return self._of

    @property
    def token(self) -> int:
        """Under which it runs."""
        return 0 if self.host is None else self.host.token

    @property
    def state(self) -> str:
        """In one word, which no step of a checkpoint changes."""
        assert self._of is not None
        if not self.works:
            return self._of.state
        return "alone" if self.runs and not self.protected else self._of.side

    @property
    def works(self) -> bool:
        """Whether its pair has begun, and is not broken."""
        pair = self.pair
        if pair is None:
            return False
        table = pair.session.table
        return pair.state not in {table.initial, table.failover, *table.final}

    @property
    def runs(self) -> bool:
        """Whether the guest runs here, but for the pauses of its checkpoints."""
        pair = self.pair
        if pair is None or not self.works:
            return False
        return pair.side is Side.PRIMARY or pair.state in pair.session.table.alone

    @property
    def ready(self) -> bool:
        """Whether this is a Secondary that has a whole checkpoint of its Primary."""
        pair = self.pair
        return pair is not None and pair.side is Side.SECONDARY and self.works and not self.runs

    @property
    def protected(self) -> bool:
        """Whether two have what is acknowledged, and this is one of them."""
        pair = self.pair
        return self.works and pair is not None and pair.protected

    @property
    def service(self) -> Serving | NotServing | None:
        """What the guest's service has last said."""
        return None if self.host is None else self.host.service

    @property
    def waits_for(self) -> str:
        """Why it does not do its part, for people; empty where it does."""
        service = self.service
        if isinstance(service, NotServing):
            return f"cannot serve at {service.address}: {service.cause}"
        return "" if self.runs or self.ready else self._trouble or self._not_yet

    @property
    def _not_yet(self) -> str:
        pair = self.pair
        if pair is None:
            return f"it is {self.state}"
        table = pair.session.table
        if pair.state is table.initial:
            mine = pair.side is Side.PRIMARY
            return "its Secondary is not ready yet" if mine else "no Primary has come yet"
        if pair.state in table.final:
            return why(pair.session.error) or "it has ended"
        return "the claim is not answered yet"

    def started(self) -> None:
        """It has got as far as that."""
        self.begun = True
        self._changed()

    def leaves(self) -> None:
        """Somebody has asked it to end."""
        self.leaving = True
        self._changed()

    # -- what happens -------------------------------------------------------------------------

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Until the last of them."""
        async for event in events:
            self.event(event)

    def event(self, event: Event) -> None:
        """This has happened."""
        match event:
            case CheckpointTaken():
                self._newest, self._newest_at = event, self._clock()
                self._taken += 1
                self._pages += event.pages
                self._sent += event.sent
                self._paused += event.pause
            case Transition():
                self._moved(event)
            case ClaimAnswered():
                self._trouble = ""
                if self._claiming is not None:
                    self._claim_took, self._claiming = self._clock() - self._claiming, None
            case ClaimUnanswered():
                self._trouble = unanswered(event)
            case MemberMoved():
                self._member_moved(event)
        self._count()
        self._changed()

    def _moved(self, moved: Transition) -> None:
        if self.pair is None:
            return
        table = self.pair.session.table
        if moved.source is table.initial and moved.dest in table.idle:
            self._newest_at = self._clock()  # the first copy is a checkpoint
        if moved.dest is table.failover and moved.source is not table.failover:
            self._claiming = self._clock()
        if moved.dest in table.alone - table.final:  # a member's pair ends where its claim is won
            self._failovers += 1

    def _member_moved(self, moved: MemberMoved) -> None:
        raise NotImplementedError("a pair is no member")

    def _count(self) -> None:
        """Count what has passed since the last look as unprotected, if it was."""
        now = self._clock()
        if self._counts:
            self._unprotected += now - self._since
        self._since, self._counts = now, self.runs and not self.protected

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Until this is so, looked at after each event."""

        def attempt(again: Again) -> bool | None:
            if is_so():
                return True
            with self._lock:
                self._waiting[again] = None
            return None

        await until(self, attempt)

    # -- all of it ----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """All that is known, None for what is not; docs/operate.md says what is what."""
        self._count()
        pair, host, service, newest = self.pair, self.host, self.service, self._newest
        waits_for = self.waits_for
        return {
            "name": self.name,
            "state": str(self.state),
            "side": None if pair is None else str(pair.side),
            "runs": self.runs,
            "ready": self.ready,
            "healthy": not waits_for,
            "protected": self.protected,
            "why": waits_for or self.remark or None,
            "service": service.address if isinstance(service, Serving) else None,
            "generation": self.generation,
            "token": self.token,
            "checkpoint": None if pair is None else pair.checkpoint,
            "checkpoint_age": None if self._newest_at is None else self._clock() - self._newest_at,
            "pause": None if newest is None else newest.pause,
            "checkpoints": self._taken,
            "pages": self._pages,
            "bytes": self._sent,
            "paused": self._paused,
            "waiting_replies": 0 if host is None else len(host.outbox),
            "capacity": sum(self._guest.blocks.values()),
            "capacity_used": None if newest is None else newest.used,
            "claim_seconds": self._claim_took,
            "unprotected_seconds": self._unprotected,
            "failovers": self._failovers,
            "moves": self._moves,
        }

    @property
    def generation(self) -> int | None:
        """The one of its pair."""
        return None if self.pair is None else self.pair.generation

    @property
    def remark(self) -> str:
        """What is to be said of it although it does its part."""
        return ""

    @property
    def line(self) -> str:
        """It all in one line, for a supervisor."""
        parts = [self.state if self.name is None else f"{self.name}: {self.state}"]
        if self.runs:
            parts.append("protected" if self.protected else "unprotected")
        if isinstance(self.service, Serving):
            parts.append(f"serving at {self.service.address}")
        if waits_for := self.waits_for or self.remark:
            parts.append(waits_for)
        return ", ".join(parts)


class MemberFigures(Figures):
    """The figures of a member, over all its pairs."""

    claims_if_ready = True

    def __init__(
        self, guest: Guest | AsyncGuest, member: Member, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(guest, clock=clock)
        self._member = member
        self._said = ""
        self._last: object = member.state

    @property
    def name(self) -> str | None:
        return self._member.name

    @property
    def state(self) -> str:
        return self._member.state

    @property
    def pair(self) -> Pair | None:
        return self._member.pair

    @property
    def host(self) -> Pair | Active | None:
        return self._member.active

    @property
    def generation(self) -> int | None:
        active = self._member.active
        return super().generation if active is None else active.generation

    @property
    def runs(self) -> bool:
        """It does between two pairs, too: it is the record's holder, and its clients wait for the next one.

        Not while it may have to give way: a pair that is broken has not been decided yet.
        """
        active = self._member.active
        if active is None or active.generation is None:
            return False
        return self._member.state is S.ALONE or (self._member.state is S.PRIMARY and self.works)

    @property
    def protected(self) -> bool:
        return self.ready or (self._member.state is S.PRIMARY and self.works)

    @property
    def waits_for(self) -> str:
        """See above; also where its own store takes nothing, and so nobody is answered."""
        pair = self.pair
        over = pair is not None and pair.state in pair.session.table.final
        return self._not_yet if self._member.state is S.ALONE and over else super().waits_for

    @property
    def remark(self) -> str:
        return self._said

    @property
    def _not_yet(self) -> str:
        first = "no Secondary has come yet" if self._member.state is S.OFFERING else super()._not_yet
        return self._said or first

    def _member_moved(self, moved: MemberMoved) -> None:
        if moved.why or moved.state not in (S.LOOKING, S.WAITING):
            self._said = moved.why  # else it only looks again, and waits for the same as before
        if moved.state is not self._last:
            self._moves += 1
            self.begun = True
            self._failovers += moved.state is S.ALONE and self._last in (S.SECONDARY, S.PRIMARY)
            self._last, self._trouble = moved.state, ""
            if moved.state is S.PRIMARY:
                self._newest_at = self._clock()  # its Secondary has the first copy
