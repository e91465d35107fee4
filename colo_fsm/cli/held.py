"""The figures of a standby: what `figures.py` is for a side that runs, for a VM that is only held."""

from __future__ import annotations

import time
from collections.abc import Callable

from colo_fsm.colo import State
from colo_fsm.qemu import Held, Standby
from colo_fsm.replica.pair import PairBase

from .figures import Figures


class StandbyFigures(Figures):
    """The figures of a standby, over all the Primaries that have come. Nothing runs here."""

    claims_if_ready = True
    taken_over = "the checkpoint is to be run, where --on-failover says"

    def __init__(self, holder: Standby, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(Held(), clock=clock)
        self._holder = holder

    @property
    def pair(self) -> PairBase | None:
        return self._holder.pair

    @property
    def host(self) -> None:
        """Nobody serves here."""

    @property
    def state(self) -> str:
        return str(State.INIT if self.pair is None else self.pair.state)

    @property
    def runs(self) -> bool:
        return False

    @property
    def works(self) -> bool:
        """Whether there is a Primary: not once this side has taken over from it."""
        return super().works and not self._taken_over

    @property
    def _taken_over(self) -> bool:
        pair = self.pair
        return pair is not None and pair.state in pair.session.table.alone

    @property
    def ready(self) -> bool:
        return self.works and self._holder.protects

    @property
    def protected(self) -> bool:
        return self.ready

    @property
    def token(self) -> int:
        return 0 if self.pair is None else self.pair.token

    @property
    def remark(self) -> str:
        gate = self._holder.gate
        if gate is None:
            return ""
        if self.ready and not gate.connected:
            return "the VM's packets do not come to its gate any more: nothing holds them"
        return f"{gate.dropped} packets of the VM found no room at its gate" if gate.dropped else ""

    @property
    def _not_yet(self) -> str:
        if self.pair is None:
            return "no Primary has come yet"
        if self.works:
            return "the VM's first round is not whole yet"
        return "it has taken over" if self._taken_over else super()._not_yet
