"""Checks of a table as written: all problems at once, before a machine is made of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum

import attrs

from .table import Kind, Row, Table, Variant
from .terms import Do, Effect, Fault, Message, Send, Side
from .wire import SIGN_OF_LIFE
from .words import Words


class TableError(ValueError):
    """A table is not a machine; `problems` has all that is wrong with it, one text each."""

    def __init__(self, title: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{title}:" + "".join(f"\n  - {p}" for p in self.problems))


@attrs.frozen
class _Written:
    """A table as one variant has it. `rows` are those in the table's own words."""

    side: Side
    words: Words
    start: tuple[Effect, ...]
    error: tuple[Effect, ...]
    rows: tuple[Row, ...]

    @property
    def asked(self) -> Iterator[tuple[str, Effect]]:
        """Every effect, and where it is asked for."""
        yield from (("the start", effect) for effect in self.start)
        yield from (("the error transition", effect) for effect in self.error)
        yield from ((str(r), effect) for r in self.rows for effect in r.effects)


def validate(table: Table, variant: Variant) -> tuple[str, ...]:
    """Everything that is wrong with this table in this variant, one text each; () when it is sound."""
    words, rows = table.words, table.rows(variant)
    foreign = [problem for r in rows for problem in _foreign_words(words, r)]
    own = tuple(r for r in rows if not any(_foreign_words(words, r)))
    written = _Written(table.side, words, table.begins_with(variant), table.on_error(variant), own)
    checks = (_wrong_words, _duplicates, _rowless, _unreachable, _wrong_way, _never_done)
    return tuple(dict.fromkeys([*foreign, *(problem for check in checks for problem in check(written))]))


def states_of(words: Words, rows: Iterable[Row]) -> tuple[StrEnum, ...]:
    """The states that these rows use, in the order of the protocol."""
    used = {words.initial, words.failover}
    for r in rows:
        used |= {r.source} | ({r.dest} if r.dest else set())
    return tuple(s for s in words.states if s in used)


def _foreign_words(words: Words, r: Row) -> Iterator[str]:
    """Enum members of two protocols can be equal, so it is by type that a word is foreign."""
    for state in (r.source, r.dest):
        if state is not None and not isinstance(state, words.states):
            yield f"{r}: {state!r} is no state of {words.name}"
    word = r.trigger.word
    match r.trigger.kind:
        case Kind.RECV if not _is_message(words, word):
            yield f"{r}: {word!r} is no message of {words.name}"
        case Kind.DONE if not isinstance(word, Do):
            yield f"{r}: {word!r} is no effect: see Do"
        case Kind.FAULT if not isinstance(word, Fault):
            yield f"{r}: {word!r} is no fault: see Fault"


def _is_message(words: Words, word: object) -> bool:
    return isinstance(word, Message) and words.by_value.get(word) is word


def _wrong_words(written: _Written) -> Iterator[str]:
    words = written.words
    for message, times in Counter(int(point.message) for point in words.points).items():
        if times > 1:
            yield f"{words.name} has {times} sync points of the value {message}"
    for point in words.points:
        if point.message == int.from_bytes(SIGN_OF_LIFE, "big"):
            yield f"{point.message.text} has the value of a sign of life: give it another"
    for kind in dict.fromkeys(type(point.message) for point in words.points):
        yield from (f"{m.text} has no sync point" for m in kind if not _is_message(words, m))
    named = [("failover", words.failover), *((p.message.text, p.state) for p in words.points)]
    for what, state in named:
        if not isinstance(state, words.states):
            yield f"{what}: {state!r} is no state of {words.name}"


def _duplicates(written: _Written) -> Iterator[str]:
    for (source, trigger), n in Counter((r.source, r.trigger) for r in written.rows).items():
        if n > 1:
            yield f"{n} rows for '{trigger}' in '{source}': only the first could ever fire"


def _rowless(written: _Written) -> Iterator[str]:
    sources = {r.source for r in written.rows}
    for state in states_of(written.words, written.rows):
        if state not in sources:
            yield f"'{state}' is entered but has no row: list it, with `otherwise` if nothing leaves it"


def _unreachable(written: _Written) -> Iterator[str]:
    words, rows = written.words, written.rows
    reached: set[StrEnum] = set()
    found = {words.initial, words.failover}
    while found:
        reached |= found
        found = {r.dest for r in rows if r.source in reached and r.dest} - reached
    for state in states_of(words, rows):
        if state not in reached:
            yield f"'{state}' cannot be reached from '{words.initial}'"


def _wrong_way(written: _Written) -> Iterator[str]:
    words, side = written.words, written.side
    for where, effect in written.asked:
        if not isinstance(effect, Send):
            yield from _foreign_effect(where, effect)
        elif not _is_message(words, effect.message):
            yield f"{where}: {effect.message!r} is no message of {words.name}"
        elif words.sender[effect.message] is not side:
            yield f"{where}: {effect.message.text} is not the {side}'s to send"
    for r in written.rows:
        message = r.trigger.message
        if message is not None and words.sender[message] is side:
            yield f"{r}: {message.text} is not the {side}'s to receive"


def _foreign_effect(where: str, effect: object) -> Iterator[str]:
    if not isinstance(effect, Do):
        yield f"{where}: {effect!r} is no effect: see Do"


def _never_done(written: _Written) -> Iterator[str]:
    """A `done` that nothing on the way in can bring about leaves its state stuck."""
    words, rows = written.words, written.rows
    asked: dict[StrEnum, set[Effect]] = defaultdict(set)
    asked[words.initial].update(written.start)
    asked[words.failover].update(written.error)
    for r in rows:
        asked[r.dest or r.source].update(r.effects)
    for r in rows:
        if r.trigger.kind is Kind.DONE and r.trigger.word not in asked[r.source]:
            yield f"{r}: no row into '{r.source}' asks for '{r.trigger.word}'"
