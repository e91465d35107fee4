"""What must hold, by name. Each is broken by a step (`steps.py`, `effects.py`) or found by the search.

The step that breaks a property names it; a verdict is `holds` when no reachable step does. What can be said
of a transition alone is in `law.py`; what needs the rest of the world is where the effect is performed.
"""

from __future__ import annotations

from ..found import Named


class Property(Named):
    """What must hold of any pair, or of COLO's."""

    OUTPUT_COMMIT = (
        "output-commit",
        "no packet leaves before the Secondary holds the checkpoint that covers it",
    )
    TAKEOVER = "takeover-covers-output", "who takes over has everything that was released"
    LOADABLE = "loadable-commit", "what was released can really be loaded"
    NO_SPLIT = "no-split-brain", "never do two sides run alone at once"
    NO_STALE = "no-stale-takeover", "no side takes over after the other has run alone"
    WHOLE = "whole-start", "no guest starts half loaded, or from another checkpoint than the newest"
    CLAIMED = "claimed", "outside the handshake only a side that has won its claim runs or lets packets out"
    FIT_CLAIM = "fit-to-claim", "who claims has failed over, is suspended, and has something whole to run"
    HUNG_UP = "hung-up", "who gives the pair up lets its peer know before anything that takes time"
    SUSPENDED = "suspended", "no guest is saved or loaded while it runs"
    COMPARING = "comparing", "outputs are compared only while both sides run (or one has gone)"
    FAILOVER = "error-to-failover", "every fault and every message out of order leads to failover"
    SYNC_POINTS = "sync-points", "a sync point is entered with its message, and no message waits behind work"
    ORDERLY = "orderly-end", "a side ends or stops for a reason, for good, suspended, and lets everything go"
    PROGRESS = "progress", "without faults every round completes: packets out, guests running"
    NO_DEADLOCK = "no-deadlock", "while the link is whole there is always a next step"
    SETTLES = "settles", "after a break all come to rest: one runs, unless none is left that may"
    UNEXPECTED = "expected", "without faults no message comes where the table has no row for it"
    REACHED = "rows-reached", "with every break there is a way to each row that is written"


OF_ANY_PAIR = frozenset(Property) - {
    Property.HUNG_UP,
    Property.FAILOVER,
    Property.SYNC_POINTS,
    Property.ORDERLY,
}
"""Those that can be said of any protocol; the others are rules of COLO's."""
