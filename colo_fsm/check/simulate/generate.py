"""Schedules from seeds. Faults are aimed at states, not at times: so each kind gets everywhere.

Times alone would nearly always find both sides between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import attrs

from colo_fsm.colo import ReleaseOn, ResumeOn
from colo_fsm.fsm import Side

from .rehearsal import rehearse
from .schedule import PAYLOAD, SAFE_KINDS, WIRE_KINDS, Fault, Kind, Schedule
from .tables import Tables, after_loss, closed, in_rounds, releasing

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
        on_demand=random.random() < 0.5,
        resume_on=random.choice((ResumeOn.SAVED, ResumeOn.SAVED, *ResumeOn)),
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
        dies = attrs.evolve(silent, kind=Kind.POWER_FAILURE, how="", state=str(chain[-1].dest))
        return [silent, *forged, dies]

    def _fault(self, kind: Kind, *, after: bool = False) -> Fault:
        """A fault of this kind: somewhere in a round or, `after`, where a side is when a pair has ended."""
        random = self._random
        more = self._details(kind)
        side, states = self._where(kind, more.get("how"), random.choice((P, S)), more["target"], after)
        state = random.choice(states)
        table = self._tables[side]
        brief = state in self._after(side) and state not in table.alone and random.random() < 0.8
        delay = random.choice((0.0, 0.0, 0.0, round(random.uniform(0.0, 0.003), 6), 0.02))
        return Fault(
            kind=kind,
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
                return target, (*seen.rounds[target], self._tables[target].initial)
            case _ if how == "disk" or kind in (Kind.SLOW_DISK, Kind.FAILING_DISK):
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

    def _details(self, kind: Kind) -> dict[str, Any]:
        """What else there is to say of a fault of this kind, and perhaps whom it strikes."""
        random, long = self._random, 2.5 * self._deadline
        either = ("both", "one")
        calls = {"target": S, "count": range(15)}
        choices: dict[Kind, Sequence[dict[str, Any]]] = {
            Kind.CRASH: (*[{}] * 3, *[calls | {"how": "disk"}] * 2),
            Kind.CLOSED: ({"how": ("end", "tail", "reset")},),
            Kind.SILENT: ({"how": either},),
            Kind.DELAY: ({"how": either, "seconds": (0.05, 0.3, long)},),
            Kind.PARTIAL_WRITE: (
                *[{"how": ("later", "closed"), "seconds": (0.01, 0.3, long), "count": range(41)}] * 2,
                {"how": ("later", "silent"), "seconds": (0.01, 0.3, long), "count": range(41)},
            ),
            Kind.SLOW_DISK: ({"target": S, "seconds": (0.01, 0.1, long / 4), "count": range(1, 31)},),
            Kind.FAILING_DISK: (
                *[calls | {"how": "once"}] * 2, calls | {"how": "while", "seconds": (0.5, 3.0)},
            ),
            Kind.RESTART: ({"how": ("kill", "kill", "power", "spare"), "seconds": (0.05, 0.5, 2.0)},),
            Kind.ARBITER_LOSS: (
                {"how": "answer", "count": range(1, 4)}, {"how": either, "seconds": (0.1, 1.0, 5.0)},
            ),
            Kind.TIMEOUT: ({"seconds": (0.05, 0.3, long, long)},),
            Kind.REFUSED: ({"target": P, "seconds": (0.02, 0.2, 1.0, 5.0)},),
            Kind.FAILING_ACCEPT: ({"target": S, "how": ("aborted", "no-descriptors"), "count": range(1, 4)},),
            Kind.CORRUPT: (
                {"target": P, "how": PAYLOAD, "count": range(1 << 15)},
                *[{"how": "message", "count": range(len(self._messages) + 2)}] * 3,
            ),
            Kind.INJECT: ({"count": self._messages},),
        }  # fmt: skip
        choices[Kind.POWER_FAILURE] = choices[Kind.CRASH]
        found = {"target": random.choice((P, S))} | random.choice(choices.get(kind, ({},)))
        if kind in (Kind.GUEST_FAILURE, Kind.SLOW_HOOK):
            found["how"] = HOOKS[found["target"]]
        if kind is Kind.GUEST_FAILURE:
            found["count"] = (1, 1, 2)
        if kind is Kind.SLOW_HOOK:
            found["seconds"] = (0.05, 0.3, long, 2 * long)
        return {
            name: random.choice(value) if isinstance(value, tuple | range) else value
            for name, value in found.items()
        }
