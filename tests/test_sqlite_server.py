"""The SQLite server on real pairs, with real sockets: replies that hold, retries, failover, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import json
import os
import re
import resource
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import pytest

from colo_fsm.arbiter import Claim
from colo_fsm.colo import State
from colo_fsm.fsm import Side
from colo_fsm.replica.address import Address, AddressError, address_of
from colo_fsm.replica.aio import Pair, primary, secondary
from colo_fsm.replica.events import CheckpointTaken, NotServing, Serving
from colo_fsm.replica.link import link_pair
from colo_fsm.replica.options import Options
from colo_fsm.services import connection, sqlite_server
from colo_fsm.services.connection import CLIENT_WAITING, MOST_WAITING
from colo_fsm.services.sqlite import SqliteGuest
from colo_fsm.services.sqlite_server import ServedSqlite, SqliteServer, described, serve
from colo_fsm.services.wire import LINE_LIMIT

CAPACITY = 64 * 4096
SCHEMA = "CREATE TABLE t (a INTEGER PRIMARY KEY, b)"
INSERT = "INSERT INTO t (b) VALUES ('x') RETURNING a"
BY_REQUEST = Options(interval=3600, min_interval=3600)
OFTEN = Options(interval=0.002)
ANYWHERE = "tcp:127.0.0.1:0"


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop; nothing may go wrong where nobody looks."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        unseen: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
            await asyncio.wait_for(test(*args, **kwargs), 20)
            gc.collect()

        asyncio.run(main())
        assert unseen == []

    return run


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


@attrs.define
class Decided:
    """An arbiter that has made up its mind."""

    winner: Side
    local_only = True

    def open(self) -> int:
        return 1

    def check(self, generation: int) -> None:
        assert generation == 1

    def claim(self, generation: int, side: Side) -> Claim:
        return Claim(self.winner, 77)


@attrs.define
class Both:
    """A replicated database: both sides, and a way to break the link between them."""

    primary: Pair
    secondary: Pair
    database: SqliteGuest
    copy: SqliteGuest
    link: socket.socket

    def break_link(self) -> None:
        self.link.shutdown(socket.SHUT_RDWR)

    async def copied(self) -> int:
        """The rows that the Secondary holds; it leaves, so that no load is under way."""
        self.secondary.request_leave()
        assert await self.secondary.wait() is State.ENDED
        return count(self.copy)


@contextlib.asynccontextmanager
async def both(
    options: Options = BY_REQUEST,
    winner: Side = Side.SECONDARY,
    make: Callable[[], SqliteGuest] = lambda: SqliteGuest(CAPACITY, schema=SCHEMA),
) -> AsyncIterator[Both]:
    here, there = link_pair()
    database, copy = make(), make()
    with contextlib.closing(database), contextlib.closing(copy):
        second = secondary(copy, listen=there, arbiter=Decided(winner))
        first = primary(database, peer=here, arbiter=Decided(winner), options=options)
        async with second, first:
            yield Both(first, second, database, copy, here)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, line: bytes) -> None:
        self.writer.write(line + b"\n")

    def ask(self, sql: str, **more: object) -> None:
        self.write(json.dumps({"sql": sql, **more}).encode())

    async def reply(self) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(await self.reader.readline())
        return reply

    async def result(self, sql: str, **more: object) -> dict[str, Any]:
        self.ask(sql, **more)
        return await self.reply()

    def has_bytes(self) -> bool:
        """Whether the kernel holds bytes for this client."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as probe:
            try:
                return bool(probe.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            except BlockingIOError:
                return False

    def stop_reading(self) -> None:
        transport: Any = self.writer.transport
        transport.pause_reading()

    async def rest(self) -> bytes:
        """What comes until the server hangs up."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@contextlib.asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Client]:
    connection = address.connect()
    reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 21)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def served(
    options: Options = BY_REQUEST, winner: Side = Side.SECONDARY
) -> AsyncIterator[tuple[Both, Client]]:
    """A replicated database, and a client of its Primary."""
    async with (
        both(options, winner) as pairs,
        SqliteServer(pairs.primary, pairs.database, ANYWHERE) as server,
        connected(server.address) as client,
    ):
        yield pairs, client


def answers(address: Address) -> bool:
    try:
        address.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def count(guest: SqliteGuest) -> int:
    (rows,) = guest.connection.execute("SELECT count(*) FROM t").fetchone()
    return int(rows)


# ---- replies wait for their checkpoint -----------------------------------------------------------


@on_a_loop
async def test_a_reply_leaves_when_a_checkpoint_covers_it() -> None:
    async with served() as (pairs, client):
        loaded: list[int] = []
        pairs.secondary.on_transition(lambda _: loaded.append(time.monotonic_ns()), State.LOADED)
        client.ask(INSERT, id=[1, "x"])
        await until(lambda: len(pairs.primary.outbox) == 1)
        assert count(pairs.database) == 1
        assert pairs.primary.state is State.READY
        pairs.primary.request_checkpoint()
        reply = await client.reply()
        assert reply.pop("released") > loaded[0]
        assert reply == {
            "id": [1, "x"], "rows": [[1]], "changes": 1,
            "side": "primary", "protected": True, "token": 0, "checkpoint": 1,
        }  # fmt: skip
        assert pairs.secondary.checkpoint == 1
        assert count(pairs.copy) == 1


@on_a_loop
async def test_no_byte_leaves_before_the_checkpoint_is_loaded() -> None:
    """The same from the client's end: whenever the Primary changes its state, nothing was sent yet."""

    async with served() as (pairs, client):
        client.ask(INSERT)
        await until(lambda: len(pairs.primary.outbox) == 1)
        reply = asyncio.create_task(client.reply())
        seen: list[tuple[StrEnum, bool]] = []
        pairs.primary.on_transition(
            lambda _: seen.append((pairs.primary.state, reply.done() or client.has_bytes()))
        )
        pairs.primary.request_checkpoint()
        await reply
        states = ["requested", "replied", "sending", "sized", "received", "loaded"]
        assert seen == [(state, False) for state in states]


@on_a_loop
async def test_what_comes_after_the_save_waits_for_the_next_checkpoint() -> None:
    async with served() as (pairs, client):
        client.ask(INSERT, id=1)
        await until(lambda: len(pairs.primary.outbox) == 1)
        for number in 1, 2:
            pairs.primary.request_checkpoint()
            assert (await client.reply())["checkpoint"] == number
            client.ask("SELECT count(*) FROM t", id=2)  # a read tells of a change, so it waits too
            await until(lambda: len(pairs.primary.outbox) == 1)


@on_a_loop
async def test_many_replies_leave_with_one_checkpoint_in_order() -> None:
    async with served() as (pairs, client):
        for number in range(30):
            client.ask(["SELEC", INSERT, "SELECT 1"][number % 3], id=number)
        client.write(b"{")
        await until(lambda: len(pairs.primary.outbox) == 31)
        pairs.primary.request_checkpoint()
        replies = [await client.reply() for _ in range(31)]
        assert [reply["id"] for reply in replies] == [*range(30), None]
        assert {reply["checkpoint"] for reply in replies} == {1}
        released = [reply["released"] for reply in replies]
        assert released == sorted(released)


@on_a_loop
async def test_requests_wait_when_too_many_replies_do() -> None:
    async with served() as (pairs, client):
        for number in range(MOST_WAITING + 50):
            client.ask(INSERT, id=number)
        await until(lambda: len(pairs.primary.outbox) == MOST_WAITING)
        async with pairs.primary.turn():
            assert count(pairs.database) == MOST_WAITING
        pairs.primary.request_checkpoint()
        for number in range(MOST_WAITING):
            assert (await client.reply())["id"] == number
        await until(lambda: len(pairs.primary.outbox) == 50)


@pytest.mark.parametrize(("seconds", "together"), [(0.0, 1), (60.0, 2)])
def test_requests_that_wait_share_a_turn_as_long_as_it_is_short(
    monkeypatch: pytest.MonkeyPatch, seconds: float, together: int
) -> None:
    monkeypatch.setattr(sqlite_server, "TURN", seconds)

    @on_a_loop
    async def look() -> None:
        async with (
            both() as pairs,
            SqliteServer(pairs.primary, pairs.database, ANYWHERE) as server,
            connected(server.address) as one,
            connected(server.address) as other,
        ):
            for _ in range(20):
                one.ask(INSERT)
                other.ask(INSERT)
            counts = [0]
            while counts[-1] < 40:
                await asyncio.sleep(0)  # one round of the event loop
                counts.append(count(pairs.database))
            assert max(after - before for before, after in itertools.pairwise(counts)) == together

    look()


@on_a_loop
async def test_a_request_that_fails_inside_takes_its_own_connection_along_and_no_other() -> None:
    async with (
        both() as pairs,
        SqliteServer(pairs.primary, pairs.database, ANYWHERE) as server,
        connected(server.address) as one,
        connected(server.address) as other,
    ):
        async with pairs.primary.turn():
            pairs.database.connection.execute("BEGIN")  # by an embedder who forgets it for a moment
        one.ask(INSERT)
        assert await one.rest() == b""
        async with pairs.primary.turn():
            pairs.database.connection.execute("COMMIT")
        other.ask(INSERT, id=7)
        await until(lambda: len(pairs.primary.outbox) == 1)
        pairs.primary.request_checkpoint()
        assert (await other.reply())["rows"] == [[1]]


@on_a_loop
async def test_a_side_that_runs_alone_answers_at_once() -> None:
    async with served(winner=Side.PRIMARY) as (pairs, client):
        client.ask(INSERT)
        await until(lambda: len(pairs.primary.outbox) == 1)
        pairs.break_link()
        assert (await client.reply())["token"] == 77
        assert (await client.result(INSERT))["rows"] == [[2]]
        assert pairs.primary.state is State.ALONE


@on_a_loop
async def test_a_client_that_hangs_up_half_still_gets_its_replies() -> None:
    async with served(OFTEN) as (_, client):
        client.ask(INSERT)
        client.writer.write_eof()
        assert json.loads(await client.rest())["rows"] == [[1]]


@on_a_loop
async def test_a_client_that_has_gone_does_not_matter(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (pairs, client):
        for _ in range(20):
            client.ask(INSERT)
        await until(lambda: len(pairs.primary.outbox) == 20)
        client.writer.transport.abort()
        pairs.primary.request_checkpoint()
        await until(lambda: len(pairs.primary.outbox) == 0)
        assert count(pairs.copy) == 20
        assert pairs.primary.state is State.LOADED
        assert caplog.messages == []


# ---- failover ------------------------------------------------------------------------------------


@on_a_loop
async def test_a_retry_after_a_failover_gives_the_first_reply_and_applies_once() -> None:
    async with served(OFTEN) as (pairs, client):
        first = await client.result(INSERT, key="k", id=1)
        pairs.break_link()
        async with (
            SqliteServer(pairs.secondary, pairs.copy, ANYWHERE) as survivor,
            connected(survivor.address) as again,
        ):
            second = await again.result(INSERT, key="k", id=2)
            assert (second["rows"], second["changes"]) == (first["rows"], first["changes"]) == ([[1]], 1)
            assert (second["id"], second["side"], second["token"]) == (2, "secondary", 77)
            assert second["checkpoint"] >= first["checkpoint"]
            assert (await again.result("SELECT count(*) FROM t"))["rows"] == [[1]]


@on_a_loop
async def test_what_no_checkpoint_covered_is_never_answered_and_may_be_sent_again() -> None:
    async with served() as (pairs, client):
        client.ask(INSERT, key="k")
        await until(lambda: len(pairs.primary.outbox) == 1)
        pairs.break_link()
        assert await client.rest() == b""
        assert await pairs.primary.wait() is State.STOPPED
        async with (
            SqliteServer(pairs.secondary, pairs.copy, ANYWHERE) as survivor,
            connected(survivor.address) as again,
        ):
            assert (await again.result(INSERT, key="k"))["rows"] == [[1]]
            assert (await again.result("SELECT count(*) FROM t"))["rows"] == [[1]]


@on_a_loop
async def test_a_retry_before_the_checkpoint_waits_for_it_too() -> None:
    async with (
        both() as pairs,
        SqliteServer(pairs.primary, pairs.database, ANYWHERE) as server,
        connected(server.address) as client,
        connected(server.address) as other,
    ):
        client.ask(INSERT, key="k")
        await until(lambda: len(pairs.primary.outbox) == 1)
        other.ask(INSERT, key="k")
        await until(lambda: len(pairs.primary.outbox) == 2)
        pairs.primary.request_checkpoint()
        assert (await other.reply())["rows"] == (await client.reply())["rows"] == [[1]]
        assert count(pairs.copy) == 1


@on_a_loop
async def test_over_tcp_a_secondary_listens_for_clients_only_when_it_has_taken_over(tmp_path: Path) -> None:
    clients = Address.parse(f"unix:{tmp_path}/clients")
    arbiter = f"sqlite:{tmp_path}/claims.db"
    copy, database = SqliteGuest(CAPACITY, schema=SCHEMA), SqliteGuest(CAPACITY, schema=SCHEMA)
    async with secondary(copy, listen=ANYWHERE, arbiter=arbiter) as second:
        serving = asyncio.create_task(serve(second, copy, str(clients)))
        async with (
            primary(database, peer=str(second.address), arbiter=arbiter, options=OFTEN) as first,
            SqliteServer(first, database, ANYWHERE) as server,
            connected(server.address) as client,
        ):
            await client.result(INSERT)
            assert not Path(clients.path).exists()
        await second.running()
        await until(Path(clients.path).exists)
        async with connected(clients) as other:
            reply = await other.result("SELECT count(*) FROM t")
            assert (reply["rows"], reply["side"]) == ([[1]], "secondary")
            assert reply["token"] == second.token > 0
    await serving


@on_a_loop
async def test_a_survivor_whose_port_is_taken_says_so_on_every_try_and_serves_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite_server, "BIND_RETRY", 0.01)
    async with both() as pairs:
        held = Address.parse(ANYWHERE).listen()
        told: list[NotServing] = []
        with held:
            address = address_of(held)
            with pytest.raises(OSError, match="in use"):
                await SqliteServer(pairs.primary, pairs.database, str(address)).__aenter__()
            assert pairs.primary.service is None
            events = pairs.secondary.events()
            pairs.break_link()
            serving = asyncio.create_task(serve(pairs.secondary, pairs.copy, str(address)))
            async for event in events:
                told += [event] if isinstance(event, NotServing) else []
                if len(told) == 3:
                    break
            assert pairs.secondary.service is told[-1]
            assert [each.retry for each in told] == [0.01, 0.02, 0.04]
            assert {each.address for each in told} == {str(address)}
            assert all("in use" in str(each.cause) for each in told)
        await until(lambda: answers(address))
        async with connected(address) as client:
            assert (await client.result("SELECT 1"))["rows"] == [[1]]
        assert repr(pairs.secondary.service) == repr(Serving(str(address)))
    await serving


@on_a_loop
async def test_a_survivor_waits_for_an_address_that_the_machine_has_not_got_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one that moves along with the role; it is a path here, whose folder comes later."""
    monkeypatch.setattr(sqlite_server, "BIND_RETRY", 0.01)
    async with both() as pairs:
        with tempfile.TemporaryDirectory() as folder:
            address = Address(path=f"{folder}/later/clients")
            pairs.break_link()
            serving = asyncio.create_task(serve(pairs.secondary, pairs.copy, str(address)))
            await until(lambda: isinstance(pairs.secondary.service, NotServing))
            Path(folder, "later").mkdir()
            await until(Path(address.path).exists)
            async with connected(address) as client:
                assert (await client.result("SELECT 1"))["rows"] == [[1]]
            pairs.secondary.request_leave()
            await serving


# ---- many clients, and those who do not read ------------------------------------------------------


@on_a_loop
async def test_one_client_too_many_is_told_so_and_the_others_are_served() -> None:
    async with (
        both(OFTEN) as pairs,
        SqliteServer(pairs.primary, pairs.database, ANYWHERE, max_clients=2) as server,
        connected(server.address) as first,
    ):
        async with connected(server.address) as second:
            await first.result(INSERT)
            await second.result(INSERT)
            for _ in range(3):
                async with connected(server.address) as third:
                    third.ask(INSERT)
                    reply = await third.reply()
                    assert (reply["id"], reply["side"]) == (None, "primary")
                    assert "2 clients, and no more at a time" in reply["error"]
                    assert await third.rest() == b""
            assert (await first.result("SELECT count(*) FROM t"))["rows"] == [[2]]
        await until(lambda: len(server.memory.clients) == 1)
        async with connected(server.address) as fourth:
            assert (await fourth.result(INSERT))["rows"] == [[3]]


@on_a_loop
async def test_refused_ones_who_stay_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_server, "REFUSING_TIME", 0.05)
    async with (
        both(OFTEN) as pairs,
        SqliteServer(pairs.primary, pairs.database, ANYWHERE, max_clients=1) as server,
        connected(server.address) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        await client.result(INSERT)
        before = len(os.listdir("/proc/self/fd"))
        stay = [await stack.enter_async_context(connected(server.address)) for _ in range(50)]
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before + len(stay))
        assert (await client.result(INSERT))["rows"] == [[2]]


@pytest.mark.parametrize("wanted", [0, 1 << 30])
def test_more_clients_than_there_are_descriptors_for_is_refused_at_the_start(wanted: int) -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    guest = ServedSqlite(CAPACITY, listen=ANYWHERE)
    with contextlib.closing(guest.connection):
        with pytest.raises(ValueError, match=f"name 1 to {limit - 64}, or raise `ulimit -n`"):
            guest.max_clients = wanted
        assert guest.max_clients is None
        guest.max_clients = 7
        assert guest.max_clients == 7


LONG = "SELECT hex(zeroblob(50000))"


@on_a_loop
async def test_requests_wait_when_too_much_of_their_replies_does() -> None:
    async with served() as (pairs, client):
        for _ in range(20):
            client.ask(LONG)
        most = CLIENT_WAITING // 100_000 + 1
        for got in range(0, 20, most):
            await until(lambda: len(pairs.primary.outbox) == min(most, 20 - got))  # noqa: B023
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(pairs.primary.outbox) <= most
            pairs.primary.request_checkpoint()
            for _ in range(min(most, 20 - got)):
                assert len((await client.reply())["rows"][0][0]) == 100_000


@pytest.mark.parametrize("habit", ["reads nothing", "ends no line"])
@on_a_loop
async def test_who_keeps_much_and_does_not_move_gives_way_to_the_others(
    habit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WAITING", 1 << 20)
    monkeypatch.setattr(connection, "STUCK", 0.05)
    async with (
        both(OFTEN) as pairs,
        SqliteServer(pairs.primary, pairs.database, ANYWHERE) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        silent = [await stack.enter_async_context(connected(server.address)) for _ in range(12)]
        for each in silent:
            each.stop_reading()
            if habit == "reads nothing":
                for _ in range(200):  # 20 MB, far more than the kernel takes for him
                    each.ask(LONG)
            else:
                each.writer.write(b"x" * 500_000)
        client = await stack.enter_async_context(connected(server.address))
        for _ in range(20):
            assert len((await client.result(LONG))["rows"][0][0]) == 100_000
        await until(lambda: len(server.memory.clients) <= len(silent))


# ---- when a side stops ---------------------------------------------------------------------------


@on_a_loop
async def test_connections_and_the_listener_close_when_the_side_stops() -> None:
    async with both(OFTEN) as pairs:
        with Address.parse(ANYWHERE).listen() as free:
            address = address_of(free)
        serving = asyncio.create_task(serve(pairs.primary, pairs.database, str(address)))
        await until(lambda: answers(address))
        async with connected(address) as client, connected(address) as idle:
            await client.result(INSERT)
            pairs.break_link()
            assert await client.rest() == await idle.rest() == b""
        await serving
        assert not answers(address)


@on_a_loop
async def test_a_request_to_a_side_that_has_stopped_is_not_answered() -> None:
    async with served() as (pairs, client):
        pairs.break_link()
        assert await pairs.primary.wait() is State.STOPPED
        client.ask(INSERT)
        assert await client.rest() == b""
        assert count(pairs.database) == 0


@pytest.mark.parametrize("winner", [Side.PRIMARY, Side.SECONDARY])
@on_a_loop
async def test_serving_ends_with_a_side_that_never_runs(winner: Side) -> None:
    async with both(winner=winner) as pairs:
        serving = asyncio.create_task(serve(pairs.secondary, pairs.copy, ANYWHERE))
        if winner is Side.PRIMARY:
            pairs.break_link()
        else:
            pairs.secondary.request_leave()
        await serving


@on_a_loop
async def test_closing_the_server_hangs_up_and_the_pair_goes_on() -> None:
    async with both() as pairs, contextlib.AsyncExitStack() as clients:
        async with SqliteServer(pairs.primary, pairs.database, ANYWHERE) as server:
            asking, idle = [await clients.enter_async_context(connected(server.address)) for _ in range(2)]
            asking.ask(INSERT)
            await until(lambda: len(pairs.primary.outbox) == 1)
        assert await asking.rest() == await idle.rest() == b""
        events = pairs.primary.events()
        pairs.primary.request_checkpoint()
        async for event in events:
            if isinstance(event, CheckpointTaken):
                break
        assert count(pairs.copy) == 1


# ---- what is wrong is answered -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "identity", "error"),
    [
        (b"{", None, "a line is no JSON: Expecting property name"),
        (b"", None, "a line is no JSON: "),
        (b"\xff\xfe\xfd", None, "a line is no JSON: "),
        (b"[" * 100_000, None, "recursion"),
        (b"[1]", None, "a line is no JSON object"),
        (b'{"id": 5}', 5, "'sql' must be a string"),
        (b'{"id": 5, "sql": "SELECT 1", "parms": []}', 5, "unknown field 'parms'"),
        (b'{"id": 5, "sql": "SELECT 1", "params": 1}', 5, "'params' must be a list"),
        (b'{"id": 5, "sql": "SELECT 1", "key": 1}', 5, "'key' must be a string"),
        (b'{"id": 1e999, "sql": "SELECT 1"}', None, "not JSON compliant"),
        (b'{"id": 5, "sql": "SELECT * FROM nowhere"}', 5, "no such table: nowhere"),
        (b'{"id": 5, "sql": "COMMIT"}', 5, "every statement is a transaction"),
        (b'{"id": 5, "sql": "PRAGMA journal_mode = WAL"}', 5, "PRAGMA journal_mode is refused"),
        (b'{"id": 5, "sql": "INSERT INTO t (b) VALUES (zeroblob(500000))"}', 5, "database or disk is full"),
    ],
)  # fmt: skip
@on_a_loop
async def test_an_error_is_answered_and_the_connection_goes_on(
    line: bytes, identity: object, error: str
) -> None:
    async with served(OFTEN) as (pairs, client):
        client.write(line)
        reply = await client.reply()
        assert (reply["id"], reply["side"]) == (identity, "primary")
        assert error in reply["error"]
        assert reply["checkpoint"] >= 1
        assert (await client.result(INSERT))["rows"] == [[1]]
        assert await pairs.copied() == 1


@on_a_loop
async def test_an_error_is_held_back_too() -> None:
    async with served() as (pairs, client):
        client.ask("SELEC")
        await until(lambda: len(pairs.primary.outbox) == 1)
        pairs.break_link()
        assert await client.rest() == b""


@on_a_loop
async def test_a_line_that_is_too_long_ends_the_connection_after_the_replies_before_it() -> None:
    async with served(OFTEN) as (_, client):
        client.ask(INSERT, id=1)
        client.write(b"x" * (LINE_LIMIT + 1))
        replies = [json.loads(line) for line in (await client.rest()).splitlines()]
        assert replies[0]["id"] == 1
        assert replies[1]["error"] == "a line is longer than 1048576 bytes: send less at a time"
        assert len(replies) == 2


@on_a_loop
async def test_a_long_line_is_read_whole() -> None:
    async with served(OFTEN) as (_, client):
        reply = await client.result("SELECT length(?) + length(?)", params=["x" * 500_000] * 2)
        assert reply["rows"] == [[1_000_000]]
        client.write(b'{"sql": "SELECT 2"}'.ljust(LINE_LIMIT))
        assert (await client.reply())["rows"] == [[2]]
        client.write(b'{"sql": "SELECT 3"}'.ljust(LINE_LIMIT + 1))
        assert b"a line is longer than" in await client.rest()


@on_a_loop
async def test_a_full_database_answers_and_is_still_replicated() -> None:
    async with served(OFTEN) as (pairs, client):
        errors = []
        for _ in range(30):
            reply = await client.result("INSERT INTO t (b) VALUES (zeroblob(10000))")
            errors.append(reply.get("error"))
        assert set(errors) == {None, "database or disk is full"}
        assert (await client.result("DELETE FROM t WHERE a > 1"))["changes"] > 1
        assert await pairs.copied() == 1


# ---- the ready guest of the command line ---------------------------------------------------------


@on_a_loop
async def test_the_options_describe_the_guest(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA)

    def make() -> ServedSqlite:
        return described(f"unix:{tmp_path}/clients", CAPACITY, tmp_path / "schema.sql")

    async with both(OFTEN, make=make) as pairs:
        assert isinstance(pairs.database, ServedSqlite)
        serving = asyncio.create_task(pairs.database.serve(pairs.primary))
        await until((tmp_path / "clients").exists)
        async with connected(Address(path=f"{tmp_path}/clients")) as client:
            assert (await client.result(INSERT))["rows"] == [[1]]
    await serving


def test_its_capacity_is_what_is_said() -> None:
    assert described("tcp:127.0.0.1:5433").blocks == {"state": 16 << 20}
    assert described("tcp:127.0.0.1:5433", 1 << 30).blocks == {"state": 1 << 30}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("capacity", 1 << 60, f"no room for a capacity of {1 << 60} bytes"),
        ("capacity", 1, "the database does not fit in 1 bytes"),
        ("serve", "5433", "'5433' is no address: write tcp:HOST:PORT or unix:PATH"),
        ("serve", "tcp:..:5433", "write tcp:HOST:PORT or unix:PATH"),
        ("schema", "/no/such/file", "No such file"),
        ("schema", "/dev/zero", "is it SQL?"),
        ("schema", "CREATE TABEL t", 'near "TABEL": syntax error'),
        ("schema", "SELECT 1; \0", "null character"),
        ("schema", "BEGIN", "a transaction is open"),
    ],
)
def test_what_is_wrong_is_said_before_anything_begins(
    name: str, value: str | int, said: str, tmp_path: Path
) -> None:
    """A Secondary would need the address only after a takeover: too late to be told."""
    if name == "schema" and not str(value).startswith("/"):
        (tmp_path / "schema.sql").write_text(str(value))
        value = str(tmp_path / "schema.sql")
    given: dict[str, Any] = {"listen" if name == "serve" else name: value}
    with pytest.raises(ValueError, match=f"^--{name}.*{re.escape(said)}"):
        described(**{"listen": "tcp:127.0.0.1:5433", **given})


@on_a_loop
async def test_an_address_that_is_none_is_refused_at_once() -> None:
    async with both() as pairs:
        with pytest.raises(AddressError, match="write tcp:HOST:PORT"):
            SqliteServer(pairs.primary, pairs.database, "5433")
