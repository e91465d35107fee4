"""What the tests of `colo_fsm.replica` share: guests, an arbiter, a link that breaks, a script's driver.

The bytes of the wire are written out here once more, without the code under test.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from select import select
from types import MappingProxyType
from typing import Any, Literal, Self, TypeVar

from colo_fsm.arbiter import Arbiter, ArbiterUnreachable, Claim, GenerationClaimed
from colo_fsm.colo import PRIMARY, SECONDARY, State
from colo_fsm.fsm import Side, Table
from colo_fsm.replica import Checkpoint, MemoryStore, Options, Saved, Store, aio, blocking
from colo_fsm.replica.events import Event, EventQueue
from colo_fsm.replica.link import Link
from colo_fsm.replica.pair import session_for
from colo_fsm.replica.primary_script import PrimaryReplica
from colo_fsm.replica.script import Replica
from colo_fsm.replica.secondary_script import SecondaryReplica
from colo_fsm.replica.wish import Call, Script, Wait, Wish
from colo_fsm.stream import PAGE_SIZE, Blocks, Page

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds after which a test gives up waiting for what must come."""

NEVER = 3600.0
"""An interval for tests that ask for every checkpoint."""

RESTING = frozenset({State.ALONE, State.STOPPED, State.ENDED})

# -- the wire -----------------------------------------------------------------------------------

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = (struct.pack(">I", n) for n in range(7))
GENERATION = 7


def section(number: int, name: bytes, body: bytes) -> bytes:
    head = struct.pack(">BIB", 4, number, len(name)) + name + struct.pack(">II", 0, 1)
    return head + body + struct.pack(">BI", 0x7E, number)


def guest_section(device: bytes) -> bytes:
    return section(3, b"guest", struct.pack(">I", len(device)) + device)


def ram_pages(pages: Mapping[int, bytes]) -> bytes:
    records = b"".join(struct.pack(">Q", at | 8) + b"\3ram" + page for at, page in pages.items())
    part = struct.pack(">BI", 2, 1) + records + struct.pack(">QBI", 0x10, 0x7E, 1)
    return (part if pages else b"") + struct.pack(">BIQBI", 3, 1, 0x10, 0x7E, 1)


NO_PAGES: Mapping[int, bytes] = MappingProxyType({})


GREETING = b"QEVM" + struct.pack(">IBI", 3, 7, 8) + b"colo-fsm"
"""What a Primary says before it saves its guest for the first time."""


def initial_bytes(
    device: bytes = b"0",
    pages: Mapping[int, bytes] = NO_PAGES,
    capacity: int = PAGE_SIZE,
    generation: int = GENERATION,
) -> bytes:
    """The initial stream of a guest with one block "ram"."""
    return b"".join(
        (
            GREETING,
            struct.pack(">BI", 1, 1) + b"\3ram" + struct.pack(">II", 0, 4),
            struct.pack(">Q", capacity | 4) + b"\3ram" + struct.pack(">QQBI", capacity, 0x10, 0x7E, 1),
            ram_pages(pages),
            section(2, b"colo-fsm/generation", struct.pack(">Q", generation)),
            guest_section(device) + b"\0",
            struct.pack(">BI", 6, 2) + b"{}",
        )
    )


def live_bytes(pages: Mapping[int, bytes] = NO_PAGES) -> bytes:
    return ram_pages(pages) + b"\0"


def state_bytes(device: bytes) -> bytes:
    """What stands behind `vmstate-size`."""
    state = guest_section(device) + b"\0"
    return struct.pack(">Q", len(state)) + state


def round_bytes(device: bytes, pages: Mapping[int, bytes] = NO_PAGES) -> bytes:
    """All that a Primary sends in one round."""
    return REQUEST + SEND + live_bytes(pages) + SIZE + state_bytes(device)


# -- guests -------------------------------------------------------------------------------------


class Broken(Exception):
    """What a hook that is told to fail raises."""


class Counting:
    """A guest that counts. The number stands in its memory (if `paged`) and in its device state, so
    that a checkpoint which is not whole shows. It notes its calls and their threads; `failing` names
    hooks that raise.
    """

    blocks: Blocks = {"ram": PAGE_SIZE}

    def __init__(self, *, paged: bool = True, failing: tuple[str, ...] = ()) -> None:
        self.count = 0
        self.running = False
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.failing = set(failing)
        self.at: dict[str, Callable[[], object]] = {}
        self._paged = paged

    def _note(self, hook: str) -> None:
        self.calls.append(hook)
        self.threads.add(threading.current_thread().name)
        self.at.get(hook, int)()
        if hook in self.failing:
            raise Broken(hook)

    def suspend(self) -> None:
        self.running = False
        self._note("suspend")

    def resume(self) -> None:
        self._note("resume")
        self.running = True

    def save(self, full: bool) -> Saved:
        self._note("save")
        assert not self.running
        page = struct.pack(">Q", self.count).ljust(PAGE_SIZE, b"\xee")
        return Saved([Page("ram", 0, page)] if self._paged else [], b"%020d" % self.count)

    def load(self, checkpoint: Checkpoint) -> None:
        self._note("load")
        assert not self.running
        count = int(checkpoint.device)
        if self._paged:
            assert struct.unpack(">Q", checkpoint.blocks["ram"][:8]) == (count,), "not a whole checkpoint"
        self.count = count


class AsyncCounting:
    """The same with coroutines."""

    blocks = Counting.blocks

    def __init__(self, paged: bool = True) -> None:
        self.inner = Counting(paged=paged)

    async def suspend(self) -> None:
        self.inner.suspend()

    async def resume(self) -> None:
        self.inner.resume()

    async def save(self, full: bool) -> Saved:
        return self.inner.save(full)

    async def load(self, checkpoint: Checkpoint) -> None:
        self.inner.load(checkpoint)


class OneShot:
    """An arbiter in memory. The next `unreachable` claims get no answer, but `failure`."""

    local_only = False

    def __init__(
        self, *, unreachable: int = 0, granted: Side | None = None, failure: Exception | None = None
    ) -> None:
        self.claims: list[Side] = []
        self.failure = failure or ArbiterUnreachable("test:", "it is away")
        self.unreachable = unreachable
        self._winner = granted
        self._lock = threading.Lock()

    def open(self) -> int:
        return GENERATION

    def check(self, generation: int) -> None:
        if self._winner is not None:
            raise GenerationClaimed(generation, self._winner)

    def claim(self, generation: int, side: Side) -> Claim:
        with self._lock:
            self.claims.append(side)
            if self.unreachable:
                self.unreachable -= 1
                raise self.failure
            self._winner = self._winner or side
            return Claim(self._winner, 1)


# -- a script without the outside ---------------------------------------------------------------


class FakeLink:
    """A link whose other end is the test: what it sent arrives, and what is written is noted."""

    family = socket.AF_UNIX

    def __init__(self) -> None:
        self.incoming: list[bytes | Exception] = []
        self.written: list[bytes] = []
        self.before_write: Callable[[], object] = int
        self.room: int | None = None
        """How many bytes the next writes take, None: all."""
        self.peer: Exception | None = None
        """What asking for the peer raises."""
        self.closed = False

    def setblocking(self, flag: bool) -> None: ...
    def connect(self, where: Any) -> None: ...
    def setsockopt(self, *_: int) -> None: ...
    def shutdown(self, how: int) -> None: ...
    def getsockopt(self, *_: int) -> int:
        return 0

    def getpeername(self) -> Any:
        if self.peer is not None:
            raise self.peer

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            raise BlockingIOError
        data = self.incoming.pop(0)
        if isinstance(data, Exception):
            raise data
        return data

    def sendmsg(self, buffers: Sequence[Any]) -> int:
        self.before_write()
        assert not self.closed
        data = b"".join(map(bytes, buffers))[: self.room]
        if not data:
            raise BlockingIOError
        self.written.append(data)
        if self.room is not None:
            self.room -= len(data)
        return len(data)

    def close(self) -> None:
        self.closed = True


class Bench:
    """Serves a script on a virtual clock. It runs until it waits; then the test says what comes."""

    def __init__(
        self,
        side: Side,
        guest: Any = None,
        arbiter: Arbiter | None = None,
        options: Options | None = None,
        store: Store | None = None,
        table: Table | None = None,
    ) -> None:
        self.now = 1000.0
        self.guest = Counting(paged=False) if guest is None else guest
        self.arbiter = OneShot() if arbiter is None else arbiter
        self.store = MemoryStore() if store is None else store
        self.during: dict[str, Callable[[], object]] = {}
        """Done before a hook of this name is called."""
        self.calls: list[Call] = []
        self.waits: list[Wait] = []
        options = options or Options()
        table = table or (PRIMARY if side is Side.PRIMARY else SECONDARY)
        session = session_for(side, table, options)
        given = session, self.guest, self.arbiter, options
        self.replica: Replica = (
            PrimaryReplica(*given, clock=lambda: self.now)
            if side is Side.PRIMARY
            else SecondaryReplica(*given, clock=lambda: self.now, store=self.store)
        )
        self.session = self.replica.session
        self.link = FakeLink()
        self.replica.link = self.link
        self.events: list[Event] = []
        self._queue = self.replica.events.follow(Told(self.events))
        self.waiting: Wait | None = None
        self.over = False
        self._script = self.replica.run()

    @property
    def state(self) -> Any:
        return self.session.state

    @property
    def writes(self) -> list[bytes]:
        """What left, one item a write."""
        return self.link.written

    def start(self) -> Self:
        self._go(self._script.send, None)
        return self

    def receive(self, data: bytes, step: int = 1 << 30) -> Self:
        """Bytes from the link, `step` at a time. Where the script does not read, the next wait passes."""
        while data:
            self.until_reading()
            piece, data = data[:step], data[step:]
            self._arrives(piece)
        return self

    def until_reading(self) -> None:
        while self.wait.timeout is not None and self.wait.socket is None:
            self.lapse()
        assert self.reads, "the script does not read, and nothing is due"

    @property
    def reads(self) -> bool:
        """Whether the script waits for something to read."""
        return self.wait.socket is self.link and not self.wait.writing

    def end_of_link(self) -> Self:
        return self._arrives(b"")

    def fail(self, error: Exception) -> Self:
        """The link fails."""
        return self._arrives(error)

    def _arrives(self, what: bytes | Exception) -> Self:
        if self.waiting is not None and self.waiting.socket is not None:
            self.link.incoming.append(what)
        self._go(self._script.send, None)
        return self

    def lapse(self) -> Self:
        """Nothing comes for as long as the script waits."""
        assert self.wait.timeout is not None, "the script waits for ever"
        self.now += self.wait.timeout
        self._go(self._script.throw, TimeoutError())
        return self

    def wake(self, after: float = 0.0) -> Self:
        self.now += after
        self._go(self._script.send, None)
        return self

    @property
    def wait(self) -> Wait:
        assert self.waiting is not None, f"the script is over, in {self.state}"
        return self.waiting

    def _go(self, step: Callable[[Any], Wish], answer: Any) -> None:
        while True:
            self.waiting = None
            try:
                wish = step(answer)
            except StopIteration:
                self.over = True
                return
            if isinstance(wish, Wait):
                self.waits.append(wish)
                self.waiting = wish
                return
            self.calls.append(wish)
            try:
                for name in self._names(wish):
                    self.during.get(name, int)()
                answer, step = wish.run(), self._script.send
            except Exception as error:  # noqa: BLE001 - as the drivers do
                answer, step = error, self._script.throw

    @staticmethod
    def _names(call: Call) -> list[str]:
        """The hooks of a call, which may come several at a time."""
        hooks = [arg[1] for arg in call.args if isinstance(arg, tuple)] or [call.hook]
        return [hook.__name__ for hook in hooks]


class Visits:
    """Who comes to a bench: always over the same link, whoever was dismissed before. `dismissed`: why."""

    def __init__(self) -> None:
        self.came = FakeLink()
        self.dismissed: list[str] = []
        self.busy = False

    def next(self, given_up: Callable[[], bool]) -> Script[Link | None]:
        yield from ()  # a script that waits for nothing
        return self.came

    def dismiss(self, link: Link, why: str) -> None:
        self.dismissed.append(why)

    def engaged(self) -> None:
        self.busy = True

    def parted(self) -> None:
        self.busy = False

    def close(self) -> None: ...


class Told(EventQueue):
    """Events as they happen."""

    def __init__(self, told: list[Event]) -> None:
        super().__init__()
        self._told = told

    def put(self, event: Event) -> None:
        self._told.append(event)


# -- a link that breaks -------------------------------------------------------------------------


class Relay:
    """Joins two links, and breaks both (or only stops, to `freeze`) after so many bytes.

    Give `primary` and `secondary` to the two sides. `passed` counts forward and backward.
    """

    def __init__(
        self, forward: int | None = None, backward: int | None = None, *, freeze: bool = False
    ) -> None:
        self.primary, left = socket.socketpair()
        self.secondary, right = socket.socketpair()
        self.passed = [0, 0]
        self.broken = threading.Event()
        self._most = forward, backward
        self._freeze = freeze
        self._ends = left, right
        self._stop, self._stopping = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._thread.join(PATIENCE)
        for sock in (self.primary, self.secondary, self._stop, self._stopping):
            sock.close()

    def cut(self) -> None:
        self._stop.sendall(b"x")

    def _run(self) -> None:
        left, right = self._ends
        with left, right:
            try:
                while not self._spent() and self._pass_on():
                    pass
            except OSError:
                pass
            self.broken.set()
            if self._spent() and self._freeze:
                self._stopping.recv(1)

    def _spent(self) -> bool:
        return any(most is not None and n >= most for n, most in zip(self.passed, self._most, strict=True))

    def _pass_on(self) -> bool:
        ready, _, _ = select([*self._ends, self._stopping], [], [])
        if self._stopping in ready:
            return False
        for way, (source, target) in enumerate((self._ends, self._ends[::-1])):
            if source in ready and not self._spent():
                most = self._most[way]
                data = source.recv(1 << 16 if most is None else min(1 << 16, most - self.passed[way]))
                target.sendall(data)
                self.passed[way] += len(data)
                if not data:
                    return False
        return True


# -- both drivers behind one face ---------------------------------------------------------------

DriverName = Literal["asyncio", "blocking"]
DRIVERS: tuple[DriverName, ...] = ("asyncio", "blocking")


class LoopThread:
    """An event loop on a thread; it must end without a complaint and without a task."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, PATIENCE), self.loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        assert not self.complaints
        assert not tasks


class Live(ABC):
    """A pair at work, whichever driver serves it. Its methods block, and are for any thread."""

    pair: aio.Pair | blocking.Pair
    begun = False

    def watch(self) -> None:
        self._resting = threading.Event()
        for state in RESTING:
            self.pair.on_transition(lambda _: self._resting.set(), state)

    def settled(self) -> StrEnum:
        """Where this side comes to rest: it runs alone, or never again."""
        assert self._resting.wait(PATIENCE), f"the {self.pair.side} hangs in {self.pair.state}"
        if self.pair.state is State.ALONE:
            self.running()
        return self.pair.state

    def count(self, guest: Counting) -> int:
        """Count in a turn, wait until that is committed, return what was counted."""
        with self.turn():
            guest.count += 1
            counted = guest.count
        self.committed()
        return counted

    def events(self) -> Iterator[Event]:
        """What happens from now on."""
        return self.followed(self.pair.events())

    def leave(self) -> None:
        """End in order, if it has not ended yet."""
        if not self.pair.session.over:
            self.do(self.pair.request_leave)
        self.wait()

    @abstractmethod
    def enter(self) -> None: ...
    @abstractmethod
    def exit(self) -> None: ...
    @abstractmethod
    def running(self) -> None: ...
    @abstractmethod
    def committed(self) -> None: ...
    @abstractmethod
    def wait(self) -> StrEnum: ...
    @abstractmethod
    def turn(self) -> AbstractContextManager[None]: ...
    @abstractmethod
    def followed(self, events: Any) -> Iterator[Event]:
        """These events, as they come."""

    @abstractmethod
    def inside_a_turn(self, what: str, other: Any = None) -> None:
        """Do `what`, "turn" or "committed", of this pair or of the other one, inside a turn of this one."""

    @abstractmethod
    def do(self, action: Callable[[], T]) -> T:
        """Where methods of the pair may be called."""


class LiveBlocking(Live):
    def __init__(self, make: Callable[[], blocking.Pair]) -> None:
        self.pair: blocking.Pair = make()
        self.watch()

    def enter(self) -> None:
        self.pair.__enter__()
        self.begun = True

    def exit(self) -> None:
        self.pair.__exit__(None, None, None)

    def running(self) -> None:
        self.pair.running()

    def committed(self) -> None:
        self.pair.committed(PATIENCE)

    def wait(self) -> StrEnum:
        return self.pair.wait(PATIENCE)

    def turn(self) -> AbstractContextManager[None]:
        return self.pair.turn()

    def followed(self, events: Any) -> Iterator[Event]:
        return iter(events)

    def inside_a_turn(self, what: str, other: Any = None) -> None:
        pair: blocking.Pair = (other or self).pair
        with self.pair.turn():
            if what == "committed":
                pair.committed(PATIENCE)
            else:
                with pair.turn():
                    pass

    def do(self, action: Callable[[], T]) -> T:
        return action()


class LiveAsyncio(Live):
    def __init__(self, loop: LoopThread, make: Callable[[], aio.Pair]) -> None:
        self._loop = loop
        self.pair: aio.Pair = self.do(make)
        self.watch()

    def enter(self) -> None:
        self._loop.call(self.pair.__aenter__())
        self.begun = True

    def exit(self) -> None:
        self._loop.call(self.pair.__aexit__(None, None, None))

    def running(self) -> None:
        self._loop.call(self.pair.running())

    def committed(self) -> None:
        self._loop.call(self.pair.committed())

    def wait(self) -> StrEnum:
        return self._loop.call(self.pair.wait())

    @contextmanager
    def turn(self) -> Iterator[None]:
        begun, over = threading.Event(), asyncio.Event()
        failed: list[BaseException] = []

        async def turn() -> None:
            try:
                async with self.pair.turn():
                    begun.set()
                    await over.wait()
            except BaseException as error:
                failed.append(error)
                raise
            finally:
                begun.set()

        ended = asyncio.run_coroutine_threadsafe(turn(), self._loop.loop)
        assert begun.wait(PATIENCE)
        if failed:
            raise failed[0]
        try:
            yield
        finally:
            self._loop.loop.call_soon_threadsafe(over.set)
            ended.result(PATIENCE)

    def followed(self, events: Any) -> Iterator[Event]:
        with suppress(StopAsyncIteration):
            while True:
                yield self._loop.call(events.__anext__())

    def inside_a_turn(self, what: str, other: Any = None) -> None:
        pair: aio.Pair = (other or self).pair

        async def inside() -> None:
            async with self.pair.turn():
                if what == "committed":
                    await pair.committed()
                else:
                    async with pair.turn():
                        pass

        self._loop.call(inside())

    def do(self, action: Callable[[], T]) -> T:
        async def work() -> T:
            return action()

        return self._loop.call(work())


def live(driver: DriverName, loop: LoopThread, side: Side, guest: Any, link: Any, **more: Any) -> Live:
    """A pair of this kind, not entered yet."""
    where = {"peer" if side is Side.PRIMARY else "listen": link}
    if driver == "blocking":
        open_blocking = blocking.primary if side is Side.PRIMARY else blocking.secondary
        return LiveBlocking(lambda: open_blocking(guest, **where, **more))
    open_asyncio = aio.primary if side is Side.PRIMARY else aio.secondary
    return LiveAsyncio(loop, lambda: open_asyncio(guest, **where, **more))


def same(found: Any, expected: Any) -> bool:
    """Whether these are errors of one kind with the same data (exceptions compare by identity)."""
    return type(found) is type(expected) and _data(found) == _data(expected)


def _data(error: BaseException) -> dict[str, object]:
    """All but how it reads: the session that meets an error words it."""
    return {name: value for name, value in vars(error).items() if name != "texts"}


def descriptors(pid: int | str = "self") -> int:
    """How many files a process has open; our own without those that nobody can reach any more."""
    if pid == "self":
        gc.collect()
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int, what: str = "VmRSS") -> int:
    """What is resident of a process, in bytes; VmHWM: at most since `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


def forget_peak(pid: int) -> None:
    """The most that was resident of a process is what is so now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def unix(path: Path) -> str:
    return f"unix:{path / 's'}"
