"""What one network card of a VM has sent, and what has become of it: waits, is let out, is dropped. No I/O.

The wire is QEMU's (net/filter-mirror.c): each packet is its length, a big-endian u32, and its bytes, the same
both ways. Packets are not looked into.
"""

from __future__ import annotations

import struct
from collections import deque

_LENGTH = struct.Struct(">I")
LONGEST = 4096 + 65536
"""Bytes of a packet: QEMU's NET_BUFSIZE."""


class NotPackets(ValueError):
    """What comes is no stream of packets."""


class Packets:
    """In order. `limit`: the most bytes that wait; what comes beyond it is dropped, and counted.

    At first everything passes. Behind `hold` it waits for a `seal` behind it, and the `release` of that.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = b""
        self._held: deque[bytes] = deque()
        self._sealed: deque[bytes] = deque()
        self._leaving: deque[memoryview] = deque()
        self._holds = False
        self.size = 0
        """Bytes that wait, for a checkpoint or for room on their way out."""
        self.dropped = 0
        """Packets for which there was no room."""

    def feed(self, data: bytes) -> None:
        """These have come. Raises NotPackets."""
        data = self._partial + data
        come, count = _whole(data, len(data))
        self._partial = data[come:]
        end = come
        if self.size + come > self._limit:
            end, kept = _whole(data, self._limit - self.size)
            self.dropped += count - kept
        if not end:
            return
        self.size += end
        if self._holds:
            self._held.append(data[:end])
        else:
            self._leaving.append(memoryview(data)[:end])

    @property
    def waits(self) -> bool:
        """Whether something waits for a checkpoint."""
        return bool(self._held or self._sealed)

    def hold(self) -> None:
        """What comes from now on waits."""
        self._holds = True

    def seal(self) -> None:
        """What has come belongs to the checkpoint under way."""
        self._sealed += self._held
        self._held.clear()

    def release(self) -> None:
        """That checkpoint is safe: what was sealed leaves."""
        self._leaving += map(memoryview, self._sealed)
        self._sealed.clear()

    def let_pass(self) -> None:
        """There is no checkpoint to wait for: everything leaves, now and from now on."""
        self._holds = False
        self.seal()
        self.release()

    def drop(self) -> None:
        """What waits for a checkpoint is never sent, nor is a part of a packet."""
        self.size -= sum(map(len, (*self._held, *self._sealed)))
        self._held.clear()
        self._sealed.clear()
        self._partial = b""

    # -- on their way out

    @property
    def leaving(self) -> memoryview | None:
        """What is to be written next, None: nothing."""
        return self._leaving[0] if self._leaving else None

    def written(self, count: int) -> None:
        """So many bytes of `leaving` were."""
        self.size -= count
        rest = self._leaving[0][count:]
        if rest:
            self._leaving[0] = rest
        else:
            self._leaving.popleft()

    def nobody_takes(self) -> None:
        """Where they go to has gone: what was leaving is dropped."""
        self.size -= sum(map(len, self._leaving))
        self._leaving.clear()


def _whole(data: bytes, most: int) -> tuple[int, int]:
    """Where the last packet ends that is whole within `most` bytes, and how many are. Raises NotPackets."""
    at = count = 0
    while at + _LENGTH.size <= most:
        (length,) = _LENGTH.unpack_from(data, at)
        if not 0 < length <= LONGEST:
            raise NotPackets(
                f"a packet of {length} bytes: this is no filter-redirector, or one with vnet_hdr_support on"
            )
        end = at + _LENGTH.size + length
        if end > most:
            break
        at, count = end, count + 1
    return at, count
