"""What only a Primary does: saves its guest, sends the state, and lets packets out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Protocol, TypeVar, runtime_checkable

import attrs

from colo_fsm import stream
from colo_fsm.fsm import Do, Effects, LinkLost, NoReturnPath, SendFailed, encode_size
from colo_fsm.stream.memory import Buffer

from .guest import Saved, is_quick
from .link import receive
from .round import Round
from .script import Replica, Step
from .wish import Script

T = TypeVar("T")
Pieces = Generator[list[Buffer], None, None]
FIRST_PIECE = 1 << 20
"""Bytes of the first copy that are encoded, and held, at a time."""

NEARLY_FULL = 0.8
"""Of a guest's capacity: from here on its owner is warned."""

_log = logging.getLogger(__name__)


@runtime_checkable
class Protects(Protocol):
    """What an arbiter may want to know besides."""

    def protect(self, generation: int) -> None:
        """The Secondary has the whole of this generation: from now on what it has stored may be acknowledged.

        Asked once, before the guest runs. What it raises breaks the pair.
        """


@attrs.define
class SavedRound(Round):
    """A round of the Primary, with what of it is not sent yet."""

    live: list[Buffer] = attrs.Factory(list)
    state: bytes = b""


class PrimaryReplica(Replica):
    """The Primary at work. `checkpoint` is the newest one that let packets out."""

    round: SavedRound
    _number = 0
    """The newest checkpoint that was saved."""
    _nearly_full = False

    def effects(self) -> Mapping[Do, Step]:
        return {
            **super().effects(),
            Do.resume: self._begin,
            Do.send_initial: self._send_initial,
            Do.save: self._save,
            Do.send_live: self._send_live,
            Do.send_state: self._send_state,
            Do.release: self._at_once(self._release),
        }

    def new_round(self) -> SavedRound:
        return SavedRound(self.clock())

    def begin(self) -> Script[None]:
        """A way to hear the peer, a greeting, and a new generation at every start."""
        try:
            if self.link is None:
                raise NoReturnPath
            self.link.getpeername()
        except OSError as cause:
            raise NoReturnPath(cause) from cause
        self.send(stream.greeting())
        self.generation = yield from self.call("arbiter", self.arbiter.open)

    def _saved(self, full: bool, encode: Callable[[Saved], T]) -> Script[T]:
        """Save, and encode what was saved in the hook's place too: the event loop stays free."""
        guest = self.guest

        def save() -> T:
            return encode(guest.save(full))  # type: ignore[arg-type]

        if not self.awaited(guest.save):
            quick = is_quick(guest.save, full)
            return (yield from self.call("guest.save", save, quick=quick))  # type: ignore[no-any-return]
        saved = yield from self.call("guest.save", guest.save, full)
        return (yield from self.call("guest.save", encode, saved))  # type: ignore[no-any-return]

    def _begin(self) -> Script[None]:
        """Run for the first time: from now on what the Secondary has stored counts."""
        if isinstance(self.arbiter, Protects):
            yield from self.call("arbiter", self.arbiter.protect, self.generation)
        self._effects = {**self._effects, Do.resume: self._resume}
        yield from self._resume()

    def _failed(self, error: Exception, dropped: Effects) -> Effects:
        if self.session.state is self.table.initial and type(error) in (SendFailed, LinkLost):
            self._read_the_rest()
            error = self.session.refusal() or error
        return super()._failed(error, dropped)

    def _read_the_rest(self) -> None:
        """The link broke while we were sending: perhaps the Secondary has said why."""
        with suppress(OSError):
            while self.link is not None and (data := receive(self.link)):
                self.session.give_back(data)

    def _send_initial(self) -> Script[None]:
        """The first copy, a piece at a time: the next is asked for once the link has taken the last."""
        pieces, piece = yield from self._saved(True, self._encode_initial)
        try:
            while True:
                self.send(*piece)
                if sum(map(len, piece)) < FIRST_PIECE:
                    return
                del piece[:]
                self._heed()
                piece = yield from self.call("guest.save", next, pieces, [])
        finally:
            self.after_hooks(pieces.close)  # a guest may hold something for who reads its pages

    def _encode_initial(self, saved: Saved) -> tuple[Pieces, list[Buffer]]:
        """Its pieces, and the first of them."""
        self.outbox.seal()
        self._warn_of_use(saved)
        assert self.generation is not None
        pieces = stream.initial_steps(
            self.guest.blocks, saved.pages, saved.device, generation=self.generation, least=FIRST_PIECE
        )
        return pieces, next(pieces)

    def _save(self) -> Script[None]:
        yield from self._saved(False, self._encode)

    def _encode(self, saved: Saved) -> None:
        self.outbox.seal()
        self._warn_of_use(saved)
        self._number += 1
        pages = list(saved.pages)
        now = self.round
        now.number, now.pages, now.used = self._number, len(pages), saved.used
        now.live = list(stream.live(self.guest.blocks, pages))
        now.state = stream.device_state(saved.device)
        now.sent = sum(map(len, now.live)) + len(now.state)

    def _warn_of_use(self, saved: Saved) -> None:
        """Say it once each time that the guest comes near what it may have at most."""
        capacity = sum(self.guest.blocks.values())
        full = saved.used is not None and saved.used >= NEARLY_FULL * capacity
        if full and not self._nearly_full:
            _log.warning(
                "the guest uses %d of its %d bytes: start both sides with a larger capacity soon",
                saved.used,
                capacity,
            )
        self._nearly_full = full

    def _send_live(self) -> None:
        live, self.round.live = self.round.live, []
        self.send(*live)

    def _send_state(self) -> None:
        state = self.round.state
        self.send(encode_size(len(state)), state)

    def _release(self) -> None:
        self.checkpoint = self._number
        self.pace.let_out = self.outbox.release()
