"""The words in which a Secondary refuses a Primary of ours, before it is ready.

On the wire, in place of `checkpoint-ready`: u32 ffffffff, which is no message, u16 length, UTF-8. A real
QEMU is told nothing: its link just ends.
"""

from __future__ import annotations

from colo_fsm.stream.format import U16

MARK = b"\xff\xff\xff\xff"
MOST = 1000
"""Bytes of words."""


def refusal(why: str) -> bytes:
    """What to send."""
    words = why.encode(errors="replace")[:MOST]
    return MARK + U16.pack(len(words)) + words


def words_of(data: bytes) -> str | None:
    """The words, of as much as has come; None if it is no refusal.

    They are the peer's: what is not printable is shown as a question mark.
    """
    if not data.startswith(MARK):
        return None
    head = len(MARK) + U16.size
    size = U16.unpack_from(data, len(MARK))[0] if len(data) >= head else 0
    text = data[head : head + min(size, MOST)].decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text) or "no reason given"
