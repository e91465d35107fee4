"""A machine: what outlives a process on it."""

from __future__ import annotations

from random import Random

from .disk import Platter


class Machine:
    """What outlives a process: a disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.platter = Platter()
        self.up = True
        self.kill_power = False
        """Whether its disk, if it kills a process in the middle of a call, does so by a power failure."""
        self.lost_power = False
        """Whether its disk has lost power since a store was opened on it."""

    def lose_power(self, random: Random) -> None:
        """It is down, and its disk holds what it must."""
        self.up, self.lost_power = False, True
        self.platter.lose_power(random)

    def wipe(self) -> None:
        """Remove what is on its disk."""
        self.platter = Platter()
