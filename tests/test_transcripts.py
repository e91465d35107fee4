"""The handshake on the wire, byte by byte, and the verdict on everything else that may stand there.

The expectation is the patch itself, read as a program: `patch_primary` and `patch_secondary` below are
its two loops, with the errors it tells apart.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import islice, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair import PATCH, SESSIONS, Driver, Pair, verdict, wire

from colo_fsm.colo import Mode, Profile, ReleaseOn, State, Variant
from colo_fsm.fsm import InvalidMessage, LinkLost, Side, Truncated, UnexpectedMessage, UnknownMessage, begin

Verdict = tuple[type[Exception] | None, str]
Receive = Callable[[], int]

VALUES = (0, 1, 2, 3, 4, 5, 6, 7, 0xFFFFFFFF)
TAILS = ((), (b"",), (b"\0\0", b""))
"""What follows the last message: nothing yet, the end of the link, or its end inside a message."""
LEGAL = {Side.PRIMARY: (0, 2, 5, 6, 2, 5, 6, 2), Side.SECONDARY: (1, 3, 1, 3, 1, 3)}

HANDSHAKE = ["S 00000000"]
ROUND = ["P 00000001", "S 00000002", "P 00000003", "S 00000005", "S 00000006"]
QEMU_ROUND = ["P 00000001", "S 00000002", "P 00000003", "P 00000004", "S 00000005", "S 00000006"]


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Log lines have their own tests; here they would be most of the time."""
    logger = logging.getLogger("colo_fsm")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


# -- golden transcripts -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("release", ReleaseOn)
@pytest.mark.parametrize(("profile", "messages"), [(Profile.PATCH, ROUND), (Profile.QEMU, QEMU_ROUND)])
def test_the_handshake_and_three_rounds(
    profile: Profile, messages: list[str], mode: Mode, release: ReleaseOn
) -> None:
    pair = Pair(Variant(profile, mode, release))
    pair.start()
    for _ in range(3):
        pair.checkpoint()
    assert pair.log == HANDSHAKE + messages * 3
    assert [d.session.state for d in (pair.primary, pair.secondary)] == [State.LOADED, State.LOADED]
    assert [d.session.error for d in (pair.primary, pair.secondary)] == [None, None]


def test_what_each_side_does_in_the_first_round_of_the_patch() -> None:
    pair = Pair()
    pair.start()
    pair.checkpoint()
    assert pair.primary.did == [
        *("resume", "send checkpoint-request", "suspend", "save", "send vmstate-send"),
        *("release", "resume"),
    ]
    assert pair.secondary.did == [
        *("receive_initial", "send checkpoint-ready", "suspend", "send checkpoint-reply", "store"),
        *("send vmstate-received", "load", "send vmstate-loaded"),
    ]


def test_what_each_side_does_in_a_hybrid_round_of_qemu() -> None:
    pair = Pair(Variant(Profile.QEMU, Mode.HYBRID, ReleaseOn.LOADED))
    pair.start()
    pair.checkpoint()
    assert pair.primary.did == [
        *("send_initial", "resume", "stop_comparing", "send checkpoint-request", "suspend", "save"),
        *("send vmstate-send", "send_live", "send vmstate-size", "send_state"),
        *("release", "resume", "compare"),
    ]
    assert pair.secondary.did == [
        *("receive_initial", "send checkpoint-ready", "suspend", "send checkpoint-reply", "receive_live"),
        *("receive_state", "store", "send vmstate-received", "load", "send vmstate-loaded", "resume"),
    ]


def test_two_messages_in_one_read() -> None:
    driver = Driver(SESSIONS[Side.PRIMARY](PATCH), eager=True)
    for data, state in (("00000000 00000002", State.SENDING), ("00000005 00000006", State.REQUESTED)):
        driver.read(bytes.fromhex(data))
        assert driver.session.state is state
    assert b"".join(driver.sent) == bytes.fromhex("00000001 00000003 00000001")


def test_the_primary_accepts_all_four_messages_at_once() -> None:
    driver = Driver(SESSIONS[Side.PRIMARY](PATCH))
    driver.read(bytes.fromhex("00000000 00000002 00000005 00000006"))
    assert (driver.session.state, driver.sent) == (State.READY, [])
    driver.perform(driver.session.fire(begin.checkpoint))
    assert (driver.session.state, driver.session.error) == (State.LOADED, None)
    assert b"".join(driver.sent) == bytes.fromhex("00000001 00000003")


def test_the_secondary_accepts_two_rounds_at_once_and_before_it_is_ready() -> None:
    driver = Driver(SESSIONS[Side.SECONDARY](PATCH))
    driver.read(bytes.fromhex("00000001 00000003 00000001 00000003"))
    assert (driver.session.state, driver.sent) == (State.INIT, [])
    driver.start()
    assert (driver.session.state, driver.session.error) == (State.LOADED, None)
    assert b"".join(driver.sent) == bytes.fromhex("00000000" + "00000002 00000005 00000006" * 2)


# -- every other byte string ------------------------------------------------------------------------


class Wrong(Exception):
    """`verdict` is what the patch says."""

    def __init__(self, error: type[Exception], text: str) -> None:
        self.verdict: Verdict = (error, text)


def receive_check(receive: Receive, expected: int) -> None:
    if (value := receive()) != expected:
        raise Wrong(UnexpectedMessage, f"Unexpected COLO message {value}, expected {expected}")


def patch_primary(receive: Receive) -> None:
    receive_check(receive, 0)
    while True:
        receive_check(receive, 2)
        receive_check(receive, 5)
        receive_check(receive, 6)


def patch_secondary(receive: Receive) -> None:
    while True:
        if (value := receive()) != 1:
            raise Wrong(UnknownMessage, f"Got unknown COLO message: {value}")
        receive_check(receive, 3)


PATCH_SAYS = {Side.PRIMARY: patch_primary, Side.SECONDARY: patch_secondary}


def expected(side: Side, values: tuple[int, ...], tail: tuple[bytes, ...]) -> Verdict:
    ahead = iter(values)

    def receive() -> int:
        value = next(ahead, None)
        if value is None:
            if not tail:
                raise Wrong(None, "")  # type: ignore[arg-type]  # waits
            ended = Truncated if len(tail) > 1 else LinkLost
            raise Wrong(ended, "Can't receive COLO message: Input/output error")
        if value >= 7:
            raise Wrong(InvalidMessage, "colo_receive_message: Invalid message")
        return value

    try:
        PATCH_SAYS[side](receive)
    except Wrong as wrong:
        return wrong.verdict
    raise AssertionError("the patch's loops end with an error only")


def begin_while_it_may(driver: Driver, reads: Iterator[bytes]) -> None:
    """Read what is wanted, begin a checkpoint when nothing more is, and so on."""
    while True:
        while driver.session.wants_data and (data := next(reads, None)) is not None:
            driver.read(data)
        if not driver.session.may(begin.checkpoint):
            return
        driver.perform(driver.session.fire(begin.checkpoint))


def at_once(driver: Driver, reads: Iterator[bytes]) -> None:
    """Every step as early as it can be taken."""
    driver.eager = True
    driver.start()
    begin_while_it_may(driver, reads)


def late(driver: Driver, reads: Iterator[bytes]) -> None:
    """Checkpoints begin when reading no longer helps."""
    driver.start()
    begin_while_it_may(driver, reads)


def last(driver: Driver, reads: Iterator[bytes]) -> None:
    """All bytes have arrived, wanted or not, before anything else happens; a Primary may begin then."""
    for data in reads:
        driver.read(data)
    driver.start()
    begin_while_it_may(driver, reads)


TIMINGS = (at_once, late, last)


def cut(stream: bytes, size: Callable[[], int]) -> Iterator[bytes]:
    """The stream in pieces of these sizes."""
    while stream:
        n = size()
        yield stream[:n]
        stream = stream[n:]


def outcome(
    side: Side,
    reads: list[bytes],
    timing: Callable[[Driver, Iterator[bytes]], None],
    variant: Variant = PATCH,
) -> tuple[Verdict, StrEnum]:
    driver = Driver(SESSIONS[side](variant))
    timing(driver, iter(reads))
    return verdict(driver.session), driver.session.state


def every_sequence(side: Side) -> Iterator[tuple[int, ...]]:
    """All of up to 3 messages, and every legal beginning with all of up to 2 more."""
    seen = {values for n in range(4) for values in product(VALUES, repeat=n)}
    legal = LEGAL[side]
    seen |= {
        legal[:n] + more
        for n in range(len(legal) + 1)
        for k in range(3)
        for more in product(VALUES, repeat=k)
    }
    return iter(sorted(seen))


@pytest.mark.parametrize("side", Side)
def test_the_verdict_is_the_patchs_in_any_chunking_and_at_any_time(side: Side) -> None:
    rng = random.Random(1)
    runs = 0
    for values, tail in product(every_sequence(side), TAILS):
        says = expected(side, values, tail)
        stream = wire(*values) + b"".join(tail)
        end = [b""] if tail else []
        chunkings = (
            [stream] if stream else [],
            [bytes([byte]) for byte in stream],
            list(cut(stream, lambda: rng.randrange(1, 12))),
        )
        outcomes = {outcome(side, reads + end, timing) for reads, timing in product(chunkings, TIMINGS)}
        assert {v for v, _ in outcomes} == {says}, f"{values} {tail}"
        assert len(outcomes) == 1, f"{values} {tail}: {outcomes}"
        runs += len(chunkings) * len(TIMINGS)
    assert runs > 30_000


@pytest.mark.parametrize("side", Side)
def test_every_sequence_of_four_messages(side: Side) -> None:
    for values in product(VALUES, repeat=4):
        assert outcome(side, [wire(*values)], at_once)[0] == expected(side, values, ())


@st.composite
def streams(draw: st.DrawFn) -> tuple[Side, Variant, list[bytes]]:
    """Mostly legal bytes, with mistakes, for any side and variant, in any chunking."""
    side = draw(st.sampled_from(Side))
    variant = draw(st.sampled_from(Variant.all()))
    legal = LEGAL[side] if side is Side.PRIMARY or variant.profile is Profile.PATCH else (1, 3, 4) * 2
    values = list(legal[: draw(st.integers(0, len(legal)))])
    values += draw(st.lists(st.sampled_from(VALUES), max_size=4))
    stream = wire(*values) + draw(st.binary(max_size=6))
    reads = list(cut(stream, lambda: draw(st.integers(1, 9))))
    return side, variant, reads + ([b""] if draw(st.booleans()) else [])


@given(streams(), st.sampled_from(TIMINGS))
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_chunking_and_timing_never_matter_in_any_variant(
    case: tuple[Side, Variant, list[bytes]], timing: Callable[[Driver, Iterator[bytes]], None]
) -> None:
    side, variant, reads = case
    whole = [b"".join(reads)] if b"".join(reads) else []
    whole += [b""] if reads and not reads[-1] else []
    assert outcome(side, reads, timing, variant) == outcome(side, whole, at_once, variant)


@pytest.mark.parametrize("early", [True, False])
def test_a_wrong_message_is_noticed_in_an_idle_primary(early: bool) -> None:
    driver = Driver(SESSIONS[Side.PRIMARY](PATCH), eager=early)
    driver.start()
    driver.read(bytes.fromhex("00000000"))
    driver.read(bytes.fromhex("00000005"))
    assert driver.session.state is State.FAILOVER
    assert verdict(driver.session) == (UnexpectedMessage, "Unexpected COLO message 5, expected 2")


def test_nothing_is_sent_behind_an_error() -> None:
    for side, values in product(Side, islice(product(VALUES, repeat=3), 0, None, 7)):
        driver = Driver(SESSIONS[side](PATCH))
        at_once(driver, iter([wire(*values), b""]))
        hung_up = driver.did.index("disconnect")
        assert not any(did.startswith("send ") for did in driver.did[hung_up:])
