"""The wire: a message is a big-endian u32, a size a big-endian u64; between messages, signs of life;
in place of the first message of a Secondary, a refusal.

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
REFUSAL = b"\xff\xff\xff\xff"
"""No message; in place of a Secondary's first one it begins the words in which it refuses a Primary.

Behind it u16 length, UTF-8. Between two sides of this package only: a real QEMU's link just ends.
"""
MOST_WORDS = 1000
"""Bytes of such words."""

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
(_SIGN,) = _U32.unpack(SIGN_OF_LIFE)
(REFUSED,) = _U32.unpack(REFUSAL)
"""As a value, which no message has."""


def encode_size(size: int) -> bytes:
    """The 8 bytes behind a message that announces a state of that many bytes."""
    return _U64.pack(size)


def encode_refusal(why: str) -> bytes:
    """What says so to a Primary of this package."""
    words = why.encode(errors="replace")[:MOST_WORDS]
    return REFUSAL + _U16.pack(len(words)) + words


class Inbox:
    """Bytes that have arrived and were not asked for yet. Any chunking gives the same messages.

    It holds what it is fed: a driver stays bounded by reading only while `Session.wants_data`.
    `signs`: whether a sign of life is passed over where a message may begin. `refusable`: whether a refusal
    may stand in place of the first message.
    """

    __slots__ = ("_data", "_refusable", "eof", "signs")

    def __init__(self, *, signs: bool = False, refusable: bool = False) -> None:
        self._data = bytearray()
        self._refusable = refusable
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
        """The value of the next message, valid or not; None while it, or a refusal, is not whole."""
        data = self._data
        while len(data) >= MESSAGE_SIZE:
            (value,) = _U32.unpack_from(data)
            if value == _SIGN and self.signs:
                del data[:MESSAGE_SIZE]
            elif self._refused() and len(data) < self._refusal_size():
                return None
            else:
                return int(value)
        return None

    def refusal(self) -> str | None:
        """The words of a refusal, as far as they have come; None: this is none.

        They are the peer's: what is not printable is shown as a question mark.
        """
        self._pass_over_signs()
        if not self._refused():
            return None
        words = self._data[MESSAGE_SIZE + _U16.size : self._refusal_size()].decode(errors="replace")
        return "".join(c if c.isprintable() else "?" for c in words) or "no reason given"

    def _pass_over_signs(self) -> None:
        while self.signs and self._data.startswith(SIGN_OF_LIFE):
            del self._data[:MESSAGE_SIZE]

    def _refused(self) -> bool:
        return self._refusable and self._data.startswith(REFUSAL)

    def _refusal_size(self) -> int:
        """How long it is; while it does not say so, the least that is more than what is there."""
        head = MESSAGE_SIZE + _U16.size
        if len(self._data) < head:
            return head
        return head + min(int(_U16.unpack_from(self._data, MESSAGE_SIZE)[0]), MOST_WORDS)

    def take_value(self) -> int | None:
        """Remove the value of the next message; None while it is not whole."""
        self._refusable = False
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
