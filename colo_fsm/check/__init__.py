"""Is it still safe? Both machines explored exhaustively, with faults, from the tables that run.

    result = explore(Scenario(faults=frozenset({Strike.CRASH, Strike.CLOSED})))
    result.holds(Property.NO_SPLIT)

The protocol comes from the tables through the sessions that run in production (`control`); everything around
them (channels, crashes, stores, loads, claims) is the explorer's. `colo-fsm verify` is the command.
"""

from .found import TooLarge
from .members.rules import Bounds, MemberScenario, Rules
from .members.search import MemberProperty, MemberResult, explore_members
from .model.properties import Property
from .model.scenario import DISTURBANCES, Arbiter, Policy, Scenario, Strike
from .report import Verdict, judged
from .scenarios import DOCUMENTED, MATRIX, MEMBERS, Documented, documented
from .search.explore import Result, Trail, explore, moments
from .trail import exchange

__all__ = [
    "DISTURBANCES",
    "DOCUMENTED",
    "MATRIX",
    "MEMBERS",
    "Arbiter",
    "Bounds",
    "Documented",
    "MemberProperty",
    "MemberResult",
    "MemberScenario",
    "Policy",
    "Property",
    "Result",
    "Rules",
    "Scenario",
    "Strike",
    "TooLarge",
    "Trail",
    "Verdict",
    "documented",
    "exchange",
    "explore",
    "explore_members",
    "judged",
    "moments",
]
