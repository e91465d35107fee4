"""Frozen machines: they do what stock `transitions` does, or are refused."""

from __future__ import annotations

import copy
import itertools
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, StrEnum
from random import Random
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from transitions import Event, Machine, MachineError, State, Transition
from transitions.extensions import HierarchicalMachine, LockedMachine
from transitions.extensions.nesting import NestedEvent, NestedState

from colo_fsm.protocol.frozen import FreezeError, FrozenError, FrozenEvent, FrozenMachine

MACHINES = 4000
STEPS = 16
EVENTS = ("go", "back", "loop", "stay")
ROW_HOOKS = ("prepare", "before", "after")
STATE_HOOKS = ("on_enter", "on_exit")
MACHINE_HOOKS = ("prepare_event", "before_state_change", "after_state_change", "finalize_event")


class Plain(Enum):
    A = 1
    B = 2
    C = 3
    D = 4


class Text(StrEnum):
    """The value of one member is the name of another: stock goes by the name."""

    A = "B"
    B = "A"
    C = "c"
    D = "d"


class Stop(BaseException):
    """What no `except Exception` catches."""


@attrs.define
class Model:
    state: Any


# ---- the same as stock -------------------------------------------------------------------------


@attrs.define
class Scenario:
    """A random machine, its model, and all that happened; one seed always gives the same one."""

    rng: Random
    states: list[Any]
    model: Model
    trace: list[tuple[object, ...]] = attrs.field(factory=list)
    machine: Machine = attrs.field(init=False)
    depth: int = 0

    @classmethod
    def build(cls, seed: int, machine_cls: type[Machine]) -> Scenario:
        rng = Random(seed)
        states: list[Any] = rng.choice((list("ABCD"), list(Plain), list(Text)))
        self = cls(rng, states, Model(states[0]))
        self.machine = machine_cls(
            model=None,
            states=[{"name": s, **self.hooks(f"state {s}", *STATE_HOOKS)} for s in states],
            initial=states[0],
            auto_transitions=False,
            name=rng.choice(("", "pair")),
            **self.hooks("machine", *(hook for hook in MACHINE_HOOKS if rng.random() < 0.5)),
        )
        for event in EVENTS:
            for source in rng.sample(states, rng.randrange(2, 5)):
                dest = rng.choice((*states, *states, "=", None))
                hooks = self.hooks(f"{event} from {source}", *ROW_HOOKS)
                self.machine.add_transition(event, source, dest, **hooks)
        return self

    def hooks(self, label: str, *names: str) -> dict[str, Any]:
        return {
            name: [self.hook(f"{label} {name}") for _ in range(self.rng.choice((0, 0, 0, 1, 1, 2)))]
            for name in names
        }

    def hook(self, label: str) -> Callable[..., None]:
        """A callback that records what it sees, may raise once, and may fire another event."""
        raises_at = self.rng.choice((None, None, None, None, None, None, 0, 2, 5))
        error = self.rng.choice((ValueError, KeyError, MachineError, Stop))
        nested = self.rng.choice(EVENTS) if self.rng.random() < 0.05 else None
        calls = itertools.count()

        def callback(*args: object, **kwargs: object) -> None:
            self.trace.append((label, repr(self.model.state), args, kwargs))
            if nested is not None and self.depth < 3:
                self.depth += 1
                try:
                    self.machine.events[nested].trigger(self.model, *args, nested=label)
                finally:
                    self.depth -= 1
            if next(calls) == raises_at:
                raise error(label)

        return callback

    def step(self) -> None:
        if self.rng.random() < 0.15:  # also names, values, and what is no state at all
            strange = ("A", "B", "c", Plain.A, Text.B, "nowhere", None, ["A"])
            self.model.state = self.rng.choice((*self.states * 3, *strange))
        args = tuple(range(self.rng.randrange(3)))
        kwargs = {"key": "value"} if self.rng.random() < 0.3 else {}
        event = self.machine.events[self.rng.choice(EVENTS)]
        outcome: tuple[object, ...]
        try:
            outcome = ("returned", event.trigger(self.model, *args, **kwargs))
        except (ValueError, LookupError, TypeError, MachineError, Stop) as error:
            outcome = ("raised", type(error), str(error))
        self.trace.append((*outcome, repr(self.model.state)))

    def run(self) -> list[tuple[object, ...]]:
        with logged_errors(self.trace):
            for _ in range(STEPS):
                self.step()
        return self.trace


@contextmanager
def logged_errors(trace: list[tuple[object, ...]]) -> Iterator[None]:
    class Record(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            trace.append(("logged", record.levelname, record.getMessage()))

    logger = logging.getLogger("transitions.core")
    handler = Record(logging.ERROR)
    logger.addHandler(handler)
    logger.propagate = False  # thousands of lines would bury a failure
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def test_random_machines_behave_as_stock() -> None:
    kinds = dict.fromkeys(("returned", "raised", "logged"), 0)
    rows = 0
    for seed in range(MACHINES):
        stock = Scenario.build(seed, Machine)
        ours = Scenario.build(seed, FrozenMachine)
        assert isinstance(ours.machine, FrozenMachine)
        ours.machine.freeze()
        if seed % 4 == 0:
            ours.machine = copy.deepcopy(ours.machine)
        expected = stock.run()
        assert ours.run() == expected, f"seed {seed}"
        rows += len(expected)
        for row in expected:
            if row[0] in kinds:
                kinds[str(row[0])] += 1
    assert rows > 200_000
    assert min(kinds.values()) > 1_000, kinds


# ---- what is refused ---------------------------------------------------------------------------


def noop(*_: object, **__: object) -> None: ...


def true(*_: object, **__: object) -> bool:
    return True


def two_states(cls: type[FrozenMachine] = FrozenMachine, **settings: Any) -> FrozenMachine:
    defaults: dict[str, Any] = {
        "model": None,
        "states": ["A", "B"],
        "initial": "A",
        "transitions": [["go", "A", "B"], {"trigger": "back", "source": "B", "dest": "A"}],
        "auto_transitions": False,
    }
    return cls(**{**defaults, **settings})


def named(hook: str) -> FrozenMachine:
    settings: dict[str, Any] = {hook: "name"}
    return two_states(**settings)


def row(source: str, dest: str | None, **hooks: Any) -> list[dict[str, Any]]:
    return [{"trigger": "go", "source": source, "dest": dest, **hooks}]


def changed(base: type, **members: object) -> Any:
    return type(f"Changed{base.__name__}", (base,), members)


SLOW_STATE = changed(FrozenMachine, state_cls=changed(State, enter=noop))
EAGER_ROW = changed(FrozenMachine, transition_cls=changed(Transition, execute=noop))
OWN_EVENT = changed(FrozenMachine, event_cls=changed(FrozenEvent, trigger=noop))
STOCK_EVENT = changed(FrozenMachine, event_cls=Event)
NESTED: Any = type("Nested", (FrozenMachine, HierarchicalMachine), {"event_cls": NestedEvent})
LOCKED: Any = type("Locked", (FrozenMachine, LockedMachine), {})

REFUSALS: list[tuple[FrozenMachine, str]] = [
    (two_states(queued=True), "queued=True"),
    (two_states(send_event=True), "send_event=True"),
    (two_states(on_exception=noop), "on_exception"),
    (two_states(on_final=noop), "on_final"),
    (two_states(ignore_invalid_triggers=True), "ignore_invalid_triggers: "),
    (two_states(states=["A", {"name": "B", "ignore_invalid_triggers": True}]), "on ['B']"),
    (two_states(model=SimpleNamespace()), "registered models"),
    (two_states(model_attribute="phase"), "model_attribute"),
    (two_states(transitions=row("A", "B", conditions=true)), "conditions"),
    (two_states(transitions=row("A", "B", unless=true)), "unless"),
    (two_states(transitions=row("A", "B") * 2), "event 'go' from 'A': 2 transitions"),
    (two_states(transitions=row("A", "Z")), "event 'go' from 'A': unknown dest state 'Z'"),
    (two_states(transitions=row("Z", "A")), "event 'go' from 'Z': unknown source state"),
    *(
        (two_states(transitions=row("A", "B", **{hook: "name"})), f"from 'A': {hook} callback")
        for hook in ROW_HOOKS
    ),
    *(
        (two_states(states=["A", {"name": "B", hook: "name"}]), f"state 'B': {hook} callback")
        for hook in STATE_HOOKS
    ),
    *((named(hook), f"machine: {hook} callback 'name'") for hook in MACHINE_HOOKS),
    (two_states(SLOW_STATE), "ChangedState: enter"),
    (two_states(states=["A", NestedState("B")]), "NestedState: "),
    (two_states(EAGER_ROW), "ChangedTransition: execute"),
    (two_states(OWN_EVENT), "ChangedFrozenEvent: trigger"),
    (two_states(STOCK_EVENT), "Event: trigger not as in FrozenEvent"),
    (two_states(changed(FrozenMachine, callback=noop)), "ChangedFrozenMachine: callback"),
    (two_states(changed(FrozenMachine, set_state=noop)), "ChangedFrozenMachine: set_state"),
    (two_states(NESTED), "Nested: "),
    (two_states(LOCKED), "Locked: "),
]


@pytest.mark.parametrize(("machine", "text"), REFUSALS, ids=[text for _, text in REFUSALS])
def test_what_cannot_be_compiled_is_refused(machine: FrozenMachine, text: str) -> None:
    with pytest.raises(FreezeError) as caught:
        machine.freeze()
    assert any(text in problem for problem in caught.value.problems), caught.value.problems
    assert text in str(caught.value)
    assert not machine.frozen


def test_a_method_replaced_on_an_instance_is_refused() -> None:
    machine = two_states()
    vars(machine.events["go"])["trigger"] = noop
    with pytest.raises(FreezeError, match="trigger not as in"):
        machine.freeze()


def test_all_problems_are_reported_at_once_and_can_be_mended() -> None:
    machine = two_states(send_event=True, finalize_event="done", transitions=row("A", "Z") * 2)
    with pytest.raises(FreezeError) as caught:
        machine.freeze()
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == [
        "send_event=True",
        "machine",
        "event 'go' from 'A'",
        "event 'go' from 'A'",
    ]
    assert pickle.loads(pickle.dumps(caught.value)).problems == problems

    machine.send_event = False
    machine.finalize_event = []
    machine.remove_transition("go")
    machine.add_transition("go", "A", "B")
    machine.freeze()
    assert fired(machine, "go", "A") == "B"


def test_before_freeze_a_machine_is_stock() -> None:
    machine = two_states(transitions=row("A", "B", conditions=lambda allowed: allowed))
    model = Model("A")
    assert machine.events["go"].trigger(model, False) is False
    assert model.state == "A"
    seen: list[bool] = []
    machine.events["go"].add_callback("after", seen.append)
    assert machine.events["go"].trigger(model, True) is True
    assert (model.state, seen) == ("B", [True])


# ---- nothing changes after freeze() ------------------------------------------------------------


def fired(machine: Machine, event: str, state: Any) -> Any:
    model = Model(state)
    assert machine.events[event].trigger(model) is True
    return model.state


CHANGES: dict[str, Callable[[FrozenMachine], object]] = {
    "add_transition": lambda m: m.add_transition("go", "B", "A"),
    "add_transition, new event": lambda m: m.add_transition("new", "B", "A"),
    "add_transitions": lambda m: m.add_transitions([["new", "B", "A"]]),
    "add_ordered_transitions": lambda m: m.add_ordered_transitions(),
    "remove_transition": lambda m: m.remove_transition("go"),
    "add_state": lambda m: m.add_state("C"),
    "add_states": lambda m: m.add_states(["C"]),
    "add_model": lambda m: m.add_model(Model("A")),
    "remove_model": lambda m: m.remove_model(Model("A")),
    "dispatch": lambda m: m.dispatch("go"),
    "set prepare_event": lambda m: setattr(m, "prepare_event", noop),
    "set before_state_change": lambda m: setattr(m, "before_state_change", noop),
    "set after_state_change": lambda m: setattr(m, "after_state_change", noop),
    "set finalize_event": lambda m: setattr(m, "finalize_event", noop),
    "set on_exception": lambda m: setattr(m, "on_exception", noop),
    "set send_event": lambda m: setattr(m, "send_event", True),
    "set initial": lambda m: setattr(m, "initial", "C"),
    "event.add_transition": lambda m: m.events["go"].add_transition(Transition("B", "A")),
    "event.add_callback": lambda m: m.events["go"].add_callback("before", noop),
    "transition.add_callback": lambda m: m.get_transitions("go")[0].add_callback("before", noop),
    "state.add_callback": lambda m: m.get_state("A").add_callback("enter", noop),
    "machine.on_enter_A": lambda m: m.on_enter_A(noop),
    "machine.before_go": lambda m: m.before_go(noop),
}


@pytest.mark.parametrize("copied", [False, True], ids=["frozen", "copied"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_frozen_machine_refuses_every_change(change: str, copied: bool) -> None:
    machine = two_states()
    machine.freeze()
    if copied:
        machine = pickle.loads(pickle.dumps(machine))
    with pytest.raises(FrozenError, match=r"is refused: the machine is frozen\. Declare"):
        CHANGES[change](machine)
    assert list(machine.states) == ["A", "B"]
    assert machine.get_triggers("A", "B") == ["go", "back"]
    assert len(machine.get_transitions()) == 2


def test_callback_lists_cannot_grow_unnoticed() -> None:
    machine = two_states()
    machine.freeze()
    lists = (machine.before_state_change, machine.get_state("A").on_enter)
    for callbacks in (*lists, machine.get_transitions("go")[0].before):
        with pytest.raises(AttributeError):
            callbacks.append(noop)


def test_freezing_twice_does_nothing() -> None:
    machine = two_states()
    machine.freeze()
    machine.freeze()
    assert machine.frozen
    assert fired(machine, "go", "A") == "B"


def test_a_trigger_bound_before_freeze_is_compiled_too() -> None:
    machine = two_states()
    trigger = machine.events["go"].trigger
    machine.freeze()
    assert trigger(model := Model("A"))
    assert model.state == "B"


def test_what_reads_the_machine_keeps_working() -> None:
    machine = two_states(transitions=[["go", "A", "B"], ["loop", "A", "="], ["idle", "B", None]])
    machine.freeze()
    assert list(machine.states) == ["A", "B"]
    assert list(machine.events) == ["go", "loop", "idle"]
    assert machine.get_triggers("A") == ["go", "loop"]
    found = machine.get_transitions(source="A")
    assert [(t.source, t.dest) for t in found] == [("A", "B"), ("A", "A")]
    assert machine.initial == "A"
    with pytest.raises(KeyError):
        machine.events["go"].transitions["B"]
    assert machine.get_triggers("B") == ["idle"]


# ---- copies, models, states --------------------------------------------------------------------

HEARD: list[tuple[object, ...]] = []


def hear(*args: object) -> None:
    HEARD.append(args)


def pickled(machine: Any) -> Any:
    return pickle.loads(pickle.dumps(machine))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
def test_a_copy_is_frozen_and_works(copied: Callable[[Any], Any]) -> None:
    machine = two_states(states=Text, initial=Text.A, after_state_change=hear)
    machine.freeze()
    fired(machine, "go", Text.A)
    for twin in (copied(machine), copied(copied(machine)), copied(machine.events["go"]).machine):
        assert twin is not machine
        assert twin.frozen
        HEARD.clear()
        assert fired(twin, "go", Text.A) is Text.B
        assert HEARD == [()]
        with pytest.raises(MachineError, match="Can't trigger event go from state B!"):
            twin.events["go"].trigger(Model(Text.B))


def test_an_unfrozen_copy_can_still_be_frozen() -> None:
    twin = pickled(two_states())
    twin.add_transition("more", "A", "B")
    twin.freeze()
    assert fired(twin, "more", "A") == "B"


def test_a_slotted_model_is_driven_without_being_registered() -> None:
    machine = two_states()
    machine.freeze()
    models = [Model("A"), Model("A")]
    assert not hasattr(models[0], "__dict__")
    assert machine.events["go"].trigger(models[0])
    assert [model.state for model in models] == ["B", "A"]
    assert machine.models == []


@pytest.mark.parametrize("states", [Text, Plain])
def test_the_state_is_the_enum_member(states: type[Text] | type[Plain]) -> None:
    machine = two_states(states=states, initial=states.A)
    machine.freeze()
    model = Model(states.A)
    machine.events["go"].trigger(model)
    assert model.state is states.B
    machine.events["back"].trigger(model)
    assert model.state is states.A


def test_the_value_of_a_str_enum_is_no_state_as_in_stock() -> None:
    machine = two_states(states=Text, initial=Text.A)
    machine.freeze()
    with pytest.raises(ValueError, match="State 'c' is not a registered state"):
        machine.events["go"].trigger(Model("c"))
    # "A" is the value of B, but the name of A
    assert fired(machine, "go", "A") is Text.B
