"""Schedules from seeds. Faults are aimed at states, not at times: so each kind gets everywhere.

Times alone would nearly always find both sides between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs

from colo_fsm.colo import ReleaseOn
from colo_fsm.fsm import Side

from .rehearsal import rehearse
from .schedule import SAFE_KINDS, WIRE_KINDS, Fault, Kind, Schedule
from .tables import Tables, after_loss, closed, in_rounds, releasing
from .tamper import PAYLOAD

P, S = Side.PRIMARY, Side.SECONDARY

HOOKS: Mapping[Side, tuple[str, ...]] = {
    P: ("suspend", "resume", "save", "output", "observer"),
    S: ("load", "load", "resume", "suspend", "output", "observer"),
}
"""What of the embedder's each side calls. A load is tried twice."""

MOST_FAULTS = 4


def generate(
    seed: int,
    kinds: Sequence[Kind] = SAFE_KINDS,
    tables: Tables = Tables(),  # noqa: B008 - frozen
) -> Schedule:
    """The schedule of this seed, with faults of these kinds, for these tables.

    Of the kinds that a link never does, one strikes in a schedule, and safe ones with it.
    """
    random = Random(seed)
    deadline = random.choice((0.5, 1.0, 2.0))
    faults = _Faults(random, deadline, tuple(kinds), tables).draw()
    return Schedule(
        seed=seed,
        noise=random.getrandbits(48),
        rounds=random.randint(10, 12),
        clients=random.randint(2, 4),
        interval=random.choice((0.005, 0.02, 0.05)),
        deadline=deadline,
        claim_retry=random.choice((0.05, 0.3, 1.0)),
        pause=random.choice((0.02, 0.05)),
        turn=random.choice((0.0, 0.002, 0.01)),
        latency=random.choice((0.0002, 0.001, 0.005)),
        work=random.choice((0.0, 0.0003, 0.002)),
        capacity=random.choice((1 << 12, 1 << 16, 1 << 16)),
        chop=random.choice((0.0, 0.3, 1.0)),
        directory=random.random() < 0.75,
        fsync=random.random() < 0.5,
        release_on=ReleaseOn.RECEIVED if random.random() < 0.25 else ReleaseOn.LOADED,
        faults=faults,
    )


class _Faults:
    """Draws the faults of one schedule."""

    def __init__(self, random: Random, deadline: float, kinds: tuple[Kind, ...], tables: Tables) -> None:
        self._random = random
        self._deadline = deadline
        self._wire = tuple(kind for kind in kinds if kind in WIRE_KINDS)
        self._kinds = SAFE_KINDS if self._wire else kinds
        self._seen = rehearse(tables)
        self._tables = {side: tables.complete(side) for side in Side}
        self._messages = tuple(self._tables[P].words.by_value)

    def _after(self, side: Side, *, linked: bool = False) -> tuple[str, ...]:
        """Where a side is when something has struck already; `linked`: and has a link still."""
        table = self._tables[side]
        out = {table.initial, *in_rounds(table), *(closed(table) if linked else ())}
        return tuple(state for state in table.states if state not in out)

    def draw(self) -> tuple[Fault, ...]:
        """One to four: the first while the pair is well, or what leads to the state that another needs."""
        random = self._random
        count = random.choice((1, 1, 2, 2, 2, 3, 3, 4))
        if self._wire:
            kind = random.choice(self._wire)
            faults = self._forged() if kind is Kind.INJECT else [self._fault(kind)]
            count = min(count, 3)
        else:
            faults = [self._fault(random.choice(self._kinds))]
        if count > 2 and Kind.RESTART in self._kinds and random.random() < 0.5:
            faults.append(self._fault(Kind.RESTART))
        while len(faults) < count:
            faults.append(self._another(faults[0]))
        return tuple(self._leading_to(faults) + faults)[:MOST_FAULTS]

    def _another(self, first: Fault) -> Fault:
        """At once, when something has ended the pair, or whenever it is."""
        kind = self._random.choice(self._kinds)
        match self._random.choice(("near", "near", "after", "after", "whenever")):
            case "near":
                return attrs.evolve(self._fault(kind), visit=first.visit)
            case "after":
                return self._fault(kind, after=True)
            case _:
                return self._fault(kind)

    def _leading_to(self, faults: list[Fault]) -> list[Fault]:
        """What must strike first, so that one of these finds the state that it waits for."""
        waits = next((fault for fault in faults if fault.state in self._after(fault.side)), None)
        if waits is None or len(faults) == MOST_FAULTS:
            return []
        chosen = self._random.choice(self._leads(waits.side, waits.state))
        return [chosen] if chosen.kind in self._kinds else []

    def _leads(self, side: Side, state: str) -> tuple[Fault, ...]:
        """What leads to this state of this side."""
        table, lead = self._tables[side], self._lead
        if state == table.failover:
            return lead(Kind.CLOSED, side, side, how="tail"), lead(Kind.FAILOVER_REQUEST, side, side)
        if state in table.alone:
            return (lead(Kind.CRASH, side, side.peer),)
        if state in after_loss(table):
            return (
                lead(Kind.FAILOVER_REQUEST, side.peer, side.peer),
                lead(Kind.CLOSED, side, side, table.initial, how="end"),
            )
        if state in table.final:
            return (lead(Kind.RESTART, side, side.peer, how="kill", seconds=0.05),)
        before = [r.source for r in table.rows if r.dest == state and r.source in self._seen.rounds[side]]
        return tuple(
            lead(kind, side, side, self._random.choice(before), **more)
            for kind, more in (
                (Kind.CLOSED, {"how": "reset"}),
                (Kind.GUEST_FAILURE, {"how": "load", "count": 1}),
                (Kind.FAILING_DISK, {"how": "once", "count": 1}),
            )
            if before
        ) or (lead(Kind.CLOSED, side, side, how="tail"),)

    def _lead(self, kind: Kind, side: Side, target: Side, state: str = "", **more: Any) -> Fault:
        state = state or self._random.choice(self._seen.rounds[side])
        visit = self._random.randint(1, 8) if state in self._seen.rounds[side] else 1
        return Fault(kind=kind, target=target, side=side, state=state, visit=visit, **more)

    def _forged(self) -> list[Fault]:
        """A message that nobody sent; or those that let packets out, where nothing arrived."""
        chain = releasing(self._tables[P])
        if not chain or self._random.random() < 0.5:
            return [self._fault(Kind.INJECT)]
        silent = self._lead(Kind.SILENT, P, P, chain[0].source, how="one")
        chain = chain[: self._random.randint(1, len(chain))]
        forged = (
            attrs.evolve(silent, kind=Kind.INJECT, target=S, how="", count=int(row.trigger.message or 0))
            for row in chain
        )
        dies = attrs.evolve(silent, kind=Kind.POWER_FAILURE, how="", state=chain[-1].dest)
        return [silent, *forged, dies]

    def _fault(self, kind: Kind, *, after: bool = False) -> Fault:
        """A fault of this kind: somewhere in a round or, `after`, where a side is when a pair has ended."""
        random = self._random
        side = random.choice((P, S))
        target, more = self._details(kind, random.choice((P, S)))
        side, states = self._where(kind, more.get("how"), side, target, after)
        state = random.choice(states)
        table = self._tables[side]
        brief = state in self._after(side) and state not in table.alone and random.random() < 0.8
        delay = random.choice((0.0, 0.0, 0.0, round(random.uniform(0.0, 0.003), 6), 0.02))
        return Fault(
            kind=kind,
            target=target,
            side=side,
            state=state,
            visit=random.randint(1, 9) if state in self._seen.rounds[side] else 1,
            op=0 if brief else random.choice((0, 0, 0, 1, 1, 2, 3)),
            delay=0.0 if brief else delay,
            **more,
        )

    def _where(
        self, kind: Kind, how: str | None, side: Side, target: Side, after: bool
    ) -> tuple[Side, tuple[str, ...]]:
        """In which state of which side a fault can strike."""
        seen = self._seen
        working = seen.rounds[side] * 2 + seen.once[side]
        match kind:
            case Kind.PARTIAL_WRITE | Kind.CORRUPT | Kind.REORDER | Kind.DUPLICATE:
                return target, seen.writes[target]
            case Kind.SLOW_DISK | Kind.FAILING_DISK:
                return S, (*seen.rounds[S], self._tables[S].initial)
            case Kind.CRASH | Kind.POWER_FAILURE if how == "disk":
                return S, (*seen.rounds[S], self._tables[S].initial)
            case Kind.CLOSED | Kind.SILENT | Kind.DELAY | Kind.INJECT:
                return side, (after and self._after(side, linked=True)) or working
            case Kind.REFUSED | Kind.FAILING_ACCEPT | Kind.CANCELLED:
                return target, (self._tables[target].initial,)
            case Kind.GUEST_FAILURE if how == "observer":
                return target, in_rounds(self._tables[target])
            case Kind.RESTART if how == "spare":
                return side, tuple(sorted(self._tables[side].alone))
            case _:
                return side, self._after(side) if after else working

    def _details(self, kind: Kind, target: Side) -> tuple[Side, dict[str, Any]]:
        """Whom it strikes, and what else there is to say of this kind."""
        random = self._random
        long = self._deadline * 2.5
        pick: Callable[..., Any] = lambda *choices: random.choice(choices)  # noqa: E731
        match kind:
            case Kind.CRASH | Kind.POWER_FAILURE if random.random() < 0.4:
                return S, {"how": "disk", "count": random.randint(0, 14)}
            case Kind.CLOSED:
                return target, {"how": pick("end", "tail", "reset")}
            case Kind.SILENT:
                return target, {"how": pick("both", "one")}
            case Kind.DELAY:
                return target, {"how": pick("both", "one"), "seconds": pick(0.05, 0.3, long)}
            case Kind.PARTIAL_WRITE:
                how, seconds = pick("later", "later", "closed", "silent"), pick(0.01, 0.3, long)
                return target, {"how": how, "seconds": seconds, "count": random.randint(0, 40)}
            case Kind.SLOW_DISK:
                return S, {"seconds": pick(0.01, 0.1, long / 4), "count": random.randint(1, 30)}
            case Kind.FAILING_DISK:
                how, seconds = pick(("once", 0.0), ("once", 0.0), ("while", 0.5), ("while", 3.0))
                return S, {"how": how, "seconds": seconds, "count": random.randint(0, 14)}
            case Kind.RESTART:
                return target, {
                    "how": pick("kill", "kill", "power", "spare"),
                    "seconds": pick(0.05, 0.5, 2.0),
                }
            case Kind.ARBITER_LOSS if random.random() < 0.5:
                return target, {"how": "answer", "count": random.randint(1, 3)}
            case Kind.ARBITER_LOSS:
                return target, {"how": pick("both", "one"), "seconds": pick(0.1, 1.0, 5.0)}
            case Kind.TIMEOUT:
                return target, {"seconds": pick(0.05, 0.3, long, long)}
            case Kind.GUEST_FAILURE:
                return target, {"how": pick(*HOOKS[target]), "count": random.choice((1, 1, 2))}
            case Kind.SLOW_HOOK:
                return target, {"how": pick(*HOOKS[target][:4]), "seconds": pick(0.05, 0.3, long, 2 * long)}
            case Kind.REFUSED:
                return P, {"seconds": pick(0.02, 0.2, 1.0, 5.0)}
            case Kind.FAILING_ACCEPT:
                return S, {"how": pick("aborted", "no-descriptors"), "count": random.randint(1, 3)}
            case Kind.CORRUPT if random.random() < 0.5 and target is P:
                return target, {"how": PAYLOAD, "count": random.randint(0, 1 << 15)}
            case Kind.CORRUPT:
                return target, {"how": "message", "count": random.randint(0, len(self._messages) + 1)}
            case Kind.INJECT:
                return target, {"count": pick(*self._messages)}
            case _:
                return target, {}
