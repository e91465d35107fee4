"""Schedules from seeds. Faults are aimed at states, not at times: so each kind gets everywhere.

Times alone would nearly always find both sides between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs

from colo_fsm.colo import COLOMessage, ReleaseOn, State
from colo_fsm.fsm import Side

from .schedule import SAFE_KINDS, WIRE_KINDS, Fault, Kind, Schedule
from .tamper import PAYLOAD

P, S = Side.PRIMARY, Side.SECONDARY

ROUND: Mapping[Side, tuple[State, ...]] = {
    P: (State.REQUESTED, State.REPLIED, State.SIZED, State.RECEIVED, State.LOADED),
    S: (State.REPLIED, State.SENDING, State.SIZED, State.RECEIVED, State.LOADED),
}
"""Where a side takes a step in every round. The others of a round pass without one."""
ONCE = (State.INIT, State.READY)
"""Where it is once in a generation."""
AFTER: Mapping[Side, tuple[State, ...]] = {
    P: (State.FAILOVER, State.ALONE, State.STOPPED, State.ENDED),
    S: (State.FINISHING, State.FAILOVER, State.ALONE, State.STOPPED, State.ENDED),
}
"""Where it is when something has struck already."""
STILL_LINKED: Mapping[Side, tuple[State, ...]] = {
    P: (State.FAILOVER, State.STOPPED),
    S: (State.FAILOVER, State.STOPPED, State.FINISHING),
}
"""Those of them in which it has not closed the link yet, at the first step."""
WRITES: Mapping[Side, tuple[State, ...]] = {
    P: (State.INIT, State.REQUESTED, State.SIZED),
    S: (State.READY, State.REPLIED, State.RECEIVED, State.LOADED),
}
"""Where a side writes to the link."""
HOOKS: Mapping[Side, tuple[str, ...]] = {
    P: ("suspend", "resume", "save", "output", "observer"),
    S: ("load", "load", "resume", "suspend", "output", "observer"),
}
"""What of the embedder's each side calls. A load is tried twice."""

MOST_FAULTS = 4


def generate(seed: int, kinds: Sequence[Kind] = SAFE_KINDS) -> Schedule:
    """The schedule of this seed, with faults of these kinds.

    Of the kinds that a link never does, one strikes in a schedule, and safe ones with it.
    """
    random = Random(seed)
    deadline = random.choice((0.5, 1.0, 2.0))
    faults = _Faults(random, deadline, tuple(kinds)).draw()
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

    def __init__(self, random: Random, deadline: float, kinds: tuple[Kind, ...]) -> None:
        self._random = random
        self._deadline = deadline
        self._wire = tuple(kind for kind in kinds if kind in WIRE_KINDS)
        self._kinds = SAFE_KINDS if self._wire else kinds

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
        waits = next((fault for fault in faults if fault.state in AFTER[fault.side]), None)
        if waits is None or len(faults) == MOST_FAULTS:
            return []
        side, random = waits.side, self._random
        leads: dict[State, tuple[Fault, ...]] = {
            State.FINISHING: (
                self._lead(Kind.CLOSED, S, State.RECEIVED, S, how="reset"),
                self._lead(Kind.GUEST_FAILURE, S, State.RECEIVED, S, how="load", count=1),
                self._lead(Kind.FAILING_DISK, S, State.SIZED, S, how="once", count=1),
            ),
            State.FAILOVER: (
                self._lead(Kind.CLOSED, side, random.choice(ROUND[side]), side, how="tail"),
                self._lead(Kind.FAILOVER_REQUEST, side, random.choice(ROUND[side]), side),
            ),
            State.ALONE: (self._lead(Kind.CRASH, side, random.choice(ROUND[side]), side.peer),),
            State.STOPPED: (
                self._lead(Kind.FAILOVER_REQUEST, side.peer, random.choice(ROUND[side.peer]), side.peer),
                self._lead(Kind.CLOSED, side, State.INIT, side, how="end"),
            ),
            State.ENDED: (
                self._lead(
                    Kind.RESTART, side, random.choice(ROUND[side]), side.peer, how="kill", seconds=0.05
                ),
            ),
        }
        chosen = random.choice(leads[waits.state])
        return [chosen] if chosen.kind in self._kinds else []

    def _lead(self, kind: Kind, side: Side, state: State, target: Side, **more: Any) -> Fault:
        visit = self._random.randint(1, 8) if state in ROUND[side] else 1
        return Fault(kind=kind, target=target, side=side, state=state, visit=visit, **more)

    def _forged(self) -> list[Fault]:
        """A message that nobody sent; or those that let packets out, where nothing arrived."""
        first = self._fault(Kind.INJECT)
        if self._random.random() < 0.5:
            return [first]
        silent = self._lead(Kind.SILENT, P, State.SIZED, P, how="one")
        received, loaded = (
            attrs.evolve(silent, kind=Kind.INJECT, target=S, how="", count=int(message))
            for message in (COLOMessage.VMSTATE_RECEIVED, COLOMessage.VMSTATE_LOADED)
        )
        state = self._random.choice((State.RECEIVED, State.LOADED))
        dies = attrs.evolve(silent, kind=Kind.POWER_FAILURE, how="", state=state)
        return [silent, received, *([loaded] if state is State.LOADED else []), dies]

    def _fault(self, kind: Kind, *, after: bool = False) -> Fault:
        """A fault of this kind: somewhere in a round or, `after`, where a side is when a pair has ended."""
        random = self._random
        side = random.choice((P, S))
        target, more = self._details(kind, random.choice((P, S)))
        how = more.get("how")
        states = AFTER[side] if after else ROUND[side] * 2 + ONCE
        if kind in (Kind.PARTIAL_WRITE, Kind.CORRUPT, Kind.REORDER, Kind.DUPLICATE):
            side, states = target, WRITES[target]
        elif kind in (Kind.SLOW_DISK, Kind.FAILING_DISK) or how == "disk":
            side, states = S, (*ROUND[S], State.INIT)
        elif kind in (Kind.CLOSED, Kind.SILENT, Kind.DELAY, Kind.INJECT):
            states = STILL_LINKED[side] if after else ROUND[side] * 2 + ONCE
        elif how == "observer":
            side = target
            states = (*ROUND[side], *ONCE, State.SENDING, State.REQUESTED)
        elif how == "spare":
            states = (State.ALONE,)
        state = random.choice(states)
        brief = state in AFTER[side] and state is not State.ALONE and random.random() < 0.8
        delay = random.choice((0.0, 0.0, 0.0, round(random.uniform(0.0, 0.003), 6), 0.02))
        return Fault(
            kind=kind,
            target=target,
            side=side,
            state=state,
            visit=random.randint(1, 9) if state in ROUND[side] else 1,
            op=0 if brief else random.choice((0, 0, 0, 1, 1, 2, 3)),
            delay=0.0 if brief else delay,
            **more,
        )

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
            case Kind.CORRUPT if random.random() < 0.5 and target is P:
                return target, {"how": PAYLOAD, "count": random.randint(0, 1 << 15)}
            case Kind.CORRUPT:
                return target, {"how": "message", "count": random.randint(0, 8)}
            case Kind.INJECT:
                return target, {"count": int(pick(*COLOMessage))}
            case _:
                return target, {}
