"""What a pair of tables must keep to: what can be said of any protocol, derived from its words and tables.

`colo_law.py` has what is to be said of COLO besides; it does not trust the tables for it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property

import attrs

from colo_fsm.fsm import CompleteTable, FailoverStatus, Side, Words, begin, won

from .control import Reaction
from .properties import OF_ANY_PAIR, Property
from .wire import Wire


@attrs.frozen(eq=False, slots=False)
class Law:
    """The law of two tables of the same words. Raises ValueError for tables of two protocols."""

    primary: CompleteTable
    secondary: CompleteTable

    judged = OF_ANY_PAIR
    """The properties that are looked at."""

    def __attrs_post_init__(self) -> None:
        if self.primary.words is not self.secondary.words:
            raise ValueError(
                f"the Primary's table speaks {self.primary.words.name}, the Secondary's "
                f"{self.secondary.words.name}: give both tables of one protocol"
            )

    def table(self, side: Side) -> CompleteTable:
        """The rows that this side follows."""
        return self.primary if side is Side.PRIMARY else self.secondary

    @property
    def words(self) -> Words:
        """The protocol."""
        return self.primary.words

    @cached_property
    def wire(self) -> Wire:
        """What travels."""
        return Wire.between(self.primary, self.secondary)

    @cached_property
    def over(self) -> frozenset[StrEnum]:
        """Where a side has come to its end."""
        return self.primary.final | self.secondary.final

    @cached_property
    def alone(self) -> frozenset[StrEnum]:
        """Where a side runs without the other."""
        return self.primary.alone | self.secondary.alone

    @cached_property
    def finishing(self) -> frozenset[StrEnum]:
        """Where a side that has met a fault makes its newest checkpoint whole first."""
        found = (table.status.items() for table in (self.primary, self.secondary))
        return frozenset(s for items in found for s, status in items if status is FailoverStatus.RELAUNCH)

    @cached_property
    def handshake(self) -> frozenset[StrEnum]:
        """Where both sides are a pair."""
        after = {self.words.initial, self.words.failover} | self.over | self.alone | self.finishing
        return frozenset((*self.primary.states, *self.secondary.states)) - after

    @cached_property
    def leaving(self) -> frozenset[StrEnum]:
        """Where an operator may tell a side to leave."""
        tables = (self.primary, self.secondary)
        return frozenset(s for table in tables for s in table.states if table.may(s, begin.leave))

    @cached_property
    def _known(self) -> dict[tuple[Side, Reaction], frozenset[Property]]:
        return {}

    def broken_by(self, side: Side, moved: Reaction) -> frozenset[Property]:
        """The properties that this transition breaks whatever else is true."""
        if (side, moved) not in self._known:
            self._known[side, moved] = frozenset(self.breaks(side, moved)) & self.judged
        return self._known[side, moved]

    def breaks(self, side: Side, moved: Reaction) -> set[Property]:
        """See `broken_by`."""
        claims = moved.dest in self.alone and moved.source not in self.alone and moved.trigger != won
        return {Property.CLAIMED} if claims else set()

    def completes_round(self, side: Side, moved: Reaction) -> bool:
        """Whether a round is over with this transition: the Primary may begin the next."""
        within = moved.source in self.handshake and moved.source not in self.primary.idle
        return side is Side.PRIMARY and within and moved.dest in self.primary.idle
