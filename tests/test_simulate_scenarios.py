"""Schedules written by hand: each fault does what docs/simulation.md says, and the pair what it promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from colo_fsm.check.simulate import Bench, Fault, Kind, Outcome, Schedule
from colo_fsm.colo import COLOMessage, ReleaseOn, ResumeOn, State
from colo_fsm.fsm import Side

P, S = Side.PRIMARY, Side.SECONDARY
SIZED, LOADED = (P, State.SIZED), (P, State.LOADED)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def fault(kind: Kind, target: Side, when: tuple[Side, State], visit: int = 3, **more: Any) -> Fault:
    side, state = when
    return Fault(kind=kind, target=target, side=side, state=state, visit=visit, **more)


def run(bench: Bench, *faults: Fault, **options: Any) -> Outcome:
    """Who waits for a `loaded` Primary wants one whose answers do not ask for the next checkpoint ahead."""
    options.setdefault("on_demand", all((f.side, f.state) != LOADED for f in faults))
    outcome = bench.run(Schedule(noise=1, faults=faults, **options), trace=True)
    assert outcome.ok, "\n".join(outcome.trace)
    assert len(outcome.strikes) == len(faults), "\n".join(outcome.trace)
    return outcome


def saw(outcome: Outcome, *texts: str) -> bool:
    """Whether these stand in the trace, in this order."""
    lines = iter(outcome.trace)
    return all(any(text in line for line in lines) for text in texts)


class TestOneFault:
    """Whatever strikes, once, somebody goes on, and with everything that was answered."""

    @pytest.mark.parametrize(
        ("kind", "more"),
        [
            (Kind.CRASH, {}),
            (Kind.POWER_FAILURE, {}),
            (Kind.CLOSED, {"how": "end"}),
            (Kind.CLOSED, {"how": "tail"}),
            (Kind.CLOSED, {"how": "reset"}),
            (Kind.SILENT, {"how": "both"}),
            (Kind.SILENT, {"how": "one"}),
            (Kind.FAILOVER_REQUEST, {}),
        ],
    )
    @pytest.mark.parametrize("target", Side)
    @pytest.mark.parametrize("when", [(P, State.REQUESTED), SIZED, LOADED, (S, State.RECEIVED)], ids=str)
    def test_ends_the_pair(
        self, bench: Bench, kind: Kind, more: dict[str, Any], target: Side, when: tuple[Side, State]
    ) -> None:
        outcome = run(bench, fault(kind, target, when, **more))
        assert outcome.survived
        assert outcome.ended_by_fault
        assert outcome.counts["won"] == 1

    @pytest.mark.parametrize(
        ("kind", "more"),
        [
            (Kind.DELAY, {"how": "both", "seconds": 0.3}),
            (Kind.TIMEOUT, {"seconds": 0.3}),
            (Kind.PARTIAL_WRITE, {"how": "later", "seconds": 0.3, "count": 5}),
            (Kind.ARBITER_LOSS, {"how": "both", "seconds": 0.3}),
        ],
    )
    def test_is_only_waited_for(self, bench: Bench, kind: Kind, more: dict[str, Any]) -> None:
        """Less than a deadline, and no claim is under way: nobody gives up."""
        outcome = run(bench, fault(kind, P, SIZED, **more))
        assert not outcome.ended_by_fault
        assert outcome.counts["checkpoints"] >= 10

    def test_a_slow_disk_is_waited_for(self, bench: Bench) -> None:
        outcome = run(bench, fault(Kind.SLOW_DISK, S, (S, State.SIZED), seconds=0.05, count=5))
        assert not outcome.ended_by_fault

    def test_a_disk_slower_than_the_deadline_is_waited_for(self, bench: Bench) -> None:
        """1.25 s, where the deadline is 1 s: slow is not dead, and the Secondary says so."""
        outcome = run(bench, fault(Kind.SLOW_DISK, S, (S, State.SIZED), seconds=0.25, count=5))
        assert not outcome.ended_by_fault
        assert outcome.counts["checkpoints"] >= 10

    @pytest.mark.parametrize(
        ("target", "when", "hook"), [(P, (P, State.REPLIED), "save"), (S, (S, State.RECEIVED), "load")]
    )
    def test_a_hook_slower_than_the_deadline_is_waited_for(
        self, bench: Bench, target: Side, when: tuple[Side, State], hook: str
    ) -> None:
        outcome = run(bench, fault(Kind.SLOW_HOOK, target, when, seconds=1.25, count=1, how=hook))
        assert not outcome.ended_by_fault
        assert outcome.counts["checkpoints"] >= 10

    def test_a_disk_slower_than_the_hook_deadline_is_not(self, bench: Bench) -> None:
        outcome = run(bench, fault(Kind.SLOW_DISK, S, (S, State.SIZED), seconds=0.5, count=5))
        assert saw(outcome, "secondary sized -> finishing (fault_guest_failed)", "primary failover -> alone")

    def test_a_failing_disk_lets_the_primary_go_on(self, bench: Bench) -> None:
        outcome = run(bench, fault(Kind.FAILING_DISK, S, (S, State.SIZED), how="once", count=1))
        assert saw(outcome, "secondary sized -> finishing (fault_guest_failed)", "primary failover -> alone")

    def test_a_failing_guest_lets_the_secondary_go_on(self, bench: Bench) -> None:
        outcome = run(bench, fault(Kind.GUEST_FAILURE, P, LOADED, how="save", count=1))
        assert saw(outcome, "primary replied -> failover (fault_guest_failed)", "secondary failover -> alone")


class TestFrozen:
    def test_a_primary_that_wakes_up_late(self, bench: Bench) -> None:
        """Its peer was asked to take over meanwhile: it must find that out before it says anything."""
        outcome = run(
            bench,
            fault(Kind.TIMEOUT, P, LOADED, seconds=5.0),
            fault(Kind.FAILOVER_REQUEST, S, (S, State.LOADED), delay=0.05),
        )
        assert saw(outcome, "secondary failover -> alone (won)", "primary failover -> stopped (lost)")
        assert outcome.counts["lost_claims"] == 1

    def test_one_that_wakes_up_after_a_spare_has_joined(self, bench: Bench) -> None:
        outcome = run(
            bench,
            fault(Kind.TIMEOUT, P, (P, State.REQUESTED), seconds=5.0),
            fault(Kind.RESTART, P, (S, State.ALONE), 1, how="spare", seconds=0.1),
        )
        assert saw(outcome, "b0 begins with spare10", "a0 primary failover -> stopped (lost)")
        assert outcome.counts["generations"] == 2
        assert not outcome.ended_by_fault

    def test_an_answer_that_everybody_knows_may_come_late(self, bench: Bench) -> None:
        """It wakes up two generations later, and reads what it was sent before: that its peer has loaded."""
        outcome = run(
            bench,
            fault(Kind.TIMEOUT, P, (P, State.RECEIVED), 1, seconds=2.5),
            fault(Kind.RESTART, S, (S, State.ALONE), 1, how="spare", seconds=0.5),
            fault(Kind.FAILOVER_REQUEST, S, (S, State.REPLIED), 1, delay=0.02),
            on_demand=True,
        )
        assert saw(outcome, "b0 secondary failover -> alone (won)", "b0 begins", "a0 checkpoint 1", "a0 over")


class TestRestart:
    @pytest.mark.parametrize("how", ["kill", "power"])
    @pytest.mark.parametrize("target", Side)
    @pytest.mark.parametrize("directory", [True, False])
    def test_back_as_the_survivors_secondary(
        self, bench: Bench, how: str, target: Side, directory: bool
    ) -> None:
        outcome = run(
            bench, fault(Kind.RESTART, target, SIZED, how=how, seconds=0.2), directory=directory, fsync=True
        )
        assert outcome.counts["generations"] == 2
        assert outcome.counts["checkpoints"] >= 10
        assert not outcome.ended_by_fault

    def test_a_run_ends_once_a_spare_has_joined_whoever_else_would_be_back(self, bench: Bench) -> None:
        """Two machines are to be the survivor's Secondary, and there is one place."""
        outcome = run(
            bench,
            fault(Kind.CRASH, S, (P, State.REQUESTED)),
            fault(Kind.RESTART, P, (P, State.ALONE), 1, how="spare", seconds=0.5),
            fault(Kind.RESTART, S, (P, State.ALONE), 1, how="kill", seconds=0.5),
        )
        assert outcome.counts["generations"] == 2
        assert outcome.counts["milliseconds"] < 10_000
        assert not outcome.ended_by_fault

    def test_a_primary_that_never_began_begins_again(self, bench: Bench) -> None:
        """Its data is in its memory, and nobody else has run: it may."""
        outcome = run(bench, fault(Kind.CLOSED, P, (P, State.INIT), 1, how="end", op=2))
        assert outcome.counts["generations"] == 2
        assert outcome.survived

    @pytest.mark.parametrize("call", range(0, 12, 3))
    def test_killed_by_its_disk(self, bench: Bench, call: int) -> None:
        outcome = run(bench, fault(Kind.CRASH, S, (S, State.SIZED), how="disk", count=call))
        assert saw(outcome, "primary failover -> alone (won)")


class TestBeforeThereIsALink:
    """Whoever does not find the other side, or gives up, harms nobody; and somebody begins again."""

    INIT = P, State.INIT

    @pytest.mark.parametrize("seconds", [0.2, 10.0])
    def test_nobody_listens_yet(self, bench: Bench, seconds: float) -> None:
        """For a while it is tried again, then it is an error, and the operator's affair."""
        outcome = run(bench, fault(Kind.REFUSED, P, self.INIT, 1, seconds=seconds))
        assert saw(outcome, "a0 over: init, [Errno 111] nobody listens at") == (seconds > 2.0)
        assert not outcome.ended_by_fault
        assert outcome.counts["generations"] == 1 or seconds > 2.0

    @pytest.mark.parametrize("how", ["aborted", "no-descriptors"])
    def test_an_accept_that_fails_is_not_the_end(self, bench: Bench, how: str) -> None:
        when = S, State.INIT
        outcome = run(bench, fault(Kind.FAILING_ACCEPT, S, when, 1, how=how, count=3, op=1))
        assert outcome.counts["generations"] == 1
        assert outcome.counts["checkpoints"] >= 10

    @pytest.mark.parametrize("step", range(2))
    @pytest.mark.parametrize("target", Side)
    def test_cancelled(self, bench: Bench, target: Side, step: int) -> None:
        """It closes what it has opened at once, and the other side ends without a claim."""
        outcome = run(bench, fault(Kind.CANCELLED, target, (target, State.INIT), 1, op=step))
        assert saw(outcome, "fault cancelled", "over: init", "begins with b1")
        assert outcome.counts["won"] == outcome.counts["lost_claims"] == 0
        assert not outcome.ended_by_fault

    @pytest.mark.parametrize("target", Side)
    def test_cancelled_when_the_link_is_there(self, bench: Bench, target: Side) -> None:
        """It leaves in order; a Secondary that is ready may go on with what it has."""
        outcome = run(bench, fault(Kind.CANCELLED, target, (target, State.INIT), 1, op=3))
        assert saw(outcome, "fault cancelled", "-> ended (begin_leave)")
        assert outcome.survived

    @pytest.mark.parametrize("how", ["kill", "power"])
    @pytest.mark.parametrize("step", range(3))
    def test_a_secondary_that_goes_before_it_has_accepted(self, bench: Bench, how: str, step: int) -> None:
        gone = fault(Kind.RESTART, S, (S, State.INIT), 1, how=how, op=step, seconds=0.2)
        outcome = run(bench, gone)
        assert outcome.counts["generations"] >= 2
        assert not outcome.ended_by_fault


class TestSlowHooks:
    def test_in_time(self, bench: Bench) -> None:
        outcome = run(bench, fault(Kind.SLOW_HOOK, P, LOADED, how="save", seconds=0.5))
        assert not outcome.ended_by_fault

    def test_slower_than_its_deadline(self, bench: Bench) -> None:
        """Between two rounds no deadline of the link helps: the hook's own does."""
        slow = fault(Kind.SLOW_HOOK, P, (P, State.RECEIVED), how="resume", seconds=5.0)
        outcome = run(bench, slow, resume_on=ResumeOn.LOADED)
        assert saw(outcome, "primary loaded -> failover (fault_guest_failed)", "secondary failover -> alone")

    def test_what_it_works_on_is_left_alone_until_it_returns(self, bench: Bench) -> None:
        """The store of a side that is over is closed when the hook that hung has come back."""
        outcome = run(bench, fault(Kind.SLOW_DISK, S, (S, State.SIZED), seconds=1.25, count=3))
        assert saw(outcome, "secondary sized -> finishing (fault_guest_failed)", "b0 over: stopped")


class TestArbiter:
    def test_an_answer_that_was_lost_is_asked_for_again(self, bench: Bench) -> None:
        outcome = run(
            bench,
            fault(Kind.ARBITER_LOSS, P, LOADED, how="answer", count=2),
            fault(Kind.CRASH, S, SIZED, visit=5),
        )
        assert saw(outcome, "arbiter grants", "fault arbiter-loss", "primary failover -> alone (won)")
        assert outcome.counts["won"] == 1

    def test_nobody_runs_while_it_is_away(self, bench: Bench) -> None:
        outcome = run(
            bench,
            fault(Kind.ARBITER_LOSS, P, LOADED, how="both", seconds=3.0),
            fault(Kind.CLOSED, P, SIZED, visit=4, how="reset"),
        )
        lost, answered = (
            next(float(line.split()[0]) for line in outcome.trace if text in line)
            for text in ("fault arbiter-loss", "arbiter grants")
        )
        assert answered > lost + 3.0


class TestNobodyLeft:
    def test_it_is_said(self, bench: Bench) -> None:
        """No survivor is no proof that nothing was lost."""
        outcome = run(bench, fault(Kind.CRASH, P, LOADED), fault(Kind.CRASH, S, (S, State.ALONE), 1))
        assert not outcome.survived


class TestForged:
    """The wire has no round number: who can write to it can let packets out too early."""

    def forged(self, bench: Bench, release_on: ReleaseOn, *messages: COLOMessage) -> Outcome:
        silent = fault(Kind.SILENT, P, SIZED, how="one")
        injected = [fault(Kind.INJECT, S, SIZED, count=int(message)) for message in messages]
        dies = fault(Kind.POWER_FAILURE, P, SIZED, delay=0.01)
        return run(bench, silent, *injected, dies, release_on=release_on, pause=0.01)

    @pytest.mark.parametrize(
        ("release_on", "messages", "lost"),
        [
            (ReleaseOn.RECEIVED, (), False),
            (ReleaseOn.RECEIVED, (COLOMessage.VMSTATE_RECEIVED,), True),
            (ReleaseOn.RECEIVED, (COLOMessage.VMSTATE_LOADED,), False),
            (ReleaseOn.LOADED, (COLOMessage.VMSTATE_RECEIVED,), False),
            (ReleaseOn.LOADED, (COLOMessage.VMSTATE_LOADED,), False),
            (ReleaseOn.LOADED, (COLOMessage.VMSTATE_RECEIVED, COLOMessage.VMSTATE_LOADED), True),
        ],
    )
    def test_what_it_takes(
        self, bench: Bench, release_on: ReleaseOn, messages: tuple[COLOMessage, ...], lost: bool
    ) -> None:
        outcome = self.forged(bench, release_on, *messages)
        assert any(problem.kind == "lost" for problem in outcome.documented) == lost


class TestCorrupt:
    def test_a_page_that_did_not_arrive_as_it_was_saved_is_not_loaded(self, bench: Bench) -> None:
        """The stream carries no checksum of memory; a `StateGuest` has its own."""
        outcome = run(bench, fault(Kind.CORRUPT, P, SIZED, 5, how="payload", count=36))
        assert outcome.ended_by_fault
        assert outcome.survived
        assert outcome.documented == ()

    @pytest.mark.parametrize("value", range(9))
    @pytest.mark.parametrize("side", Side)
    def test_a_message_is_noticed(self, bench: Bench, side: Side, value: int) -> None:
        when = LOADED if side is P else (S, State.SIZED)
        right = COLOMessage.CHECKPOINT_REQUEST if side is P else COLOMessage.VMSTATE_RECEIVED
        outcome = run(bench, fault(Kind.CORRUPT, side, when, how="message", count=value))
        assert outcome.ended_by_fault == (value != right)
        assert outcome.survived
