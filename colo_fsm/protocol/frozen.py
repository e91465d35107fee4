"""A `transitions` machine that is declared as usual, then frozen: checked whole, compiled, shared.

Declare a :class:`FrozenMachine` with `model=None`, call :meth:`~FrozenMachine.freeze` once, and
fire events on any object that has a `state` attribute: `machine.events[name].trigger(model)`.
Models are never registered, so one machine serves every session, from any thread.

The rules:

1. The stock library is the reference: order of callbacks, return values, errors, and the state a
   model is left in when a callback raises are those of `transitions`.
2. What cannot be compiled is refused by `freeze()`, all of it in one error. There is one
   semantics, not two.
3. Nothing is added or changed after `freeze()`.

Three things stock does are not done: its DEBUG and INFO log lines (an error in a finalize callback
is still logged), re-reading `model.state` after setting it, and looking at the callback lists
again at each trigger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import attrs
from transitions import Event, Machine, MachineError, State, Transition

__all__ = ["FreezeError", "FrozenError", "FrozenEvent", "FrozenMachine"]

# Stock reports a failed finalize callback here; so do we.
_LOGGER = logging.getLogger("transitions.core")

_Calls = tuple[Any, ...]
_Run = Callable[[Any, tuple[Any, ...], dict[str, Any]], bool]


class FreezeError(ValueError):
    """The machine's definition cannot be frozen.

    `problems` has one sentence for each thing to mend; nothing was changed, so mend them all and
    call `freeze()` again.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "cannot freeze this machine:\n" + "\n".join(f"- {text}" for text in self.problems)


class FrozenError(RuntimeError):
    """A frozen machine, or a part of one, was asked to change. Declare it before `freeze()`."""


def _refuse(what: str, *_: object, **__: object) -> NoReturn:
    raise FrozenError(
        f"{what} is refused: the machine is frozen. Declare everything before freeze(), "
        "and fire events with machine.events[name].trigger(model)"
    )


# ---- what a row compiles to --------------------------------------------------------------------


def _move(before: _Calls, dest: object, after: _Calls) -> _Run:
    def run(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        for call in before:
            call(*args, **kwargs)
        model.state = dest
        for call in after:
            call(*args, **kwargs)
        return True

    return run


def _stay(calls: _Calls) -> _Run:
    def run(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        for call in calls:
            call(*args, **kwargs)
        return True

    return run


def _fail(text: str) -> _Run:
    def run(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        raise MachineError(text)

    return run


def _finalized(run: _Run, finalize: _Calls, prefix: str) -> _Run:
    def run_and_finalize(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        try:
            return run(model, args, kwargs)
        finally:
            try:
                for call in finalize:
                    call(*args, **kwargs)
            except BaseException as err:  # noqa: BLE001 - stock swallows even KeyboardInterrupt
                _LOGGER.error(
                    "%sWhile executing finalize callbacks a %s occurred: %s.",
                    prefix,
                    type(err).__name__,
                    str(err),
                )

    return run_and_finalize


def _compile_row(machine: Machine, row: Transition) -> _Run:
    before = (
        *machine.prepare_event,
        *row.prepare,
        *machine.before_state_change,
        *row.before,
    )
    after = (*row.after, *machine.after_state_change)
    if not row.dest:
        return _stay(before + after)
    source, dest = machine.get_state(row.source), machine.get_state(row.dest)
    return _move((*before, *source.on_exit), dest.value, (*dest.on_enter, *after))


def _compile(machine: Machine, event: Event) -> Callable[..., bool]:
    """The `trigger` of one event: a row for every state, an error where none was declared."""
    by_name: dict[str, _Run] = {}
    for name in machine.states:
        if name in event.transitions:
            run = _compile_row(machine, event.transitions[name][0])
        else:
            run = _fail(f"{machine.name}Can't trigger event {event.name!s} from state {name!s}!")
        if machine.finalize_event:
            run = _finalized(run, tuple(machine.finalize_event), machine.name)
        by_name[name] = run
    rows = {state.value: (state.value, by_name[name]) for name, state in machine.states.items()}
    unknown = (object(), _fail("not reached"))
    get_state = machine.get_state

    def trigger(model: Any, *args: Any, **kwargs: Any) -> bool:
        state = model.state
        source, run = rows.get(state, unknown)
        # A StrEnum member equals its value, but to stock that text is no state (it goes by names):
        # only the very object is taken from `rows`, stock's own lookup judges all others.
        if source is not state:
            run = by_name[get_state(state).name]
        return run(model, args, kwargs)

    return trigger


class FrozenEvent(Event):
    """An event of a :class:`FrozenMachine`; `trigger` is stock's until the machine is frozen."""

    machine: FrozenMachine

    def trigger(self, model: object, *args: Any, **kwargs: Any) -> bool:
        """Fire the event on `model`; `args` and `kwargs` go to every callback.

        Returns True. Raises `MachineError` if the model's state has no transition for the event,
        ValueError if its state is none of the machine's, and whatever a callback raises.
        """
        if not self.machine.frozen:
            return super().trigger(model, *args, **kwargs)
        # Reached in a copy, or through a method bound before: the compiled one hides this method.
        if "trigger" not in vars(self):
            vars(self)["trigger"] = _compile(self.machine, self)
        return self.trigger(model, *args, **kwargs)

    # Closures cannot be pickled or copied; a copy compiles its own when it is first fired.
    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "trigger"}


# ---- what is checked and sealed ----------------------------------------------------------------


@attrs.frozen
class _Kind:
    """One kind of part of a machine, and what freezing needs to know about it."""

    base: type
    hooks: tuple[str, ...]  # attributes that list callbacks
    hot: tuple[str, ...]  # what stock calls in a trigger, and the compiled machine does not
    sealed: tuple[str, ...]  # methods that change the part


_MACHINE = _Kind(
    base=Machine,
    hooks=("prepare_event", "before_state_change", "after_state_change", "finalize_event"),
    hot=(
        "__getattribute__",
        "_process",
        "callback",
        "callbacks",
        "get_model_state",
        "get_state",
        "has_queue",
        "resolve_callable",
        "set_state",
    ),
    sealed=(  # add_state, add_transitions and add_ordered_transitions end in these
        "add_model",
        "add_states",
        "add_transition",
        "dispatch",
        "remove_model",
        "remove_transition",
    ),
)
_STATE = _Kind(
    base=State,
    hooks=("on_enter", "on_exit"),
    hot=("enter", "exit", "name", "value"),
    sealed=("add_callback",),
)
_EVENT = _Kind(
    base=FrozenEvent,
    hooks=(),
    hot=("_is_valid_source", "_process", "_trigger", "trigger"),
    sealed=("add_callback", "add_transition"),
)
_TRANSITION = _Kind(
    base=Transition,
    hooks=("prepare", "before", "after"),
    hot=("_change_state", "_eval_conditions", "execute"),
    sealed=("add_callback",),
)


def _parts(machine: Machine) -> Iterator[tuple[str, object, _Kind]]:
    """Every part of the machine, itself first: what to call it, the object, its kind."""
    yield "machine", machine, _MACHINE
    for name, state in machine.states.items():
        yield f"state {name!r}", state, _STATE
    for event in machine.events.values():
        yield f"event {event.name!r}", event, _EVENT
        for source, rows in event.transitions.items():
            for row in rows:
                yield f"event {event.name!r} from {source!r}", row, _TRANSITION


def _setting_problems(machine: Machine) -> Iterator[str]:
    ignoring = [name for name, state in machine.states.items() if state.ignore_invalid_triggers]
    refused = (
        (machine.has_queue, "queued=True: events are processed at once"),
        (machine.send_event, "send_event=True: callbacks get the arguments of the trigger"),
        (machine.ignore_invalid_triggers, "ignore_invalid_triggers: declare internal transitions"),
        (ignoring, f"ignore_invalid_triggers on {ignoring}: declare internal transitions"),
        (machine.on_exception, "on_exception: catch what trigger() raises"),
        (machine.on_final, "on_final: use on_enter of the final states"),
        (machine.models, "registered models: build the machine with model=None"),
        (machine.model_attribute != "state", "model_attribute: it must be 'state'"),
    )
    return (text for found, text in refused if found)


def _part_problems(label: str, part: object, kind: _Kind) -> Iterator[str]:
    cls = type(part)
    overridden = [
        name
        for name in kind.hot
        if name in vars(part) or getattr(cls, name, None) is not getattr(kind.base, name)
    ]
    if overridden:
        yield (
            f"class {cls.__name__}: {', '.join(overridden)} not as in {kind.base.__name__}, "
            "and a frozen machine would not call them: use callbacks"
        )
    for hook in kind.hooks:
        for call in getattr(part, hook):
            if not callable(call):
                yield f"{label}: {hook} callback {call!r}: give a callable, not its name"


def _row_problems(machine: Machine) -> Iterator[str]:
    for event in machine.events.values():
        for source, rows in event.transitions.items():
            label = f"event {event.name!r} from {source!r}"
            if source not in machine.states:
                yield f"{label}: unknown source state"
            if len(rows) != 1:
                yield f"{label}: {len(rows)} transitions, exactly one can fire"
            for row in rows:
                if row.dest and row.dest not in machine.states:
                    yield f"{label}: unknown dest state {row.dest!r}"
                if row.conditions:
                    yield f"{label}: conditions or unless: let the caller choose the event"


def _problems(machine: Machine) -> Iterator[str]:
    yield from _setting_problems(machine)
    for part in _parts(machine):
        yield from _part_problems(*part)
    yield from _row_problems(machine)


class FrozenMachine(Machine):
    """A `transitions.Machine` to be declared, frozen with :meth:`freeze`, and then shared.

    Build it with `model=None`. Supported: one transition for each (event, source), with a
    destination, reflexive ('=') or internal (None); callables as `prepare`, `before` and `after` of
    transitions, `on_enter` and `on_exit` of states, and the machine's `prepare_event`,
    `before_state_change`, `after_state_change` and `finalize_event`. Pickling and copying keep it
    frozen. Until it is frozen it behaves as stock.
    """

    event_cls = FrozenEvent
    _frozen = False

    @property
    def frozen(self) -> bool:
        """Whether `freeze()` has been called."""
        return self._frozen

    def freeze(self) -> None:
        """Check the whole definition and compile it; from here on nothing can be changed.

        Raises `FreezeError` with every problem found, and then changes nothing. Freezing a frozen
        machine does nothing.
        """
        if self._frozen:
            return
        problems = tuple(dict.fromkeys(_problems(self)))
        if problems:
            raise FreezeError(problems)
        for label, part, kind in list(_parts(self)):
            for hook in kind.hooks:  # so that append() fails instead of being ignored
                setattr(part, hook, tuple(getattr(part, hook)))
            for method in kind.sealed:
                vars(part)[method] = partial(_refuse, f"{method}() of {label}")
        for event in self.events.values():
            event.transitions.default_factory = None  # so that looking does not add
            vars(event)["trigger"] = _compile(self, event)
        self._frozen = True

    def __setattr__(self, name: str, value: object) -> None:
        if self._frozen:
            _refuse(f"setting {name} of the machine")
        super().__setattr__(name, value)
