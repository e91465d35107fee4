"""From texts to what is tested: the target that a person names, its declared table, and the cases.

The command line, `learn` and the pytest plugin make a `Plan` of their options with `plan()`, hand each TARGET
to `Plan.target`, and take their cases from `Plan.cases`.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
import math
import os
import shlex
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from itertools import takewhile
from typing import TypeVar

import attrs

from colo_fsm.colo import TABLES, Mode, Profile, Variant
from colo_fsm.fsm import CompleteTable, Side, TableError, complete
from colo_fsm.fsm.load import named, table_named
from colo_fsm.fsm.machine import TableMachine
from colo_fsm.qemu.watch.capture import Capture, CaptureError
from colo_fsm.qemu.watch.channel import Return
from colo_fsm.qemu.watch.replay import Recorded
from colo_fsm.replica import Address, AddressError, AsyncGuest, Guest, Saved

from .case import Case
from .cases import by_hand
from .expected import Expected, matches, shipped
from .generated import SUITES as GENERATED
from .generated import generated
from .link import CannotTest, Target
from .targets.address import Connecting, Listening
from .targets.command import Command
from .targets.sessions import Sessions
from .voice import OwnState, Source, TableVoice, Voice

BY_HAND = "must"
SUITES = (BY_HAND, *GENERATED)
"""What `--suite` takes."""
TIMEOUT = 5.0
STARTING = 6
"""How many timeouts a side that we start, or that connects to us, may take to be there."""
FORMS = "self, tcp:HOST:PORT, unix:PATH, cmd:COMMAND or qemu[:BINARY]"


E = TypeVar("E", bound=StrEnum)


class PlanError(ValueError):
    """What was asked for cannot be done. The text says what to write instead."""


@attrs.frozen
class Plan:
    """How targets of one side are tested. Made by `plan()`.

    `timeout`: how long an answer may take, in seconds. `listen`: an address is where the side connects to us,
    as a Primary always does. `ready`: a text that a command says when it can be connected to. `source`: what
    we send as Primary, None: what the target asks for. `vm`: that is a VM's, and the side speaks as a QEMU.
    """

    table: CompleteTable
    timeout: float = TIMEOUT
    listen: bool = False
    ready: str | None = None
    source: Source | None = None
    vm: bool = False

    def target(self, text: str) -> AbstractContextManager[Target]:
        """The target that `text` names: enter it for a whole run. Raises PlanError; entered, CannotTest."""
        kind, _, rest = text.partition(":")
        if self.ready is not None and kind != "cmd":
            raise PlanError(f"'{text}' is not started by us: --ready goes with cmd:COMMAND")
        if self.listen and kind not in ("tcp", "unix"):
            raise PlanError(f"'{text}' is no address: --listen goes with tcp:HOST:PORT or unix:PATH")
        if self.source is not None and (kind == "qemu" or (kind == "self" and self.vm)):
            raise PlanError(f"'{text}' has a state of its own: leave --guest and --capture out")
        patience = STARTING * self.timeout
        match kind:
            case "self" if not rest:
                return _ready_made(Sessions(TableMachine(self.table), source=self.source))
            case "tcp" | "unix":
                return self._at(_address(text))
            case "cmd":
                try:
                    return _ready_made(Command(rest, self.table, self._voice, patience, self.ready))
                except ValueError as error:
                    raise PlanError(str(error)) from None
            case "qemu":
                from .targets.qemu import QemuTarget

                return QemuTarget(rest or None, self.table, patience)
        raise PlanError(f"'{text}' is no target: write {FORMS}")

    def known(self, target: Target) -> Expected:
        """The failures that are known of what this target has turned out to be: those that ship."""
        from .targets.qemu import QemuTarget

        return shipped(target.version) if isinstance(target, QemuTarget) else Expected()

    def jobs(self, text: str) -> int:
        """How many cases may well be played at a time: one, where all meet the same side."""
        return (os.cpu_count() or 1) if text.partition(":")[0] in ("cmd", "qemu") else 1

    def cases(self, suites: Iterable[str] = (), only: Sequence[str] = ()) -> tuple[Case, ...]:
        """The cases of these suites; of `only` these IDs, if any are given.

        `only`: IDs, or how they begin and `*`. No suites: all where IDs are given, else the one by hand; `wp`
        for a protocol that has none by hand. Raises PlanError.
        """
        suites = tuple(suites) or (SUITES if only else (BY_HAND,) if by_hand(self.table) else ("wp",))
        found = tuple(case for suite in dict.fromkeys(suites) for case in self._suite(suite))
        if not found:
            raise PlanError(f"{self.table.words.name} has no cases by hand: name another --suite")
        return chosen(found, only) if only else found

    def _suite(self, name: str) -> tuple[Case, ...]:
        if name == BY_HAND:
            return by_hand(self.table)
        if name not in GENERATED:
            raise PlanError(f"'{name}' is no suite: write some of {','.join(SUITES)}")
        try:
            return tuple(generated(self.table, name))
        except ValueError as error:
            raise PlanError(str(error)) from None

    def _voice(self) -> Voice:
        if not self.vm:
            return TableVoice(self.table, self.source or OwnState())
        from .targets.qemu import VmVoice

        assert self.source is not None
        return VmVoice(self.table, self.source, Return())

    def _at(self, address: Address) -> AbstractContextManager[Target]:
        if self.listen or self.table.side is Side.PRIMARY:
            return self._listening(address)
        return _ready_made(Connecting(address, self.table, self._voice, self.timeout))

    @contextmanager
    def _listening(self, address: Address) -> Generator[Target]:
        try:
            listener = address.listen()
        except OSError as error:
            raise CannotTest(f"cannot listen at {address}: {error.strerror or error}") from error
        with listener:
            yield Listening(address, self.table, self._voice, STARTING * self.timeout, listener)


@contextmanager
def _ready_made(target: Target) -> Generator[Target]:
    """A target that needs nothing around a run."""
    yield target


def plan(
    side: str | None = None,
    *,
    primary: str | None = None,
    secondary: str | None = None,
    profile: str = Profile.QEMU,
    mode: str = Mode.PERIODIC,
    guest: str | None = None,
    capture: str | None = None,
    timeout: float = TIMEOUT,
    listen: bool = False,
    ready: str | None = None,
) -> Plan:
    """The plan for the side under test, as texts have it. Raises PlanError.

    `primary`, `secondary`: MODULE:TABLE, else COLO's of this `profile` and `mode`. `guest`: MODULE:FACTORY,
    whose state we send as Primary, or a VM's: `capture` is a directory of `colo-fsm tap --record`.
    """
    specs = {Side.PRIMARY: primary, Side.SECONDARY: secondary}
    which = _side(side, specs)
    variant = Variant(_one_of(Profile, profile), _one_of(Mode, mode))
    if not 0 < timeout < math.inf:
        raise PlanError(f"a timeout of {timeout:g} s: it is longer than nothing, and ends")
    tables = {each: _declared(each, spec, variant) for each, spec in specs.items() if spec or each is which}
    if len({id(table.words) for table in tables.values()}) > 1:
        raise PlanError("the two tables are not of the same protocol: they have different words")
    if (guest or capture) and which is Side.PRIMARY:
        raise PlanError("a Primary sends its own state: --guest and --capture go with --side secondary")
    if guest and capture:
        raise PlanError("--guest or --capture: one state can be sent")
    source = state_of(guest) if guest else recorded(capture) if capture else None
    return Plan(tables[which], timeout, listen, ready, source, vm=bool(capture))


def _side(side: str | None, specs: dict[Side, str | None]) -> Side:
    """The side under test: as it is said, or the one whose table is given."""
    given = [each for each, spec in specs.items() if spec is not None]
    if side is None:
        if len(given) != 1:
            raise PlanError("say which side the target is: --side secondary or --side primary")
        return given[0]
    which = _one_of(Side, side)
    if given and which not in given:
        raise PlanError(f"the side under test has no table of yours: give --{which} MODULE:TABLE, too")
    return which


def _one_of(kind: type[E], text: str) -> E:
    try:
        return kind(text)
    except ValueError:
        raise PlanError(f"'{text}' is none of {', '.join(kind)}") from None


def _declared(side: Side, spec: str | None, variant: Variant) -> CompleteTable:
    """This side's table in this variant. Raises PlanError."""
    try:
        return complete(TABLES[side] if spec is None else table_named(spec, side), variant)
    except TableError as error:
        raise PlanError(f"'{spec}': {error}") from None
    except ValueError as error:
        raise PlanError(str(error)) from None


def state_of(spec: str) -> OwnState:
    """The state of the guest that MODULE:FACTORY makes, saved whole. Raises PlanError."""
    try:
        guest = named(spec, "MODULE:FACTORY", "my_service:guest", make=lambda factory: factory())
        if not isinstance(guest, Guest):
            raise PlanError(f"'{spec}' made a {type(guest).__name__}, which is no Guest")
        saved = asyncio.run(_saved(guest))
    except PlanError:
        raise
    except Exception as error:  # noqa: BLE001 - the embedder's guest may raise anything
        raise PlanError(str(error)) from None
    return OwnState(guest.blocks, saved.pages, saved.device)


def recorded(capture: str) -> Source:
    """The state of the VM in this directory. Raises PlanError."""
    try:
        return Recorded(Capture(capture))
    except (CaptureError, OSError) as error:
        raise PlanError(str(error)) from None


async def _saved(guest: Guest | AsyncGuest) -> Saved:
    for hook in (guest.suspend, lambda: guest.save(True)):
        done = hook()
        saved = await done if inspect.isawaitable(done) else done
    assert isinstance(saved, Saved)
    return saved


def alone(target: str, id: str, given: Mapping[str, object]) -> str:
    """The command that plays one case against this target, with these arguments of `plan()`: for a shell."""
    words = ["colo-fsm", "conformance", target, "--only", id]
    for name, value in given.items():
        words += [f"--{name}"] if value is True else [f"--{name}", f"{value}"]
    return shlex.join(words)


def chosen(cases: Sequence[Case], only: Iterable[str]) -> tuple[Case, ...]:
    """Those of these IDs, or that begin so where there is a `*`. Raises PlanError, naming near ones."""
    ids = [case.id for case in cases]
    wanted = set[str]()
    for pattern in only:
        found = [each for each in ids if matches(pattern, each)]
        if not found:
            near = ", ".join(sorted(ids, key=lambda id: _distance(pattern, id))[:3])
            raise PlanError(f"there is no case '{pattern}': near it are {near}; --list names all of a suite")
        wanted.update(found)
    return tuple(case for case in cases if case.id in wanted)


def _distance(pattern: str, id: str) -> tuple[int, float]:
    """How far an ID is from what was written: first by how long they begin alike."""
    alike = len([*takewhile(lambda pair: pair[0] == pair[1], zip(pattern, id, strict=False))])
    return -alike, -difflib.SequenceMatcher(None, pattern, id).ratio()


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise PlanError(str(error)) from None
