"""What only a Primary does: saves its guest, sends the state, and lets packets out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from colo_fsm import stream
from colo_fsm.colo import State
from colo_fsm.fsm import Do, Effects, Transition, encode_size
from colo_fsm.stream.memory import Buffer

from .events import CheckpointTaken
from .guest import Saved
from .script import Replica, Script, at_once


class PrimaryReplica(Replica):
    """The Primary at work. `checkpoint` is the newest one that let packets out."""

    def own_effects(self) -> Mapping[Do, Callable[[], Script[Effects]]]:
        self.checkpoint_requested = False
        self._due_at: float | None = None
        self._began = self._paused = 0.0
        self._number = 0
        self._pages = self._sent = 0
        self._live: list[Buffer] = []
        self._state = b""
        self.session.on_transition(self._round_begins, State.REQUESTED)
        return {
            Do.send_initial: self._send_initial,
            Do.save: self._save,
            Do.send_live: at_once(self._send_live),
            Do.send_state: at_once(self._send_state),
            Do.release: at_once(self._release),
        }

    def begin(self) -> Script[Effects]:
        """A new generation at every start, before anything is sent."""
        yield from self.open_return_path()
        self.generation = yield from self.call("arbiter", self.arbiter.open)
        return ()

    def due(self) -> float | None:
        return 0.0 if self.checkpoint_requested else self._due_at

    def _round_begins(self, _: Transition) -> None:
        self.checkpoint_requested = False
        self._began = self._clock()

    def _send_initial(self) -> Script[Effects]:
        blocks, generation = self.guest.blocks, self.generation
        assert generation is not None
        saved = yield from self.call("guest.save", self.guest.save, True)
        self.outbox.seal()

        def encode() -> list[Buffer]:
            return list(stream.initial(blocks, saved.pages, saved.device, generation=generation))

        self.send(*(yield from self.call("guest.save", encode)))
        return ()

    def _suspend(self) -> Script[Effects]:
        self._paused = self._clock()
        return (yield from super()._suspend())

    def _save(self) -> Script[Effects]:
        """Comparing and encoding happen in the hook's place too, not on the event loop."""
        saved = yield from self.call("guest.save", self.guest.save, False)
        self.outbox.seal()
        self._number += 1
        yield from self.call("guest.save", self._encode, saved)
        return ()

    def _encode(self, saved: Saved) -> None:
        pages = list(saved.pages)
        self._pages = len(pages)
        self._live = list(stream.live(self.guest.blocks, pages))
        self._state = stream.device_state(saved.device)

    def _send_live(self) -> None:
        self._sent = sum(map(len, self._live)) + len(self._state)
        self.send(*self._live)
        self._live = []

    def _send_state(self) -> None:
        self.send(encode_size(len(self._state)), self._state)

    def _release(self) -> None:
        self.checkpoint = self._number
        self.outbox.release()

    def _resume(self) -> Script[Effects]:
        effects = yield from super()._resume()
        now = self._clock()
        self._due_at = now + self.options.interval
        if self.session.state is State.LOADED:
            times = now - self._paused, now - self._began
            self._emit(CheckpointTaken(self._number, self._pages, self._sent, *times))
        return effects
