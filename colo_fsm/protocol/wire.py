"""The wire: a message is a big-endian u32, a size a big-endian u64.

`encode_message` and `Inbox.take_message` are the patch's colo_send_message() and
colo_receive_message(), their trace lines included, without the file underneath.
"""

from __future__ import annotations

import logging
import struct

from .errors import InvalidMessage
from .vocabulary import COLOMessage

MESSAGE_SIZE = 4
SIZE_SIZE = 8

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_log = logging.getLogger(__name__)
_VALID = {int(m): m for m in COLOMessage}


def encode_message(message: int) -> bytes:
    """The 4 bytes of a message. Raises InvalidMessage for a value of 7 or more."""
    valid = _VALID.get(message)
    if valid is None:
        raise InvalidMessage(message, sending=True)
    _log.debug("Send '%s' message", valid.text)
    return _U32.pack(valid)


def encode_size(size: int) -> bytes:
    """The 8 bytes behind `vmstate-size`."""
    return _U64.pack(size)


class Inbox:
    """Bytes that have arrived and were not asked for yet. Any chunking gives the same messages.

    It holds what it is fed: a driver stays bounded by reading only while `Session.wants_data`.
    """

    __slots__ = ("_data", "eof")

    def __init__(self) -> None:
        self._data = bytearray()
        self.eof = False

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append what was read; b"" is the end of the link, as from `socket.recv`."""
        if len(data) == 0:
            self.eof = True
        self._data += data

    def peek(self) -> int | None:
        """The value of the next message, valid or not; None while it is not whole."""
        return _U32.unpack_from(self._data)[0] if len(self._data) >= MESSAGE_SIZE else None

    def take_message(self) -> COLOMessage:
        """Remove the next message, which must be whole. Raises InvalidMessage."""
        (value,) = _U32.unpack_from(self._data)
        del self._data[:MESSAGE_SIZE]
        message = _VALID.get(value)
        if message is None:
            raise InvalidMessage(value)
        _log.debug("Receive '%s' message", message.text)
        return message

    def take_size(self) -> int | None:
        """Remove a size; None while it is not whole."""
        if len(self._data) < SIZE_SIZE:
            return None
        (size,) = _U64.unpack_from(self._data)
        del self._data[:SIZE_SIZE]
        return int(size)

    def take(self, most: int | None = None) -> bytes:
        """Remove what is there, `most` bytes of it at the most."""
        taken = bytes(self._data[:most])
        del self._data[: len(taken)]
        return taken
