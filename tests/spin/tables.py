"""Promela text: the names of the protocol, and the two tables, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from colo_fsm.check import Property
from colo_fsm.check.model.wire import Wire
from colo_fsm.colo import COLO, COLOMessage, State
from colo_fsm.fsm import CompleteTable, Do, Effect, Fault, Row, Send, Side, Trigger, begin, fault, lost, won

WIRE = Wire(COLO)
PREFIX = {Side.PRIMARY: "PRI", Side.SECONDARY: "SEC"}

_DONE, _SEND = 64, 64
"""What is added to an effect to make the trigger of its completion, and to a message to make its sending."""

_TRIGGERS: dict[Trigger, str] = {
    fault(Fault.INVALID): "INVALID",  # first: an invalid value is read as what it triggers
    **{fault(kind): kind.name for kind in Fault if kind is not Fault.INVALID},
    begin.checkpoint: "BEGIN_CHECKPOINT",
    begin.leave: "BEGIN_LEAVE",
    won: "WON",
    lost: "LOST",
}


def names() -> str:
    """Every constant that stands for something in the protocol, and the properties."""
    triggers = {name: WIRE.invalid + n for n, name in enumerate(_TRIGGERS.values())}
    groups: list[tuple[str, dict[str, int]]] = [
        ("states; DEAD is a side that has crashed, UNBORN one that has not started", _states()),
        ("messages; each is the trigger of its arrival, too", {m.name: int(m) for m in COLOMessage}),
        (
            "what travels besides messages",
            {"INITIAL": WIRE.initial, "LIVE_STATE": WIRE.live, "STATE": WIRE.state},
        ),
        ("other triggers; NEITHER is none", triggers | {"NEITHER": 255, "DONE": _DONE}),
        ("effects; SEND + a message sends it, DONE + an effect is its completion", _effects()),
        ("properties", {f"P_{each.name}": n for n, each in enumerate(Property)}),
    ]
    lines: list[str] = []
    for title, members in groups:
        lines += [f"/* {title} */", *(f"#define {name} {number}" for name, number in members.items())]
    said = ", ".join(f'"{each}"' for each in Property)
    return "\n".join([*lines, f"c_code {{ static const char *cx_names[] = {{ {said}, 0 }}; }};"])


def _states() -> dict[str, int]:
    return {"UNBORN": 0, **{s.name: n for n, s in enumerate(State, 1)}, "DEAD": 99}


def _effects() -> dict[str, int]:
    return {"NOTHING": 0, **{effect.name.upper(): n for n, effect in enumerate(Do, 1)}, "SEND": _SEND}


def sizes(tables: Iterable[CompleteTable]) -> str:
    """How much room the effects of a row need, and all that a side may have to do at once.

    A row can come behind what is left of another. A table that heaps up more than that ends the run: SPIN
    checks every index of an array.
    """
    each = list(tables)
    lists = [row.effects for table in each for row in table.rows] + [table.start for table in each]
    longest = max(len(effects) for effects in lists)
    return f"#define ROW {longest}\n#define TODO {2 * longest + 1}  /* the last stays empty */"


def table(rows: CompleteTable) -> str:
    """What the rows of one side say of each of its states."""
    who = PREFIX[rows.side]
    may_begin = [s for s in rows.states if rows.may(s, begin.checkpoint)]
    may_leave = [s for s in rows.states if rows.may(s, begin.leave)]
    early = [
        f"(s == {s.name} && v == {message.name})"
        for s in may_begin
        if (message := rows.expects[s]) is not None
    ]
    completes = [
        f"(s == {s.name} && e == {e.name.upper()})" for s in rows.states for e in Do if rows.awaits(s, e)
    ]
    lines = [
        f"/* what the {rows.side} awaits; what it may begin; where it has a deadline; a message that is",
        "   early where it may begin; effects whose completion some state awaits, or this one */",
        f"#define {who}_AWAITS(s) {_any(s for s in rows.states if rows.accepts[s])}",
        f"#define {who}_MAY_BEGIN(s) {_any(may_begin)}",
        f"#define {who}_MAY_LEAVE(s) {_any(may_leave)}",
        f"#define {who}_TIMED(s) {_any(s for s in rows.states if s in rows.timed)}",
        f"#define {who}_EARLY(s, v) ({' || '.join(early) or 'false'})",
        f"#define {who}_SOMEWHERE(e) {_any((e for e in Do if e in rows.awaited), 'e')}",
        f"#define {who}_COMPLETES(s, e) ({' || '.join(completes) or 'false'})",
        f"inline {who.lower()}_row() {{",
        "    if",
        *(line for state in rows.states for line in _rows(rows, state)),
        "    :: else -> assert(false)",
        "    fi",
        "}",
        f"inline {who.lower()}_start() {{ {_puts(rows.start) or 'skip'} }}",
    ]
    return "\n".join(lines)


def both() -> str:
    """What is asked of a side, whichever it is."""
    per_state = ("AWAITS", "MAY_BEGIN", "MAY_LEAVE", "TIMED")
    lines = [
        f"#define {what} (x_me == PRI -> PRI_{what}(ME.s_state) : SEC_{what}(ME.s_state))"
        for what in per_state
    ]
    lines += [
        "#define EARLY(v) (x_me == PRI -> PRI_EARLY(ME.s_state, v) : SEC_EARLY(ME.s_state, v))",
        "#define SOMEWHERE(e) (x_me == PRI -> PRI_SOMEWHERE(e) : SEC_SOMEWHERE(e))",
        "#define COMPLETES(e) (x_me == PRI -> PRI_COMPLETES(ME.s_state, e) : SEC_COMPLETES(ME.s_state, e))",
        "inline looks_up() { if :: x_me == PRI -> pri_row() :: else -> sec_row() fi }",
        "inline starts_with() { if :: x_me == PRI -> pri_start() :: else -> sec_start() fi }",
    ]
    return "\n".join(lines)


def _any(members: Iterable[StrEnum | Do], what: str = "s") -> str:
    return "(" + (" || ".join(f"{what} == {each.name.upper()}" for each in members) or "false") + ")"


def _rows(rows: CompleteTable, state: StrEnum) -> Iterator[str]:
    """The rows of one state. What most triggers lead to stands last, for all that are not listed."""
    groups: dict[tuple[StrEnum, tuple[Effect, ...]], list[Row]] = {}
    for row in rows.rows:
        if row.source is state:
            groups.setdefault((row.dest or state, row.effects), []).append(row)
    rest = max(groups, key=lambda key: len(groups[key]))
    yield f"    :: x_at == {state.name} ->"
    yield "        if"
    for (dest, effects), same in groups.items():
        if (dest, effects) != rest:
            asked = " || ".join(f"x_on == {_trigger(row.trigger)}" for row in same)
            yield f"        :: {asked} -> {_leads(dest, effects)}"
    yield f"        :: else -> {_leads(*rest)}"
    yield "        fi"


def _leads(dest: StrEnum, effects: tuple[Effect, ...]) -> str:
    return "; ".join(part for part in (f"x_to = {dest.name}", _puts(effects)) if part)


def _puts(effects: tuple[Effect, ...]) -> str:
    return "; ".join(f"x_row[{n}] = {_effect(effect)}" for n, effect in enumerate(effects))


def _effect(effect: Effect) -> str:
    return f"SEND + {effect.message.name}" if isinstance(effect, Send) else effect.name.upper()


def _trigger(trigger: Trigger) -> str:
    if trigger.message is not None:
        return trigger.message.name
    known = _TRIGGERS.get(trigger)
    return known if known is not None else f"DONE + {trigger.name.removeprefix('done_').upper()}"
