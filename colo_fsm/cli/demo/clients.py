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
from typing import Any

import attrs

from colo_fsm.replica import Address

Reply = dict[str, Any]

SCHEMA = "CREATE TABLE log (key TEXT, value TEXT); CREATE INDEX log_key ON log (key);"
PATIENCE = 10.0
LIMIT = 1 << 24


@attrs.frozen
class Answer:
    """A reply, and when it arrived (time.monotonic_ns())."""

    side: str
    token: int
    checkpoint: int
    released: int
    at: int

    @classmethod
    def of(cls, reply: Reply) -> Answer:
        return cls(reply["side"], reply["token"], reply["checkpoint"], reply["released"], time.monotonic_ns())


class Connection:
    """A connection to one side, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: str) -> Connection:
        where = Address.parse(address)
        return cls(*await asyncio.open_connection(where.host, where.port, limit=LIMIT))

    async def ask(self, sql: str, *params: object, key: str | None = None) -> Reply:
        """One statement. Raises OSError when there is no answer, RuntimeError when it is an error."""
        request = {"id": 1, "sql": sql, "params": params} | ({"key": key} if key else {})
        self._writer.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("closed without an answer")
        reply: Reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(f"{sql.split()[0]}: {reply['error']}")
        return reply

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Clients:
    """All clients of a run and what they have seen."""

    def __init__(self, seed: int) -> None:
        self.addresses: list[str] = []
        self.acknowledged: dict[str, str] = {}
        self.read: set[str] = set()
        self.answers: list[Answer] = []
        self.writes: list[Answer] = []
        self._seed = seed
        self._stopping = asyncio.Event()

    async def run(self, count: int) -> None:
        """Until `stop()`."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(self._client(number))

    def stop(self) -> None:
        """Begin nothing new; a write under way is still given up only when it is answered or fails."""
        self._stopping.set()

    async def _client(self, number: int) -> None:
        chance = random.Random(self._seed * 1000 + number)
        connection: Connection | None = None
        for n in itertools.count():
            key, value = f"{number}-{n}", chance.randbytes(chance.randrange(20, 1000)).hex()
            for attempt in itertools.count(number + n):
                if self._stopping.is_set():
                    if connection is not None:
                        await connection.close()
                    return
                try:
                    if connection is None:
                        connection = await Connection.open(self.addresses[attempt % len(self.addresses)])
                    await self._write_and_read(connection, key, value)
                    break
                except OSError:
                    if connection is not None:
                        await connection.close()
                        connection = None
                    await asyncio.sleep(0.02)

    async def _write_and_read(self, connection: Connection, key: str, value: str) -> None:
        reply = await connection.ask("INSERT INTO log VALUES (?, ?)", key, value, key=key)
        answer = Answer.of(reply)
        self.answers.append(answer)
        if key not in self.acknowledged:
            self.acknowledged[key] = value
            self.writes.append(answer)
        rows = await connection.ask("SELECT key FROM log ORDER BY rowid DESC LIMIT 5")
        self.answers.append(Answer.of(rows))
        self.read.update(row[0] for row in rows["rows"])


async def contents(address: str) -> tuple[list[tuple[str, str]], str]:
    """Every row that a side holds, and the verdict of its integrity check."""
    connection = await Connection.open(address)
    try:
        rows: list[tuple[str, str]] = []
        while page := (
            await connection.ask("SELECT key, value FROM log ORDER BY rowid LIMIT 500 OFFSET ?", len(rows))
        )["rows"]:
            rows += [(key, value) for key, value in page]
        verdict = (await connection.ask("PRAGMA integrity_check"))["rows"]
        return rows, "; ".join(str(row[0]) for row in verdict)
    finally:
        await connection.close()


async def answers(address: str, patience: float) -> bool:
    """Whether the side behind this address answers: whether it is active."""
    try:
        async with asyncio.timeout(patience):
            connection = await Connection.open(address)
            try:
                await connection.ask("SELECT 1")
            finally:
                await connection.close()
    except OSError:
        return False
    return True
