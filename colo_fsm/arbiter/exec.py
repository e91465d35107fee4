"""The arbiter behind a command: whatever the site already trusts to decide, as an executable."""

from __future__ import annotations

from threading import Lock
from typing import ClassVar

import attrs

from colo_fsm.fsm import Side

from .base import ArbiterUnreachable, Claim, a_time, fresh_number, wall_clock
from .command import run, split

_WON, _LOST = 0, 10
_MEANING = f"is no answer: {_WON} is won, {_LOST} is lost"


@attrs.define(eq=False)
class ExecArbiter:
    """Claims by running `command` (split like a shell would, but no shell) for at most `timeout` s.

    The generation (decimal) and the side (`primary`, `secondary`) are appended as its last two
    arguments. Exit status 0: this side has won. 10: the other side has. Anything else, a signal, a
    time-out (the process group is killed) or a command that cannot be run is `ArbiterUnreachable`,
    with the last line it wrote to stderr. No shell or interpreter fails with 10 by itself: "lost" stops a
    side for good, and must not be said by accident.

    The command must record the first claim atomically and durably, out of reach of either side's
    failure, and must be idempotent: it runs again for every retry, and after a reply was lost.

    If the first line of its stdout is a number, that is the token: the command must see to it that it rises
    over the claims, whatever any clock does, and is the same for both sides (a counter that it keeps with
    its record). Without one, the generation is the token. That is the time at which the Primary started, and
    falls where its clock was set back between two starts: print a token where anything is guarded by it.

    Raises:
        ValueError: there is no such command, or no such time.
    """

    local_only: ClassVar[bool] = False

    command: str
    timeout: float = attrs.field(default=10.0, validator=a_time)
    _argv: tuple[str, ...] = attrs.field(init=False, repr=False)
    _opened: int = attrs.field(init=False, repr=False, factory=wall_clock)
    _lock: Lock = attrs.field(init=False, repr=False, factory=Lock)

    @_argv.default
    def _split(self) -> tuple[str, ...]:
        try:
            return split(self.command)
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from None

    def __str__(self) -> str:
        return f"exec:{self.command}"

    def open(self) -> int:
        """A new number, without asking the command.

        A generation only has to be new, and only the Primary opens any: the time in microseconds
        repeats none of an earlier start unless the clock is set back to that very microsecond.
        """
        with self._lock:
            self._opened = fresh_number(self._opened)
            return self._opened

    def check(self, generation: int) -> None:
        """Nothing: a command can only be asked to claim, which cannot be undone."""

    def claim(self, generation: int, side: Side) -> Claim:
        try:
            ran = run(self._argv, generation, side, self.timeout)
        except OSError as error:
            raise ArbiterUnreachable(str(self), str(error)) from error
        if ran.status not in (_WON, _LOST):
            raise ArbiterUnreachable(str(self), ran.told(_MEANING))
        winner = side if ran.status == _WON else side.peer
        printed = ran.first.isascii() and ran.first.isdigit()
        return Claim(winner, int(ran.first) if printed else generation)
