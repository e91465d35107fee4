"""One conversation: what is waited for and how long, what is seen, what is noted. On a clock of its own."""

from __future__ import annotations

import pytest
from scripted_link import Clock, Coming, ScriptedLink, ScriptedTarget, said

from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import Variant
from colo_fsm.conform.blackbox import END, NOTHING, Input, Output
from colo_fsm.conform.case import Given, Raw
from colo_fsm.conform.talk import ENDLESS, LEAST_QUIET, LENIENT, Pace, Talk, settled
from colo_fsm.conform.voice import OwnState, TableVoice
from colo_fsm.fsm import SIGN_OF_LIFE, Side
from colo_fsm.stream import greeting

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = M
GIVES_UP = Output((), ended=True)
TIMEOUT = 3.0


def says(*messages: M | int, ended: bool = False) -> Output:
    return Output(messages, ended)


class Scene:
    """A talk with a side that does what its script says."""

    def __init__(self, first: Coming = (), *answers: Coming, target: ScriptedTarget | None = None) -> None:
        target = target or ScriptedTarget(first, answers)
        self.clock: Clock = target.clock
        self.link: ScriptedLink = target.link()
        self.pace = target.pace(TIMEOUT)
        self.talk = Talk(target.table, self.link, TableVoice(target.table, OwnState()), self.pace)
        self.opened = self.talk.open()

    @property
    def exchange(self) -> list[str]:
        return [f"{line.at:g} {line.way} {line.text}" for line in self.talk.exchange]


def whole_initial() -> bytes:
    return b"".join(map(bytes, OwnState().initial()))


def primary(*first: tuple[float, bytes]) -> Scene:
    """A Primary that sends its initial state, or what it takes for one."""
    return Scene(target=ScriptedTarget(first, side=Side.PRIMARY, variant=Variant()))


# -- the opening ----------------------------------------------------------------------------------


def test_a_secondary_is_given_the_initial_state() -> None:
    scene = Scene(target=ScriptedTarget(variant=Variant()))
    assert scene.opened
    assert b"".join(scene.link.sent) == whole_initial()
    assert scene.exchange == ["0 -> the initial state"]


def test_what_is_given_in_its_place() -> None:
    target = ScriptedTarget([], [[(1, said(READY))]], variant=Variant())
    link = target.link()
    talk = Talk(target.table, link, TableVoice(target.table, OwnState()), target.pace(TIMEOUT))
    assert talk.open(Raw(b"stream", "something else", ends=True))
    assert link.sent == [b"stream"]
    assert link.has_ended
    assert [str(line) for line in talk.exchange] == ["   0.000 -> something else"]


def test_where_no_state_is_on_the_wire_nothing_is_given() -> None:
    scene = Scene()
    assert scene.opened
    assert scene.link.sent == []
    assert scene.exchange == []


def test_a_primarys_initial_state_may_come_in_pieces_and_late() -> None:
    whole = whole_initial()
    scene = primary((2, whole[:10]), (4.5, whole[10:] + said(REQUEST)))
    assert scene.opened
    assert scene.talk.see((says(REQUEST),)).output == says(REQUEST)
    assert scene.clock.now == 4.5


@pytest.mark.parametrize(
    ("first", "why", "late"),
    [
        ([], "nothing more for 3 s", True),
        ([(1, b"QEVM")], "nothing more for 3 s", True),
        ([(1, b"QEVM"), (2, b"")], "the side gives up", False),
        ([(1, b"GET / HTTP/1.1\r\n")], "magic 0x47455420 is not that of a migration stream", False),
    ],
)
def test_why_it_has_not_come_whole(first: Coming, why: str, late: bool) -> None:
    scene = primary(*first)
    assert not scene.opened
    assert scene.talk.failure is not None
    assert (scene.talk.failure.garbled or "").startswith(f"no whole initial state: {why}")
    assert scene.talk.failure.late == late
    assert scene.exchange[-1].endswith(f"-- {scene.talk.failure.garbled}")


# -- answers --------------------------------------------------------------------------------------


def test_an_answer_is_there_as_soon_as_it_is_whole() -> None:
    scene = Scene((), [(0.5, said(REPLY)[:1]), (1, said(REPLY)[1:])])
    scene.talk.give(Given(Input(REQUEST)))
    seen = scene.talk.see((says(REPLY),))
    assert seen.output == says(REPLY)
    assert not seen.late
    assert scene.clock.now == 1
    assert scene.exchange == ["0 -> checkpoint-request", "1 <- checkpoint-reply"]


def test_an_answer_of_several_messages_is_waited_for() -> None:
    scene = Scene((), [(1, said(RECEIVED)), (3, said(LOADED))])
    scene.talk.give(Given(Input(SEND)))
    assert scene.talk.see((says(RECEIVED, LOADED),)).output == says(RECEIVED, LOADED)


def test_what_cannot_become_one_any_more_is_not_waited_for() -> None:
    scene = Scene((), [(1, said(LOADED))])
    scene.talk.give(Given(Input(SEND)))
    seen = scene.talk.see((says(RECEIVED, LOADED),))
    assert (seen.output, seen.late, scene.clock.now) == (says(LOADED), False, 1)


def test_what_comes_together_is_all_seen() -> None:
    scene = Scene((), [(1, said(REPLY, REPLY))])
    scene.talk.give(Given(Input(REQUEST)))
    assert scene.talk.see((says(REPLY),)).output == says(REPLY, REPLY)


def test_an_answer_that_does_not_come_is_late_after_the_timeout() -> None:
    scene = Scene()
    scene.talk.give(Given(Input(REQUEST)))
    seen = scene.talk.see((says(REPLY),))
    assert (seen.output, seen.late, scene.clock.now) == (NOTHING, True, TIMEOUT)
    assert scene.exchange[-1] == "3 -- nothing for 3 s"


def test_a_part_of_an_answer_is_late_too() -> None:
    scene = Scene((), [(1, said(RECEIVED) + said(LOADED)[:2])])
    scene.talk.give(Given(Input(SEND)))
    seen = scene.talk.see((says(RECEIVED, LOADED),))
    assert (seen.output, seen.late) == (says(RECEIVED), True)
    assert seen.garbled == "2 bytes that are no whole message"


def test_an_invalid_value_is_shown_as_such() -> None:
    scene = Scene((), [(1, said(0x0200_0000))])
    scene.talk.give(Given(Input(REQUEST)))
    seen = scene.talk.see((says(REPLY),))
    assert str(seen.output) == "invalid value 0x2000000"
    assert scene.exchange[-1] == "1 <- invalid value 0x2000000"


def test_giving_up_is_seen_with_what_was_said_before() -> None:
    scene = Scene((), [(1, said(REPLY)), (2, b"")])
    scene.talk.give(Given(Input(REQUEST)))
    assert scene.talk.see((says(REPLY, ended=True),)).output == says(REPLY, ended=True)
    assert scene.talk.ended
    assert scene.exchange[-1] == "2 <- gives the pair up: its last words"
    assert scene.talk.see((says(REPLY),)).output == GIVES_UP


def test_an_end_inside_a_message_is_no_end_in_order() -> None:
    scene = Scene((), [(1, said(REPLY)[:3]), (2, b"")])
    scene.talk.give(Given(Input(REQUEST)))
    seen = scene.talk.see((GIVES_UP,))
    assert (seen.output, seen.garbled) == (GIVES_UP, "3 bytes that are no whole message")


def test_the_link_ends_behind_an_act_that_ends_it() -> None:
    scene = Scene((), [(0, b"")])
    scene.talk.give(Given(END))
    assert scene.link.has_ended
    assert scene.talk.see((GIVES_UP,)).output == GIVES_UP
    assert scene.exchange[0] == "0 -> end of the link"


def test_what_cannot_be_read_is_said() -> None:
    scene = primary((0, whole_initial()), (1, said(SIZE, 1 << 20, 0)))
    seen = scene.talk.see((says(REQUEST),))
    assert seen.garbled is not None
    assert "a device state of 4503599627370496 bytes" in seen.garbled
    assert scene.exchange[-1] == f"1 <- what cannot be read: {seen.garbled}"


def test_a_side_that_goes_on_and_on_is_cut_off() -> None:
    """It is at work, it says, and never gets to what it has to say."""
    scene = primary((0, greeting()), *((second, SIGN_OF_LIFE) for second in range(1, 2000)))
    assert not scene.opened
    assert scene.talk.failure is not None
    assert scene.talk.failure.garbled == "no whole initial state: it goes on and on"
    assert scene.clock.now == ENDLESS * TIMEOUT + 1


# -- silence --------------------------------------------------------------------------------------


def test_to_do_nothing_takes_a_quiet_time() -> None:
    scene = Scene()
    scene.talk.give(Given(Input(SEND)))
    assert scene.talk.see((NOTHING,)).output == NOTHING
    assert scene.clock.now == LEAST_QUIET


def test_what_comes_in_the_quiet_time_is_seen_at_once() -> None:
    scene = Scene((), [(0.01, said(RECEIVED))])
    scene.talk.give(Given(Input(SEND)))
    assert scene.talk.see((NOTHING,)).output == says(RECEIVED)
    assert scene.clock.now == 0.01


def test_whatever_comes_is_collected_until_it_is_quiet() -> None:
    scene = Scene((), [(0.01, said(RECEIVED)), (0.02, said(LOADED)), (9, said(REPLY))])
    scene.talk.give(Given(Input(SEND)))
    assert scene.talk.see().output == says(RECEIVED, LOADED)


def test_a_lenient_silence_leaves_time_for_the_declared_answer() -> None:
    """Else a side that takes a moment to close its link would pass now leniently and now not."""
    scene = Scene((), [(LENIENT, b"")])
    scene.talk.give(Given(Input(SEND)))
    assert scene.talk.see((GIVES_UP, NOTHING)).output == GIVES_UP
    scene = Scene((), [(LENIENT + 0.1, b"")])
    scene.talk.give(Given(Input(SEND)))
    assert scene.talk.see((GIVES_UP, NOTHING)).output == NOTHING


def test_watching_takes_the_time_that_it_is_given() -> None:
    scene = Scene()
    assert scene.talk.watch(1.5).output == NOTHING
    assert scene.clock.now == 1.5
    assert scene.exchange == ["1.5 -- nothing for 1.5 s"]


def test_watching_ends_with_the_first_that_is_said() -> None:
    """A part of a message is nothing yet; and the rest of the time is still to go."""
    scene = Scene([(0.5, said(READY)[:3]), (1, said(READY)[3:]), (1.2, said(READY))])
    assert scene.talk.watch(1.5).output == says(READY)
    assert scene.clock.now == 1


@pytest.mark.parametrize("watching", [True, False])
def test_what_is_no_whole_message_in_the_end_is_no_silence(watching: bool) -> None:
    scene = Scene([(0.01, said(READY)[:3])])
    seen = scene.talk.watch(1.5) if watching else scene.talk.see((NOTHING,))
    assert (seen.output, seen.garbled) == (NOTHING, "3 bytes that are no whole message")
    assert scene.clock.now == pytest.approx(1.5 if watching else 0.01 + LEAST_QUIET)
    assert scene.exchange[-1].endswith("<- 3 bytes that are no whole message")


# -- how long to wait -------------------------------------------------------------------------------


def test_the_quiet_time_is_long_for_the_side_that_it_is() -> None:
    scene = Scene((), *[[(0.1, said(REPLY))]] * 30)
    for _ in range(30):
        scene.talk.give(Given(Input(REQUEST)))
        scene.talk.see((says(REPLY),))
        assert 0.2 <= scene.pace.quiet <= 0.6
    assert scene.pace.quiet == pytest.approx(0.2, rel=0.01)


def test_a_late_answer_is_forgotten_in_time() -> None:
    pace = Pace(TIMEOUT)
    for seconds in (0.001, 1.0):
        pace.took(seconds)
    assert pace.quiet > 1
    for _ in range(50):
        pace.took(0.001)
    assert pace.quiet == LEAST_QUIET


def test_the_quiet_time_is_at_most_the_timeout() -> None:
    scene = Scene((), [(0.9 * TIMEOUT, said(REPLY))])
    scene.talk.give(Given(Input(REQUEST)))
    scene.talk.see((says(REPLY),))
    assert scene.pace.quiet == TIMEOUT


def test_what_nobody_has_asked_for_says_nothing_about_answers() -> None:
    """How long a side takes to be ready, or to speak unasked, is not how long it takes to answer."""
    scene = Scene([(1, said(READY)), (2, said(READY))])
    scene.talk.see((says(READY),))
    scene.talk.watch(2)
    assert scene.pace.quiet == LEAST_QUIET


def test_more_patience_is_that_for_both() -> None:
    pace = Pace(2.0, clock=Clock())
    pace.took(0.01)
    patient = pace.patient(4)
    assert patient.timeout == 8
    assert patient.quiet == pytest.approx(4 * pace.quiet)
    assert patient.clock is pace.clock


@pytest.mark.parametrize(
    ("now", "accepted", "enough"),
    [
        (NOTHING, (), False),
        (NOTHING, (NOTHING,), False),
        (NOTHING, (says(REPLY),), False),
        (says(REPLY), (), False),
        (says(REPLY), (says(REPLY),), True),
        (says(REPLY), (says(REPLY), says(REPLY, RECEIVED)), False),
        (says(RECEIVED), (GIVES_UP, NOTHING, says(RECEIVED), says(RECEIVED, ended=True)), False),
        (says(LOADED), (says(RECEIVED, LOADED),), True),
        (says(REPLY, REPLY), (says(REPLY),), True),
        (GIVES_UP, (says(REPLY),), True),
    ],
)
def test_whether_to_wait_longer_would_change_anything(
    now: Output, accepted: tuple[Output, ...], enough: bool
) -> None:
    assert settled(now, accepted) == enough
