"""The pair on virtual time, and what serves its script there, as the other drivers do on real."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from colo_fsm.fsm import Transition
from colo_fsm.replica.events import Event, EventQueue
from colo_fsm.replica.pair import PairBase
from colo_fsm.replica.script import Replica
from colo_fsm.replica.secondary_script import SecondaryReplica
from colo_fsm.replica.wish import Call, Script, Wait, Wish

from .disk import Killed
from .kernel import Kernel, Timer
from .net import Place

Outcome = tuple[Callable[[Any], Wish], Any]
"""How a script goes on, and with what: `send` and a result, or `throw` and an exception."""


class Cancelled(BaseException):
    """The start of a side was cancelled."""


class Host:
    """The process that a driver is in; see `Process`."""

    alive = True
    frozen = 0

    def do(self, action: Callable[[], object]) -> None:
        """Do this when the process can: after a freeze, or never."""
        raise NotImplementedError

    def before_step(self) -> None:
        """The script has made a wish that is about to be served."""

    def way(self, call: Call) -> float:
        """Seconds until this is called."""
        raise NotImplementedError

    def cost(self) -> float:
        """Seconds that what was called has taken."""
        raise NotImplementedError

    def tell(self, event: Event) -> None:
        """An event of the pair."""
        raise NotImplementedError

    def moved(self, moved: Transition) -> None:
        """The side has moved. What this raises, an observer of the pair has raised."""
        raise NotImplementedError

    def ended(self, error: BaseException) -> None:
        """The script has raised this: StopIteration at its end."""


class Driver:
    """Serves one script. `start` it, and it goes on by itself."""

    def __init__(self, script: Script[None], kernel: Kernel, host: Host) -> None:
        self.at_work = 0
        """Hooks that have not returned."""
        self._script = script
        self._kernel = kernel
        self._host = host
        self._wish: Wish | None = None
        self._woken = False
        self._patience: Timer | None = None

    def start(self) -> None:
        """Begin to serve."""
        self._host.do(lambda: self._go((self._script.send, None)))

    def wake(self, at_once: bool = False) -> None:
        """Let a `Wait` be answered."""
        self._woken = True
        self.poke()

    def poke(self) -> None:
        """Something may have changed for what the script waits for."""
        self._host.do(self._look)

    def interrupt(self, error: BaseException) -> None:
        """Throw this into the script, also in the middle of a wish."""
        self._go((self._script.throw, error))

    def forget(self) -> None:
        """The run is over: what is left of the script must not run at some other time."""
        self._script.close()

    def _go(self, outcome: Outcome | None) -> None:
        """Serve the script until it has to wait."""
        host = self._host
        while outcome is not None:
            step, answer = outcome
            self._wish = None
            if self._patience is not None:
                self._patience.cancel()
            try:
                self._wish = wish = step(answer)
            except (Exception, Cancelled, Killed) as error:  # noqa: BLE001 - the end of it, whatever it is
                host.ended(error)
                return
            host.before_step()
            if host.frozen or not host.alive:
                host.do(partial(self._serve_later, wish))
                return
            outcome = self._serve(wish)

    def _serve_later(self, wish: Wish) -> None:
        self._go(self._serve(wish))

    def _serve(self, wish: Wish) -> Outcome | None:
        """The answer; None when it has to wait, or when nobody waits for it any more."""
        if self._wish is not wish:
            return None
        if isinstance(wish, Call):
            if way := self._host.way(wish):
                self._later(way, lambda: self._go(self._called(wish)))
                return None
            return self._called(wish)
        if self._answers(wish):
            return self._script.send, None
        if wish.socket is not None:
            wish.socket.poke = self.poke
        if wish.timeout is not None:
            self._patience = self._later(wish.timeout, lambda: self._expire(wish))
        return None

    def _later(self, seconds: float, action: Callable[[], object]) -> Timer:
        return self._kernel.after(seconds, lambda: self._host.do(action))

    def _answers(self, wish: Wait) -> bool:
        if self._woken:
            self._woken = False
            return True
        return wish.socket is not None and bool(wish.socket.ready(wish.writing))

    def _look(self) -> None:
        if isinstance(self._wish, Wait) and self._answers(self._wish):
            self._go((self._script.send, None))

    def _expire(self, wish: Wait) -> None:
        if self._wish is wish:
            answered = self._answers(wish)
            self._go((self._script.send, None) if answered else (self._script.throw, TimeoutError()))

    def _called(self, call: Call) -> Outcome | None:
        """Call it, and let its answer come when its time has passed."""
        if self._wish is not call:
            return None
        outcome: Outcome
        try:
            outcome = self._script.send, call.hook(*call.args)
        except Killed:
            return None
        except Exception as error:  # noqa: BLE001 - the script decides what it means
            outcome = self._script.throw, error
        seconds = self._host.cost()
        if not seconds:
            call.settle()
            return outcome

        def returned() -> None:
            self.at_work -= 1
            call.settle()
            self._go(outcome if self._wish is call else None)

        self.at_work += 1
        self._later(seconds, returned)
        self._meanwhile(call)
        if call.timeout is not None and seconds > call.timeout:
            late = self._script.throw, TimeoutError()
            self._later(call.timeout, lambda: self._go(late if self._wish is call else None))
        return None

    def _meanwhile(self, call: Call) -> None:
        """What to do from time to time while this is at work, and the script waits for it."""

        def beat() -> None:
            if self._wish is call and not call.over:
                assert call.meanwhile is not None
                call.meanwhile()
                self._meanwhile(call)

        if call.meanwhile is not None:
            self._later(call.every, beat)


class Told(EventQueue):
    """Hands on the events of a pair as they happen."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, event: Event) -> None:
        self._tell(event)


class DrivenPair(PairBase):
    """One side, and its driver: `driver.start()` begins it."""

    def __init__(self, replica: Replica, place: Place, kernel: Kernel, host: Host) -> None:
        close = replica.store.close if isinstance(replica, SecondaryReplica) else lambda: None
        super().__init__(replica, place, close)
        self.replica = replica
        self.driver = self._driven_by(Driver(self._life.run(), kernel, host))
        self._told = replica.events.follow(Told(host.tell))
        self.on_transition(host.moved)

    def over(self, error: BaseException | None) -> None:
        """Nothing is served any more."""
        self._end(error)

    def give_up(self) -> None:
        """Who began it wants it no more."""
        self._abandon(Cancelled())
