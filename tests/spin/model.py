"""A scenario as a Promela model, for SPIN: a second opinion on what the explorer says.

It is no dump of the explored graph. The tables are written out row by row, and what the sides, the link, the
arbiter and the faults do is written a second time, in Promela (in this folder). Nothing of the explorer's
steps, effects, views or search is used. Its rule for reading, too, is written anew from the tables, where
the explorer asks the sessions. A moment is the same value, field for field, so the numbers of states can
be compared.

What SPIN decides:
- the number of moments: SPIN stores one more, the empty one before both sides have started;
- every property that a step can break, and both that are looked at where no MUST step changes anything;
- with -DLIVE, in a run whose states are not counted (it remembers whether anything but MUST steps has
  happened): whether, without faults, every round completes; and, with a never claim, whether MUST steps
  can go on for ever without a round, from any moment.

What it does not: whether every row fires, and whether a message comes that has none. It has no shortest
trails, and its transitions are not ours (it tries events that are not possible). What both assume (what one
step is, which faults there are, what a property says) it cannot question.
"""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.check import Arbiter, Policy, Scenario, Strike
from colo_fsm.check.model.world import FAR, ROOM
from colo_fsm.colo import Mode, Profile, ReleaseOn
from colo_fsm.fsm import Side

from .effects import EFFECTS
from .process import FOR_EVER, LIVE, STEP
from .steps import FIRES, STEPS
from .tables import WIRE, both, names, sizes, table
from .world import DECLARATIONS, REST, SURROUNDINGS

MUST = ("GOES_ON", "FINDS_DAMAGE", "BEGINS", "NOTICES")
"""The steps of a side that happen if one waits."""

MAY = {
    "CANNOT_SEND": None,
    "LOSES_ANSWER": Strike.ARBITER,
    "FINDS_NO_WAY_BACK": Strike.CLOSED,
    "IS_TOLD": Strike.REQUEST,
    "GIVES_UP": Strike.TIMEOUT,
    "HOOK_FAILS": Strike.GUEST,
    "LEAVES": Strike.LEAVE,
    "DIES": Strike.CRASH,
    "DIES_UNSEEN": Strike.CRASH,
}
"""Those that may never happen, and what must be able to strike; None: it follows from a break."""

AROUND = {"CUTS": Strike.CLOSED, "HUSHES": Strike.SILENT, "SHUTS_ARBITER": Strike.ARBITER}
"""What strikes the whole link, or the arbiter."""

DISTURBS = {
    "CORRUPTS": Strike.CORRUPT,
    "DAMAGES": Strike.PAYLOAD,
    "REORDERS": Strike.REORDER,
    "DOUBLES": Strike.DUPLICATE,
    "FORGES": Strike.INJECT,
}
"""What strikes one direction of the link, and is counted."""

EVENTS = ("STARTS", *MUST, *MAY, *AROUND, "LOSES_TAIL", *DISTURBS)

HEADER = """\
/* colo_fsm, the scenario "{name}":
   {scenario}; policy {policy}

How many moments there are, and what is broken in them:

    spin -o2 -a FILE
    gcc -O1 -DSAFETY -DNOREDUCE -o pan pan.c
    ./pan -n -m100000

What goes on for ever (its states are not to be compared):

    spin -o2 -DLIVE -a FILE
    gcc -O1 -DNOREDUCE -DNOFAIR -o pan pan.c
    ./pan -n -m100000 -a -c0

-o2 keeps SPIN from merging moments whose difference it thinks nobody looks at.

"states, stored" of the first run is one more than the explorer's count: the moment before the start, which
is all zeros. "BROKEN name" says that this property does not hold. In the second run "ROUND completed" says
that a round is completed without any fault (where it is missing, "progress" is broken); an error is an
acceptance cycle, MUST steps that go on for ever without a round, and breaks "settles". Errors of the first
run would be errors of this model. With -DDUMP as well, spin makes a verifier whose first run prints every
moment, as bytes: "STATE hex".

This is generated: tests/spin writes one for each scenario. */"""


def export(scenario: Scenario) -> str:
    """The scenario as a Promela model; the comment at its top says how to run it."""
    tables = [scenario.table(side) for side in Side]
    parts = [
        HEADER.format(name=scenario.name, scenario=scenario, policy=scenario.policy),
        names(),
        _constants(scenario),
        sizes(tables),
        DECLARATIONS,
        *(table(each) for each in tables),
        both(),
        SURROUNDINGS,
        EFFECTS,
        FIRES,
        STEPS,
        REST,
        LIVE,
        STEP,
        "\n".join(_process(scenario)),
        FOR_EVER,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _constants(scenario: Scenario) -> str:
    variant, policy = scenario.variant, scenario.policy
    values = {
        "HYBRID": variant.mode is Mode.HYBRID,
        "GATE": variant.release_on is ReleaseOn.GATE,
        "PATCH": variant.profile is Profile.PATCH,
        "ARBITER": scenario.arbiter is Arbiter.CLAIM,
        "BUDGET": scenario.disturbances,
        "ROOM": ROOM,
        "FAR": FAR,
        **{each.name: policy is each for each in Policy if each is not Policy.SOUND},
    }
    return "\n".join(
        [
            "/* the scenario */",
            *(f"#define {name} {int(value)}" for name, value in values.items()),
            "/* events: what happens next, and to whom (a side, or the direction that the Primary or the",
            "   Secondary writes to) */",
            "#define EVENT(what, who) (what * 2 + who)",
            "#define REST 1",
            *(f"#define {name} {number}" for number, name in enumerate(EVENTS, 1)),
            f"#define FIRST_MUST {MUST[0]}",
            f"#define LAST_MUST {MUST[-1]}",
        ]
    )


def _process(scenario: Scenario) -> Iterator[str]:
    """Choose an event, then let it happen; nothing is stored in between."""
    yield "active proctype colo() {"
    yield "    do"
    yield "    :: atomic {"
    yield "        if"
    yield "        :: world.w_side[PRI].s_state == UNBORN -> event = EVENT(STARTS, PRI)"
    yield "        :: else ->"
    yield "            if"
    yield from _choices(scenario)
    yield "            fi"
    yield "        fi;"
    if scenario.disturbances:
        yield from _aims()
    yield "        d_step { happens() }"
    yield "    }"
    yield "    od"
    yield "}"


def _choices(scenario: Scenario) -> Iterator[str]:
    struck = [name for name, strike in MAY.items() if strike is None or strike in scenario.faults]
    yield "            /* MUST: what happens if one waits; and a look at whether anything does */"
    yield from (_both_ways(name) for name in MUST)
    yield "            :: event = REST"
    yield "            /* MAY: what may never happen */"
    for name in struck:
        yield "            :: event = EVENT(FINDS_NO_WAY_BACK, PRI)" if name in _PRIMARY else _both_ways(name)
    yield "            /* the surroundings */"
    yield from (
        f"            :: event = EVENT({name}, 0)" for name, s in AROUND.items() if s in scenario.faults
    )
    yield _both_ways("LOSES_TAIL", "world.w_way[{}].y_count > 0 -> ")
    for name, strike in DISTURBS.items():
        if strike in scenario.faults:
            something = "" if name == "FORGES" else " && world.w_way[{}].y_count > 0"
            yield _both_ways(name, f"world.w_budget > 0{something} -> ")


_PRIMARY = frozenset({"FINDS_NO_WAY_BACK"})
"""What only the Primary can meet with."""


def _both_ways(name: str, guard: str = "") -> str:
    options = (f"            :: {guard.format(who)}event = EVENT({name}, {who})" for who in ("PRI", "SEC"))
    return "\n".join(options)


def _aims() -> Iterator[str]:
    """What a disturbance strikes, and what becomes of it."""
    yield "        if"
    yield "        :: event >= EVENT(CORRUPTS, 0) && event < EVENT(FORGES, 0) ->"
    yield "            if"
    yield "            :: item = 0"
    for n in range(1, ROOM):
        yield f"            :: world.w_way[event % 2].y_count > {n} -> item = {n}"
    yield "            fi"
    yield "        :: else"
    yield "        fi;"
    yield "        if"
    yield "        :: event / 2 == CORRUPTS || event / 2 == FORGES ->"
    yield "            if"
    yield from (f"            :: value = {value}" for value in WIRE.values)
    yield "            fi"
    yield "        :: else"
    yield "        fi;"
