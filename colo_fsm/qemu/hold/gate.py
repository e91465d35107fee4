"""A packet gate: what a VM's guest sends comes here, and goes back to its netdev with its checkpoint.

QEMU's filter-redirector, between a network card and its netdev, sends each packet to one chardev (OUT) and
takes what is to go on from another (IN). The guest stands from before `vmstate-send` to `vmstate-loaded`, so
what can be read when the state begins to come is the round's (`seal`); it leaves before `vmstate-loaded`
(`release`).

QEMU writes with its big lock held. One that had to wait for us could not take the checkpoint that lets its
packets go: OUT is always read, and what finds no room is dropped, as a network drops it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from colo_fsm.replica import Address
from colo_fsm.replica.address import address_of

from .packets import NotPackets, Packets

LIMIT = 64 << 20
"""Bytes that wait for their checkpoint at most, for each card."""

_READ = 1 << 18
_IN, _OUT = select.POLLIN, select.POLLOUT


class NoPackets(Exception):
    """A VM's packets do not come to the gate: nothing would hold them. The text says what to do."""


class _Card:
    """One network card: where its packets come from, and where they go on to. Under the gate's lock."""

    def __init__(self, name: str, out: Address, into: Address, limit: int, said: list[str]) -> None:
        self._name, self._said = name, said
        self.packets = Packets(limit)
        self._full = False
        self._listeners: list[socket.socket] = []
        self._links: list[socket.socket | None] = [None, None]
        try:
            for address in (out, into):
                self._listeners.append(address.listen())
        except OSError:
            self.close()
            raise
        for listener in self._listeners:
            listener.setblocking(False)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(map(address_of, self._listeners))

    @property
    def connected(self) -> bool:
        return all(self._links)

    def comes(self) -> bool:
        """Whether its packets come here, seen from those who have connected up to now."""
        for which, link in enumerate(self._links):
            if link is None:
                self._come(which)
        return self.connected

    def wants(self) -> Iterator[tuple[int, int, Callable[[], None]]]:
        """What is to be waited for: a descriptor, the events, and what is to be done then."""
        for which, (listener, link) in enumerate(zip(self._listeners, self._links, strict=True)):
            if link is None:
                yield listener.fileno(), _IN, lambda which=which: self._come(which)  # type: ignore[misc]
        out, into = self._links
        if out is not None:
            yield out.fileno(), _IN, lambda: self.read(_READ)
        if into is not None:
            leaves = self.packets.leaving is not None
            yield into.fileno(), _IN | (_OUT if leaves else 0), self._write_or_end

    def _come(self, which: int) -> None:
        with contextlib.suppress(OSError):
            link, _ = self._listeners[which].accept()
            link.setblocking(False)
            self._links[which] = link
            if self.connected:
                self._said.append(f"the packets of {self._name} come to this gate")

    def read(self, most: int) -> None:
        """Take what has come, and about so many bytes at most."""
        link = self._links[0]
        while link is not None and most > 0:
            before = self.packets.dropped
            try:
                data = link.recv(_READ)
                self.packets.feed(data)
            except BlockingIOError:
                return
            except (OSError, NotPackets) as error:
                self._part(0, f": {error}" if isinstance(error, NotPackets) else "")
                return
            if not data:
                self._part(0)
                return
            most -= len(data)
            if self.packets.dropped > before:
                self._is_full()

    def _is_full(self) -> None:
        """A burst is told of once a round."""
        if not self._full:
            self._full = True
            self._said.append(
                f"the gate of {self._name} is full: packets are dropped until a round lets some go"
            )

    def release(self) -> None:
        """What was sealed leaves."""
        self._full = False
        self.packets.release()
        self.write()

    def write(self) -> None:
        """Pass on what may leave, as far as it is taken."""
        link = self._links[1]
        if link is None:
            self.packets.nobody_takes()
        while link is not None and (data := self.packets.leaving) is not None:
            try:
                self.packets.written(link.send(data))
            except BlockingIOError:
                return
            except OSError:
                self._part(1)
                return

    def _write_or_end(self) -> None:
        """QEMU says nothing on IN: what can be read there is its end, or somebody's mistake."""
        link = self._links[1]
        assert link is not None
        said: bytes | None = b""
        try:
            said = link.recv(_READ)
        except BlockingIOError:
            said = None
        except OSError:
            pass
        if said is not None:
            self._part(
                1, ": they come where they are to go to, its outdev and indev are exchanged" if said else ""
            )
        else:
            self.write()

    def _part(self, which: int, why: str = "") -> None:
        """QEMU has gone, or its filter has."""
        if self.connected:
            self._said.append(f"the packets of {self._name} do not come to this gate any more{why}")
        link, self._links[which] = self._links[which], None
        if link is not None:
            link.close()
        if which == 0:
            self.packets.drop()
        else:
            self.packets.nobody_takes()

    def close(self) -> None:
        for each in (*self._listeners, *self._links):
            if each is not None:
                each.close()


class PacketGate:
    """The gates of a VM's network cards, in a `with` block. For any thread; one of its own moves packets.

    `places`: for each card where its filter's outdev and indev connect to, (OUT, IN). `limit`: see `Packets`.
    `tell` gets lines about what comes and goes, on any thread. Everything passes until `hold`.
    Raises OSError where an address cannot be listened at.
    """

    def __init__(
        self,
        places: Sequence[tuple[Address, Address]],
        *,
        limit: int = LIMIT,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._lock = threading.Lock()
        self._said: list[str] = []
        self._tell = tell
        self._cards: list[_Card] = []
        self._closed = False
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="packet gate", daemon=True)
        try:
            for number, (out, into) in enumerate(places):
                self._cards.append(_Card(f"network card {number}", out, into, limit, self._said))
        except OSError:
            self._end()
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def addresses(self) -> tuple[tuple[Address, ...], ...]:
        """Where it listens, (OUT, IN) for each card: with the port where 0 was asked for."""
        return tuple(card.addresses for card in self._cards)

    @property
    def connected(self) -> bool:
        """Whether the packets of every card come here."""
        with self._lock:
            return all(card.connected for card in self._cards)

    @property
    def waiting(self) -> int:
        """Bytes that wait, for a checkpoint or to be taken."""
        with self._lock:
            return sum(card.packets.size for card in self._cards)

    @property
    def dropped(self) -> int:
        """Packets for which there was no room."""
        with self._lock:
            return sum(card.packets.dropped for card in self._cards)

    def check(self) -> None:
        """Raises NoPackets if those of a card do not come here."""
        with self._cards_here() as cards:
            for out, into in (card.addresses for card in cards if not card.comes()):
                raise NoPackets(
                    f"no filter-redirector is connected to the gate {out},{into}: the VM's packets would not "
                    "be held; start its QEMU after the standby, with what docs/gate.md shows"
                )

    def hold(self) -> None:
        """From now on packets wait for their checkpoint. Raises NoPackets as `check` does."""
        self.check()
        with self._cards_here() as cards:
            for card in cards:
                card.packets.hold()

    def seal(self) -> None:
        """What the guest has sent up to now, standing, belongs to the round whose state begins to come."""
        with self._cards_here() as cards:
            for card in cards:
                card.read(LIMIT)
                card.packets.seal()

    def release(self) -> None:
        """The round is safe: what was sealed leaves."""
        with self._cards_here() as cards:
            for card in cards:
                card.release()

    def let_pass(self) -> None:
        """No checkpoint is to be waited for: everything leaves, also what comes from now on."""
        with self._cards_here() as cards:
            for card in cards:
                card.packets.let_pass()
                card.write()

    def close(self) -> None:
        """What waits is never sent, and nothing passes any more. Again it does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")
        if self._thread.is_alive():
            self._thread.join()
        self._end()

    @contextlib.contextmanager
    def _cards_here(self) -> Iterator[list[_Card]]:
        """With the lock; the thread looks anew at what is to be waited for."""
        try:
            with self._lock:
                yield [] if self._closed else self._cards
                with contextlib.suppress(OSError):
                    self._wake.send(b"\0")
        finally:
            self._say()

    def _say(self) -> None:
        with self._lock:
            said, self._said[:] = self._said[:], []
        for text in said:
            self._tell(text)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                wanted = {fd: (events, then) for card in self._cards for fd, events, then in card.wants()}
            poll = select.poll()
            poll.register(self._woken, _IN)
            for fd, (events, _) in wanted.items():
                poll.register(fd, events)
            ready = [fd for fd, _ in poll.poll()]
            with self._lock:
                with contextlib.suppress(OSError):
                    self._woken.recv(_READ)
                now = {fd for card in self._cards for fd, _, _ in card.wants()}
                for fd in ready:
                    if fd in wanted and fd in now:
                        wanted[fd][1]()
                for card in self._cards:
                    card.write()
            self._say()

    def _end(self) -> None:
        for card in self._cards:
            card.close()
        self._wake.close()
        self._woken.close()
