"""A member inside one process: what an embedder sees of it, and what it refuses."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from colo_fsm.arbiter import ArbiterUnreachable
from colo_fsm.arbiter.register import Entry, Register, SqliteRegister
from colo_fsm.membership import Active, AloneCommit, Member, MemberFailed, NotPossible, member
from colo_fsm.membership.keeper import Keeper
from colo_fsm.membership.seat import Seat, Standing
from colo_fsm.replica import NotCommitted, NotRunning, Options, StateGuest
from colo_fsm.replica.guest import state_in

PATIENCE = 60.0


class Words:
    """A service: some text."""

    def __init__(self) -> None:
        self.text = b""

    def get_state(self) -> bytes:
        return self.text

    def set_state(self, state: bytes) -> None:
        self.text = state


class Place:
    """Where members of one data set are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words: dict[str, Words] = {}
        self.said: dict[str, list[str]] = {}

    @asynccontextmanager
    async def member(
        self,
        name: str,
        arbiter: Register | None = None,
        guest: Callable[[Words], StateGuest] = lambda words: StateGuest(words, 1 << 16),
        **more: Any,
    ) -> AsyncIterator[Member]:
        peer = {"a": "b", "b": "a"}[name]
        words = self.words[name] = Words()
        made = member(
            guest(words),
            name=name,
            listen=f"unix:{self.folder}/{name}.link",
            peer=f"unix:{self.folder}/{peer}.link",
            arbiter=arbiter or f"sqlite:{self.folder}/claim.db",
            store=self.folder / name,
            **{"options": Options(interval=0.01, deadline=PATIENCE), **more},
        )
        said = self.said.setdefault(name, [])

        async def listen() -> None:
            async for event in events:
                if why := getattr(event, "why", ""):
                    said.append(why)

        events = made.events()
        listening = asyncio.create_task(listen())
        async with made:
            yield made
        await listening

    def text(self, name: str) -> bytes:
        return self.words[name].text

    async def says(self, name: str, part: str) -> str:
        await until(lambda: any(part in why for why in self.said.get(name, [])))
        return next(why for why in self.said[name] if part in why)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def running(*members: Member) -> tuple[Member, Active]:
    """The one that runs protected, and what its service has."""
    await until(lambda: any(m.state == "primary" for m in members))
    runs = next(m for m in members if m.state == "primary")
    assert runs.active is not None
    return runs, runs.active


async def write(active: Active, words: Words, text: bytes) -> None:
    async with active.turn():
        words.text = text
    await active.committed()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_switchover_under_turns_loses_nothing_and_nobody_claims(place: Place) -> None:
    async def story() -> None:
        async with place.member("a") as a, place.member("b") as b:
            first, active = await running(a, b)
            words = place.words[first.name]
            await write(active, words, b"one")
            waiting = asyncio.create_task(write(active, words, b"two"))
            await first.switchover()
            with pytest.raises(NotRunning):
                await active.running()
            (second,) = {a, b} - {first}
            await until(lambda: second.state == "primary")
            assert first.state == "secondary"
            after = place.words[second.name].text
            acknowledged = not (await asyncio.gather(waiting, return_exceptions=True))[0]
            assert after == b"two" if acknowledged else after in (b"one", b"two")

    asyncio.run(story())


class Unheard:
    """A register whose next change, if it is `away`, does not reach it."""

    local_only = True

    def __init__(self, register: Register) -> None:
        self._register = register
        self.away = False

    def read(self) -> Entry | None:
        return self._register.read()

    def swap(self, version: int | None, value: str) -> bool:
        if self.away:
            self.away = False
            raise ArbiterUnreachable("the register", "it is away")
        return self._register.swap(version, value)


def test_a_switchover_that_does_not_reach_the_arbiter_is_none_and_it_serves_on(place: Place) -> None:
    async def story() -> None:
        registers = {n: Unheard(SqliteRegister(place.folder / "claim.db", "main")) for n in ("a", "b")}
        async with (
            place.member("a", arbiter=registers["a"]) as a,
            place.member("b", arbiter=registers["b"]) as b,
        ):
            first, active = await running(a, b)
            registers[first.name].away = True
            with pytest.raises(NotPossible, match="unreachable"):
                async with asyncio.timeout(PATIENCE):
                    await first.switchover()
            await write(active, place.words[first.name], b"one")
            assert first.state == "primary"

    asyncio.run(story())


def test_only_a_protected_primary_can_be_switched_over(place: Place) -> None:
    async def story() -> None:
        async with place.member("a") as a:
            with pytest.raises(NotPossible, match="this member is"):
                await a.switchover()

    asyncio.run(story())


def test_an_answer_between_two_pairs_waits_for_the_next_one(place: Place) -> None:
    """The Secondary goes, and what was not covered yet is covered by the member's own store."""

    async def story() -> None:
        async with place.member("a") as a:
            async with place.member("b") as b:
                runs, active = await running(a, b)
                await write(active, place.words[runs.name], b"one")
                if runs is b:
                    await b.switchover()
                    await until(lambda: a.state == "primary")
                assert a.active is not None
                active = a.active
                leaving = asyncio.create_task(b.wait())
                b.request_leave()
                await write(active, place.words["a"], b"two")
                await leaving
            await write(active, place.words["a"], b"three")
            assert a.active is active
            assert not active.protected
        async with place.member("a") as again:
            await until(lambda: again.active is not None)
            assert again.active is not None
            await again.active.running()
            assert place.words["a"].text == b"three"

    asyncio.run(story())


def alone_before(folder: Path, name: str, text: bytes) -> None:
    """This member has run, and has this in its store."""

    async def story() -> None:
        place = Place(folder)
        async with place.member("a") as a, place.member("b") as b:
            runs, active = await running(a, b)
            if runs.name != name:
                await runs.switchover()
                await until(lambda: {"a": a, "b": b}[name].state == "primary")
                active = {"a": a, "b": b}[name].active  # type: ignore[assignment]
            (other,) = {a, b} - {{"a": a, "b": b}[name]}
            other.request_leave()
            await other.wait()
            await write(active, place.words[name], text)

    asyncio.run(story())


def test_a_store_of_another_data_set_waits_and_can_be_thrown_away(tmp_path: Path) -> None:
    alone_before(tmp_path, "a", b"old")
    (tmp_path / "claim.db").rename(tmp_path / "other.db")

    async def story() -> None:
        place = Place(tmp_path)
        standing = Standing(SqliteRegister(tmp_path / "claim.db", "main"), Seat(tmp_path / "c", "c"))
        standing.begin()
        standing.seat.close()
        async with place.member("a"):
            assert "--replace-store" in await place.says("a", "this store holds data set")
        async with place.member("a", replace_store=True):
            assert "checkpoint" in await place.says("a", "thrown away")

    asyncio.run(story())


def test_a_forgetful_arbiter_makes_a_member_wait_until_somebody_accepts_the_loss(tmp_path: Path) -> None:
    alone_before(tmp_path, "a", b"kept")
    (tmp_path / "claim.db").unlink()

    async def story() -> None:
        place = Place(tmp_path)
        async with place.member("a"):
            assert "--accept-loss" in await place.says("a", "the arbiter knows of no data set")
        async with place.member("a", accept_loss=True) as a:
            await place.says("a", "loss accepted")
            await until(lambda: a.active is not None)
            assert a.active is not None
            await a.active.running()
            assert place.words["a"].text == b"kept"

    asyncio.run(story())


def test_a_loss_is_accepted_at_a_start_and_never_later(tmp_path: Path) -> None:
    """Given in vain, the holder is there. Kept, it would throw away what the other one acknowledges alone."""
    alone_before(tmp_path, "a", b"kept")

    async def story() -> None:
        place = Place(tmp_path)
        async with place.member("a", accept_loss=True) as a, place.member("b", accept_loss=True) as b:
            await until(lambda: a.state == "primary")
            a.request_leave()
            await a.wait()
            await until(lambda: b.state == "alone")
            assert b._seat.point is not None
            assert [await each._looking.accepts_loss() for each in (a, b)] == [False, False]

    asyncio.run(story())


def test_a_loss_is_not_accepted_by_who_has_nothing(tmp_path: Path) -> None:
    """It waits on: started anew, it would hide that all is lost."""
    alone_before(tmp_path, "a", b"kept")
    shutil.rmtree(tmp_path / "b")

    async def story() -> None:
        place = Place(tmp_path)
        async with place.member("b", accept_loss=True) as b:
            await place.says("b", "holds nothing to go on from")
            assert b.state == "secondary"

    asyncio.run(story())


def test_while_the_arbiter_does_not_answer_a_member_waits_says_so_and_then_goes_on(tmp_path: Path) -> None:
    alone_before(tmp_path, "a", b"kept")

    async def story() -> None:
        place = Place(tmp_path)
        register = SqliteRegister(tmp_path / "claim.db", "main", timeout=0.05)
        with closing(sqlite3.connect(tmp_path / "claim.db", isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            async with place.member("a", arbiter=register) as a:
                await place.says("a", "is unreachable")
                assert place.text("a") == b""
                other.close()
                await until(lambda: a.active is not None)
                assert a.active is not None
                await a.active.running()
                assert place.text("a") == b"kept"

    asyncio.run(story())


# ---- what answers given alone wait for -------------------------------------------------------------

HOUR = 3600.0
SELDOM = Options(interval=HOUR, min_interval=HOUR, deadline=PATIENCE)
"""Whatever is stored in a test is stored because somebody asked for it."""


def alone(
    folder: Path, commit: AloneCommit, story: Callable[[Place, Member, Active], Awaitable[None]]
) -> None:
    """The story of a member that runs alone; in the end, started again, it has all that was acknowledged."""
    alone_before(folder, "a", b"one")

    async def told() -> None:
        place = Place(folder)
        async with place.member("a", alone_commit=commit, options=SELDOM) as a:
            await until(lambda: a.active is not None)
            assert a.active is not None
            await a.active.running()
            await place.says("a", "it runs unprotected")
            await story(place, a, a.active)
        kept = place.text("a")
        async with place.member("a") as again:
            await until(lambda: again.active is not None)
            assert again.active is not None
            await again.active.running()
            assert place.text("a") == kept

    asyncio.run(told())


async def waits(active: Active) -> None:
    """Until an answer waits for a checkpoint."""
    assert active._pair is not None
    outbox = active._pair.outbox
    await until(lambda: len(outbox))


def test_alone_an_answer_waits_for_the_store(tmp_path: Path) -> None:
    async def story(place: Place, a: Member, active: Active) -> None:
        before = a._seat.point
        writing = asyncio.create_task(write(active, place.words["a"], b"two"))
        await waits(active)
        assert a._seat.point == before
        assert not writing.done()
        assert active._pair is not None
        active._pair.request_checkpoint()
        await writing
        assert a._seat.point != before

    alone(tmp_path, AloneCommit.DISK, story)


def test_alone_with_memory_an_answer_leaves_at_once_and_the_end_stores_it(tmp_path: Path) -> None:
    async def story(place: Place, a: Member, active: Active) -> None:
        before = a._seat.point
        for text in (b"two", b"three"):
            await write(active, place.words["a"], text)
        assert a._seat.point == before
        a.request_leave()
        await a.wait()
        assert place.text("a") == b"three"

    alone(tmp_path, AloneCommit.MEMORY, story)


def test_alone_with_memory_a_checkpoint_can_be_had(tmp_path: Path) -> None:
    async def story(place: Place, a: Member, active: Active) -> None:
        before = a._seat.point
        await write(active, place.words["a"], b"two")
        assert a._seat.point == before
        await active.stored()
        newest = a._seat.store.newest
        assert newest is not None
        assert state_in(newest) == b"two"

    alone(tmp_path, AloneCommit.MEMORY, story)


def test_who_leaves_answers_what_waits_for_the_store(tmp_path: Path) -> None:
    async def story(place: Place, a: Member, active: Active) -> None:
        writing = asyncio.create_task(write(active, place.words["a"], b"two"))
        await waits(active)
        a.request_leave()
        await writing

    alone(tmp_path, AloneCommit.DISK, story)


@pytest.mark.parametrize("commit", list(AloneCommit))
def test_answers_keep_their_order_from_alone_to_protected_and_back(
    tmp_path: Path, commit: AloneCommit
) -> None:
    async def story(place: Place, a: Member, active: Active) -> None:
        told: list[int] = []
        number, over = 0, False

        async def write_on() -> None:
            nonlocal number
            while not over:
                async with active.turn():
                    place.words["a"].text = b"%d" % number
                    active.outbox.hold(lambda n=number: told.append(n), lambda: told.append(-1))  # type: ignore[misc]
                number += 1
                await asyncio.sleep(0)

        async def more(count: int = 20) -> None:
            goal = number + count
            await until(lambda: number >= goal)

        writing = asyncio.create_task(write_on())
        await more()
        async with place.member("b") as b:
            await until(lambda: a.state == "primary")
            assert active.protected
            await more()
            b.request_leave()
            await b.wait()
            await until(lambda: a.state == "alone")
            await more()
        over = True
        await writing
        a.request_leave()
        await a.wait()
        assert told == list(range(number))

    alone(tmp_path, commit, story)


def test_the_record_counts_no_copy_that_has_less_than_was_acknowledged(tmp_path: Path) -> None:
    """Behind the change-over no checkpoint comes: the Secondary has it all by then, or not at all."""
    alone_before(tmp_path, "a", b"one")

    async def story() -> None:
        place = Place(tmp_path)
        async with place.member("a", alone_commit=AloneCommit.MEMORY, options=SELDOM) as a:
            await until(lambda: a.active is not None)
            assert a.active is not None
            await place.says("a", "answers before")
            await write(a.active, place.words["a"], b"two")
            async with place.member("b") as b:
                await until(lambda: a.state == "primary")
                newest = b._seat.store.newest
                assert newest is not None
                assert state_in(newest) == b"two"
                b.request_leave()
                await b.wait()

    asyncio.run(story())


def test_what_the_own_store_did_not_take_in_the_change_over_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest counts it as saved by then: a Secondary taken in now would never get it."""
    alone_before(tmp_path, "a", b"one")
    end, in_the_way = Keeper.end, tmp_path / "a" / "store" / "checkpoint.new"
    place = Place(tmp_path)

    async def fails_once(keeper: Keeper) -> None:
        monkeypatch.undo()
        in_the_way.mkdir()
        async with keeper.pair.turn():
            place.words["a"].text = b"two"
        with pytest.raises(NotCommitted):
            await keeper.pair.committed()
        in_the_way.rmdir()
        await end(keeper)

    async def story() -> None:
        async with place.member("a") as a, place.member("b") as b:
            monkeypatch.setattr(Keeper, "end", fails_once)
            _, active = await running(a, b)
            await place.says("a", "own store did not take the last round")
            await write(active, place.words["a"], b"two, three")
            newest = b._seat.store.newest
            assert newest is not None
            assert (a.state, state_in(newest)) == ("primary", b"two, three")

    asyncio.run(story())


@pytest.mark.parametrize("kept_out", [False, True])
def test_a_store_that_takes_nothing_is_no_end_in_order(tmp_path: Path, kept_out: bool) -> None:
    """With `memory` something ends with the member, and somebody has to know: what is left of it, too."""
    alone_before(tmp_path, "a", b"one")
    options = Options(interval=HOUR, min_interval=HOUR, deadline=PATIENCE, claim_retry=HOUR)
    holds: list[object] = []

    async def story() -> None:
        place = Place(tmp_path)
        memory: Any = {"alone_commit": AloneCommit.MEMORY, "options": options}
        async with place.member("a", **memory) as a:
            await until(lambda: a.active is not None)
            assert a.active is not None
            await place.says("a", "answers before")
            holds.append(a._seat.point)
            await write(a.active, place.words["a"], b"two")
            (tmp_path / "a" / "store" / "checkpoint.new").mkdir()
            if kept_out:
                assert a.active._pair is not None
                a.active._pair.request_checkpoint()
                await place.says("a", "its store takes nothing")

    with pytest.raises(MemberFailed, match="what came behind that is lost") as failed:
        asyncio.run(story())
    assert f"it holds {holds[0]}" in str(failed.value)


@pytest.mark.parametrize("interval", [-1.0, float("nan"), 1e9])
def test_an_interval_that_cannot_be_is_refused_at_the_start(tmp_path: Path, interval: float) -> None:
    async def story() -> None:
        with pytest.raises(ValueError, match="interval"):
            async with Place(tmp_path).member("a", alone_interval=interval):
                pass

    asyncio.run(story())


class Broken(StateGuest):
    """A guest that does not run on."""

    fails = False

    def resume(self) -> None:
        if self.fails:
            raise ValueError("it does not run on")


def test_a_guest_that_fails_in_the_change_over_ends_its_member_and_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is acknowledged is with the Secondary by then."""
    alone_before(tmp_path, "a", b"one")
    end = Keeper.end

    async def story() -> None:
        place = Place(tmp_path)
        made: list[Broken] = []

        def broken(words: Words) -> Broken:
            made.append(Broken(words, 1 << 16))
            return made[-1]

        async def then_fails(keeper: Keeper) -> None:
            await end(keeper)
            made[0].fails = True

        async def fails() -> None:
            async with place.member("a", guest=broken) as a:
                await until(lambda: a.active is not None)
                assert a.active is not None
                await a.active.running()
                await write(a.active, place.words["a"], b"two")
                monkeypatch.setattr(Keeper, "end", then_fails)
                async with place.member("b") as b:
                    with pytest.raises(MemberFailed, match="ValueError: it does not run on"):
                        await a.wait()
                    monkeypatch.undo()
                    await until(lambda: b.active is not None)
                    assert b.active is not None
                    await b.active.running()
                    assert place.text("b") == b"two"

        with pytest.raises(MemberFailed):
            await fails()

    asyncio.run(story())


def test_alone_a_guest_that_fails_ends_its_member(tmp_path: Path) -> None:
    """Trying for ever would answer nobody; started again, it goes on from what was acknowledged."""
    alone_before(tmp_path, "a", b"one")

    async def story() -> None:
        place = Place(tmp_path)
        made: list[Broken] = []

        def broken(words: Words) -> Broken:
            made.append(Broken(words, 1 << 16))
            return made[-1]

        async with place.member("a", guest=broken) as a:
            await until(lambda: a.active is not None)
            assert a.active is not None
            await a.active.running()
            made[0].fails = True
            await a.wait()

    with pytest.raises(MemberFailed, match=r"its guest has failed: .*it does not run on"):
        asyncio.run(story())
