"""What comes of a case: verdicts, deviations, and when a case is played again. On a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
import pytest
from scripted_link import Coming, ScriptedLink, ScriptedTarget, said

from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import Variant
from colo_fsm.conform.blackbox import END, NOTHING, Input, Output
from colo_fsm.conform.case import Accepted, Case, Given, Raw, Result, Step, Verdict
from colo_fsm.conform.link import CannotTest, Link
from colo_fsm.conform.play import play, play_all
from colo_fsm.conform.talk import LENIENT
from colo_fsm.conform.voice import OwnState, TableVoice, Voice
from colo_fsm.fsm import Side

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = M
TIMEOUT = 3.0
GIVES_UP = Output((), ended=True)


def says(*messages: M) -> Output:
    return Output(messages, ended=False)


def step(given: M | None, *answer: M, why: str = "", idle: float = 0.0) -> Step:
    act = None if given is None else Given(Input(given))
    lenient = (Accepted(NOTHING, why),) if why else ()
    return Step(act, (Accepted(says(*answer)), *lenient), idle, f"row of {given}")


def case(*steps: Step) -> Case:
    return Case("colo/secondary/0.1", "The Secondary MUST do this.", "nowhere", (step(None, READY), *steps))


ASK = step(REQUEST, REPLY)
SOUND: Coming = [(0, said(READY))]


def played(target: ScriptedTarget, *steps: Step) -> Result:
    return play(case(*steps), target, target.pace(TIMEOUT))


def expected(result: Result) -> tuple[int, str, str]:
    """At which step, what was wrong, and the table's row."""
    assert result.deviation is not None
    return result.deviation.step, str(result.deviation), result.deviation.row


# -- passing --------------------------------------------------------------------------------------


def test_a_side_that_does_all_of_it_passes() -> None:
    target = ScriptedTarget(SOUND, [[(1, said(REPLY))]])
    target.clock.now = 1000
    result = played(target, ASK)
    assert result.verdict is Verdict.PASS
    assert result.deviation is None
    assert result.before == ()
    assert [line.text for line in result.exchange[:3]] == [
        "checkpoint-ready",
        "checkpoint-request",
        "checkpoint-reply",
    ]
    assert 1 <= result.seconds <= 1 + TIMEOUT


def test_an_answer_in_which_sides_may_differ_passes_leniently_and_says_why() -> None:
    result = played(ScriptedTarget(SOUND), step(REQUEST, REPLY, why="it may keep silent"))
    assert result.verdict is Verdict.LENIENT
    assert result.reasons == ("it may keep silent",)


def test_a_reason_that_counts_twice_is_told_once() -> None:
    silent = step(REQUEST, REPLY, why="it may keep silent")
    assert played(ScriptedTarget(SOUND), silent, silent).reasons == ("it may keep silent",)


def test_the_declared_answer_to_a_lenient_step_passes() -> None:
    result = played(ScriptedTarget(SOUND, [[(0.1, said(REPLY))]]), step(REQUEST, REPLY, why="or not"))
    assert (result.verdict, result.reasons) == (Verdict.PASS, ())


def test_what_is_given_in_place_of_the_initial_state() -> None:
    target = ScriptedTarget((), [[(1, said(READY))]])
    script = attrs.evolve(case(), opening=Raw(b"stream", "a stream"))
    assert play(script, target, target.pace(TIMEOUT)).verdict is Verdict.PASS


# -- failing ----------------------------------------------------------------------------------------


def test_a_wrong_answer_fails_at_once() -> None:
    target = ScriptedTarget(SOUND, [[(1, said(RECEIVED))]])
    result = played(target, ASK, ASK)
    assert result.verdict is Verdict.FAIL
    assert expected(result) == (1, "expected checkpoint-reply, got vmstate-received", "row of 1")
    assert result.evidence == "its last words"
    assert target.plays == 1


def test_silence_fails_after_another_play_with_more_patience() -> None:
    target = ScriptedTarget(SOUND)
    result = played(target, ASK)
    assert result.verdict is Verdict.FAIL
    assert expected(result) == (1, "expected checkpoint-reply, got nothing", "row of 1")
    assert target.plays == 2
    assert result.exchange[-1].text == "nothing for 12 s"
    assert result.before[-1].text == "nothing for 3 s"


def test_a_late_answer_is_inconclusive() -> None:
    """Nobody can tell a side that is slow for once from one that is wrong for once: here is all there is."""
    result = played(ScriptedTarget(SOUND, [[(TIMEOUT + 1, said(REPLY))]]), ASK)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.deviation is None
    assert result.exchange[-2].text == "checkpoint-reply"
    assert result.before[-1].text == "nothing for 3 s"


def test_silence_at_another_step_than_before_is_inconclusive() -> None:
    result = played(ScriptedTarget(SOUND, [[(TIMEOUT + 1, said(REPLY))]]), ASK, ASK)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert expected(result)[0] == 2


def test_an_extra_message_at_the_end_fails() -> None:
    result = played(ScriptedTarget(SOUND, [[(0, said(REPLY)), (0.01, said(REPLY))]]), ASK)
    assert result.verdict is Verdict.FAIL
    assert expected(result) == (2, "expected nothing, got checkpoint-reply", "row of 1")


def test_an_end_behind_the_last_answer_fails() -> None:
    result = played(ScriptedTarget(SOUND, [[(0, said(REPLY)), (0.01, b"")]]), ASK)
    assert result.verdict is Verdict.FAIL
    assert expected(result)[1] == "expected nothing, got gives up"


def test_a_side_that_may_give_up_may_do_so_a_little_later() -> None:
    give_up = Step(Given(Input(SEND)), (Accepted(GIVES_UP), Accepted(NOTHING, "or be silent")))
    late = ScriptedTarget(SOUND, [[(LENIENT + 0.01, b"")]])
    assert played(late, give_up).verdict is Verdict.LENIENT
    talks = ScriptedTarget(SOUND, [[(LENIENT + 0.01, said(REPLY))]])
    assert played(talks, give_up).verdict is Verdict.FAIL


def test_what_comes_while_a_side_is_watched_is_not_the_answer_of_the_next_step() -> None:
    early = ScriptedTarget([*SOUND, (1, said(REPLY))])
    result = played(early, step(None, idle=1.5), ASK)
    assert result.verdict is Verdict.FAIL
    assert expected(result)[:2] == (1, "expected nothing, got checkpoint-reply")


def test_what_cannot_be_read_fails_whatever_was_said_before() -> None:
    first = b"".join(map(bytes, OwnState().initial()))
    garbled = said(SEND) + b"\xff" * 8
    target = ScriptedTarget([(0, first)], [[(0, said(REQUEST))], [(0, garbled)]], Side.PRIMARY, Variant())
    steps = step(None), step(READY, REQUEST), step(REPLY, SEND, SIZE)
    result = play(Case("colo/primary/0.1", "", "", steps), target, target.pace(TIMEOUT))
    assert result.verdict is Verdict.FAIL
    assert expected(result)[:2] == (
        2,
        "expected vmstate-send, vmstate-size, got section type 0xff does not belong here "
        f"(at byte {len(first) + 8})",
    )


def test_an_initial_state_that_does_not_come_whole_fails_the_first_step() -> None:
    target = ScriptedTarget([(0, b"no stream at all")], side=Side.PRIMARY, variant=Variant())
    result = play(Case("colo/primary/0.1", "", "", (step(None),)), target, target.pace(TIMEOUT))
    assert result.verdict is Verdict.FAIL
    step_number, text, _ = expected(result)
    assert step_number == 0
    assert text.startswith("expected nothing, got no whole initial state: magic 0x6e6f2073 is not that of")


def test_a_crash_fails_a_case_that_would_have_passed() -> None:
    target = ScriptedTarget(SOUND, [[(0, b"")]], signal="SIGABRT")
    result = played(target, Step(Given(END), (Accepted(GIVES_UP),), row="the row"))
    assert result.verdict is Verdict.FAIL
    assert expected(result) == (1, "expected gives up, got a crash: SIGABRT", "the row")


# -- many -------------------------------------------------------------------------------------------


def numbered(number: int, *steps: Step) -> Case:
    return attrs.evolve(case(*steps), id=f"colo/secondary/0.{number}")


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_cases(jobs: int) -> None:
    target = ScriptedTarget(SOUND, [[(0, said(REPLY))]])
    cases = [numbered(number, *[ASK] * (number % 2)) for number in range(9)]
    results = list(play_all(cases, target, target.pace(TIMEOUT), jobs))
    assert [result.case for result in results] == cases
    assert {result.verdict for result in results} == {Verdict.PASS}


class Missing(ScriptedTarget):
    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        if self.plays:
            raise CannotTest("it does not start")
        with super().fresh() as (link, voice):
            yield link, voice


def test_a_side_that_cannot_be_started_ends_the_run() -> None:
    target = Missing(SOUND)
    found: list[Result] = []
    with pytest.raises(CannotTest, match="it does not start"):
        found += play_all([numbered(1), numbered(2), numbered(3)], target, target.pace(TIMEOUT))
    assert target.plays == 1


class Once(ScriptedTarget):
    """Answers in the first play only, as one that has to be started anew by somebody."""

    def link(self) -> ScriptedLink:
        link = super().link()
        return link if self.plays == 1 else ScriptedLink(self.clock, (), ())


def test_each_case_has_a_side_of_its_own() -> None:
    target = Once(SOUND, [[(0, said(REPLY))]])
    verdicts = [r.verdict for r in play_all([numbered(1, ASK), numbered(2)], target, target.pace(TIMEOUT))]
    assert verdicts == [Verdict.PASS, Verdict.FAIL]


def test_the_voice_is_as_fresh_as_the_side() -> None:
    voices: list[Voice] = []

    class Kept(ScriptedTarget):
        @contextmanager
        def fresh(self) -> Iterator[tuple[Link, Voice]]:
            voices.append(TableVoice(self.table, OwnState()))
            yield self.link(), voices[-1]

    target = Kept(SOUND)
    cases: Sequence[Case] = [numbered(1), numbered(2)]
    assert len(list(play_all(cases, target, target.pace(TIMEOUT)))) == len(set(map(id, voices))) == 2
