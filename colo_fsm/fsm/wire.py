"""The wire: a message is a big-endian u32, a size a big-endian u64; between messages, signs of life.

`Words.encode` and `Inbox.take_value` are the patch's colo_send_message() and colo_receive_message()
without the file underneath.
"""

from __future__ import annotations

import struct

MESSAGE_SIZE = 4
SIGN_OF_LIFE = b"LIFE"
"""As long as a message, and stands where one may begin: who sends it works on something, and is not dead.

Between two sides of this package only. A QEMU never sends it, and to whom it was not promised it is invalid.
"""
SIZE_SIZE = 8

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
(_SIGN,) = _U32.unpack(SIGN_OF_LIFE)


def encode_size(size: int) -> bytes:
    """The 8 bytes behind a message that announces a state of that many bytes."""
    return _U64.pack(size)


class Inbox:
    """Bytes that have arrived and were not asked for yet. Any chunking gives the same messages.

    It holds what it is fed: a driver stays bounded by reading only while `Session.wants_data`.
    `signs`: whether a sign of life is passed over where a message may begin.
    """

    __slots__ = ("_data", "eof", "signs")

    def __init__(self, *, signs: bool = False) -> None:
        self._data = bytearray()
        self.signs = signs
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
        data = self._data
        while len(data) >= MESSAGE_SIZE:
            (value,) = _U32.unpack_from(data)
            if value != _SIGN or not self.signs:
                return int(value)
            del data[:MESSAGE_SIZE]
        return None

    def take_value(self) -> int | None:
        """Remove the value of the next message; None while it is not whole."""
        return self._take(_U32)

    def take_size(self) -> int | None:
        """Remove a size; None while it is not whole."""
        return self._take(_U64)

    def _take(self, form: struct.Struct) -> int | None:
        if len(self._data) < form.size:
            return None
        (value,) = form.unpack_from(self._data)
        del self._data[: form.size]
        return int(value)

    def take(self, most: int | None = None) -> bytes:
        """Remove what is there, `most` bytes of it at the most."""
        taken = bytes(self._data[:most])
        del self._data[: len(taken)]
        return taken
