"""A black box learned: equal to its table or not, and the shortest exchange that shows it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count, cycle, repeat
from pathlib import Path
from typing import cast

import pytest
from broken import ALL
from broken import Broken as BrokenSide
from imitated import Imitated, changed
from protocols import goodbye, remus

from colo_fsm.colo import PRIMARY, SECONDARY, TABLES, COLOMessage, Mode, Profile, Variant
from colo_fsm.conform.alike import GIVEN_UP, Machine
from colo_fsm.conform.asked import Answer, Broken, Exchange
from colo_fsm.conform.blackbox import END, INVALID, Input, Output, blackbox
from colo_fsm.conform.learn import MOST_RESETS, OWN_EXTRA, VOTES, Learned, learn
from colo_fsm.conform.link import CannotTest, Link
from colo_fsm.conform.mealy import Mealy, difference
from colo_fsm.conform.picture import picture
from colo_fsm.conform.play import PATIENT
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.sessions import SessionLink, Sessions
from colo_fsm.conform.teacher import MOST_LATE, NotDeterministic
from colo_fsm.conform.voice import OwnState, TableVoice, Voice
from colo_fsm.fsm import Session, Table, complete
from colo_fsm.fsm.machine import machine_for
from colo_fsm.stream import Buffer

TIMEOUT = 5.0
VARIANT = Variant()
OURS = [(table, Variant(profile, mode)) for table in TABLES.values() for profile in Profile for mode in Mode]
FOREIGN = [(table, VARIANT) for made in (remus, goodbye) for table in (made.PRIMARY, made.SECONDARY)]
SILENCE, ENDS = Output((), ended=False), Output((), ended=True)
READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = map(Input, COLOMessage)
Steps = Mapping[tuple[str, Input], tuple[str, Answer]]


def said(*inputs: Input, ended: bool = False) -> Output:
    """An answer of these messages."""
    return Output(tuple(given.message for given in inputs if given.message is not None), ended)


def declared(table: Table) -> Machine:
    return cast(Machine, blackbox(complete(table, VARIANT)).minimal())


def imitated(table: Table, machine: Machine, late: Iterator[float] | None = None) -> Imitated:
    return Imitated(complete(table, VARIANT), machine, repeat(0.0) if late is None else late)


def learned(target: Imitated, extra: int = 0, timeout: float = TIMEOUT, most: int = MOST_RESETS) -> Learned:
    return learn(target, Pace(timeout, clock=target.clock), extra, most=most)


def planted(steps: Steps) -> Machine:
    """COLO's Secondary with other steps."""
    return changed(declared(SECONDARY), steps)


# -- a side that keeps to its table


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize(("table", "variant"), OURS + FOREIGN)
def test_a_session_is_learned_as_what_its_table_says(table: Table, variant: Variant, extra: int) -> None:
    machine = machine_for(table, variant)
    found = learn(Sessions(machine), Pace(TIMEOUT), extra)
    expected = blackbox(machine.table).minimal()
    assert found.equal
    assert found.machine is not None
    assert difference(cast(Machine, expected), found.machine) is None
    assert set(found.machine.live) == set(expected.live)
    assert found.bound == len(expected.live) + extra
    assert str(found).startswith("answers like its table, if it has no more than ")


def test_nothing_is_asked_twice_and_nothing_of_a_side_that_has_ended() -> None:
    target = imitated(PRIMARY, declared(PRIMARY))
    found = learned(target, extra=2)
    assert found.equal
    assert (found.resets, found.inputs) == (len(target.words), sum(map(len, target.words)))
    words, again = target.words[:-VOTES], target.words[-VOTES:]
    assert all(len(declared(PRIMARY).run(word)) == len(word) for word in words)
    assert set(again) <= set(words), "what the verdict stands on"
    doubted = [at for at, word in enumerate(words) for before in words[:at] if before[: len(word)] == word]
    assert len(doubted) == 3, "each answer that showed that there are more states"


def test_a_state_goes_with_its_message_where_the_table_has_it_in_turn() -> None:
    """Else a real Secondary would not follow, and no checkpoint would be taken."""
    found = learn(Sessions(machine_for(SECONDARY, VARIANT)), Pace(TIMEOUT))
    assert found.machine is not None
    assert found.machine.run((REQUEST, SEND, SIZE, REQUEST)) == (
        said(REPLY), SILENCE, said(RECEIVED, LOADED), said(REPLY),
    )  # fmt: skip


class Skipping(SessionLink):
    """A Secondary that overlooks a `vmstate-send` between two rounds."""

    def send(self, data: Iterable[Buffer]) -> None:
        whole = b"".join(map(bytes, data))
        if whole != COLOMessage.VMSTATE_SEND.to_bytes(4) or self._session.state not in ("ready", "loaded"):
            super().send([whole])


def test_out_of_turn_a_message_stands_alone() -> None:
    """With the state behind it, what follows would be taken for messages."""
    found = learn(Planted(SECONDARY, Skipping), Pace(TIMEOUT))
    assert shown(found) == "vmstate-send: gives up / nothing"
    assert found.machine is not None
    assert found.machine.run((SEND, REQUEST)) == (SILENCE, said(REPLY))


class Planted(Sessions):
    """Sessions with a driver that is not right."""

    def __init__(self, table: Table, driver: type[SessionLink]) -> None:
        super().__init__(machine_for(table, VARIANT), source=OwnState())
        self._driver = driver

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        yield self._driver(Session(self._machine), OwnState()), TableVoice(self.table, OwnState())


# -- a side that does not

FAULTS: dict[str, tuple[Steps, str]] = {
    "tolerates a message": (
        {("ready", LOADED): ("ready", SILENCE)},
        "vmstate-loaded: gives up / nothing",
    ),
    "tolerates an invalid value": (
        {("sending", INVALID): ("sending", SILENCE)},
        "checkpoint-request, vmstate-send, invalid value: gives up / nothing",
    ),
    "wrong reply": (
        {("ready", REQUEST): ("replied", said(READY))},
        "checkpoint-request: checkpoint-reply / checkpoint-ready",
    ),
    "no loaded": (
        {("sending", SIZE): ("ready", said(RECEIVED))},
        "checkpoint-request, vmstate-send, vmstate-size: vmstate-received, vmstate-loaded / vmstate-received",
    ),
    "one more ready": (
        {("sending", SIZE): ("ready", said(RECEIVED, LOADED, READY))},
        "checkpoint-request, vmstate-send, vmstate-size: "
        "vmstate-received, vmstate-loaded / vmstate-received, vmstate-loaded, checkpoint-ready",
    ),
    "forgets the request": (
        {("replied", SEND): ("ready", SILENCE)},
        "checkpoint-request, vmstate-send, checkpoint-request: gives up / checkpoint-reply",
    ),
    "the next round begins at once": (
        {("sending", SIZE): ("replied", said(RECEIVED, LOADED))},
        "checkpoint-request, vmstate-send, vmstate-size, checkpoint-request: checkpoint-reply / gives up",
    ),
    "gives up with a message": (
        {("replied", END): ("failover", said(LOADED, ended=True))},
        "checkpoint-request, end of the link: gives up / vmstate-loaded, gives up",
    ),
    "a value that is no message": (
        {("ready", REQUEST): ("replied", Output((9,), ended=False))},
        "checkpoint-request: checkpoint-reply / invalid value 0x9",
    ),
    "ends after a round": (
        {("sending", SIZE): ("failover", said(RECEIVED, LOADED, ended=True))},
        "checkpoint-request, vmstate-send, vmstate-size: "
        "vmstate-received, vmstate-loaded / vmstate-received, vmstate-loaded, gives up",
    ),
}


UNSEEN = {
    "takes messages in either byte order", "looks at the lowest byte only",
    "takes a short read for a broken message", "ready before the initial state has come",
    "takes any initial state", "takes vmstate-size for an empty live state",
    "received when it knows the size", "ignores the size", "does not look at the device state",
    "takes a device state of no bytes", "takes a device state that is cut off",
    "takes a live state that is malformed", "takes a live state that is cut off",
    "takes a pause in the live state for its end", "ignores an end inside a message",
    "forgets what came with the link's end", "throws away what has come ahead",
    "silent after fifty checkpoints", "forgets its state after a long idle time",
    "hangs up after a long idle time", "asks again after a long idle time", "speaks unasked",
    "does not look at footers",
}  # fmt: skip
"""What goes wrong inside of messages and states, in time, or after fifty rounds: no question is about it."""


def check_broken(some: Iterable[BrokenSide]) -> None:
    for broken in some:
        assert learn(broken.target(), Pace(TIMEOUT)).equal is (broken.name in UNSEEN), broken


def test_broken_implementations_are_told_apart_if_their_answers_are_wrong() -> None:
    check_broken(ALL[::6])


@pytest.mark.soak
def test_every_broken_implementation_is_told_apart_if_its_answers_are_wrong() -> None:
    check_broken(ALL)
    seen = sum(each.name not in UNSEEN for each in ALL)
    page = Path(__file__).parents[1] / "docs" / "learning.md"
    assert f"{seen} of the {len(ALL)} broken implementations" in " ".join(page.read_text().split())


def shown(found: Learned) -> str:
    """The shortest exchange in a line: the inputs, the table's last answer and the side's."""
    assert found.difference is not None
    expected, seen = found.difference.expected, found.difference.seen
    assert expected.word == seen.word
    assert expected.answers[:-1] == seen.answers[:-1]
    return f"{', '.join(map(str, seen.word))}: {expected.answers[-1]} / {seen.answers[-1]}"


@pytest.mark.parametrize(("steps", "exchange"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_told_apart_by_its_shortest_exchange(steps: Steps, exchange: str) -> None:
    found = learned(imitated(SECONDARY, planted(steps)), extra=2)
    assert not found.equal
    assert shown(found) == exchange
    assert found.machine is not None
    assert difference(found.machine, planted(steps)) is None
    assert found.bound == len(found.machine.live) + OWN_EXTRA, "not so many as it would take to be equal"


def wrong_steps(table: Table) -> Iterator[Machine]:
    """The machine of this table with each single wrong step: to any state, with any of its answers."""
    m = declared(table)
    answers = sorted({answer for _, answer in m.steps.values()}, key=str)
    for at, right in m.steps.items():
        for step in ((dest, answer) for dest in m.states for answer in answers):
            if step != right and (step[0] in m.ended) == step[1].ended:
                yield changed(m, {at: step})


def check_wrong_steps(table: Table, one_of: int) -> int:
    """Each has to be told apart by a word as short as can be; returns how many there are."""
    machines = list(wrong_steps(table))[::one_of]
    for machine in machines:
        found = learned(imitated(table, machine))
        shortest = difference(declared(table), machine)
        assert found.finished
        assert found.equal is (shortest is None)
        assert (shortest is None) or (
            found.difference is not None and len(found.difference.seen.word) == len(shortest)
        )
        if len(machine.minimal().live) <= found.bound:
            assert found.machine is not None
            assert difference(found.machine, machine) is None
    return len(machines)


def test_any_wrong_step_is_found() -> None:
    assert check_wrong_steps(SECONDARY, one_of=8) > 30


@pytest.mark.soak
@pytest.mark.parametrize("table", TABLES.values())
def test_every_wrong_step_is_found(table: Table) -> None:
    assert check_wrong_steps(table, one_of=1) > 240


def test_any_machine_is_learned_if_it_has_no_more_states_than_the_bound_says() -> None:
    """Random ones of 2 to 5 states, against a table of one."""
    m = declared(remus.SECONDARY)
    answers = [*sorted({answer for _, answer in m.steps.values() if not answer.ended}, key=str), SILENCE]
    for seed in range(40):
        lots = random.Random(seed)
        states = [f"q{number}" for number in range(lots.randrange(2, 6))]
        steps: dict[tuple[str, Input], tuple[str, Answer]] = {
            (state, given): (lots.choice(states), lots.choice(answers))
            if lots.random() < 0.5
            else ("end", ENDS)
            for state in states
            for given in m.inputs
        }
        side: Machine = Mealy("q0", m.inputs, steps, frozenset(("end",)), m.first)
        found = learned(imitated(remus.SECONDARY, side), extra=1)
        assert found.machine is not None
        if len(side.minimal().live) <= found.bound:
            assert difference(found.machine, side) is None, seed


def faulty_in_round(number: int) -> Machine:
    """A Secondary that tolerates a message in this round only: it has to count, and needs states for it."""
    m = declared(SECONDARY)
    steps: dict[tuple[str, Input], tuple[str, Answer]] = {}
    for lap in range(1, number + 1):
        for (state, given), (dest, answer) in m.steps.items():
            there = lap + (dest == "ready" and lap < number)
            steps[f"{state} {lap}", given] = dest if dest in m.ended else f"{dest} {there}", answer
    steps[f"replied {number}", LOADED] = f"replied {number}", SILENCE
    return Mealy("ready 1", m.inputs, steps, m.ended, m.first)


def test_the_bound_is_what_it_says() -> None:
    """A fault in the third round takes a side of 8 states: it is found if so many are reckoned with."""
    side = faulty_in_round(3)
    assert len(side.minimal().live) == 8
    missed = learned(imitated(SECONDARY, side), extra=4)
    assert str(missed) == "answers like its table, if it has no more than 7 states"
    found = learned(imitated(SECONDARY, side), extra=5)
    rounds = "checkpoint-request, vmstate-send, vmstate-size, " * 2
    assert shown(found) == f"{rounds}checkpoint-request, vmstate-loaded: gives up / nothing"
    assert found.machine is not None
    assert [str(state) for state in found.machine.live] == [
        "ready", "replied", "sending", "ready 2", "replied 2", "sending 2", "ready 3", "replied 3",
    ][: len(found.machine.live)]  # fmt: skip


def test_a_side_that_says_nothing_at_all() -> None:
    m = declared(SECONDARY)
    steps: dict[tuple[str, Input], tuple[str, Answer]] = {
        ("mute", each): ("mute", SILENCE) for each in m.inputs
    }
    silent = Mealy("mute", m.inputs, steps, frozenset())
    target = imitated(SECONDARY, silent)
    found = learned(target)
    assert found.difference is not None
    assert found.difference.expected == Exchange(said(READY))
    assert found.difference.seen == Exchange(SILENCE)
    assert target.now < 10 * TIMEOUT


def test_a_side_that_gives_up_at_once() -> None:
    m = declared(SECONDARY)
    gone: Machine = Mealy("failover", m.inputs, {}, frozenset(("failover",)), ENDS)
    found = learned(imitated(SECONDARY, gone))
    assert found.difference is not None
    assert found.difference.seen == Exchange(ENDS)
    assert found.machine is not None
    assert (found.machine.states, found.machine.live) == ((GIVEN_UP,), ())
    assert GIVEN_UP in picture(found).dot


def test_a_missing_answer_is_waited_for_with_patience_before_it_is_told() -> None:
    target = imitated(SECONDARY, planted({("sending", SIZE): ("ready", said(RECEIVED))}))
    assert not learned(target).equal
    once_and_with_patience = (1 + PATIENT) * TIMEOUT
    assert once_and_with_patience < target.now < once_and_with_patience + TIMEOUT


def test_a_crash_is_no_way_to_give_up() -> None:
    m = declared(SECONDARY)
    steps = {**m.steps, ("replied", LOADED): ("crashed", ENDS)}
    crashing = Mealy(m.initial, m.inputs, steps, m.ended | {"crashed"}, m.first)
    target = Imitated(complete(SECONDARY, VARIANT), crashing, crashes=["crashed"])
    found = learned(target)
    assert shown(found) == "checkpoint-request, vmstate-loaded: gives up / a crash: SIGSEGV"


class Garbling(SessionLink):
    """A Primary whose device states are none."""

    def say(self, *data: Buffer) -> None:
        super().say(*(data if len(data) != 2 else (data[0], b"\xff" * len(data[1]))))


def test_what_cannot_be_read_is_told() -> None:
    found = learn(Planted(PRIMARY, Garbling), Pace(TIMEOUT))
    assert shown(found).startswith("checkpoint-ready, checkpoint-reply: vmstate-send, vmstate-size / ")
    assert found.difference is not None
    assert isinstance(found.difference.seen.answers[-1], Broken)
    assert found.machine is not None
    assert len(found.machine.live) == 2


def test_a_side_that_has_more_states_than_can_be_learned() -> None:
    m = declared(SECONDARY)
    lots, answers = random.Random(1), [said(REPLY), SILENCE, said(RECEIVED, LOADED)]
    steps: dict[tuple[str, Input], tuple[str, Answer]] = {
        (str(state), given): (str(lots.randrange(3000)), lots.choice(answers))
        for state in range(3000)
        for given in m.inputs
    }
    found = learned(imitated(SECONDARY, Mealy("0", m.inputs, steps, frozenset(), m.first)), most=300)
    assert (found.finished, found.equal, found.resets) == (False, False, 300)
    assert shown(found) == "checkpoint-ready: gives up / vmstate-received, vmstate-loaded"


def test_a_side_that_cannot_be_reached() -> None:
    class Gone(Imitated):
        def fresh(self) -> Iterator[tuple[Link, object]]:  # type: ignore[override]
            raise CannotTest("nobody is there")

    with pytest.raises(CannotTest, match="nobody is there"):
        learned(Gone(complete(SECONDARY, VARIANT), declared(SECONDARY)))


# -- time


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("at", range(0, 79, 6))
def test_an_answer_that_is_late_once_changes_no_verdict(at: int, halves: bool) -> None:
    """Within the timeout it is waited for; beyond that it is asked for again, and that is told."""
    for timeout, late in ((TIMEOUT, 0), (0.1, 1)):
        told: list[str] = []
        times = chain(repeat(0.0, at), [0.3], repeat(0.0))
        target = Imitated(complete(SECONDARY, VARIANT), declared(SECONDARY), times, halves=halves)
        found = learn(target, Pace(timeout, clock=target.clock), say=told.append)
        assert found.equal
        assert found.late == sum("was answered late" in text for text in told) <= late


@pytest.mark.parametrize("at", range(0, 60, 7))
def test_a_late_answer_does_not_hide_a_fault_either(at: int) -> None:
    steps, exchange = FAULTS["tolerates a message"]
    target = imitated(SECONDARY, planted(steps), chain(repeat(0.0, at), [0.3], repeat(0.0)))
    assert shown(learned(target, timeout=0.1)) == exchange


def test_a_side_that_is_always_slow_is_learned_too() -> None:
    target = imitated(SECONDARY, declared(SECONDARY), repeat(0.5))
    assert learned(target).equal


def test_a_side_that_always_takes_longer_than_the_timeout_is_learned_too() -> None:
    target = imitated(SECONDARY, declared(SECONDARY), repeat(2 * TIMEOUT))
    found = learned(target)
    assert found.equal
    assert found.late == 1, "then all is waited for long enough"


# -- a side that does not answer alike


def two(first: Machine, second: Machine, chance: float, seed: int) -> Imitated:
    lots = random.Random(seed)
    return Imitated(complete(SECONDARY, VARIANT), lambda: first if lots.random() < chance else second)


OTHERWISE: dict[str, Steps] = {
    "another message": {("ready", REQUEST): ("replied", said(READY))},
    "a message or none": {("replied", SEND): ("ready", said(LOADED))},
    "gives up or goes on": {("sending", SIZE): ("failover", ENDS)},
    "another state behind it": {("replied", SEND): ("ready", SILENCE)},
}


@pytest.mark.parametrize("steps", OTHERWISE.values(), ids=OTHERWISE)
def test_what_is_answered_differently_is_reported_with_both_exchanges(steps: Steps) -> None:
    """By the toss of a coin for each side, so that now and then nothing is seen of it."""
    found = [undetermined(two(planted(steps), declared(SECONDARY), 0.5, seed)) for seed in range(8)]
    assert sum(each is not None for each in found) >= 5
    for one, other in filter(None, found):
        parted = one.until(other)
        assert parted is not None
        assert one.word[: len(parted.word)] == other.word[: len(parted.word)]


def undetermined(target: Imitated) -> tuple[Exchange, Exchange] | None:
    """The two exchanges that were reported, if any were."""
    try:
        learned(target)
    except NotDeterministic as error:
        return error.one, error.other
    return None


def test_an_answer_that_cannot_be_late_is_reported_however_seldom_it_is() -> None:
    """Once in all, at the start that the verdict would stand on."""
    wrong, starts = planted(OTHERWISE["another message"]), count(1)
    whole = learned(imitated(SECONDARY, declared(SECONDARY))).resets
    target = Imitated(
        complete(SECONDARY, VARIANT), lambda: wrong if next(starts) == whole else declared(SECONDARY)
    )
    found = undetermined(target)
    assert found is not None
    assert {each.answers[0] for each in found} == {said(REPLY), said(READY)}


def test_that_counts_before_any_input_too() -> None:
    other = Mealy(
        "ready", declared(SECONDARY).inputs, declared(SECONDARY).steps, frozenset(("failover",)), SILENCE
    )
    with pytest.raises(NotDeterministic) as caught:
        learned(two(other, declared(SECONDARY), 0.5, 1))
    assert {caught.value.one.first, caught.value.other.first} == {SILENCE, said(READY)}


def test_what_is_late_again_and_again_is_not_deterministic() -> None:
    """Late by more than any patience, but never twice in a row: each time it can be told what is true."""
    told: list[str] = []
    target = imitated(SECONDARY, declared(SECONDARY), cycle([*repeat(0.0, 28), 60.0]))
    with pytest.raises(NotDeterministic):
        learn(target, Pace(0.1, clock=target.clock), say=told.append)
    assert sum("was answered late" in text for text in told) == MOST_LATE


# -- the picture


def drawn(machine: Machine) -> str:
    return picture(learned(imitated(SECONDARY, machine))).dot


def test_equal_machines_are_drawn_alike_and_nothing_is_red() -> None:
    dot = drawn(declared(SECONDARY))
    one, other = (
        [line.replace(f'"{number} ', '"') for line in dot.splitlines() if f'"{number} ' in line]
        for number in (0, 1)
    )
    assert one == other
    assert one
    assert "#b3261e" not in dot
    assert dot.count("anything else, in any state") == 2
    assert GIVEN_UP in dot


def test_what_differs_is_red_on_both_sides() -> None:
    dot = drawn(planted({("ready", LOADED): ("ready", SILENCE)}))
    red = [line for line in dot.splitlines() if "->" in line and "#b3261e" in line]
    assert [line.split("[")[0].strip() for line in red] == [
        '"0 ready" -> "0 given up"',
        '"1 ready" -> "1 ready"',
    ]
    assert all("vmstate-loaded" in line for line in red)


def test_a_wrong_state_is_red_too() -> None:
    dot = drawn(planted(FAULTS["the next round begins at once"][0]))
    red = [line.split("[")[0].strip() for line in dot.splitlines() if "->" in line and "#b3261e" in line]
    assert red == ['"0 sending" -> "0 ready"', '"1 sending" -> "1 replied"']


def test_a_side_that_takes_everything_has_a_picture_that_can_be_read() -> None:
    m = declared(SECONDARY)
    lax = {at: (at[0], SILENCE) for at, (_, answer) in m.steps.items() if answer == ENDS and at[1] != END}
    dot = drawn(planted(lax))
    assert dot.count("all but") == 6
    assert dot.count("or vmstate-received") == 0
