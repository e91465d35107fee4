"""The members' own code under random schedules of crashes, restarts, lost links and switchovers; see
`member_world`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import attrs
import pytest
from member_world import Outcome, run

from colo_fsm.membership import record, running, seat, shadow
from colo_fsm.membership.record import Finding, Member, Phase, Point, Record

SAMPLE = 25
SCHEDULES = int(os.environ.get("COLO_FSM_SCHEDULES", "9000"))
"""Of `make soak`."""
STRUCK = (
    "crashes", "crashes inside a write", "crashes at the arbiter", "links broken", "freezes", "rejoins",
    "take-overs", "switchovers", "stopped in order", "arbiter away",
)  # fmt: skip


def failed(outcomes: Iterable[Outcome]) -> str:
    """What went wrong, with the seeds that repeat it."""
    wrong = [outcome for outcome in outcomes if outcome.problems]
    return "\n\n".join(
        "\n".join((f"seed {each.seed}: {each.problems}", *each.trace[-60:])) for each in wrong[:3]
    )


def counted(outcomes: Iterable[Outcome]) -> Counter[str]:
    return sum((each.counts for each in outcomes), Counter())


def test_whatever_happens_nothing_acknowledged_is_lost_and_the_pair_comes_back() -> None:
    outcomes = [run(seed) for seed in range(SAMPLE)]
    assert not failed(outcomes)
    counts = counted(outcomes)
    assert [what for what in STRUCK if not counts[what]] == []
    assert counts["acknowledged"] > 10 * SAMPLE


def test_a_seed_repeats_to_the_last_line_of_its_trace() -> None:
    first, again = run(7).trace, run(7).trace
    assert first == again
    assert len(first) > 20


def run_quietly(seed: int) -> Outcome:
    """Without the trace of a schedule that went well: there are many."""
    outcome = run(seed)
    return outcome if outcome.problems else attrs.evolve(outcome, trace=[])


@pytest.mark.soak
@pytest.mark.timeout(600 + SCHEDULES)
def test_many_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    """`COLO_FSM_SCHEDULES` of them, on all cores."""
    began, counts, wrong = time.monotonic(), Counter[str](), []
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for outcome in pool.map(run_quietly, range(SCHEDULES), chunksize=50):
            counts += outcome.counts
            wrong += [outcome] if outcome.problems else []
    with capsys.disabled():
        hours = (time.monotonic() - began) / 3600
        print(f"\nmembers: {SCHEDULES:,} schedules, {SCHEDULES / hours:,.0f} in an hour, {len(wrong)} failed")
        print(", ".join(f"{what} {count:,}" for what, count in sorted(counts.items())))
    assert not failed(wrong)


# -- errors that are planted ----------------------------------------------------------------------


def overwrite(patch: pytest.MonkeyPatch) -> None:
    """Whoever is started goes on from what it has, and a Secondary lets any generation in."""

    def find(found: Record | None, me: Member, have: Point | None) -> Finding:
        finding = record.find(found, me, have)
        others = (Finding.GIVE_BACK, Finding.FOLLOW, Finding.SUCCEED, Finding.AHEAD)
        return Finding.GO_ON if finding in others and have is not None else finding

    def kept(found: Record, me: Member, generation: int, token: int) -> Record:
        now = attrs.evolve(found, phase=Phase.ALONE, holder=me, stored=True, token=token)
        return attrs.evolve(now, generation=generation, begun=max(found.begun, generation))

    def check(self: Any, generation: int) -> None:
        self.seat.belongs_to(self.read().id)
        self.change(lambda found: attrs.evolve(found, guest=self.me))

    patch.setattr(seat, "find", find)
    patch.setattr(record, "kept", kept)
    patch.setattr(seat.Standing, "check", check)


def forget_the_survivors_state(patch: pytest.MonkeyPatch) -> None:
    """A member alone acknowledges what its store never gets."""
    patch.setattr(shadow.Copied, "commit", lambda self, delta, device, meta=None: None)


def join_without_the_newest_point(patch: pytest.MonkeyPatch) -> None:
    """A survivor's new pair counts before its Secondary has the last round of the member's store."""
    change_over = running.Running._change_over

    async def at_once(self: Any, pair: Any, shadow: Any, keeper: Any) -> None:
        async def covered() -> None:
            """It is not."""

        pair.request_checkpoint, pair.committed = int, covered
        try:
            await change_over(self, pair, shadow, keeper)
        finally:
            del pair.request_checkpoint, pair.committed

    patch.setattr(running.Running, "_change_over", at_once)


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int]] = {
    "overwrite": (overwrite, 20),
    "forget the survivor's state": (forget_the_survivors_state, 20),
    "join without the newest point": (join_without_the_newest_point, 20),
}
"""Each with the number of schedules in which it is found."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, within = PLANTED[name]
    plant(monkeypatch)
    found = next((each.problems for each in map(run, range(within)) if each.problems), [])
    assert any(problem.startswith(("lost", "a read went back")) for problem in found), found
