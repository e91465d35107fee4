"""The words in which a Secondary refuses a Primary of ours, before it is ready.

On the wire, where `checkpoint-ready` may begin: u32 ffffffff, which is no message, u16 length, UTF-8. A real
QEMU is told nothing: its link just ends.
"""

from __future__ import annotations

from colo_fsm.fsm import SIGN_OF_LIFE
from colo_fsm.stream.format import U16

MARK = b"\xff\xff\xff\xff"
MOST = 1000
"""Bytes of words."""


def refusal(why: str) -> bytes:
    """What to send."""
    words = why.encode(errors="replace")[:MOST]
    return MARK + U16.pack(len(words)) + words


def may_be_refusal(data: bytes) -> bool:
    """Whether this begins one, behind signs of life perhaps."""
    rest = _behind_signs(data)
    return rest[: len(MARK)] == MARK[: len(rest)] if rest else False


def _behind_signs(data: bytes) -> bytes:
    while data.startswith(SIGN_OF_LIFE):
        data = data[len(SIGN_OF_LIFE) :]
    return data


def words_of(data: bytes) -> str | None:
    """The words, of as much as has come; None if it is no refusal.

    They are the peer's: what is not printable is shown as a question mark.
    """
    data = _behind_signs(data)
    if not data.startswith(MARK):
        return None
    head = len(MARK) + U16.size
    size = U16.unpack_from(data, len(MARK))[0] if len(data) >= head else 0
    text = data[head : head + min(size, MOST)].decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text) or "no reason given"
