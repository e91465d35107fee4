"""Whether a mutant is killed, or is equivalent: decided from where its graph parts from the sound one.

What a side can do at a moment is a function of the moment and of what its session answers. So the search over
a mutant goes exactly as the one over the sound tables, up to the first moment at which a question is answered
otherwise and the steps differ. If that never comes, the two graphs are the same, and no search is needed to
say so; if the first step that differs breaks a property, the mutant is killed. Only otherwise a search goes
on from that moment in each probe, and if it finds nothing in any, from the beginning.

The probes are nested: what can be seen in one of them can be seen in the last, so that one decides on
equivalence. Short cuts are checked: tests compare verdicts with those of a plain `explore()`.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from colo_fsm.colo import Variant
from colo_fsm.fsm import Side, Trigger

from ..model.control import Control
from ..model.properties import Property
from ..model.scenario import BREAKS, DISTURBANCES, Scenario, Strike, TooLarge
from ..model.steps import Step
from ..model.world import Local, MaybeDead, World
from ..search.explore import Search
from ..search.loops import Loops
from ..search.space import Moves
from .alike import Pair, Pairs, counts, match, match_weakly, same, took
from .mutants import Mutant
from .mutated import Asking, Difference, Machines, Mutated

LIMIT = 2_000_000
NEAR = 5_000
"""How many states are searched from where a mutant differs before the search begins anew."""
GROWTH = 4
"""A mutant's graph is searched up to so many times the size of the sound one: some have no end."""
MANY_PAIRS = 1_000
"""More pairs than that are no correspondence between two graphs that hardly differ."""

PROBES = {
    "no-faults": frozenset[Strike](),
    "breaks": BREAKS,
    "wire": BREAKS | DISTURBANCES - {Strike.INJECT},
    "everything": frozenset(Strike),
}
"""What goes wrong around a mutant, from cheap to dear, each with all of the one before.

What breaks in a probe with the sound tables kills nothing there.
"""
NARROWEST, WIDEST = "no-faults", "everything"


class Outcome(StrEnum):
    """What has become of a mutant. All but KILLED and SURVIVED are equivalent."""

    KILLED = "killed"
    UNASKED = "never asked"
    """Nothing that can happen makes a session look at the row."""
    ANSWERED = "same answer"
    """It is looked at, and the session answers as over the sound table: the order is refused anyway."""
    SAME = "same steps"
    """The session asks for other effects, and the steps are the same wherever it does."""
    ALIKE = "alike"
    """The graphs are bisimilar; they differ in effects that are never reached or have nothing to do."""
    SURVIVED = "survived"


EQUIVALENT = (Outcome.UNASKED, Outcome.ANSWERED, Outcome.SAME, Outcome.ALIKE)


class Judged(NamedTuple):
    """An outcome; for a kill, which property, in which probe, and how."""

    outcome: Outcome
    by: Property | None = None
    probe: str = ""
    why: str = ""


# -- one probe --------------------------------------------------------------------------------------


class Moment(NamedTuple):
    """A moment of the sound graph at which a side sees something for the first time."""

    number: int
    world: int
    own: Local


class Probe(Search):
    """A scenario explored with the sound tables, in which mutants can then be searched.

    All searches share one numbering of worlds, and what is known of steps that a mutant does not change.
    """

    def __init__(self, scenario: Scenario, unused: frozenset[Property] = frozenset()) -> None:
        super().__init__(scenario, LIMIT, stop_at_first=False)
        self.name = scenario.name
        controls = self.space.steps.control
        self.controls = {side: Asking(control) for side, control in controls.items()}
        controls.update(self.controls)
        self.views: dict[tuple[Side, Local], list[int]] = {}
        """Moments with all that a side which looks like this ever sees."""
        self._moments: dict[tuple[Side, StrEnum, Trigger | None], list[Moment]] = {}
        self._steps: dict[tuple[Side, int], list[Step] | None] = {}
        self._same: set[Hashable] = set()
        self._pairs: dict[tuple[Side, Pair], Pairs | None] = {}
        self._kept: dict[tuple[Side, frozenset[StrEnum]], dict[int, Moves]] = {}
        self.ignored = frozenset(Property)
        self.run()
        self.unused, self.ignored = unused, frozenset(self._broken) | unused
        self._most = GROWTH * len(self.came)
        self._sound_moves, self._sound_loops = self._moves, self.space.loops
        for control in self.controls.values():
            control.noting = False

    @property
    def _enough(self) -> bool:
        return bool(self._broken.keys() - self.ignored)

    def _expand(self, side: Side, key: int, state: int) -> Moves:
        """Over the sound tables, also note what is seen here for the first time, and what is asked."""
        control = self.controls[side]
        if not control.noting:
            return super()._expand(side, key, state)
        control.asked.clear()
        moves = super()._expand(side, key, state)
        own = self._own(side, state)
        if own is not None:
            moment = Moment(len(self._steps), state, own)
            self._steps[side, state] = None
            self.views.setdefault((side, own), []).append(state)
            for trigger in (*control.asked, None):
                self._moments.setdefault((side, own.state, trigger), []).append(moment)
        return moves

    def _own(self, side: Side, packed: int) -> MaybeDead:
        part = self.space.primary if side is Side.PRIMARY else self.space.secondary
        own: MaybeDead = part.unpack(packed)
        return own

    def asks(self, side: Side, where: Difference) -> bool:
        """Whether any question is asked over the sound tables that a mutant may answer otherwise."""
        visited = any((side, state, None) in self._moments for state in where.states)
        return visited or any((side, *question) in self._moments for question in where.questions)

    def _concerned(self, control: Mutated) -> list[Moment]:
        """The moments at which an answer differs, in the order in which the search comes to them."""
        changed = {(control.side, state, trigger) for (state, _), (trigger, _) in control.changed().items()}
        found = {moment for key in changed for moment in self._moments.get(key, ())}
        return sorted(found, key=lambda moment: moment.number)

    def _taken(self, side: Side, packed: int, own: MaybeDead = None) -> list[Step]:
        """The steps of a side at this moment, perhaps of another `own` at it, that count."""
        world: World = self.space.unpack(packed)
        out, inc = (world.forward, world.back) if side is Side.PRIMARY else (world.back, world.forward)
        own = own or self._own(side, packed)
        steps = self.space.steps.of_side(side, own, out.outgoing, inc.incoming, world.facts)
        normal = [step._replace(take=took(step.take, inc)) for step in steps]
        return [step for step in normal if counts(step, own, world)]

    def _sound(self, side: Side, packed: int) -> list[Step]:
        """The steps over the sound table."""
        known = self._steps[side, packed]
        if known is None:
            with self._over(self.controls[side]):
                known = self._steps[side, packed] = self._taken(side, packed)
        return known

    @contextmanager
    def _over(self, control: Control) -> Iterator[None]:
        """Meanwhile this side answers like this."""
        controls = self.space.steps.control
        before, controls[control.side] = controls[control.side], control
        try:
            yield
        finally:
            controls[control.side] = before

    # -- is it equivalent? --------------------------------------------------------------------------

    def compare(self, control: Mutated) -> Judged | None:
        """How the mutant is equivalent in this probe, or what its first other step breaks; None: open."""
        changed = control.changed()
        answers = (control.side, frozenset((at, answer) for at, (_, answer) in changed.items()))
        if not changed:
            return Judged(Outcome.ANSWERED)
        if answers in self._same:
            return Judged(Outcome.SAME)
        with self._over(control):
            moment = self._parting(control)
            if moment is None:
                self._same.add(answers)
                return Judged(Outcome.SAME)
            if (killed := self._at_once(control.side, moment)) is not None:
                return killed
            return Judged(Outcome.ALIKE) if self._alike(control) else None

    def _parting(self, control: Mutated) -> Moment | None:
        """The first moment at which the mutant's steps are other ones."""
        side = control.side
        return next(
            (
                moment
                for moment in self._concerned(control)
                if not same(self._taken(side, moment.world), self._sound(side, moment.world))
            ),
            None,
        )

    def _alike(self, control: Mutated) -> bool:
        """Whether the graphs are bisimilar, each world being matched with one that differs in a `todo`."""
        side = control.side
        pairs: set[Pair] = set()
        for moment in self._concerned(control):
            found = match(self._taken(side, moment.world), self._sound(side, moment.world))
            if found is None:
                return False
            pairs |= found
        ahead = list(pairs)
        while ahead and len(pairs) < MANY_PAIRS:
            found = self._lead_to(side, ahead.pop(), control.where)
            if found is None:
                return False
            ahead += found - pairs
            pairs |= found
        return not ahead

    def _lead_to(self, side: Side, pair: Pair, where: Difference) -> Pairs | None:
        """The pairs that this one leads to, whatever else is so; None if something is not matched."""
        if where.touched & {own.state for own in pair}:
            return self._matched(side, pair)
        if (side, pair) not in self._pairs:  # no answer that is mutated comes into it
            self._pairs[side, pair] = self._matched(side, pair)
        return self._pairs[side, pair]

    def _matched(self, side: Side, pair: Pair) -> Pairs | None:
        pairs: set[Pair] = set()
        own, sound = pair
        for world in self.views[side, sound]:
            facts = self.space.unpack(world).facts
            found = match_weakly(pair, self._taken(side, world, own), self._sound(side, world), facts)
            if found is None:
                return None
            pairs |= found
        return frozenset(pairs)

    # -- is it killed? ------------------------------------------------------------------------------

    def kills(self, control: Mutated, thoroughly: bool) -> Judged | None:
        """What breaks with the mutant, None if nothing does; `thoroughly`: anywhere, not only near by."""
        with self._over(control):
            if thoroughly or control.where.start:
                return self._search(control, None)
            moment = self._parting(control)
            if moment is None:
                return None
            return self._at_once(control.side, moment) or self._search(control, moment.world)

    def _at_once(self, side: Side, moment: Moment) -> Judged | None:
        """What the steps here break that those of the sound tables, at this same moment, do not."""
        mine, sound = (
            {broken for step in steps for broken in step.broken}
            for steps in (self._taken(side, moment.world), self._sound(side, moment.world))
        )
        return self._killed_by(mine - sound - self.unused, "at once")

    def _search(self, control: Mutated, start: int | None) -> Judged | None:
        """Search with the mutant's answers: from `start`, for a while, or all from the beginning."""
        side, touched = control.side, control.where.touched
        self._moves = {
            side: dict(self._known_moves(side, touched)),
            side.peer: dict(self._sound_moves[side.peer]),
        }
        self._broken = {}
        first = self.space.pack(self.space.steps.start()) if start is None else start
        self.came = {first: first}
        if start is None:
            self.space.loops = self._known_loops(side, touched)
            for broken in self.space.steps.broken_by_start():
                self._broken[broken] = self._trail(self.came, first, broken.meaning)
            self._progress(first)
        level = [first]
        most = self._most if start is None else NEAR
        while level and not self._enough and len(self.came) < most:
            level = self._next_level(level)
        if start is None and not level and not self._enough:
            self._livelock()
        return self._killed_by(self._broken.keys() - self.ignored, "later")

    def _killed_by(self, broken: Container[Property], when: str) -> Judged | None:
        by = next((each for each in Property if each in broken), None)
        return None if by is None else Judged(Outcome.KILLED, by, self.name, when)

    def _known_moves(self, side: Side, touched: frozenset[StrEnum]) -> dict[int, Moves]:
        """What is known of a side in the states in which the mutant answers as the sound table does."""
        key = (side, touched)
        if key not in self._kept:
            sound = self._sound_moves[side]
            self._kept[key] = {at: sound[at] for at in sound if self._untouched(side, at, touched)}
        return self._kept[key]

    def _known_loops(self, side: Side, touched: frozenset[StrEnum]) -> Loops:
        loops = Loops()
        loops._edges = {
            (at, here): set(there)
            for (at, here), there in self._sound_loops._edges.items()
            if at is not side or self._untouched(side, here, touched)
        }
        return loops

    def _untouched(self, side: Side, packed: int, touched: frozenset[StrEnum]) -> bool:
        own = self._own(side, packed)
        return own is None or own.state not in touched


# -- all probes -----------------------------------------------------------------------------------


class Court:
    """The probes of one variant, each explored when it is first needed. `properties`: those that may kill."""

    def __init__(self, variant: Variant, properties: frozenset[Property] = frozenset(Property)) -> None:
        self.variant = variant
        self._unused = frozenset(Property) - properties
        self._machines = Machines()
        self._probes: dict[str, Probe] = {}

    def probe(self, name: str) -> Probe:
        """This probe, explored with the sound tables."""
        if name not in self._probes:
            scenario = Scenario(name, self.variant, faults=PROBES[name])
            self._probes[name] = Probe(scenario, self._unused)
        return self._probes[name]

    def judge(self, mutant: Mutant) -> Judged:
        """Whether the mutant is equivalent, and if not, what kills it."""
        side, widest = mutant.side, self.probe(WIDEST)
        sound = widest.controls[side]
        where = Difference.of(sound.table, mutant)
        if not where.start and not widest.asks(side, where):
            return Judged(Outcome.UNASKED)
        control = Mutated(sound, mutant.table, self._machines.of(mutant.table), where)
        if not where.start and (judged := self._compared(widest, control)) is not None:
            return judged
        for thoroughly in (False, True):
            for name in PROBES:
                killed = self._kills(self.probe(name), control, thoroughly or name == NARROWEST)
                if killed is not None:
                    return killed
        return Judged(Outcome.SURVIVED)

    def _compared(self, probe: Probe, control: Mutated) -> Judged | None:
        try:
            return probe.compare(control)
        except TooLarge:  # a step of the mutant does more than a world can hold: what kills it is to be seen
            return None

    def _kills(self, probe: Probe, control: Mutated, thoroughly: bool) -> Judged | None:
        try:
            return probe.kills(control, thoroughly)
        except TooLarge:  # the numbers of a probe are used up: by this mutant, or by all before it
            del self._probes[probe.name]
            return None
