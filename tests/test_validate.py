"""What is wrong with a table is said before a machine is made of it, all at once."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs
import pytest

from colo_fsm.colo import COLO, PRIMARY, SECONDARY, COLOMessage, Mode, State, Variant
from colo_fsm.fsm import (
    Do,
    Line,
    Message,
    Side,
    SyncPoint,
    Table,
    TableError,
    begin,
    complete,
    done,
    fault,
    otherwise,
    recv,
    row,
    send,
    validate,
    won,
)

M, S, do = COLOMessage, State, Do

SOUND = (
    row(S.INIT, begin.checkpoint, S.READY, do.save),
    row(S.READY, done(do.save), S.FAILOVER),
    row(S.FAILOVER, otherwise, None),
)


def problems(*lines: Line, side: Side = Side.PRIMARY, variant: Variant = Variant()) -> tuple[str, ...]:  # noqa: B008 - frozen
    return validate(Table(side, COLO, lines), variant)


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
@pytest.mark.parametrize("table", [PRIMARY, SECONDARY], ids=lambda t: str(t.side))
def test_the_tables_are_sound_in_every_variant(table: Table, variant: Variant) -> None:
    assert validate(table, variant) == ()


def test_a_sound_table_has_no_problem() -> None:
    assert problems(*SOUND) == ()


def test_two_rows_for_one_input() -> None:
    again = row((S.READY, S.INIT), begin.checkpoint, S.READY)
    assert problems(*SOUND, again) == (
        "2 rows for 'begin_checkpoint' in 'init': only the first could ever fire",
    )


def test_a_source_named_twice() -> None:
    twice = row((S.READY, S.READY), won, S.INIT)
    assert problems(*SOUND, twice) == ("2 rows for 'won' in 'ready': only the first could ever fire",)


def test_two_rows_for_what_is_left_over() -> None:
    (problem,) = problems(*SOUND, row(S.FAILOVER, otherwise, S.READY))
    assert problem == "2 rows for 'otherwise' in 'failover': only the first could ever fire"


def test_two_rows_that_no_variant_has_at_once_are_sound() -> None:
    either = [row(S.INIT, won, S.READY, when=mode) for mode in Mode]
    assert problems(*SOUND, *either) == ()


def test_a_state_that_is_entered_and_has_no_row() -> None:
    assert problems(*SOUND, row(S.READY, won, S.ALONE)) == (
        "'alone' is entered but has no row: list it, with `otherwise` if nothing leaves it",
    )


def test_failover_is_entered_even_when_no_row_says_so() -> None:
    (problem,) = problems(row(S.INIT, won, S.INIT))
    assert problem.startswith("'failover' is entered but has no row")


def test_a_state_that_cannot_be_reached() -> None:
    lost = (row(S.SIZED, won, S.SENDING), row(S.SENDING, won, S.SIZED))
    assert problems(*SOUND, *lost) == (
        "'sending' cannot be reached from 'init'",
        "'sized' cannot be reached from 'init'",
    )


def test_a_state_that_only_another_variant_reaches() -> None:
    lines = (*SOUND, row(S.INIT, won, S.ALONE, when=Mode.HYBRID), row(S.ALONE, otherwise, None))
    assert problems(*lines, variant=Variant(mode=Mode.HYBRID)) == ()
    assert problems(*lines) == ("'alone' cannot be reached from 'init'",)


@pytest.mark.parametrize(
    ("side", "message"),
    [(Side.PRIMARY, M.VMSTATE_LOADED), (Side.SECONDARY, M.VMSTATE_SEND)],
)
def test_a_message_that_is_the_peers_to_send(side: Side, message: COLOMessage) -> None:
    assert problems(*SOUND, row(S.INIT, won, S.READY, send(message)), side=side) == (
        f"init --won--> ready: {message.text} is not the {side}'s to send",
    )
    assert problems(*SOUND, row(S.INIT, won, S.READY, send(message)), side=side.peer) == ()


@pytest.mark.parametrize(
    ("side", "message"),
    [(Side.PRIMARY, M.VMSTATE_SEND), (Side.SECONDARY, M.VMSTATE_LOADED)],
)
def test_a_message_that_is_the_peers_to_receive(side: Side, message: COLOMessage) -> None:
    (problem,) = problems(*SOUND, row(S.INIT, recv(message), S.READY), side=side)
    assert problem.endswith(f"--> ready: {message.text} is not the {side}'s to receive")
    assert problems(*SOUND, row(S.INIT, recv(message), S.READY), side=side.peer) == ()


@pytest.mark.parametrize("where", ["start", "error"])
def test_a_message_that_is_the_peers_to_send_outside_the_rows(where: str) -> None:
    effects: dict[str, Any] = {where: (send(M.VMSTATE_LOADED),)}
    (problem,) = validate(attrs.evolve(Table(Side.PRIMARY, COLO, SOUND), **effects), Variant())
    assert "vmstate-loaded is not the primary's to send" in problem


def test_an_effect_that_is_awaited_where_nothing_asks_for_it() -> None:
    assert problems(*SOUND, row(S.READY, done(do.load), S.INIT)) == (
        "ready --done_load--> init: no row into 'ready' asks for 'load'",
    )


def test_an_effect_that_one_variant_alone_asks_for() -> None:
    lines = (row(S.INIT, won, S.READY, do.load(Mode.HYBRID)), row(S.READY, done(do.load), S.INIT), *SOUND)
    assert problems(*lines, variant=Variant(mode=Mode.HYBRID)) == ()
    (problem,) = problems(*lines)
    assert problem.endswith("no row into 'ready' asks for 'load'")


def test_what_the_start_asks_for_can_be_awaited_in_init() -> None:
    line = row(S.INIT, done(do.send_initial), S.READY)
    assert validate(Table(Side.PRIMARY, COLO, (*SOUND, line), start=(do.send_initial,)), Variant()) == ()
    assert len(problems(*SOUND, line)) == 1


def test_what_stays_asks_in_its_own_state() -> None:
    asks = row(S.READY, won, None, do.load)
    assert problems(*SOUND, asks, row(S.READY, done(do.load), S.INIT)) == ()


def test_what_the_error_transition_asks_for_can_be_awaited_in_failover() -> None:
    line = row(S.FAILOVER, done(do.suspend), S.INIT)
    assert validate(Table(Side.PRIMARY, COLO, (*SOUND, line), error=(do.suspend,)), Variant()) == ()
    assert len(problems(*SOUND, line)) == 1


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        row(S.INIT, won, S.READY, send(M.CHECKPOINT_READY)),
        row(S.INIT, won, S.READY),
        row(S.SIZED, done(do.save), S.INIT),
        row(S.INIT, recv(M.VMSTATE_SIZE), S.INIT),
    )
    assert found == (
        "2 rows for 'won' in 'init': only the first could ever fire",
        "'ready' is entered but has no row: list it, with `otherwise` if nothing leaves it",
        "'failover' is entered but has no row: list it, with `otherwise` if nothing leaves it",
        "'sized' cannot be reached from 'init'",
        "init --won--> ready: checkpoint-ready is not the primary's to send",
        "init --recv_vmstate_size--> init: vmstate-size is not the primary's to receive",
        "sized --done_save--> init: no row into 'sized' asks for 'save'",
    )


class Other(StrEnum):
    """Another protocol's states: one is equal to ours, and is not ours."""

    INIT = "init"
    NOWHERE = "nowhere"


class Foreign(Message):
    """Another protocol's messages, of the same values."""

    EPOCH = 0


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (row(S.INIT, recv(Foreign.EPOCH), S.READY), "<Foreign.EPOCH: 0> is no message of COLO"),
        (row(S.INIT, recv(0), S.READY), "0 is no message of COLO"),  # type: ignore[arg-type]
        (row(Other.INIT, won, S.READY), "<Other.INIT: 'init'> is no state of COLO"),
        (row(S.INIT, won, Other.NOWHERE), "<Other.NOWHERE: 'nowhere'> is no state of COLO"),
        (row("init", won, S.READY), "'init' is no state of COLO"),  # type: ignore[arg-type]
        (row(S.INIT, done("paint"), S.READY), "'paint' is no effect"),  # type: ignore[arg-type]
        (row(S.INIT, fault("rust"), S.READY), "'rust' is no fault"),  # type: ignore[arg-type]
        (row(S.INIT, won, S.READY, "paint"), "'paint' is no effect"),  # type: ignore[arg-type]
        (row(S.INIT, won, S.READY, send(Foreign.EPOCH)), "<Foreign.EPOCH: 0> is no message of COLO"),
    ],
)
def test_a_word_of_another_protocol(line: Line, problem: str) -> None:
    found = problems(*SOUND, line)
    assert any(problem in text for text in found), found
    with pytest.raises(TableError, match="is no machine"):
        complete(Table(Side.PRIMARY, COLO, (*SOUND, line)), Variant())


def test_words_that_do_not_fit_together() -> None:
    words = attrs.evolve(
        COLO,
        points=(*COLO.points[:5], SyncPoint(M.VMSTATE_LOADED, Side.SECONDARY, Other.NOWHERE), COLO.points[0]),
    )
    found = validate(Table(Side.PRIMARY, words, SOUND), Variant())
    assert found == (
        "COLO has 2 sync points of the value 0",
        "vmstate-received has no sync point",
        "vmstate-loaded: <Other.NOWHERE: 'nowhere'> is no state of COLO",
    )
