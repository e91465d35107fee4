"""A schedule is data: all that decides a run, to be printed, kept, replayed and made shorter."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import attrs

from colo_fsm.colo import ReleaseOn, ResumeOn
from colo_fsm.fsm import Side


class Kind(StrEnum):
    """What can go wrong. docs/simulation.md says what each is."""

    CRASH = "crash"
    POWER_FAILURE = "power-failure"
    CLOSED = "closed"
    SILENT = "silent"
    DELAY = "delay"
    PARTIAL_WRITE = "partial-write"
    SLOW_DISK = "slow-disk"
    FAILING_DISK = "failing-disk"
    RESTART = "restart"
    ARBITER_LOSS = "arbiter-loss"
    FAILOVER_REQUEST = "failover-request"
    TIMEOUT = "timeout"
    GUEST_FAILURE = "guest-failure"
    SLOW_HOOK = "slow-hook"
    REFUSED = "refused"
    FAILING_ACCEPT = "failing-accept"
    CANCELLED = "cancelled"
    CORRUPT = "corrupt"
    REORDER = "reorder"
    DUPLICATE = "duplicate"
    INJECT = "inject"


WIRE_KINDS = (Kind.CORRUPT, Kind.REORDER, Kind.DUPLICATE, Kind.INJECT)
"""What a link that delivers bytes in order never does: in schedules of their own."""
SAFE_KINDS = tuple(kind for kind in Kind if kind not in WIRE_KINDS)
"""What a pair has to survive: nothing lost, no split brain, linearizable."""
STARTING_KINDS = (Kind.REFUSED, Kind.FAILING_ACCEPT, Kind.CANCELLED)
"""What can only strike before both sides have a link."""
PAYLOAD = "payload"
"""How a byte is corrupted of what stands behind the messages, not a message."""


@attrs.frozen(kw_only=True)
class Fault:
    """One fault: strikes `target` when `side` is in `state` of its table, or as soon after as it can.

    visit:   for the so-manieth time at least, over all generations.
    op:      before the so-manieth step there, counted from 0, and `delay` seconds later.
    how:     which kind of it; `seconds` and `count` say how long and how many or which.
    """

    kind: Kind
    target: Side
    side: Side
    state: str
    visit: int = 1
    op: int = 0
    delay: float = 0.0
    how: str = ""
    seconds: float = 0.0
    count: int = 0

    def __str__(self) -> str:
        how = f" ({self.how})" if self.how else ""
        more = [f"{self.seconds:g} s"] if self.seconds else []
        more += [f"count {self.count}"] if self.count else []
        when = f"{self.side} {self.state}, visit {self.visit}, step {self.op}"
        when += f", {self.delay * 1000:g} ms later" if self.delay else ""
        return f"{self.kind}{how} at the {self.target} when {when}" + "".join(f"; {x}" for x in more)


@attrs.frozen(kw_only=True)
class Schedule:
    """All that decides a run. `noise` seeds what is left to chance: clients, latencies, cuts.

    rounds: checkpoints to take before it may end well.   clients: how many.
    interval, deadline, claim_retry: see `Options`, in seconds.   on_demand: answers ask for checkpoints.
    pause: of a client, in seconds.   turn: the longest that a request works, in seconds.
    latency: of every message, in seconds.   work: the mean time of a hook, in seconds.
    capacity: of a link's buffers, in bytes.   chop: how often a write arrives in pieces, 0 to 1.
    directory: a store on disk, else in memory.   fsync: see `DirectoryStore`.
    """

    seed: int = 0
    noise: int = 0
    rounds: int = 10
    clients: int = 3
    interval: float = 0.02
    on_demand: bool = True
    deadline: float = 1.0
    claim_retry: float = 0.2
    pause: float = 0.02
    turn: float = 0.0
    latency: float = 0.0005
    work: float = 0.0
    capacity: int = 1 << 16
    chop: float = 0.0
    directory: bool = True
    fsync: bool = False
    release_on: ReleaseOn = ReleaseOn.LOADED
    resume_on: ResumeOn = ResumeOn.SAVED
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        options = attrs.asdict(self, recurse=False, filter=lambda a, _: a.name != "faults")
        lines = [" ".join(f"{name}={value}" for name, value in options.items())]
        return "\n".join(lines + [f"{at}. {fault}" for at, fault in enumerate(self.faults, 1)])

    def to_json(self) -> str:
        """One line; `from_json` makes an equal schedule of it."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Raises ValueError: it is no schedule."""
        try:
            fields: dict[str, Any] = json.loads(text)
            faults = tuple(_fault(each) for each in fields.pop("faults"))
            fields["release_on"] = ReleaseOn(fields["release_on"])
            fields["resume_on"] = ResumeOn(fields["resume_on"])
            return cls(**fields, faults=faults)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is no schedule: {error}") from None


def _fault(fields: dict[str, Any]) -> Fault:
    known: dict[str, Any] = {"kind": Kind, "target": Side, "side": Side}
    return Fault(**{name: known[name](v) if name in known else v for name, v in fields.items()})
