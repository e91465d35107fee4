"""The demo's clients: they write rows, read rows, and count as acknowledged only what was answered.

A write that was not answered is retried with the same idempotency key, on whichever side answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from colo_fsm.replica import Address

from .ledger import Ledger

Reply = dict[str, Any]

PATIENCE = 300.0
"""Seconds that no step of a healthy run takes, on a machine slowed to a tenth either: what does, hangs."""

RETRY = 0.02
LONGEST = 2000
"""Characters in a value."""
PAGE = 400
"""Rows in one reply: less than the service's limit with the longest values, too."""
LIMIT = 1 << 24


class Refused(Exception):
    """The service answered with an error."""


@attrs.frozen
class Answer:
    """What a reply says of the side that gave it; `released` is when (its time.monotonic_ns())."""

    side: str
    token: int
    checkpoint: int
    released: int


class Connection:
    """A connection to one side, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: str) -> Connection:
        where = Address.parse(address)
        if where.path:
            return cls(*await asyncio.open_unix_connection(where.path, limit=LIMIT))
        return cls(*await asyncio.open_connection(where.host, where.port, limit=LIMIT))

    async def ask(self, sql: str, *params: object, key: str | None = None) -> Reply:
        """One statement. Raises OSError when there is no answer, Refused when it is an error."""
        request = {"id": 1, "sql": sql, "params": params} | ({"key": key} if key else {})
        self._writer.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("closed without an answer")
        reply: Reply = json.loads(line)
        if reply["id"] is None:  # said without having been asked: it does not take this connection
            raise ConnectionRefusedError(reply["error"])
        if "error" in reply:
            raise Refused(f"{sql.split()[0]}: {reply['error']}")
        return reply

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Clients:
    """All clients of a run, and what they have seen.

    They have a pace, because what a run needs of memory, and what it shows, should be the same on any
    machine: `rate` rows a second, shared evenly. Who falls behind does not hurry afterwards. `addresses`
    tells where a side may answer.
    """

    def __init__(self, seed: int, count: int, rate: float, addresses: Callable[[], Sequence[str]]) -> None:
        self.ledger = Ledger()
        self.faults: list[str] = []
        """What went wrong, a line each: everything that is not a lost connection."""
        self.first_write: dict[int, int] = {}
        """When the first row was acknowledged under a token (time.monotonic_ns())."""
        self._released: dict[tuple[str, int, int], int] = {}
        self._seed, self._count, self._rate, self._addresses = seed, count, rate, addresses
        self._stopping = asyncio.Event()

    @property
    def answers(self) -> list[Answer]:
        """Of the replies of one side under one token that one checkpoint let out: the last."""
        return [Answer(*who, released) for who, released in self._released.items()]

    async def run(self) -> None:
        """Until `stop()`, or a fault; what a client cannot cope with becomes one."""
        await asyncio.gather(*(self._client(number) for number in range(self._count)))

    def stop(self) -> None:
        """Begin nothing new; a write under way is still given up only when it is answered or fails."""
        self._stopping.set()

    async def _client(self, number: int) -> None:
        try:
            await self._work(number)
        except Refused as error:
            self._fail(f"the service refused: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the verdict
            self._fail(f"a client failed: {error!r}")

    def _fail(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
        self.stop()

    async def _work(self, number: int) -> None:
        chance = random.Random(self._seed * 1000 + number)
        due = time.monotonic() + number / self._rate
        connection: Connection | None = None
        for n in itertools.count():
            await self._rest(due - time.monotonic())
            due = max(due, time.monotonic()) + self._count / self._rate
            key, value = f"{number}-{n}", chance.randbytes(chance.randrange(20, LONGEST // 2)).hex()
            for attempt in itertools.count(number + n):
                if self._stopping.is_set():
                    if connection is not None:
                        await connection.close()
                    return
                try:
                    if connection is None:
                        connection = await self._connect(attempt)
                    await self._write_and_read(connection, key, value)
                    break
                except OSError:
                    if connection is not None:
                        await connection.close()
                        connection = None
                    await self._rest(RETRY)

    async def _connect(self, attempt: int) -> Connection:
        addresses = self._addresses()
        if not addresses:
            raise ConnectionRefusedError("nobody serves now")
        return await Connection.open(addresses[attempt % len(addresses)])

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _write_and_read(self, connection: Connection, key: str, value: str) -> None:
        insert = "INSERT INTO log (key, value) VALUES (?, ?) RETURNING id"
        reply = await connection.ask(insert, key, value, key=key)
        self.first_write.setdefault(reply["token"], time.monotonic_ns())
        self._heard(reply)
        self.ledger.acknowledge(reply["rows"][0][0], key, value)
        reply = await connection.ask("SELECT id, key FROM log ORDER BY id DESC LIMIT 5")
        self._heard(reply)
        for row in reply["rows"]:
            self.ledger.read(*row)

    def _heard(self, reply: Reply) -> None:
        who = reply["side"], reply["token"], reply["checkpoint"]
        self._released[who] = max(reply["released"], self._released.get(who, 0))


async def contents(address: str) -> tuple[list[tuple[int, str, str]], str]:
    """Every row that a side holds, and the verdict of its integrity check. Raises OSError, Refused."""
    connection = await Connection.open(address)
    try:
        select = f"SELECT id, key, value FROM log WHERE id > ? ORDER BY id LIMIT {PAGE}"  # noqa: S608 - a number of ours
        rows: list[tuple[int, str, str]] = []
        while page := (await connection.ask(select, rows[-1][0] if rows else 0))["rows"]:
            rows += [(number, key, value) for number, key, value in page]
        verdict = (await connection.ask("PRAGMA integrity_check"))["rows"]
        return rows, "; ".join(str(row[0]) for row in verdict)
    finally:
        await connection.close()


async def answers(address: str) -> bool:
    """Whether the side behind this address answers: whether it is active."""
    try:
        connection = await Connection.open(address)
        try:
            await connection.ask("SELECT 1")
        finally:
            await connection.close()
    except OSError:
        return False
    except Refused:
        return True
    return True
