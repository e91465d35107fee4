"""The cases by hand: what they say, in which order, what they ask; and that sound sessions pass them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, cycle, pairwise

import attrs
import pytest
from broken import Broken, says
from broken_drivers import Reading, checked
from protocols import remus
from systems import at, to

from colo_fsm.colo import COLO, TABLES, Profile, State, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.conform.blackbox import Output
from colo_fsm.conform.case import Act, ByteByByte, Case, Given, Result, Step, Together, Verdict, whole
from colo_fsm.conform.cases import by_hand
from colo_fsm.conform.play import play
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.sessions import Sessions, Working
from colo_fsm.conform.voice import OwnState, TableVoice
from colo_fsm.fsm import CompleteTable, Do, Inbox, Send, Side, TableMachine, complete, done, encode_size, recv
from colo_fsm.stream import Buffer

BOTH = pytest.mark.parametrize("side", Side)
EACH = pytest.mark.parametrize("variant", Variant.all(), ids=str)
PATIENCE = 20.0


def table(side: Side, variant: Variant = Variant()) -> CompleteTable:  # noqa: B008 - frozen
    return complete(TABLES[side], variant)


def number(case: Case) -> tuple[int, ...]:
    return tuple(map(int, case.id.rpartition("/")[2].split(".")))


def accepted(case: Case) -> Iterator[tuple[Step, Output, str]]:
    return ((step, one.output, one.why) for step in case.steps for one in step.accepted)


# -- what they say ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("profile", Profile)
def test_ids_are_in_order(side: Side, profile: Profile) -> None:
    """So that one who adds a case sees where; in the profile `patch` some are not there."""
    cases = by_hand(table(side, Variant(profile)))
    assert all(case.id.startswith(f"colo/{side}/") for case in cases)
    numbers = [number(case) for case in cases]
    assert numbers == sorted(set(numbers))


@BOTH
def test_no_number_is_left_out(side: Side) -> None:
    numbers = [number(case) for case in by_hand(table(side))]
    for (section, n), (next_section, m) in pairwise(numbers):
        assert m == (n + 1 if next_section == section else 1)


@BOTH
def test_the_profiles_ask_the_same_where_both_ask(side: Side) -> None:
    qemu = {case.id: case.must for case in by_hand(table(side))}
    patch = {case.id: case.must for case in by_hand(table(side, Variant(Profile.PATCH)))}
    assert patch.items() <= qemu.items()
    assert len(patch) >= 30


@BOTH
def test_each_says_one_sentence_with_one_must(side: Side) -> None:
    musts = [case.must for case in by_hand(table(side))]
    assert len(set(musts)) == len(musts)
    for must in musts:
        assert re.fullmatch(rf"The {side.capitalize()} MUST (NOT )?[a-z][^.]*\.", must), must
        assert must.count("MUST") == 1


@BOTH
def test_each_says_where_it_comes_from(side: Side) -> None:
    """A function or a document, which stay; never a line number, which does not."""
    for case in by_hand(table(side)):
        form = r"(the patch|QEMU), (\w+\(\)|docs/[\w/]+\.rst, [\w ]+|note \d under its sync points)"
        assert re.fullmatch(form, case.source), case.source


@BOTH
def test_what_is_lenient_has_its_reason(side: Side) -> None:
    """The first answer is the declared one and needs none; every other one does."""
    for case in by_hand(table(side)):
        for step in case.steps:
            first, *others = step.accepted
            assert not first.why
            assert all(one.why for one in others)
        assert case.strict == (not any(why for _, _, why in accepted(case)))


@BOTH
def test_the_end_of_the_link_is_never_lenient(side: Side) -> None:
    """A side that is silent then could as well have overlooked it."""
    for case in by_hand(table(side)):
        for step in case.steps:
            if step.act is not None and step.act.ends:
                assert [one.output.ended for one in step.accepted] == [True]


@BOTH
def test_they_take_little_time(side: Side) -> None:
    idle = [sum(step.idle for step in case.steps) for case in by_hand(table(side))]
    assert max(idle) <= 2
    assert sum(idle) <= 6


def test_a_script_reads_as_what_happens() -> None:
    cases = {case.id: case for case in by_hand(table(Side.SECONDARY))}
    assert list(cases["colo/secondary/1.2"].script()) == [
        "-> the initial state, the first 50 % of its bytes",
        "<- nothing",
        "-> the rest of it",
        "<- checkpoint-ready",
    ]
    assert list(cases["colo/secondary/9.7"].script()) == [
        "<- checkpoint-ready",
        "-> checkpoint-request",
        "<- checkpoint-reply",
        "-- 1.5 s go by",
        "<- nothing",
        "-> vmstate-send",
        "<- nothing",
        "-> vmstate-size",
        "<- vmstate-received, vmstate-loaded",
    ]


# -- what they ask --------------------------------------------------------------------------------

ROUND = {
    Side.SECONDARY: {M.CHECKPOINT_REQUEST: (M.CHECKPOINT_REPLY,), M.VMSTATE_SEND: ()},
    Side.PRIMARY: {
        M.CHECKPOINT_REPLY: (M.VMSTATE_SEND,),
        M.VMSTATE_RECEIVED: (),
        M.VMSTATE_LOADED: (M.CHECKPOINT_REQUEST,),
    },
}
"""The patch, written down a second time: what comes in a checkpoint, in order, and what is said to it."""
STORED = M.VMSTATE_RECEIVED, M.VMSTATE_LOADED


def law(side: Side, profile: Profile) -> dict[M, tuple[M, ...]]:
    first = {M.CHECKPOINT_READY: (M.CHECKPOINT_REQUEST,)} if side is Side.PRIMARY else {}
    said = first | ROUND[side]
    if side is Side.SECONDARY:
        said[M.VMSTATE_SIZE if profile is Profile.QEMU else M.VMSTATE_SEND] = STORED
    elif profile is Profile.QEMU:
        said[M.CHECKPOINT_REPLY] = (M.VMSTATE_SEND, M.VMSTATE_SIZE)
    return said


def messages(act: Act | None) -> list[M | None] | None:
    """What an act gives, if that is all messages and ends; None: it is something else."""
    match act:
        case Given(given):
            return [M(given.message)] if given.message is not None else [None]
        case ByteByByte(inner):
            return messages(inner)
        case Together(acts):
            parts = [messages(each) for each in acts]
            return None if None in parts else [m for part in parts for m in part or ()]
    return None


@BOTH
@pytest.mark.parametrize("profile", Profile)
def test_they_ask_what_the_patch_says(side: Side, profile: Profile) -> None:
    """Not only what our own tables say."""
    said = law(side, profile)
    judged = 0
    for case in by_hand(table(side, Variant(profile))):
        if case.opening is not None:
            continue
        again = [message for message in said if message is not M.CHECKPOINT_READY]
        turn = chain(said, cycle(again))
        expected = next(turn)
        for step in case.steps[1:]:
            if step.act is None:
                assert step.accepted[0].output == Output((), ended=False)
                continue
            if (given := messages(step.act)) is None:
                break
            answer: list[M] = []
            wrong = False
            for message in given:
                if wrong := message != expected:
                    break
                answer += said[expected]
                expected = next(turn)
            assert step.accepted[0].output == Output(tuple(answer), ended=wrong), case.id
            judged += 1
            if wrong:
                break
    assert judged > 100


def test_bytes_behind_a_state_are_announced_with_it() -> None:
    """One who reads by the form of the state takes them for a message; one who looks at the size does not."""
    (case,) = (each for each in by_hand(table(Side.SECONDARY)) if each.id == "colo/secondary/5.8")
    act, state = case.steps[-2].act, OwnState().vmstate(1)
    assert act is not None
    voice = TableVoice(table(Side.SECONDARY), OwnState())
    behind = COLO.encode(M.CHECKPOINT_REQUEST)
    assert (
        whole(act, voice)
        == COLO.encode(M.VMSTATE_SIZE) + encode_size(len(state) + len(behind)) + state + behind
    )


@pytest.mark.parametrize(("number", "written"), [("4.4", 0.0), ("4.5", 0.5), ("4.6", 0.99)])
def test_where_a_live_state_is_cut_off(number: str, written: float) -> None:
    (case,) = (each for each in by_hand(table(Side.SECONDARY)) if each.id == f"colo/secondary/{number}")
    act, voice = case.steps[-1].act, TableVoice(table(Side.SECONDARY), OwnState())
    assert act is not None
    live = b"".join(map(bytes, OwnState().live(1)))
    assert len(whole(act, voice)) == (int((4 + len(live)) * written) or 4)


def test_a_protocol_that_is_not_colo_has_none() -> None:
    assert by_hand(complete(remus.PRIMARY, Variant())) == ()


def test_they_ask_what_colo_declares_whatever_table_is_tested() -> None:
    """A table of somebody's own in COLO's words is held against the patch, not against itself."""
    sound = table(Side.SECONDARY)
    lax = to(None)
    where = at(State.READY, recv(M.VMSTATE_LOADED))
    mine = attrs.evolve(sound, rows=tuple(lax(row) if where(row) else row for row in sound.rows))
    assert by_hand(mine) == by_hand(sound)
    failed = [r.case.id for r in played(mine) if r.verdict is Verdict.FAIL]
    assert failed == ["colo/secondary/2.3"]


# -- that they can be passed ------------------------------------------------------------------------


def played(machine: CompleteTable) -> Iterator[Result]:
    target = Sessions(TableMachine(machine))
    return (play(case, target, Pace(PATIENCE)) for case in by_hand(machine))


@BOTH
@EACH
def test_our_own_sessions_pass_all_of_them(side: Side, variant: Variant) -> None:
    """In every variant, with the declared answer each time."""
    for result in played(table(side, variant)):
        assert result.verdict is Verdict.PASS, (result.case.id, result.deviation)


class Late(Reading):
    """Says vmstate-received unseen, waits for what is announced, and loads up to the end mark."""

    def read(self, inbox: Inbox, size: int) -> bool:
        if len(inbox) < size:
            return False
        self.say(COLO.encode(M.VMSTATE_RECEIVED))
        checked(inbox.take(size)[: len(OwnState().vmstate(1))])
        return True


class Silent(Late):
    """The same, but it leaves its link open when it gives up: only its end ends it."""

    deaf = False

    def do(self, effect: Do | Send) -> Working:
        if effect is not Do.disconnect:
            yield from super().do(effect)
        self.deaf = self.deaf or effect is Do.disconnect

    def send(self, data: Iterable[Buffer]) -> None:
        if not self.deaf:
            super().send(data)

    def end(self) -> None:
        super().end()
        self._ended = True


def test_sides_that_are_lenient_wherever_they_may_be_pass() -> None:
    """So each reason is one that somebody needs."""
    cases = by_hand(table(Side.SECONDARY))
    used = set[str]()
    for link in (Late, Silent):
        unseen = says(State.SIZED, done(Do.store), Do.load)
        target = Broken("lenient, not broken", Side.SECONDARY, "", unseen, link).target()
        for result in (play(case, target, Pace(PATIENCE)) for case in cases):
            assert result.verdict in (Verdict.PASS, Verdict.LENIENT), (result.case.id, result.deviation)
            assert result.verdict is Verdict.PASS or not result.case.strict
            assert result.verdict is Verdict.LENIENT or result.case.strict or link is Late
            used.update(result.reasons)
    assert used == {why for case in cases for _, _, why in accepted(case) if why}
