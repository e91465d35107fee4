"""Commands that QEMU puts between sections: which are passed over, answered and refused.

Source: QEMU's docs/devel/migration/ and what 7.2 and 10.2 were seen to send with each capability on.
"""

from __future__ import annotations

from .errors import StreamError, capability_error
from .format import U16, U32
from .source import Parsing, Source

PING = 2
ENABLE_COLO = 8
SWITCHOVER_START = 11
SIZES = {PING: U32.size, ENABLE_COLO: 0, SWITCHOVER_START: 0}
"""The commands read here, and how many bytes of data each has."""

_RETURN_PATH = "return-path (and postcopy-ram, switchover-ack)"
_POSTCOPY = "postcopy-ram"
REFUSED = {
    1: ("OPEN_RETURN_PATH", _RETURN_PATH),
    3: ("POSTCOPY_ADVISE", "postcopy-ram (and dirty-bitmaps)"),
    4: ("POSTCOPY_LISTEN", _POSTCOPY),
    5: ("POSTCOPY_RUN", _POSTCOPY),
    6: ("POSTCOPY_RAM_DISCARD", _POSTCOPY),
    7: ("PACKAGED", _POSTCOPY),
    9: ("POSTCOPY_RESUME", _POSTCOPY),
    10: ("RECV_BITMAP", _POSTCOPY),
}
KNOWN = SIZES.keys() | REFUSED.keys()

_PONG = 2
"""The message of the return path that answers a PING."""


class Commands:
    """Reads commands from `source`. `pings` are the values to answer, in order; see `pong`."""

    def __init__(self, source: Source) -> None:
        self.pings: list[int] = []
        self._source = source

    def read(self, at: int) -> Parsing[None]:
        """One command, behind its type byte, which is at `at`."""
        command = yield from self._source.u16()
        if command in REFUSED:
            name, capability = REFUSED[command]
            raise capability_error(at, f"the command {name}", capability)
        if command not in SIZES:
            raise StreamError(at, f"command {command} is unknown")
        size = yield from self._source.u16()
        if size != SIZES[command]:
            problem = f"command {command} with {size} bytes of data, expected {SIZES[command]}"
            raise StreamError(at, problem)
        if command == PING:
            self.pings.append((yield from self._source.u32()))


def pong(value: int) -> bytes:
    """The answer to a PING: send it on the return path before the next COLO message."""
    return U16.pack(_PONG) + U16.pack(U32.size) + U32.pack(value)
