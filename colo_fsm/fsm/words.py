"""The words of one protocol, as data: its sync points in order, and where a side begins and breaks.

Who sends what, which values are valid on the wire, the order in pictures, how a state mirrors a
message: all of it follows from one tuple of `SyncPoint`.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property

import attrs

from .errors import InvalidMessage, Texts
from .terms import Message, Side

_U32 = struct.Struct(">I")
_log = logging.getLogger(__name__)


@attrs.frozen
class SyncPoint:
    """One message, who sends it, and the state that a side is in once it has sent or taken it."""

    message: Message
    sender: Side
    state: StrEnum


@attrs.frozen(eq=False, slots=False)
class Words:
    """A protocol's vocabulary: `points` in the order in which they happen, from which the rest follows.

    `name` stands in errors and pictures. `initial` is the state in which a side begins; its type is the
    enum of all states, declared in the order of pictures. `failover` is where the error transition
    leads. `texts` words errors as other implementations of the protocol do (see `errors.py`).
    """

    name: str
    points: tuple[SyncPoint, ...]
    initial: StrEnum
    failover: StrEnum
    texts: Texts = attrs.field(factory=dict)

    @property
    def states(self) -> type[StrEnum]:
        """The enum of all states."""
        return type(self.initial)

    @cached_property
    def sender(self) -> Mapping[Message, Side]:
        """Who sends each message."""
        return {point.message: point.sender for point in self.points}

    @cached_property
    def mirror(self) -> Mapping[Message, StrEnum]:
        """The state that each message leads to, on both sides."""
        return {point.message: point.state for point in self.points}

    @cached_property
    def by_value(self) -> Mapping[int, Message]:
        """The messages by their value on the wire; every other value is invalid."""
        return {int(point.message): point.message for point in self.points}

    def encode(self, message: int) -> bytes:
        """The 4 bytes of a message, a big-endian u32. Raises InvalidMessage for a value that is none."""
        valid = self.by_value.get(message)
        if valid is None:
            raise InvalidMessage(message, sending=True).worded(self.texts)
        _log.debug("Send '%s' message", valid.text)
        return _U32.pack(valid)
