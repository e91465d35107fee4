"""What a link never does, and broken memory may: change, move or repeat what is sent.

It works on what a write hands over: there a message is a buffer of its own, of four bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from colo_fsm.fsm import MESSAGE_SIZE
from colo_fsm.stream.memory import Buffer

from .link import End, Tamper
from .schedule import Fault, Kind

PAYLOAD = "payload"
"""Corrupts a byte of what stands behind the messages, not a message."""


def tamper_with(fault: Fault, end: End, struck: Callable[[], object]) -> Tamper:
    """What to install at the sender's end; it does its work once and takes itself away."""

    def once(change: Callable[[list[Buffer], int], list[Buffer]], wanted: Callable[[Buffer], bool]) -> Tamper:
        def tamper(buffers: list[Buffer]) -> list[Buffer]:
            at = next((at for at, buffer in enumerate(buffers) if wanted(buffer)), None)
            if at is None:
                return buffers
            end.tamper = None
            struck()
            return change(list(buffers), at)

        return tamper

    forged = fault.count.to_bytes(MESSAGE_SIZE, "big")
    if fault.kind is Kind.CORRUPT and fault.how == PAYLOAD:
        return once(lambda buffers, at: _flipped(buffers, at, fault.count), _is_payload)
    if fault.kind is Kind.CORRUPT:
        return once(lambda b, at: [*b[:at], forged, *b[at + 1 :]], _is_message)
    if fault.kind is Kind.DUPLICATE:
        return once(lambda b, at: b[: at + 1] + b[at:], _is_message)
    return once(lambda b, at: _swapped(b, at, end), _is_message)


def _is_message(buffer: Buffer) -> bool:
    return isinstance(buffer, bytes) and len(buffer) == MESSAGE_SIZE


def _is_payload(buffer: Buffer) -> bool:
    return len(buffer) > 2 * MESSAGE_SIZE


def _flipped(buffers: list[Buffer], at: int, place: int) -> list[Buffer]:
    changed = bytearray(buffers[at])
    changed[place % len(changed)] ^= 1 << place % 8
    return [*buffers[:at], bytes(changed), *buffers[at + 1 :]]


def _swapped(buffers: list[Buffer], at: int, end: End) -> list[Buffer]:
    """The message goes behind the next buffer: in this write, or else in the next one."""
    held = buffers.pop(at)
    if at < len(buffers):
        return [*buffers[: at + 1], held, *buffers[at + 1 :]]

    def later(following: list[Buffer]) -> list[Buffer]:
        end.tamper = None
        return [following[0], held, *following[1:]]

    end.tamper = later
    return buffers
