"""QEMU's end of a packet gate, by hand: what its filter-redirector does with its two chardevs."""

from __future__ import annotations

import struct
from types import TracebackType
from typing import Self

import pytest
from qemu_lines import PATIENCE

from colo_fsm.replica import Address


def packet(text: bytes) -> bytes:
    """As it stands on the wire."""
    return struct.pack(">I", len(text)) + text


class Filter:
    """Sends what the guest sends, and takes what goes on; in a `with` block."""

    def __init__(self, out: Address, into: Address) -> None:
        self.out, self.into = (address.connect(PATIENCE) for address in (out, into))
        for link in (self.out, self.into):
            link.settimeout(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def takes(self, data: bytes) -> None:
        """Exactly this goes on."""
        got = b""
        while len(got) < len(data) and (more := self.into.recv(len(data) - len(got))):
            got += more
        assert got == data

    def takes_nothing(self) -> None:
        """Nothing goes on up to now."""
        self.into.settimeout(0)
        with pytest.raises(BlockingIOError):
            self.into.recv(1)
        self.into.settimeout(PATIENCE)

    def ends(self) -> None:
        """Nothing goes on any more."""
        assert self.into.recv(1) == b""

    def close(self) -> None:
        self.out.close()
        self.into.close()
