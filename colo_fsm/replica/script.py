"""What every driver does, written once: performs the effects of a session against a guest and a link.

A `Replica` is one side at work, and `run` its script (see `wish.py`); `outside.py` has its link and its
hooks. It knows no order of messages and no protocol: the session's table has that. `primary_script.py`
and `secondary_script.py` add what only one side does.

One row's effects are performed to the end, in order, before anything else is looked at; the first one
that fails becomes a fault, and the rest of its row is dropped. Messages gather until something waits
or works, so that neighbours leave in one write; and a hook whose outcome nobody looks at yet goes along
with the next one, so that neighbours share one way to where hooks are called.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from colo_fsm.arbiter import Arbiter, Claim, NotFenced
from colo_fsm.fsm import (
    Do,
    Effects,
    FailoverStatus,
    Fault,
    GuestFailed,
    ProtocolError,
    Row,
    Send,
    Session,
    TimedOut,
    Transition,
    begin,
    done,
    fault,
    lost,
    won,
)

from .door import Visitors
from .events import ClaimAnswered, ClaimUnanswered, Feed
from .gate import Gate
from .guest import AsyncGuest, Guest
from .options import Options
from .outbox import Outbox
from .outside import Leaving, Outside
from .pace import Pace
from .round import Round
from .wish import Call, Script, Wait

_log = logging.getLogger(__name__)

FENCE_BACK_OFF: Final = 32
"""How many times `claim_retry` passes at most between two tries to fence the peer."""

Step = Callable[[], Script[Effects | None] | None]
"""Performs an effect: at once, or as a script, which returns what follows from it at once."""


class Replica(Outside):
    """One side at work. Make requests from any thread and then `wake` it."""

    round: Round

    def __init__(
        self,
        session: Session,
        guest: Guest | AsyncGuest,
        arbiter: Arbiter,
        options: Options,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(session, guest, options, clock)
        self.arbiter = arbiter
        self.outbox = Outbox(self._answer_waits)
        self.pace = Pace(self.table, options, self.outbox, self.sign_interval)
        self.gate = Gate(lambda: self.wake())
        self.events = Feed()
        self.generation: int | None = None
        self.token = 0
        self.checkpoint = 0
        self.started = False
        self._running = False
        self._turns_due: float | None = None
        self._claim_at: float | None = None
        self._claim: Call | None = None
        self._unfenced = 0
        self.unready: ProtocolError | None = None
        """What was wrong before this side was ready for its first round."""
        self._lost_to: Claim | None = None
        self.round = self.new_round()
        self._effects = self.effects()
        asked = {effect for r in self.table.rows for effect in r.effects} | set(self.table.start)
        if strange := sorted(str(e) for e in asked if not isinstance(e, Send) and e not in self._effects):
            raise ValueError(f"no {session.side} can do what this table asks for: {', '.join(strange)}")
        session.note = self._moved

    def effects(self) -> Mapping[Do, Step]:
        """What performs each effect: here those of both sides."""
        return {
            Do.suspend: self._suspend,
            Do.resume: self._resume,
            Do.release_all: self._at_once(self.outbox.release_all),
            Do.discard: self._at_once(self.outbox.discard),
            Do.disconnect: self._disconnect,
            Do.claim: self._ask,
        }

    def new_round(self) -> Round:
        """What to note of the round that begins now."""
        return Round(self.clock())

    def begin(self) -> Script[None] | None:
        """What comes before the table's start."""
        return None

    def come_from(self, visitors: Visitors) -> None:
        """Links come from there: for who wants another one when the first was the wrong one."""

    @property
    def failover_status(self) -> FailoverStatus:
        """QEMU's FailoverStatus: what the session says, or `require` while a request waits."""
        status = self.session.failover_status
        waits = self.failover_requested and status is FailoverStatus.NONE and not self.session.over
        return FailoverStatus.REQUIRE if waits else status

    def epitaph(self) -> tuple[str, BaseException | None]:
        """Why the guest does not run here any more, and the error that led to it."""
        error = self.session.error
        if self._lost_to is not None:
            return f"the claim was lost to the {self._lost_to.winner}, which goes on alone", error
        return "this side has stopped" if error is None else f"this side has stopped: {error}", error

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> Script[None]:
        """From the first effect to a state that nothing leaves."""
        session, step = self.session, self._start
        effects: Effects = ()
        while effects or not session.over:
            todo = effects
            try:
                if todo:
                    effects = yield from self._row(todo)
                else:
                    step, now = self._next, step
                    effects = yield from now()
                if not effects:
                    self._tell_of_round()
                    effects = session.next_effects()
            except Leaving:
                effects = session.fire(begin.leave)
            except Exception as error:  # noqa: BLE001 - whatever it is, the side must not just vanish
                effects = self._failed(error, todo)
        yield from self._farewell()

    def _start(self) -> Script[Effects]:
        self.started = True
        self._progress()
        self._heed()
        if (step := self.begin()) is not None:
            yield from step
        return self.session.start()

    def _row(self, effects: Effects) -> Script[Effects]:
        """Perform the effects of one row; what follows from them, or from their completion."""
        session = self.session
        follow: Effects = ()
        for effect in effects:
            if self._ahead and effect is not Do.save:
                yield from self._catch_up()
            if isinstance(effect, Send):
                self._outgoing.append(self.table.words.encode(effect.message))
            elif (step := self._effects[effect]()) is not None:
                follow += (yield from step) or ()
        if self._ahead:
            yield from self._catch_up()
        if follow:
            return follow
        if self.failover_requested:
            # a request that came meanwhile comes before the completion: nothing more is sent
            state = session.state
            follow = self._failover()
            if session.state is not state:
                return follow
        if awaited := self.table.completions.get(session.state):
            for effect in effects:
                if isinstance(effect, Do) and effect in awaited:
                    return follow + session.fire(done(effect))
        return follow

    def _failed(self, error: Exception, dropped: Effects) -> Effects:
        """What failed becomes a fault; what was left of its row, and what it had to say, is dropped.

        But a claim is put off: a side that never asked would wait for ever.
        """
        session = self.session
        self._outgoing.clear()
        self._ahead.clear()
        kind = (isinstance(error, ProtocolError) and error.kind) or Fault.GUEST_FAILED
        state = session.state
        effects = session.fire(fault(kind), error)
        if session.state is state and not effects:
            _log.error("%s", error)
            if Do.claim in dropped:
                self._claim_at = self.clock() + self.options.claim_retry
        return effects

    def _next(self) -> Script[Effects]:
        """Wait until something happens, and tell the session."""
        session = self.session
        if self._outgoing and (rest := self._flush()):
            yield from rest
        if self.leave_requested and session.state in self._leaves:
            return session.fire(begin.leave)
        if self.failover_requested:
            return self._failover()
        now = self.clock()
        if self._claim_at is not None and now >= self._claim_at:
            return (Do.claim,)
        if self.pace.ask_ahead(session.state):
            return session.fire(begin.checkpoint)
        due = self._checkpoint_due(now)
        if due is not None and now >= due:
            return self._checkpoint()
        silent = self._left() if session.awaits_message and not self.pace.replied else None
        wait = silent
        for at in (self._claim_at, due):
            if at is not None:
                wait = at - now if wait is None else min(wait, at - now)
        link = self.link if session.wants_data else None
        try:
            ready = yield Wait(link, timeout=wait)
        except TimeoutError as cause:
            if silent is not None and not self._left():
                raise TimedOut(session.state, self.deadline()) from cause
            return ()
        data = self._take(link) if ready is not False else None
        return self.arrived(data) if data is not None else ()

    def arrived(self, data: bytes) -> Effects:
        """Bytes have arrived where a message may begin, or the link's end."""
        pace, session = self.pace, self.session
        if pace.keep(session.state, data):
            return ()
        if pace.is_ahead(session.state):
            session.give_back(pace.take())
        return session.receive_data(data)

    def _checkpoint_due(self, now: float) -> float | None:
        """When this side takes a checkpoint by itself, by the clock; None: not from this state."""
        if self.leave_requested and self.pace.is_ahead(self.session.state):
            return now
        return self.pace.due(self.session.state, self.round.resumed, now)

    def _checkpoint(self) -> Effects:
        """Begin one, or go on with the one that was asked for ahead."""
        ahead = self.pace.is_ahead(self.session.state)
        reply = self.pace.take()
        if not ahead:
            return self.session.fire(begin.checkpoint)
        self.round.began = self.clock()
        return self.session.receive_data(reply) if reply else ()

    def _answer_waits(self) -> None:
        """The first that waits for the next checkpoint. Of one that was asked for, it is the only one."""
        self.wake(at_once=self.pace.is_ahead(self.session.state))

    def _failover(self) -> Effects:
        """Feed a failover request that waits, once."""
        self.failover_requested = False
        return self.session.fire(fault(Fault.FAILOVER_REQUEST))

    # -- rounds -------------------------------------------------------------------------------

    def _moved(self, source: StrEnum, row: Row, error: ProtocolError | None) -> None:
        """A round begins where an idle state is left, and is over where one is reached."""
        idle, first = self.table.idle, source is self.table.initial
        if first:
            self.unready = error
        if error is not None:
            self.round.over = False
        elif source in idle:
            self._tell_of_round()
            self.round = self.new_round()
        if error is None and not first:
            self.round.over = row.dest in idle
        if self.events.followed:
            assert row.dest is not None
            moved = Transition(self.session.side, source, row.trigger.name, row.dest, error)
            self.events.put(moved)

    def _tell_of_round(self) -> None:
        if self.round.over:
            self.round.over = False
            if self.events.followed:
                self.events.put(self.round.taken(self.clock()))

    @staticmethod
    def _at_once(action: Callable[[], object]) -> Step:
        """An effect on the output that neither waits nor asks the outside for anything."""

        def step() -> None:
            try:
                action()
            except Exception as cause:
                raise GuestFailed("output", cause) from cause

        return step

    # -- effects of both sides ----------------------------------------------------------------

    def _suspend(self) -> Script[None] | None:
        return self._stop() if self._running else None

    def _stop(self) -> Script[None]:
        """Suspend the guest, once no turn is open; a turn has as long as a hook."""
        self.round.paused = self.clock()
        if self._outgoing and (rest := self._flush()):
            yield from rest
        if not self.gate.close():
            yield from self._turns_end()
        self._running = False
        yield from self.call_ahead("guest.suspend", self.guest.suspend)
        _log.debug("Change '%s' => '%s'", "run", "stop")

    def _turns_end(self) -> Script[None]:
        if self._turns_due is None:
            self._turns_due = self.clock() + self.options.hook_deadline
        while not self.gate.close():
            self._heed_failover()
            left = max(0.0, self._turns_due - self.clock())
            try:
                yield Wait(timeout=min(left, self.sign_interval) if self.session.signs else left)
            except TimeoutError:
                if self.clock() < self._turns_due:
                    self._show_life()
                    continue
                seconds = self.clock() - self._turns_due + self.options.hook_deadline
                raise GuestFailed("a turn", TimeoutError(f"it has been open for {seconds:.1f} s")) from None
        self._turns_due = None

    def _resume(self) -> Script[None]:
        if not self._running:
            yield from self.call("guest.resume", self.guest.resume)
            self._running = True
            self.round.resumed = self.clock()
            _log.debug("Change '%s' => '%s'", "stop", "run")
        self.gate.open()

    def _disconnect(self) -> Script[None] | None:
        if self._outgoing:
            return self._say_and_hang_up()
        self.hang_up()
        return None

    def _say_and_hang_up(self) -> Script[None]:
        yield from self._farewell()
        self.hang_up()

    def _ask(self) -> Script[Effects]:
        """Claim, once. Without an answer the side stays suspended, says so, and asks again later.

        A side whose own guest or store has failed lets a healthy peer ask first: that decides when
        it claims, not who may run. Nobody claims with a guest that is not suspended.
        """
        waits_for_turns = self._running and not self.gate.close()
        if waits_for_turns or (self._claim_at is None and isinstance(self.session.error, GuestFailed)):
            self._claim_at = self.clock() + self.options.claim_retry
            return ()
        if self._running:
            yield from self._stop()
            if self._ahead:
                yield from self._catch_up()
        self._claim_at = None
        try:
            claim = yield from self._claimed()
        except Exception as cause:  # noqa: BLE001 - whatever it is, the claim is not granted
            retry = self._next_claim(cause)
            self._claim_at = self.clock() + retry
            self.events.put(ClaimUnanswered(cause, retry))
            return ()
        granted = claim.winner is self.session.side
        if granted:
            self.token = claim.token
        else:
            self._lost_to = claim
        self.events.put(ClaimAnswered(claim, granted))
        return self.session.fire(won if granted else lost)

    def _next_claim(self, cause: Exception) -> float:
        """In how many seconds to ask again: fencing works on a machine, and is tried ever more slowly."""
        self._unfenced = self._unfenced + 1 if isinstance(cause, NotFenced) else 0
        return float(self.options.claim_retry * min(2 ** max(0, self._unfenced - 1), FENCE_BACK_OFF))

    def _claimed(self) -> Script[Any]:
        """The arbiter's answer. One that hangs is not asked a second time until it has come back."""
        if self._claim is not None and not self._claim.over:
            raise TimeoutError(f"no answer in {self.options.hook_deadline:g} s, and it is not back yet")
        asked = self.generation, self.session.side
        self._claim = Call(self.arbiter.claim, asked, self.options.hook_deadline, seldom=True)
        try:
            return (yield self._claim)
        except TimeoutError as cause:
            raise TimeoutError(str(cause) or f"no answer in {self.options.hook_deadline:g} s") from cause
