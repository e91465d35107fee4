"""What stands before the first section: the stream's head, the machine's name, and what is said of it."""

from __future__ import annotations

from .format import CONFIGURATION, MAGIC, MAX_NAME, SUBSECTION, U8, U32, VERSION
from .memory import PAGE_SIZE
from .source import Decoder, Parsing, Source, StreamError, capability_error

_VERSION = 1
_UUID_SIZE = 16


def read_head(source: Source) -> Parsing[str]:
    """The head and the configuration; returns the machine's name."""
    magic = yield from source.u32()
    if magic != MAGIC:
        raise StreamError(0, f"magic {magic:#010x} is not that of a migration stream")
    yield from source.known(VERSION, "version", "the stream")
    at = source.offset
    if (yield from source.u8()) != CONFIGURATION:
        raise StreamError(at, "the stream does not name its machine (no configuration)")
    return (yield from source.text((yield from source.length("machine name", MAX_NAME))))


class Greeting(Decoder):
    """The first bytes of a stream, whose `machine` it names: by these a stranger is told from a peer."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = ""

    def _parse(self) -> Parsing[None]:
        self.machine = yield from read_head(self._source)


def head(machine: bytes) -> bytes:
    """The bytes that `read_head` reads."""
    configuration = U8.pack(CONFIGURATION) + U32.pack(len(machine)) + machine
    return U32.pack(MAGIC) + U32.pack(VERSION) + configuration


def read_subsection(source: Source) -> Parsing[bytes]:
    """A subsection of QEMU's configuration, behind its type byte; returns its bytes with that.

    The UUID (capability validate-uuid) and a size of pages that is ours do no harm. The list of
    capabilities holds only those that change the stream: any of them is an error.
    """
    at = source.offset
    name = yield from source.name()
    yield from source.known(_VERSION, "version", "subsection", name)
    if name == "configuration/uuid":
        body = bytes((yield from source.take(_UUID_SIZE)))
    elif name == "configuration/target-page-bits":
        body = yield from _page_bits(source)
    elif name == "configuration/capabilities":
        body = yield from _no_capabilities(source)
    else:
        raise StreamError(at, f"subsection {name!r} is not read here")
    raw = name.encode()
    return U8.pack(SUBSECTION) + U8.pack(len(raw)) + raw + U32.pack(_VERSION) + body


def _page_bits(source: Source) -> Parsing[bytes]:
    at = source.offset
    bits = yield from source.u32()
    if PAGE_SIZE >> bits != 1:
        raise StreamError(at, f"pages of 2^{bits} bytes, expected {PAGE_SIZE}")
    return U32.pack(bits)


def _no_capabilities(source: Source) -> Parsing[bytes]:
    if count := (yield from source.u32()):
        at = source.offset
        capability = yield from source.name()
        raise capability_error(at, f"a stream made with {capability}", capability)
    return U32.pack(count)
