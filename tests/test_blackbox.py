"""What a peer sees of a side, against machines written by hand and against sessions fed with bytes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from enum import StrEnum

import attrs
import pytest
from protocols import goodbye, remus

from colo_fsm.colo import COLO, PRIMARY, SECONDARY, COLOMessage, Profile, State, Variant
from colo_fsm.conform import (
    END,
    INVALID,
    Input,
    Mealy,
    Output,
    blackbox,
    difference,
    opening,
    reaction,
    switches,
    tour,
    wp,
)
from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Effect,
    Message,
    Send,
    Session,
    Side,
    Table,
    TableMachine,
    Trigger,
    begin,
    complete,
    done,
    otherwise,
    recv,
    row,
    send,
)

M, S, do = COLOMessage, State, Do
QEMU, PATCH = Variant(), Variant(Profile.PATCH)
Seen = Mealy[str, Input, Output]

PROTOCOLS: dict[str, CompleteTable] = {
    f"{table.side}-{variant}": complete(table, variant)
    for table in (PRIMARY, SECONDARY)
    for variant in Variant.all()
} | {
    f"{name}-{table.side}": complete(table, QEMU)
    for name, protocol in (("remus", remus), ("goodbye", goodbye))
    for table in (protocol.PRIMARY, protocol.SECONDARY)
}
every_table = pytest.mark.parametrize("table", PROTOCOLS.values(), ids=PROTOCOLS)


def by_hand(m: Seen) -> dict[str, str]:
    """The machine in short: "state input" -> "next: output", "first"; not the steps that just give up."""
    steps = {f"{state} {given}": m.steps[state, given] for state in m.live for given in m.inputs}
    assert all(output.ended == (dest in m.ended) for dest, output in steps.values())
    gives_up = Output((), True)
    return {"first": f"{m.initial}: {m.first}"} | {
        key: f"{dest}: {output}" for key, (dest, output) in steps.items() if output != gives_up
    }


# -- by hand --------------------------------------------------------------------------------------------


def test_a_secondary_as_its_primary_sees_it() -> None:
    m = blackbox(complete(SECONDARY, QEMU))
    assert by_hand(m) == {
        "first": "ready: checkpoint-ready",
        "ready checkpoint-request": "replied: checkpoint-reply",
        "replied vmstate-send": "sending: nothing",
        "sending vmstate-size": "loaded: vmstate-received, vmstate-loaded",
        "loaded checkpoint-request": "replied: checkpoint-reply",
    }
    assert m.ended == {"failover"}
    assert list(map(str, m.inputs)) == [message.text for message in M] + ["invalid value", "end of the link"]


def test_a_primary_begins_each_checkpoint_by_itself() -> None:
    m = blackbox(complete(PRIMARY, QEMU))
    assert by_hand(m) == {
        "first": "init: nothing",
        "init checkpoint-ready": "requested: checkpoint-request",
        "requested checkpoint-reply": "sized: vmstate-send, vmstate-size",
        "sized vmstate-received": "received: nothing",
        "received vmstate-loaded": "requested: checkpoint-request",
    }
    assert m.ended == {"stopped", "failover"}


def test_both_sides_of_the_patch() -> None:
    assert by_hand(blackbox(complete(SECONDARY, PATCH))) == {
        "first": "ready: checkpoint-ready",
        "ready checkpoint-request": "replied: checkpoint-reply",
        "replied vmstate-send": "loaded: vmstate-received, vmstate-loaded",
        "loaded checkpoint-request": "replied: checkpoint-reply",
    }
    assert by_hand(blackbox(complete(PRIMARY, PATCH))) == {
        "first": "init: nothing",
        "init checkpoint-ready": "requested: checkpoint-request",
        "requested checkpoint-reply": "sending: vmstate-send",
        "sending vmstate-received": "received: nothing",
        "received vmstate-loaded": "requested: checkpoint-request",
    }


def test_other_protocols() -> None:
    assert by_hand(blackbox(PROTOCOLS["remus-primary"])) == {
        "first": "init: nothing",
        "init committed": "epoch: epoch",
        "epoch committed": "epoch: epoch",
    }
    assert by_hand(blackbox(PROTOCOLS["remus-secondary"])) == {
        "first": "committed: committed",
        "committed epoch": "committed: committed",
    }
    said_goodbye = blackbox(PROTOCOLS["goodbye-secondary"])
    assert said_goodbye.steps["ready", Input(goodbye.M.GOODBYE)] == ("ended", Output((), True))
    assert by_hand(said_goodbye) == by_hand(blackbox(complete(SECONDARY, QEMU)))


def test_modes_and_when_packets_leave_are_not_on_the_wire() -> None:
    for side in Side:
        for profile in Profile:
            tables = [
                t for t in PROTOCOLS.values() if t.words is COLO and t.side is side and profile in t.variant
            ]
            first, *others = map(blackbox, tables)
            assert len(others) == len(Variant.all()) // 2 - 1
            assert all(difference(first, other) is None for other in others)


def test_one_that_gives_up_in_silence() -> None:
    """The link stays open: all that can be given is, and nothing is answered."""
    m = blackbox(complete(SECONDARY, QEMU), closes=False)
    closed = blackbox(complete(SECONDARY, QEMU))
    assert m.live == (*closed.live[:1], "failover", *closed.live[1:])
    assert m.ended == {"failover (link closed)"}
    for given in m.inputs:
        wanted = ("failover", Output((), False))
        if given is END:
            wanted = ("failover (link closed)", Output((), True))
        assert m.steps["failover", given] == wanted
        assert m.steps["ready", given] == (
            wanted if given.message is not M.CHECKPOINT_REQUEST else m.steps["loaded", given]
        )
    assert len(wp(m)) > len(wp(closed))


def test_the_rows_that_lead_to_an_output_can_be_named() -> None:
    table = complete(SECONDARY, QEMU)
    assert list(map(str, opening(table).rows)) == ["init --done_receive_initial--> ready"]
    said = reaction(table, "sending", Input(M.VMSTATE_SIZE))
    assert list(map(str, said.rows)) == [
        "sending --recv_vmstate_size--> sized",
        "sized --done_store--> received",
        "received --done_load--> loaded",
    ]
    assert (said.state, str(said.output)) == (S.LOADED, "vmstate-received, vmstate-loaded")
    wrong = reaction(table, "replied", INVALID)
    assert list(map(str, wrong.rows)) == ["replied --fault_invalid--> failover"]
    assert (wrong.state, str(wrong.output)) == (S.FAILOVER, "gives up")
    assert list(map(str, reaction(table, "replied", END).rows)) == ["replied --fault_eof--> failover"]


# -- against sessions -----------------------------------------------------------------------------------


class Fed:
    """A session that gets bytes, driven as its docstring says: what it asks for is done at once."""

    def __init__(self, machine: TableMachine) -> None:
        self.session = Session(machine)
        self.words = machine.table.words
        self.sent: list[Message] = []
        self.hung_up = False
        self.perform(self.session.start())

    def perform(self, effects: Iterable[Effect]) -> None:
        ahead = deque(effects)
        while True:
            while ahead:
                ahead.extend(self.follows(ahead.popleft()))
            if effects := self.session.next_effects():
                ahead.extend(effects)
            elif not self.hung_up and self.session.may(begin.checkpoint):
                ahead.extend(self.session.fire(begin.checkpoint))
            else:
                return

    def follows(self, effect: Effect) -> tuple[Effect, ...]:
        if isinstance(effect, Send):
            self.sent.append(effect.message)
        elif effect is Do.disconnect:
            self.hung_up = True
        elif self.session.awaits(effect):
            return self.session.fire(done(effect))
        return ()

    def says(self) -> Output:
        sent = tuple(self.sent)
        self.sent.clear()
        return Output(sent, self.hung_up or not self.session.wants_data)

    def give(self, given: Input, invalid: int) -> Output:
        """In single bytes. What it says before the last one is part of the answer, and would be noticed."""
        if given == END:
            self.perform(self.session.receive_data(b""))
        else:
            data = invalid.to_bytes(4, "big") if given.message is None else self.words.encode(given.message)
            for byte in data:
                self.perform(self.session.receive_data(bytes([byte])))
        return self.says()


def as_seen(
    machine: TableMachine, word: Iterable[Input], invalid: int
) -> tuple[Output, tuple[Output, ...], str]:
    """What it says first, its answers, and where it stands then."""
    side = Fed(machine)
    return side.says(), tuple(side.give(given, invalid) for given in word), side.session.state


@every_table
def test_a_session_fed_with_bytes_is_seen_so(table: CompleteTable) -> None:
    """Every two inputs from every state, and long random exchanges, most of them in order for a while."""
    m, machine = blackbox(table), TableMachine(table)
    for word in (*switches(m), *tour(m), *(random_word(m, random.Random(seed)) for seed in range(100))):
        for invalid in (max(table.words.by_value) + 1, 2**32 - 1):
            assert as_seen(machine, word, invalid) == (m.first, m.run(word), m.after(word)), word


def random_word(m: Seen, chance: random.Random) -> tuple[Input, ...]:
    state, word = m.initial, list[Input]()
    while state not in m.ended and len(word) < 40:
        on = [given for given in m.inputs if m.steps[state, given][0] not in m.ended]
        word.append(chance.choice(on if chance.random() < 0.9 else m.inputs))
        state, _ = m.steps[state, word[-1]]
    return tuple(word)


# -- tables of other kinds --------------------------------------------------------------------------------


def instead(
    table: Table, source: StrEnum, trigger: Trigger, dest: StrEnum, *effects: Effect
) -> CompleteTable:
    """The table with this line where it has one from there on this trigger."""
    kept = [line for line in table.lines if source not in line.sources or line.trigger != trigger]
    assert len(kept) < len(table.lines)
    return complete(attrs.evolve(table, lines=(*kept, row(source, trigger, dest, *effects))), QEMU)


def test_a_side_that_gives_up_and_leaves_the_link_open_has_ended_too() -> None:
    table = complete(attrs.evolve(SECONDARY, error=(do.suspend, do.claim)), QEMU)
    m = blackbox(table)
    assert m.steps["ready", INVALID] == ("failover", Output((), True))
    assert difference(m, blackbox(complete(SECONDARY, QEMU))) is None


def test_nothing_is_said_behind_the_end_of_the_link() -> None:
    ends = (do.disconnect, send(M.VMSTATE_LOADED))
    m = blackbox(instead(SECONDARY, S.RECEIVED, done(do.load), S.LOADED, *ends))
    loaded = Output((M.VMSTATE_RECEIVED,), True)
    assert m.steps["sending", Input(M.VMSTATE_SIZE)] == ("loaded (given up)", loaded)
    assert "loaded (given up)" in m.ended
    assert "loaded" not in m.states


def test_a_primary_begins_nothing_behind_the_end_of_the_link() -> None:
    m = blackbox(instead(PRIMARY, S.RECEIVED, recv(M.VMSTATE_LOADED), S.LOADED, do.disconnect))
    assert m.steps["received", Input(M.VMSTATE_LOADED)] == ("loaded", Output((), True))


def test_a_side_that_ends_before_anything_comes() -> None:
    table = complete(attrs.evolve(PRIMARY, start=(do.disconnect,)), QEMU)
    m = blackbox(table)
    assert (m.live, m.first) == ((), Output((), True))
    assert wp(m) == ((),)
    in_silence = blackbox(table, closes=False)
    assert (in_silence.live, in_silence.first) == (("init (given up)",), Output((), False))


def test_a_side_that_never_waits_for_its_peer_cannot_be_tested() -> None:
    lines = (
        row(S.INIT, recv(M.CHECKPOINT_READY), S.READY),
        row(S.READY, begin.checkpoint, S.READY, send(M.CHECKPOINT_REQUEST)),
        row(S.READY, begin.leave, S.ENDED),
        row((S.FAILOVER, S.ENDED), otherwise, None),
    )
    with pytest.raises(
        ValueError, match=r"the primary goes on for ever .*: ready --begin_checkpoint--> ready"
    ):
        blackbox(complete(Table(Side.PRIMARY, COLO, lines), QEMU))
