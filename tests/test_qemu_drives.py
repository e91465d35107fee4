"""What the section of an IDE controller says of its drives; `test_qemu_disks` has real ones."""

from __future__ import annotations

import pytest

from colo_fsm.qemu.hold.drives import CONTROLLERS


def slot(cylinder: bytes, answer: bytes = b"") -> bytes:
    """A drive in an IDE controller's section."""
    asked = (1 if answer else 0).to_bytes(4, "big") + (answer.ljust(512, b"\0") if answer else b"")
    return bytes(4) + asked + bytes(7) + cylinder + bytes(11)


@pytest.mark.parametrize(
    ("slots", "fresh", "while_it_runs"),
    [
        ((slot(b"\0\0"), slot(b"\xff\xff")), ["disk", "none"], ["none", "none"]),
        ((slot(b"\x14\xeb"), slot(b"\0\0")), ["CD-ROM", "disk"], ["none", "none"]),
        ((slot(b"\0\x08", b"\xc0\x85"), slot(b"\0\x08")), ["CD-ROM", "none"], ["CD-ROM", "none"]),
        ((slot(b"\0\0"), slot(b"\x14\xeb", b"\x40\0")), ["none", "disk"], ["none", "disk"]),
        ((slot(b"\0\0"),), None, None),
        ((slot(b"\0\0"), slot(b"\0\0"), b"\0"), None, None),
    ],
)
def test_an_answer_counts_more_than_registers_which_are_shared(
    slots: tuple[bytes, ...], fresh: list[str] | None, while_it_runs: list[str] | None
) -> None:
    """Two slots at one port of an isapc; while the VM runs, guests write what they like to the registers."""
    for expected, early in ((fresh, True), (while_it_runs, False)):
        found = CONTROLLERS["isa-ide"].drives(bytes(2) + b"".join(slots), fresh=early)
        assert (None if found is None else [drive.value for drive in found]) == expected
