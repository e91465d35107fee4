"""Fencing: what must have happened between a claim that is won and a side that runs alone.

A claim decides; it stops nobody. A peer that ignores arbiters, as QEMU does, or whose machine guards
something that cannot refuse old tokens, must be stopped: powered off, cut from its disk or its network.
"""

from __future__ import annotations

import attrs

from colo_fsm.fsm import Side

from .base import Arbiter, ArbiterError, Claim, a_time
from .command import run, split

_MEANING = "is no success: 0 is done"


@attrs.define
class NotFenced(ArbiterError):
    """The claim is won, but `command` has not fenced the peer, because of `reason`. Claim again for a try."""

    command: str
    reason: str

    def __str__(self) -> str:
        return f"the claim is won, but '{self.command}' has not fenced the peer: {self.reason}"


@attrs.define(eq=False)
class Fenced:
    """The arbiter `arbiter`, whose won claims are answered when `command` has fenced the peer.

    The command (split like a shell would, but no shell) runs for at most `timeout` seconds, then its process
    group is killed. Appended to its arguments are the generation, the side that has won (the other one is to
    be fenced: `primary`, `secondary`) and the token. Exit status 0: the peer is fenced. Anything else is
    `NotFenced`: the side stays suspended, and asks and fences again. So it must do no harm twice. Whoever has
    lost a claim does not fence; who has fenced does not do it again in that generation.

    Keep `timeout` and the time of the claim below the `hook_deadline` of the pair.

    Raises:
        ValueError: there is no such command, or no such time.
    """

    arbiter: Arbiter
    command: str
    timeout: float = attrs.field(default=30.0, validator=a_time)
    _argv: tuple[str, ...] = attrs.field(init=False, repr=False)
    _over: set[int] = attrs.field(init=False, repr=False, factory=set)

    @_argv.default
    def _split(self) -> tuple[str, ...]:
        try:
            return split(self.command)
        except ValueError as error:
            raise ValueError(f"'{self.command}' cannot fence: {error}") from None

    def __str__(self) -> str:
        return str(self.arbiter)

    @property
    def local_only(self) -> bool:
        """As the arbiter says."""
        return self.arbiter.local_only

    def open(self) -> int:
        """As the arbiter does."""
        return self.arbiter.open()

    def check(self, generation: int) -> None:
        """As the arbiter does."""
        self.arbiter.check(generation)

    def claim(self, generation: int, side: Side) -> Claim:
        """As the arbiter does; the peer of a winner is fenced. Raises what that raises, and NotFenced."""
        claim = self.arbiter.claim(generation, side)
        if claim.winner is side and generation not in self._over:
            try:
                ran = run(self._argv, generation, side, self.timeout, str(claim.token))
            except OSError as error:
                raise NotFenced(self.command, str(error)) from error
            if ran.status != 0:
                raise NotFenced(self.command, ran.told(_MEANING))
            self._over.add(generation)
        return claim
