"""The service under everything at once, over one data set: strangers, readers that stall, slow hooks, faults.

One cycle: a pair starts with the data of the last survivor, clients write and read, strangers come to the
service, then one side is killed, frozen or ended; the survivor serves on, is measured, and ends in order.
COLO_FSM_SOAK_SECONDS says for how long; nothing acknowledged may be lost in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import replicas
from strangers import STRANGERS, play

from colo_fsm.cli.demo.clients import Clients, Connection
from colo_fsm.cli.demo.ledger import SCHEMA

SECONDS = float(os.environ.get("COLO_FSM_SOAK_SECONDS", "3600"))
SAMPLE = 6.0
PATIENCE = 180.0
"""Seconds that no step takes, on a machine slowed to a tenth either."""

DEADLINE = "5"
FAULTS = ("kill primary", "kill secondary", "freeze primary", "freeze secondary", "end secondary")
MOST_DESCRIPTORS = 64
"""Of a side whose strangers have gone."""

MOST_GROWTH = 20 << 20
MIB = 1 << 20


class Side:
    """A side of the pair as a process, whose output is read by nobody, or whose pipe is full already."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.name, self.process = name, process
        self.address = f"unix:{folder / name}.sock"

    @property
    def memory(self) -> int:
        return replicas.memory(self.process.pid)

    @property
    def descriptors(self) -> int:
        return replicas.descriptors(self.process.pid)

    def signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@contextlib.asynccontextmanager
async def side(name: str, folder: Path, stalled: bool, slow: float) -> AsyncIterator[Side]:
    """Started; killed at the end."""
    where = {
        "secondary": ["--listen", "unix:link", "--store", "store", "--replace-store"],
        "primary": ["--connect", "unix:link", "--interval-ms", "20"],
    }[name]
    reader, writer = os.pipe()
    if stalled:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 65536)
        os.set_blocking(writer, True)
    else:
        os.close(writer)
        writer = os.open(os.devnull, os.O_WRONLY)
    with (folder / f"{name}.errors").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "colo_fsm", name, *where, "--guest", "soak_guest:guest"),
            *("--arbiter", "sqlite:claim.db", "--deadline", DEADLINE),
            cwd=folder,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
                "SOAK_LISTEN": f"unix:{folder / name}.sock",
                "SOAK_SLOW": str(slow),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writer,
            stderr=errors,
        )
    os.close(writer)
    here = Side(name, process, folder)
    try:
        yield here
    finally:
        here.signal(signal.SIGKILL)
        await here.process.wait()
        os.close(reader)


async def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"this took longer than {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.02)


async def alone(survivor: Side) -> None:
    """Until it answers with the token of a claim."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            connection = await Connection.open(survivor.address)
            try:
                if (await connection.ask("SELECT 1"))["token"]:
                    return
            finally:
                await connection.close()
        await asyncio.sleep(0.05)
    raise AssertionError(f"the {survivor.name} did not go on alone in {PATIENCE:g} s")


class Soak:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.addresses: list[str] = []
        self.clients = Clients(seed, 4, 200.0, lambda: self.addresses)
        self.counts: Counter[str] = Counter()
        self.memory: list[int] = []
        self.descriptors: list[int] = []
        (folder / "schema.sql").write_text(SCHEMA)

    async def go(self, seconds: float) -> None:
        working = asyncio.create_task(self.clients.run())
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end or not self.counts["cycles"]:
                await self.cycle(max(0.0, end - time.monotonic()))
                self.counts["cycles"] += 1
                assert self.clients.faults == []
            self.clients.stop()
            await working
        finally:
            working.cancel()
        with contextlib.closing(sqlite3.connect(self.folder / "data")) as data:
            self.clients.ledger.check(data.execute("SELECT id, key, value FROM log").fetchall())
            assert data.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def cycle(self, left: float) -> None:
        """One pair, from its start to its survivor's end."""
        chance, ledger = self.chance, self.clients.ledger
        stalled, slow = chance.random() < 0.5, chance.choice([0.0, 0.1, 0.5])
        self.counts["cycles with stalled readers"] += stalled
        self.counts["cycles with slow hooks"] += slow > 0
        async with (
            side("secondary", self.folder, stalled, slow) as secondary,
            side("primary", self.folder, stalled, slow) as primary,
        ):
            self.addresses = [primary.address, secondary.address]
            before = ledger.acknowledged
            await until(lambda: ledger.acknowledged > before + 20, "the Primary answers")
            async with self.strangers(primary.address):
                await asyncio.sleep(min(left, chance.choice([2, 5, 20])))
            survivor, other = await self.strike(primary, secondary)
            await alone(survivor)
            other.signal(signal.SIGCONT)
            await other.ended()
            self.addresses = [survivor.address]
            before = ledger.acknowledged
            async with self.strangers(survivor.address):
                await asyncio.sleep(min(left, 2))
            await until(lambda: ledger.acknowledged > before + 20, f"the {survivor.name} answers")
            await until(lambda: survivor.descriptors < MOST_DESCRIPTORS, "those who have gone are let go")
            self.memory.append(survivor.memory)
            self.descriptors.append(survivor.descriptors)
            (self.folder / "data").unlink(missing_ok=True)
            survivor.signal(signal.SIGTERM)
            assert await survivor.ended() == 0
            assert (self.folder / "data").exists()

    async def strike(self, primary: Side, secondary: Side) -> tuple[Side, Side]:
        """Break the pair; who goes on, and who does not. One that is broken already is left alone."""
        fault = self.chance.choice(FAULTS)
        if fault == "freeze primary" and not self.over(primary, secondary):
            # between two checkpoints nobody need notice: then it is killed in the end
            self.counts[fault] += 1
            primary.signal(signal.SIGSTOP)
            await asyncio.sleep(self.chance.uniform(0.5, 8))
            primary.signal(signal.SIGCONT)
            await asyncio.sleep(3)
            fault = "kill primary"
        if self.over(primary, secondary):
            self.counts["broken by then"] += 1
            return (secondary, primary) if primary.process.returncode is not None else (primary, secondary)
        self.counts[fault] += 1
        how, whom = fault.split()
        other, survivor = (primary, secondary) if whom == "primary" else (secondary, primary)
        numbers = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "end": signal.SIGTERM}
        other.signal(numbers[how])
        return survivor, other

    def over(self, *sides: Side) -> bool:
        """Whether one of them has ended."""
        return any(each.process.returncode is not None for each in sides)

    @contextlib.asynccontextmanager
    async def strangers(self, address: str) -> AsyncIterator[None]:
        """One after the other, at the service."""
        stop, chance = threading.Event(), random.Random(self.chance.random())

        def come() -> None:
            while not stop.is_set():
                self.counts["strangers"] += 1
                play(chance.choice(sorted(STRANGERS)), address, chance.uniform(0.1, 2))

        coming = asyncio.create_task(asyncio.to_thread(come))
        try:
            yield
        finally:
            stop.set()
            await coming

    def report(self) -> str:
        """The figures."""
        ledger, thirds = self.clients.ledger, self.thirds()
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return (
            f"{counts}\n{ledger.acknowledged} rows acknowledged, {ledger.reads} read; lost {ledger.lost}, "
            f"{ledger.reads_lost}\nsurvivor's memory {thirds[0] / MIB:.0f} MiB at first, "
            f"{thirds[1] / MIB:.0f} MiB at last, {max(self.memory) / MIB:.0f} MiB at most; "
            f"descriptors {min(self.descriptors)} to {max(self.descriptors)}"
        )

    def thirds(self) -> tuple[float, float]:
        """What a survivor had in memory in the first and in the last third of the cycles: the medians."""
        third = max(1, len(self.memory) // 3)
        return statistics.median(self.memory[:third]), statistics.median(self.memory[-third:])


def soak(folder: Path, seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1 << 30)
    run = Soak(folder, seed)
    try:
        asyncio.run(run.go(seconds))
    except BaseException as error:
        said = {path.name: path.read_text(errors="replace")[-2000:] for path in folder.glob("*.errors")}
        raise AssertionError(f"seed {seed}, after {dict(run.counts)}: {error!r}; {said}") from error
    with capsys.disabled():
        print(f"\nseed {seed}: {run.report()}")
    ledger, (first, last) = run.clients.ledger, run.thirds()
    assert (ledger.lost, ledger.reads_lost) == (0, 0)
    assert last < first + MOST_GROWTH


@pytest.mark.timeout(300)
def test_a_while_of_everything_at_once_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soak(tmp_path, SAMPLE, capsys)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS * 1.5 + 600)
def test_an_hour_of_everything_at_once_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soak(tmp_path, SECONDS, capsys)
