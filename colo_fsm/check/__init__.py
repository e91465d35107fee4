"""Is it still safe? Both machines explored exhaustively, with faults, from the tables that run.

    result = explore(Scenario(faults=frozenset({Strike.CRASH, Strike.CLOSED})))
    result.holds(Property.NO_SPLIT)

The protocol comes from the tables through the sessions that run in production (`control`); everything around
them (channels, crashes, stores, loads, claims) is the explorer's. `colo-fsm verify` is the command.
"""

from .model.properties import Property
from .model.scenario import DISTURBANCES, Arbiter, Policy, Scenario, Strike, TooLarge
from .report import Verdict
from .scenarios import MATRIX, Documented, documented
from .search.explore import Result, Trail, explore, moments
from .trail import exchange

__all__ = [
    "DISTURBANCES",
    "MATRIX",
    "Arbiter",
    "Documented",
    "Policy",
    "Property",
    "Result",
    "Scenario",
    "Strike",
    "TooLarge",
    "Trail",
    "Verdict",
    "documented",
    "exchange",
    "explore",
    "moments",
]
