"""Whether steps can go on for ever between two rounds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from colo_fsm.fsm import Side

from ..model.steps import Step

Node = TypeVar("Node", bound=Hashable)


class Loops:
    """Seen from each side alone, which is enough as long as it finds none.

    A cycle of the whole system is a cycle of at least one side. If the Primary cannot go round without
    completing a round, nor the Secondary without reading a message, no cycle is without a round: each
    message is a step of the Primary. Otherwise the search has to look at the whole (`on_a_cycle`).
    """

    def __init__(self) -> None:
        self._edges: dict[tuple[Side, int], set[tuple[Side, int]]] = {}

    def note(self, side: Side, here: int, there: int, step: Step) -> None:
        """A MUST step of a side, from one of its own states to another."""
        reads = any(r.trigger.message is not None for r in step.fired)
        if not step.round and not (side is Side.SECONDARY and reads):
            self._edges.setdefault((side, here), set()).add((side, there))

    def may_exist(self) -> bool:
        """Whether one side alone has such a cycle."""
        nodes = set(self._edges).union(*self._edges.values())
        return on_a_cycle(nodes, lambda node: self._edges.get(node, ())) is not None


def on_a_cycle(nodes: Iterable[Node], leads_to: Callable[[Node], Iterable[Node]]) -> Node | None:
    """A node on a cycle or behind one, None if there is no cycle: what nothing leads to goes, in turn."""
    onward = {node: list(leads_to(node)) for node in nodes}
    into = dict.fromkeys(onward, 0)
    for targets in onward.values():
        for target in targets:
            into[target] += 1
    free = [node for node, count in into.items() if count == 0]
    while free:
        for target in onward[free.pop()]:
            into[target] -= 1
            if into[target] == 0:
                free.append(target)
    return next((node for node, count in into.items() if count), None)
