"""The migration stream: a guest's memory and device state as bytes, and back (see `format`).

Knows no socket, clock or protocol state: bytes in, pages out, and the other way round.
"""

from __future__ import annotations

from .decode import DEFAULT_LIMIT, InitialDecoder, LiveDecoder, decode_device_state
from .encode import device_state, initial, live
from .errors import StreamError
from .memory import PAGE_SIZE, ZERO_PAGE, Blocks, Buffer, Delta, Page
from .ram import Ram, Sink

__all__ = [
    "DEFAULT_LIMIT",
    "PAGE_SIZE",
    "ZERO_PAGE",
    "Blocks",
    "Buffer",
    "Delta",
    "InitialDecoder",
    "LiveDecoder",
    "Page",
    "Ram",
    "Sink",
    "StreamError",
    "decode_device_state",
    "device_state",
    "initial",
    "live",
]
