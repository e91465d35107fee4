"""Strangers: who connects to a port of ours and is no peer. Each kind is a name and a function that plays it.

`STRANGERS[name](address, stop)` connects to `address` (`tcp:HOST:PORT` or `unix:PATH`), does its worst, and
returns when its part is over, when it was hung up on, or when `stop` is set. Being refused is no error.

    for name, play in STRANGERS.items():
        play("tcp:127.0.0.1:9998", threading.Event())

`GREETERS` begin the stream of a VM and go on: whoever only passes bytes on takes them for a Primary.
"""

from __future__ import annotations

import contextlib
import random
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import vm_stream as vm
from replicas import guest_section, initial_bytes, section

from colo_fsm.stream import PAGE_SIZE

Stranger = Callable[[str, threading.Event], None]

STRANGERS: dict[str, Stranger] = {}
GREETERS: set[str] = set()

TICK = 0.02
"""Seconds between two looks at `stop`, and between two bytes of who is slow."""

MANY = 1000
FLOOD = 32 << 20
"""Bytes after which even the loudest has had enough."""

OLD_GENERATION = 1 << 40
"""One that no arbiter has opened."""

HEAD = vm.head()
OWN_HEAD = vm.head("colo-fsm")


made = 0
"""Connections so far, about."""


def connect(address: str) -> socket.socket:
    """A connection, with a short patience for everything. Raises OSError."""
    global made
    kind, _, where = address.partition(":")
    link = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    link.settimeout(2.0)
    try:
        if kind == "unix":
            link.connect(where)
        else:
            host, port = where.rsplit(":", 1)
            link.connect((host, int(port)))
    except BaseException:
        link.close()
        raise
    made += 1
    return link


def linger(link: socket.socket, stop: threading.Event) -> bytes:
    """Stay until it is hung up on, or `stop`; what was heard meanwhile."""
    heard = b""
    while not stop.is_set():
        if select.select([link], [], [], TICK)[0]:
            data = link.recv(1 << 16)
            if not data:
                break
            heard = (heard + data)[-4096:]
    return heard


def say(link: socket.socket, data: bytes, stop: threading.Event) -> bool:
    """Send all of it, however slowly it is taken; False if `stop` came first."""
    rest = memoryview(data)
    while rest:
        if stop.is_set():
            return False
        with contextlib.suppress(TimeoutError, BlockingIOError):
            if select.select([], [link], [], TICK)[1]:
                link.setblocking(False)
                rest = rest[link.send(rest[: 1 << 18]) :]
    return True


def flood(link: socket.socket, data: bytes, stop: threading.Event) -> None:
    """Again and again, as fast as it is taken."""
    for _ in range(max(1, FLOOD // len(data))):
        if not say(link, data, stop):
            return


def slowly(link: socket.socket, data: bytes, stop: threading.Event) -> None:
    """A byte at a time."""
    for at in range(len(data)):
        if stop.wait(TICK) or not say(link, data[at : at + 1], stop):
            return


def kind(play: Callable[[socket.socket, threading.Event], object]) -> Stranger:
    """A kind with one connection, which it is handed."""

    def run(address: str, stop: threading.Event) -> None:
        with contextlib.suppress(OSError), connect(address) as link:
            play(link, stop)

    run.__name__ = play.__name__.replace("_", " ")
    STRANGERS[run.__name__] = run
    return run


def says(name: str, *data: bytes, gone: bool = False, greets: bool = False) -> None:
    """A kind that says this and then stays, or is `gone` at once."""

    def play(link: socket.socket, stop: threading.Event) -> None:
        for piece in data:
            if not say(link, piece, stop):
                return
        if not gone:
            linger(link, stop)

    play.__name__ = name
    kind(play)
    if greets:
        GREETERS.add(name)


def greets(run: Stranger) -> Stranger:
    """It begins the stream of a VM."""
    GREETERS.add(run.__name__)
    return run


# -- who says nothing, or not much --------------------------------------------------------------

says("silent")
says("a port scan", gone=True)
says("one byte", b"Q")
says("one byte and gone", b"Q", gone=True)


@kind
def resets(link: socket.socket, stop: threading.Event) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@kind
def half_closed(link: socket.socket, stop: threading.Event) -> None:
    link.shutdown(socket.SHUT_WR)
    linger(link, stop)


@kind
def deaf(link: socket.socket, stop: threading.Event) -> None:
    """It asks and never reads an answer."""
    link.shutdown(socket.SHUT_RD)
    flood(link, b'{"id": 1, "sql": "SELECT 1"}\n' * 100, stop)


@kind
def slow_garbage(link: socket.socket, stop: threading.Event) -> None:
    slowly(link, b"hello? " * 100, stop)


@kind
def urgent(link: socket.socket, stop: threading.Event) -> None:
    """Out of band."""
    for _ in range(5):
        link.send(b"!", socket.MSG_OOB)
    linger(link, stop)


# -- other protocols ----------------------------------------------------------------------------

says("HTTP", b"GET / HTTP/1.1\r\nHost: standby\r\nUser-Agent: curl/8\r\n\r\n")
says("HTTP upload", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", bytes(1 << 20))
says("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
says("TLS", bytes.fromhex("16030100c8010000c40303") + random.Random(1).randbytes(193))
says("SSH", b"SSH-2.0-OpenSSH_9.2\r\n")
says("SMTP", b"EHLO scanner\r\n")
says("Redis", b"*1\r\n$4\r\nPING\r\n")
says("PostgreSQL", struct.pack(">II", 8, 80877103), struct.pack(">II", 41, 196608) + b"user\0postgres\0\0")
says("DNS", bytes.fromhex("001c12340100000100000000000007766572") + b"sion\x04bind\0\0\x10\0\x03")
says("telnet", bytes.fromhex("fffd03fffb18fffb1ffffb20"))
says("RDP", bytes.fromhex("0300002b26e00000000000") + b"Cookie: mstshash=nmap\r\n" + bytes(8))
says("VNC", b"RFB 003.008\n")
says("NBD", b"NBDMAGICIHAVEOPT" + bytes(8))
says("QMP", b'{"execute": "qmp_capabilities"}\n')
says("a client of the service", b'{"id": 1, "sql": "SELECT 1"}\n')
says("a line without an end", b"x" * (3 << 20))
says("JSON to drown in", b"[" * (1 << 19) + b"\n")

# -- garbage ------------------------------------------------------------------------------------


@kind
def garbage(link: socket.socket, stop: threading.Event) -> None:
    flood(link, random.Random(2).randbytes(1 << 20), stop)


@kind
def zeros(link: socket.socket, stop: threading.Event) -> None:
    flood(link, bytes(1 << 20), stop)


says("COLO messages", struct.pack(">7I", *range(7)) * 100)
says("a multifd channel", bytes.fromhex("1122334400000001") + bytes(52))
says("another magic", b"QEVN" + HEAD[4:])
says("another version", HEAD[:4] + vm.u32(2) + HEAD[8:])

# -- who begins a stream ------------------------------------------------------------------------

START = vm.start()


def block_list(total: int, *blocks: tuple[str, int]) -> bytes:
    """A RAM start section that declares this, up to the end of the list."""
    listed = b"".join(vm.name(name) + size.to_bytes(8, "big") for name, size in blocks)
    return b"\x01" + vm.u32(vm.RAM_ID) + vm.name("ram") + bytes(7) + b"\x04" + vm.record(total, 4) + listed


says("a head and gone", HEAD, gone=True)
says("a head and silence", HEAD)
says("our own head and gone", OWN_HEAD, gone=True)
says("our own head and silence", OWN_HEAD)
says("a name of 4 GiB", HEAD[:9] + b"\xff" * 4, b"x" * (1 << 20))
says("a memory of 1 EiB", HEAD + block_list(1 << 60, ("pc.ram", 1 << 60)) + vm.EOS, greets=True)
says("a memory of 64 GiB", HEAD + block_list(64 << 30, ("pc.ram", 64 << 30)) + vm.EOS + vm.footer(2),
     greets=True)  # fmt: skip
says("our own of 64 GiB", OWN_HEAD + block_list(64 << 30, ("ram", 64 << 30)) + vm.EOS + vm.footer(2))
says("the block list twice", HEAD + START + START, greets=True)
says("an unknown section", HEAD + START + b"\x0b" + bytes(100), greets=True)
says("multifd pages", HEAD + START + vm.ram(2, vm.record(0, 0x200)), greets=True)
says("an empty name", HEAD[:9] + bytes(4))
says("a disk", vm.initial(devices=vm.DEVICES + vm.device(9, "0000:00:05.0/virtio-blk", b"x")) + b"\6",
     greets=True)  # fmt: skip


@greets
@kind
def a_million_blocks(link: socket.socket, stop: threading.Event) -> None:
    say(link, HEAD + block_list(1 << 32), stop)
    for n in range(1 << 20):
        if n % 4096 == 0:
            names = (vm.name(f"b{i}") + PAGE_SIZE.to_bytes(8, "big") for i in range(n, n + 4096))
            if not say(link, b"".join(names), stop):
                return


@greets
@kind
def pings_for_ever(link: socket.socket, stop: threading.Event) -> None:
    say(link, HEAD, stop)
    flood(link, vm.ping(1) * 10_000, stop)


@greets
@kind
def subsections_for_ever(link: socket.socket, stop: threading.Event) -> None:
    say(link, HEAD, stop)
    flood(link, vm.subsection("configuration/uuid", bytes(16)) * 10_000, stop)


@greets
@kind
def devices_for_ever(link: socket.socket, stop: threading.Event) -> None:
    say(link, HEAD + START + vm.ram(2, vm.PAGES) + vm.ram(3, b""), stop)
    for n in range(FLOOD >> 14):
        many = b"".join(vm.device(9 + 400 * n + i, "d", b"", instance=400 * n + i) for i in range(400))
        if not say(link, many, stop):
            return


@greets
@kind
def a_device_without_end(link: socket.socket, stop: threading.Event) -> None:
    say(link, HEAD + START + vm.ram(2, vm.PAGES) + vm.ram(3, b"") + vm.header(9, "endless"), stop)
    flood(link, bytes(1 << 20), stop)


@greets
@kind
def pages_for_ever(link: socket.socket, stop: threading.Event) -> None:
    """The same pages, never the end of them."""
    say(link, HEAD + START, stop)
    flood(link, vm.ram(2, vm.PAGES) * 50, stop)


@kind
def a_slow_greeting(link: socket.socket, stop: threading.Event) -> None:
    slowly(link, HEAD, stop)
    linger(link, stop)


@greets
@kind
def a_slow_stream(link: socket.socket, stop: threading.Event) -> None:
    """All in order, but nobody lives to see its end."""
    say(link, HEAD + START, stop)
    slowly(link, vm.initial()[len(HEAD + START) :], stop)


@kind
def half_closed_after_the_head(link: socket.socket, stop: threading.Event) -> None:
    say(link, HEAD, stop)
    link.shutdown(socket.SHUT_WR)
    linger(link, stop)


# -- who sends a whole stream, or nearly --------------------------------------------------------


def places(stream: bytes, marks: Iterator[int]) -> list[bytes]:
    """`stream` up to each of these places."""
    return [stream[:at] for at in sorted(set(marks)) if 0 < at < len(stream)]


def edges(stream: bytes) -> Iterator[int]:
    """Where something begins or ends in a stream, and the middle of it."""
    for mark in (b"\x7e\0\0\0", b"pc.ram", b"pc.bios", b"ram\0", b"timer", b"apic", b"guest", b"generation"):
        at = stream.find(mark)
        while at >= 0:
            yield from (at, at + 1, at + len(mark), at + 5)
            at = stream.find(mark, at + 1)


VM = vm.initial()
OWN = initial_bytes(pages={0: bytes(PAGE_SIZE)}, generation=OLD_GENERATION)
OWN_BIGGER = initial_bytes(capacity=1 << 20, generation=OLD_GENERATION)


def stops_at_each(name: str, stream: bytes) -> None:
    """A kind that comes once for each place of its stream, and goes there."""

    def run(address: str, stop: threading.Event) -> None:
        for piece in places(stream, edges(stream)):
            if stop.is_set():
                return
            with contextlib.suppress(OSError), connect(address) as link:
                say(link, piece, stop)

    STRANGERS[name] = run


stops_at_each("a VM that stops at each section", VM)
GREETERS.add("a VM that stops at each section")
stops_at_each("a guest that stops at each section", OWN)
says("a VM that is not ours", VM + vm.described(), gone=True, greets=True)
says("a VM that is not ours, and silence", VM + vm.described(), greets=True)
says("a VM and a wrong message", VM + vm.described() + vm.u32(5), greets=True)
says("a VM and half a round", VM + vm.described() + vm.u32(1) + vm.u32(3) + b"\x02", gone=True, greets=True)
says("a VM with a bad description", VM + b"\6" + vm.u32(1 << 20) + b"[" * (1 << 20), greets=True)
says("a Primary of an older generation", OWN)
says("a Primary of another capacity", OWN_BIGGER)
says(
    "a device state of 1 GiB",
    OWN[: OWN.index(guest_section(b"0"))] + guest_section(b"0")[:19] + vm.u32(1 << 30),
    bytes(FLOOD),
)
says("no generation", OWN.replace(section(2, b"colo-fsm/generation", OLD_GENERATION.to_bytes(8, "big")), b""))


# -- crowds -------------------------------------------------------------------------------------


def allow_files(count: int) -> int:
    """Let this process open so many files, or as many as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        soft = count if hard == resource.RLIM_INFINITY else min(hard, count)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(soft, count)


def crowd(name: str, data: bytes, seconds: float = 1.0) -> None:
    """A thousand at once: each says this, and all stay for a while."""

    def run(address: str, stop: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(allow_files(MANY + 200) - 200):
                if stop.is_set():
                    return
                with contextlib.suppress(OSError):
                    link = stack.enter_context(connect(address))
                    link.setblocking(False)
                    link.send(data) if data else None
            stop.wait(seconds)

    STRANGERS[name] = run


crowd("a thousand at once", b"")
crowd("a thousand at once that say hello", b"hello")
crowd("a thousand at once with a head", HEAD)


def a_thousand_after_each_other(address: str, stop: threading.Event) -> None:
    for n in range(MANY):
        if stop.is_set():
            return
        with contextlib.suppress(OSError), connect(address) as link:
            link.send(bytes([n & 0xFF]) * (n % 7))


STRANGERS["a thousand after each other"] = a_thousand_after_each_other


def play(name: str, address: str, seconds: float) -> None:
    """One kind, for so long at the most."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        STRANGERS[name](address, stop)
    finally:
        timer.cancel()


def main() -> None:
    """`python tests/strangers.py ADDRESS [NAME ...]`: play them once each."""
    import sys

    for name in sys.argv[2:] or STRANGERS:
        began = time.monotonic()
        play(name, sys.argv[1], 2.0)
        print(f"{time.monotonic() - began:6.2f} s  {name}")


if __name__ == "__main__":
    main()
