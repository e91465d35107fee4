"""Bugs planted in the production code: each is found, and its schedule is made short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from colo_fsm.arbiter import Claim, GenerationClaimed, SqliteArbiter
from colo_fsm.check.simulate import Bench, Outcome, Schedule, generate, shortest
from colo_fsm.check.simulate.process import Process
from colo_fsm.check.simulate.service import Verb
from colo_fsm.fsm import ProtocolError, Side
from colo_fsm.replica import Checkpoint, StateGuest
from colo_fsm.replica.outbox import Outbox
from colo_fsm.replica.script import Replica
from colo_fsm.replica.secondary_script import SecondaryReplica
from colo_fsm.replica.store import DirectoryStore

MOST_SEEDS = 2000


def release_early(patch: pytest.MonkeyPatch) -> None:
    """Packets leave at once, not when a checkpoint covers them."""
    patch.setattr(Outbox, "hold", lambda self, deliver, drop=None: deliver())


def sealed_late(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint lets out what the guest has said since it runs on, too: after its state was taken."""
    release = Outbox.release

    def all_of_it(self: Outbox) -> int:
        self.seal()
        return release(self)

    patch.setattr(Outbox, "release", all_of_it)


def cached_claim(patch: pytest.MonkeyPatch) -> None:
    """A generation that was free when it was looked at is taken for won."""

    def claim(self: SqliteArbiter, generation: int, side: Side) -> Claim:
        try:
            self.check(generation)
        except GenerationClaimed as claimed:
            return Claim(claimed.winner, generation)
        return Claim(side, generation)

    patch.setattr(SqliteArbiter, "claim", claim)


def half_load(patch: pytest.MonkeyPatch) -> None:
    """What has arrived of a checkpoint is loaded when the rest does not come, and the guest does not look.

    Its checksum would refuse it.
    """
    receive_live = SecondaryReplica.receive_live

    def half(self: SecondaryReplica) -> Any:
        try:
            return (yield from receive_live(self))
        except ProtocolError:
            newest = self.store.newest
            assert newest is not None
            self.store.commit(self.round.delta, newest.device)
            yield from self.load()
            raise

    def load(self: StateGuest, checkpoint: Checkpoint) -> None:
        block = checkpoint.blocks[self.BLOCK]
        self.service.set_state(bytes(block[: int.from_bytes(checkpoint.device[:8])]))

    patch.setattr(SecondaryReplica, "receive_live", half)
    patch.setattr(StateGuest, "load", load)


def reads_not_held(patch: pytest.MonkeyPatch) -> None:
    """A read is answered at once: a reader may see what is lost later."""
    end_turn = Process.end_turn

    def end(self: Process, request: Any, answered: Any) -> None:
        if request.verb is not Verb.GET:
            end_turn(self, request, answered)
        else:
            answered(self.service.end(request))

    patch.setattr(Process, "end_turn", end)


def no_sync(patch: pytest.MonkeyPatch) -> None:
    """A store that promises to survive a power failure leaves it to the page cache."""
    patch.setattr(DirectoryStore, "_sync", lambda self, fd: None)


def asks_once(patch: pytest.MonkeyPatch) -> None:
    """An arbiter that gave no answer is not asked again."""
    ask = Replica._ask

    def once(self: Replica) -> Any:
        effects = yield from ask(self)
        if not effects and self._claim_at is not None:
            self._claim_at = float("inf")
        return effects

    patch.setattr(Replica, "_ask", once)


def find(kind: str) -> Outcome:
    """The first seed that shows a problem of this kind, as its only or first one."""
    with Bench() as bench:
        for seed in range(MOST_SEEDS):
            outcome = bench.run(generate(seed))
            if outcome.problems and outcome.problems[0].kind == kind:
                return outcome
    pytest.fail(f"not found in {MOST_SEEDS} seeds")


@pytest.mark.parametrize(
    ("plant", "kind", "faults"),
    [
        (release_early, "lost", 1),
        (sealed_late, "lost", 1),
        (cached_claim, "split brain", 1),
        (half_load, "torn", 2),
        (reads_not_held, "linearizability", 2),
        (no_sync, "store", 2),
        (asks_once, "stuck", 2),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_found_and_made_short(
    plant: Callable[[pytest.MonkeyPatch], None], kind: str, faults: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    found = find(kind)
    short = shortest(found)
    assert short.problems[0].kind == kind
    assert len(short.schedule.faults) <= faults, str(short.schedule)
    with Bench() as bench:
        again = bench.run(Schedule.from_json(short.schedule.to_json()), trace=True)
        assert again == short
    print(f"seed {found.schedule.seed}, {len(found.schedule.faults)} faults:\n{short.schedule}")
    monkeypatch.undo()
    with Bench() as bench:
        assert bench.run(short.schedule).ok, "the bug is what fails, not the schedule"
