"""Two real pairs against each other, whichever driver serves them, and a link that breaks anywhere."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest
from replicas import (
    DRIVERS,
    NEVER,
    PATIENCE,
    Broken,
    Counting,
    DriverName,
    Live,
    LoopThread,
    OneShot,
    Relay,
    descriptors,
    live,
    round_bytes,
    unix,
)

from colo_fsm.colo import ReleaseOn, State
from colo_fsm.fsm import GuestFailed, ProtocolError, Side, TimedOut
from colo_fsm.replica import NotCommitted, NotRunning, Options, StateGuest, link_pair
from colo_fsm.replica.events import CheckpointTaken, Event
from colo_fsm.stream import PAGE_SIZE

EAGER = Options(interval=0.0)
ON_REQUEST = Options(interval=NEVER, min_interval=NEVER)
BOTH = list(product(DRIVERS, DRIVERS))


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


class TestTwoPairs:
    @pytest.fixture(params=["link_pair", "tcp", "unix"])
    def link(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        if request.param == "link_pair":
            return link_pair()
        return unix(tmp_path) if request.param == "unix" else "tcp:127.0.0.1:0"

    @pytest.mark.parametrize(("first", "second"), BOTH)
    def test_rounds_and_takeover(
        self, loop: LoopThread, link: Any, first: DriverName, second: DriverName, tmp_path: Path
    ) -> None:
        arbiter = f"sqlite:{tmp_path / 'claim.db'}"
        ours, theirs = Service(), Service()
        peer, listen = link if isinstance(link, tuple) else (None, link)
        secondary = live(second, loop, Side.SECONDARY, StateGuest(theirs, 100), listen, arbiter=arbiter)
        secondary.enter()
        peer = peer or str(secondary.pair.address)
        primary = live(first, loop, Side.PRIMARY, StateGuest(ours, 100), peer, arbiter=arbiter, options=EAGER)
        primary.enter()
        for _ in range(5):
            counted = primary.count(ours)  # type: ignore[arg-type]
            assert theirs.count >= counted
        assert secondary.pair.checkpoint >= 5
        assert primary.pair.generation == secondary.pair.generation
        primary.leave()
        assert primary.pair.state is State.ENDED
        assert secondary.settled() is State.ALONE
        assert theirs.count == 5
        assert secondary.pair.token > 0
        secondary.leave()
        assert secondary.pair.state is State.ENDED

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_an_answer_waits_until_it_is_loaded(self, loop: LoopThread, driver: DriverName) -> None:
        ours, theirs = Counting(), Counting()
        primary, secondary = entered(loop, driver, driver, ours, theirs, link_pair(), ON_REQUEST)
        answered = threading.Event()
        order: list[bool] = []
        theirs.at["load"] = lambda: order.append(answered.is_set())
        primary.do(lambda: primary.pair.outbox.hold(answered.set))
        primary.do(primary.pair.request_checkpoint)
        assert answered.wait(PATIENCE)
        assert order == [False]
        leave(secondary, primary)

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_an_answer_waits_until_it_is_stored(self, loop: LoopThread, driver: DriverName) -> None:
        """The published order: the store has it, and the load is still under way."""
        ours, theirs = Counting(), Counting()
        options = Options(interval=NEVER, min_interval=NEVER, release_on=ReleaseOn.RECEIVED)
        primary, secondary = entered(loop, driver, driver, ours, theirs, link_pair(), options)
        answered = threading.Event()
        stored: list[int] = []
        theirs.at["load"] = lambda: stored.append(answered.wait(PATIENCE))
        primary.do(lambda: primary.pair.outbox.hold(answered.set))
        primary.do(primary.pair.request_checkpoint)
        assert answered.wait(PATIENCE)
        leave(secondary, primary)
        assert stored == [True]

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_everything_is_closed_at_the_end(
        self, loop: LoopThread, driver: DriverName, tmp_path: Path
    ) -> None:
        loop.call(nothing())  # what the loop opens on first use stays
        gc.collect()
        before = descriptors()
        for where in ("tcp:127.0.0.1:0", unix(tmp_path)):
            store = tmp_path / where.partition(":")[0]
            theirs = live(driver, loop, Side.SECONDARY, Counting(), where, arbiter=OneShot(), store=store)
            theirs.enter()
            ours = live(driver, loop, Side.PRIMARY, Counting(), str(theirs.pair.address), arbiter=OneShot())
            ours.enter()
            leave(ours, theirs)
        assert descriptors() == before


class Service:
    """The state of a `StateGuest`."""

    def __init__(self) -> None:
        self.count = 0

    def get_state(self) -> bytes:
        return str(self.count).encode()

    def set_state(self, state: bytes) -> None:
        self.count = int(state)


async def nothing() -> None:
    pass


def entered(
    loop: LoopThread,
    first: DriverName,
    second: DriverName,
    ours: Any,
    theirs: Any,
    links: tuple[socket.socket, socket.socket],
    options: Options = EAGER,
    arbiter: Any = None,
) -> tuple[Live, Live]:
    """Both sides, up to where the guest runs."""
    more = {"arbiter": arbiter or OneShot(), "options": options}
    secondary = live(second, loop, Side.SECONDARY, theirs, links[1], **more)
    primary = live(first, loop, Side.PRIMARY, ours, links[0], **more)
    secondary.enter()
    primary.enter()
    return primary, secondary


def leave(*sides: Live) -> None:
    for side in sides:
        side.leave()


# -- a link that breaks -------------------------------------------------------------------------


@attrs.frozen
class After:
    """What is left when the link broke."""

    primary: StrEnum
    secondary: StrEnum
    acknowledged: int
    survivor: int
    claims: list[Side]


def broken(
    loop: LoopThread,
    drivers: tuple[DriverName, DriverName],
    forward: int | None,
    backward: int | None,
    paged: bool = False,
) -> After:
    """Run checkpoint after checkpoint until the link breaks after so many bytes."""
    arbiter = OneShot()
    ours, theirs = Counting(paged=paged), Counting(paged=paged)
    acknowledged = 0
    with Relay(forward, backward) as relay:
        options = Options(interval=0.0)
        secondary = live(
            drivers[1], loop, Side.SECONDARY, theirs, relay.secondary, arbiter=arbiter, options=options
        )
        primary = live(drivers[0], loop, Side.PRIMARY, ours, relay.primary, arbiter=arbiter, options=options)
        secondary.enter()
        try:
            primary.enter()
            while primary.pair.state is not State.ALONE:
                acknowledged = primary.count(ours)
        except (NotCommitted, NotRunning, ProtocolError):
            pass
        rest = primary.settled(), secondary.settled()
        alone = ours if rest[0] is State.ALONE else theirs
        survivor = alone.count
        assert [ours.running, theirs.running] == [state is State.ALONE for state in rest]
        leave(primary, secondary)
    return After(*rest, acknowledged, survivor, arbiter.claims)


def check(after: After) -> None:
    """Exactly one side runs, and it knows of everything that was acknowledged."""
    assert {after.primary, after.secondary} == {State.ALONE, State.STOPPED}, after
    assert after.survivor >= after.acknowledged, after


ROUND = len(round_bytes(b"%020d" % 0))
PAGED_ROUND = len(round_bytes(b"%020d" % 0, {0: bytes(PAGE_SIZE)}))
BACK = 4 * 3


def measured(loop: LoopThread, paged: bool) -> int:
    """The bytes of our initial stream."""
    with Relay() as relay:
        primary, secondary = entered(
            loop,
            "blocking",
            "blocking",
            Counting(paged=paged),
            Counting(paged=paged),
            (relay.primary, relay.secondary),
            ON_REQUEST,
        )
        passed = relay.passed[0]
        leave(secondary, primary)
    return passed


class TestBrokenLink:
    """The link breaks after every byte of a round, in either direction."""

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_after_every_byte_of_a_round(self, loop: LoopThread, driver: DriverName) -> None:
        start = measured(loop, paged=False)
        for n in range(start, start + ROUND + 5):
            check(broken(loop, (driver, driver), n, None))

    @pytest.mark.parametrize("drivers", BOTH)
    def test_after_every_byte_that_comes_back(
        self, loop: LoopThread, drivers: tuple[DriverName, DriverName]
    ) -> None:
        for n in range(1, 4 + 2 * BACK + 1):
            check(broken(loop, drivers, None, n))

    @pytest.mark.parametrize("drivers", [("asyncio", "blocking"), ("blocking", "asyncio")])
    def test_mixed_drivers(self, loop: LoopThread, drivers: tuple[DriverName, DriverName]) -> None:
        start = measured(loop, paged=False)
        for n in range(start, start + ROUND, 7):
            check(broken(loop, drivers, n, None))

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_inside_a_page(self, loop: LoopThread, driver: DriverName) -> None:
        """And after every byte behind the page, where it has arrived and its checkpoint has not."""
        start = measured(loop, paged=True)
        behind = start + PAGED_ROUND - ROUND
        for n in (*range(start, behind, 211), *range(behind, start + PAGED_ROUND + 5)):
            check(broken(loop, (driver, driver), n, None, paged=True))

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_inside_the_initial_state(self, loop: LoopThread, driver: DriverName) -> None:
        """Nobody was ready: both stop, and nobody claims."""
        for n in range(0, measured(loop, paged=False), 7):
            after = broken(loop, (driver, driver), n, None)
            assert (after.primary, after.secondary, after.claims) == (State.STOPPED, State.STOPPED, [])

    @pytest.mark.soak
    @pytest.mark.timeout(1800)
    @pytest.mark.parametrize("drivers", BOTH)
    def test_after_every_byte_of_three_rounds_with_pages(
        self, loop: LoopThread, drivers: tuple[DriverName, DriverName]
    ) -> None:
        start = measured(loop, paged=True)
        for n in range(start, start + 3 * PAGED_ROUND + 5):
            check(broken(loop, drivers, n, None, paged=True))
        for n in range(1, 4 + 10 * BACK):
            check(broken(loop, drivers, None, n, paged=True))


class TestHooks:
    """A hook of one side raises inside a round, again and again."""

    @pytest.mark.parametrize(
        ("side", "hook"), [("ours", "suspend"), ("ours", "save"), ("ours", "resume"), ("theirs", "load")]
    )
    @pytest.mark.parametrize("driver", DRIVERS)
    def test_the_other_side_takes_over(
        self, loop: LoopThread, driver: DriverName, side: str, hook: str
    ) -> None:
        ours, theirs = Counting(), Counting()
        primary, secondary = entered(loop, driver, driver, ours, theirs, link_pair())
        failing = {"ours": ours, "theirs": theirs}[side]
        acknowledged = primary.count(ours)
        failing.failing = {hook}
        with suppress(NotCommitted, NotRunning):
            while primary.pair.state is not State.ALONE:
                acknowledged = primary.count(ours)
        states = primary.settled(), secondary.settled()
        broken, healthy = (primary, secondary) if side == "ours" else (secondary, primary)
        assert isinstance(broken.pair.session.error, GuestFailed)
        assert isinstance(broken.pair.session.error.cause, Broken)
        assert healthy.pair.state is State.ALONE, states
        assert broken.pair.state is State.STOPPED, states
        assert (theirs if side == "ours" else ours).count >= acknowledged
        leave(primary, secondary)


class TestSilence:
    """The other side is there, and says nothing any more."""

    @pytest.mark.parametrize(("way", "upto"), [(0, 4), (0, 30), (1, 4 + 4), (1, 4 + 8)])
    @pytest.mark.parametrize("driver", DRIVERS)
    def test_inside_a_round(self, loop: LoopThread, driver: DriverName, way: int, upto: int) -> None:
        """Both notice, and one goes on."""
        forward = measured(loop, paged=False) + upto if way == 0 else None
        backward = upto if way == 1 else None
        options = Options(interval=0.05, deadline=0.2)
        ours, theirs = Counting(paged=False), Counting(paged=False)
        with Relay(forward, backward, freeze=True) as relay:
            links = relay.primary, relay.secondary
            primary, secondary = entered(loop, driver, driver, ours, theirs, links, options)
            assert relay.broken.wait(PATIENCE)
            assert primary.settled() is not State.ENDED
            assert isinstance(primary.pair.session.error, TimedOut)
            relay.cut()
            assert {primary.settled(), secondary.settled()} == {State.ALONE, State.STOPPED}
            leave(primary, secondary)

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_between_two_rounds(self, loop: LoopThread, driver: DriverName) -> None:
        """Idle for many times the deadline, by their clocks, and then a round as ever."""
        options = Options(interval=NEVER, min_interval=NEVER, deadline=PATIENCE)
        ours, theirs = Counting(), Counting()
        primary, secondary = entered(loop, driver, driver, ours, theirs, link_pair(), options)
        late = [0.0]
        for side in (primary, secondary):
            side.do(partial(setattr, side.pair._replica, "clock", lambda: time.monotonic() + late[0]))
        answered = threading.Event()
        for _ in range(2):
            late[0] += 100 * PATIENCE
            for side in (primary, secondary):
                side.do(side.pair._replica.wake)
            primary.do(lambda: primary.pair.outbox.hold(answered.set))
            primary.do(primary.pair.request_checkpoint)
            assert answered.wait(PATIENCE)
            answered.clear()
        assert primary.pair.session.error is secondary.pair.session.error is None
        leave(secondary, primary)


def test_every_round_is_told(loop: LoopThread) -> None:
    ours, theirs = Counting(), Counting()
    primary, secondary = entered(loop, "asyncio", "blocking", ours, theirs, link_pair())
    seen: list[Event] = []
    events = iter(secondary.pair.events())  # type: ignore[arg-type]
    for _ in range(3):
        primary.count(ours)
    leave(secondary, primary)
    seen = list(events)
    numbers = [e.number for e in seen if isinstance(e, CheckpointTaken)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) >= 2
