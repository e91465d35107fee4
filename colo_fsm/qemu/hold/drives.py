"""What is behind an IDE or AHCI controller, read from its section: nothing, a CD-ROM drive, or a hard disk.

A drive's cylinder registers hold its signature from a reset on until they are used, and those of an empty
slot change when its neighbour is used. But firmware and systems ask every drive what it is before they use
any, and the answer stays. So an answer counts; on a bus without any the signature does; and a slot without
one beside a drive that has one is empty.

The layout of the sections is that which the descriptions of QEMU 7.2, 10.0 and 11.1 give.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import attrs

from colo_fsm.stream.format import SUBSECTION, U8, U32

_ANSWERED = 4
_ANSWER = 8
_ANSWER_SIZE = 512
_REGISTERS_SIZE = 20
_CYLINDER = slice(7, 9)
_EMPTY, _CD_ROM = b"\xff\xff", b"\x14\xeb"
_IS_CD_ROM = b"\xc0\x85"  # the first word of what a CD-ROM drive answers
_SUBSECTIONS = {
    b"ide_drive/pio_state": 131097,
    b"ide_drive/tray_state": 2,
    b"ide_drive/atapi/gesn_state": 2,
}
"""Their sizes: a transfer that is under way, and the tray."""


class Drive(Enum):
    NONE = "none"
    CD_ROM = "CD-ROM"
    DISK = "disk"


@attrs.frozen
class _Slot:
    """`answer`: what the drive said of itself, if it was asked."""

    answer: bytes
    registers: bytes
    end: int

    @property
    def signature(self) -> Drive:
        """What its registers say after a reset."""
        return {_EMPTY: Drive.NONE, _CD_ROM: Drive.CD_ROM}.get(self.registers[_CYLINDER], Drive.DISK)


@attrs.frozen
class Controller:
    """How many bytes its section has at its head and tail, and `before` and `behind` each bus of `slots`."""

    head: int
    buses: int
    slots: int
    before: int = 0
    behind: int = 0
    tail: int = 0

    def drives(self, body: bytes, *, fresh: bool = True) -> list[Drive] | None:
        """What is in each slot; None if the section is none that is known. Not `fresh`: by answers alone."""
        try:
            return list(self._drives(body, fresh))
        except IndexError:
            return None

    def _drives(self, body: bytes, fresh: bool) -> Iterator[Drive]:
        at = self.head
        for _ in range(self.buses):
            at += self.before
            slots: list[_Slot] = []
            for _ in range(self.slots):
                slots.append(_slot(body, at))
                at = slots[-1].end
            asked = not fresh or any(slot.answer for slot in slots)
            for slot in slots:
                if slot.answer:
                    yield Drive.CD_ROM if slot.answer.startswith(_IS_CD_ROM) else Drive.DISK
                else:
                    yield Drive.NONE if asked else slot.signature
            at += self.behind
        if at + self.tail != len(body):
            raise IndexError


CONTROLLERS = {
    "ide": Controller(head=318, buses=2, slots=2),
    "isa-ide": Controller(head=2, buses=1, slots=2),  # one for each port of an isapc
    "ich9_ahci": Controller(head=276, buses=6, slots=1, before=2, behind=614, tail=28),
}


def _slot(body: bytes, at: int) -> _Slot:
    """Raises IndexError where `body` has none."""
    answered = body[at + _ANSWERED : at + _ANSWER]
    size = _ANSWER_SIZE if any(answered) else 0
    begin = at + _ANSWER + size
    end = begin + _REGISTERS_SIZE
    slot = _Slot(body[begin - size : begin], body[begin:end], end)
    if end > len(body):
        raise IndexError
    return attrs.evolve(slot, end=_behind_subsections(body, end))


def _behind_subsections(body: bytes, at: int) -> int:
    while body[at : at + 1] == U8.pack(SUBSECTION):
        name = at + 2
        end = name + body[at + 1]
        size = _SUBSECTIONS.get(body[name:end])
        if size is None:
            break
        at = end + U32.size + size
    return at
