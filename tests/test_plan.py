"""What a person writes becomes a target, its table and its cases, or one line that says what to write."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from protocols.remus import SECONDARY as REMUS

from colo_fsm.colo import Mode, Profile, State
from colo_fsm.conform.cases import by_hand
from colo_fsm.conform.plan import SUITES, Plan, PlanError, alone, plan, state_of
from colo_fsm.conform.targets.address import Connecting, Listening
from colo_fsm.conform.targets.command import Command
from colo_fsm.conform.targets.qemu import QemuTarget
from colo_fsm.conform.targets.sessions import Sessions
from colo_fsm.fsm import Side

GUESTS = """
from colo_fsm import StateGuest
from colo_fsm.replica import Saved

class Counter:
    def get_state(self): return b"seven"
    def set_state(self, state): pass

def guest(): return StateGuest(Counter(), 4096)
def none(): return "no guest"
def broken(): raise RuntimeError("no licence")

class Slow:
    blocks = {"ram": 4096}
    async def suspend(self): self.still = True
    async def resume(self): pass
    async def save(self, full): return Saved((), b"suspended" if self.still and full else b"")
    async def load(self, checkpoint): pass

class Failing(Slow):
    async def save(self, full): raise OSError("no room")
"""


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planned_guests.py").write_text(GUESTS)
    monkeypatch.syspath_prepend(tmp_path)


def refused(**options: object) -> str:
    with pytest.raises(PlanError) as caught:
        plan(**options)  # type: ignore[arg-type]
    return str(caught.value)


def secondary(**options: object) -> Plan:
    return plan("secondary", **options)  # type: ignore[arg-type]


# -- targets


def test_self_is_sessions_of_the_table() -> None:
    with secondary().target("self") as target:
        assert isinstance(target, Sessions)
        assert target.table.side is Side.SECONDARY


def test_an_address_is_connected_to() -> None:
    with secondary(timeout=3).target("unix:/nowhere") as target:
        assert isinstance(target, Connecting)
        assert (str(target.address), target.patience) == ("unix:/nowhere", 3)


@pytest.mark.parametrize(("side", "listen"), [("primary", False), ("secondary", True)])
def test_a_side_that_connects_is_listened_for(side: str, listen: bool, tmp_path: Path) -> None:
    where = tmp_path / "link"
    with plan(side, listen=listen).target(f"unix:{where}") as target:
        assert isinstance(target, Listening)
        assert where.is_socket()
    assert not where.exists()


def test_a_command_is_started() -> None:
    with secondary(ready="listening").target("cmd:./side --at {address}") as target:
        assert isinstance(target, Command)
        assert (target.command, target.ready) == ("./side --at {address}", "listening")


def test_a_qemu_has_its_own_target() -> None:
    target = secondary().target("qemu:/opt/qemu")
    assert isinstance(target, QemuTarget)
    assert target.name == "/opt/qemu, secondary"


def test_what_is_known_ships_for_a_qemu_of_that_version_only() -> None:
    plan = secondary()
    target = plan.target("qemu")
    assert isinstance(target, QemuTarget)
    target.version = "7.2"
    assert plan.known(target).entries
    target.version = "1.0"
    assert not plan.known(target).entries
    with plan.target("self") as ours:
        assert not plan.known(ours).entries


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slef", "'slef' is no target: write self, tcp:HOST:PORT, unix:PATH, cmd:COMMAND or qemu[:BINARY]"),
        ("self:x", "'self:x' is no target"),
        ("tcp:host", "write tcp:HOST:PORT or unix:PATH"),
        ("unix:", "write tcp:HOST:PORT or unix:PATH"),
        ("cmd:", "a command is missing: write cmd:COMMAND"),
        ("cmd:./side", "'./side' does not say where its side is: write {address} in it for unix:PATH, or"),
        ("cmd:./side {address} {port}", "does not say where its side is"),
        ("cmd:./side '{address}", "no closing quotation"),
    ],
)  # fmt: skip
def test_what_is_no_target(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=r".") as caught:
        secondary().target(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text", "says"),
    [
        ({"ready": "x"}, "tcp:a:1", "'tcp:a:1' is not started by us: --ready goes with cmd:COMMAND"),
        ({"listen": True}, "self", "'self' is no address: --listen goes with tcp:HOST:PORT or unix:PATH"),
        ({"guest": "planned_guests:guest"}, "qemu", "'qemu' has a state of its own"),
    ],
)
@pytest.mark.usefixtures("guests")
def test_options_that_do_not_go_with_a_target(options: dict[str, object], text: str, says: str) -> None:
    with pytest.raises(PlanError, match=r".") as caught:
        secondary(**options).target(text)
    assert says in str(caught.value)


def test_a_primary_that_is_started_needs_no_text_to_be_ready() -> None:
    with pytest.raises(PlanError, match="a Primary is there when it has connected"):
        plan("primary", ready="x").target("cmd:./side {address}")


def test_cases_that_meet_the_same_side_are_played_one_by_one() -> None:
    made = secondary()
    assert [made.jobs(text) for text in ("self", "tcp:a:1", "unix:x")] == [1, 1, 1]
    assert made.jobs("cmd:./side {address}") == made.jobs("qemu:/opt/qemu") >= 1


# -- tables and sides


def test_colos_own_tables_of_a_variant() -> None:
    table = plan("secondary", profile="patch", mode="hybrid").table
    assert Profile.PATCH in table.variant
    assert Mode.HYBRID in table.variant
    assert State.SIZED not in table.states


def test_a_table_of_ones_own_says_the_side() -> None:
    made = plan(secondary="protocols.remus:SECONDARY")
    assert made.table.words is REMUS.words
    assert made.table.side is Side.SECONDARY


def test_both_tables_can_be_named() -> None:
    tables = {"primary": "protocols.remus:PRIMARY", "secondary": "protocols.remus:SECONDARY"}
    assert plan("primary", **tables).table.side is Side.PRIMARY  # type: ignore[arg-type]
    assert "say which side the target is" in refused(**tables)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "say which side the target is: --side secondary or --side primary"),
        ({"side": "third"}, "'third' is none of primary, secondary"),
        ({"side": "primary", "profile": "q"}, "'q' is none of patch, qemu"),
        ({"side": "primary", "mode": "x"}, "'x' is none of periodic, hybrid"),
        ({"side": "primary", "timeout": 0.0}, "a timeout of 0 s"),
        ({"side": "primary", "timeout": float("nan")}, "a timeout of nan s"),
        ({"side": "primary", "secondary": "protocols.remus:SECONDARY"}, "give --primary MODULE:TABLE, too"),
        ({"secondary": "protocols.remus:PRIMARY"}, "is no Table of the secondary"),
        ({"secondary": "protocols.remus"}, "write MODULE:TABLE"),
        ({"secondary": "nowhere:TABLE"}, "ModuleNotFoundError"),
        (
            {"side": "primary", "primary": "protocols.remus:PRIMARY", "secondary": "colo_fsm.colo:SECONDARY"},
            "the two tables are not of the same protocol",
        ),
    ],
)
def test_what_is_no_side_and_no_table(options: dict[str, object], says: str) -> None:
    assert says in refused(**options)


def test_a_table_that_is_no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import attrs\nfrom colo_fsm.colo import PRIMARY\nP = attrs.evolve(PRIMARY, lines=PRIMARY.lines[1:])"
    )
    (tmp_path / "planned_tables.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert "cannot be reached from 'init'" in refused(primary="planned_tables:P")


# -- the state that we send


@pytest.mark.usefixtures("guests")
def test_a_guest_is_saved_whole_while_it_is_suspended() -> None:
    state = state_of("planned_guests:guest")
    assert state.blocks == {"state": 4096}
    assert b"seven" in b"".join(map(bytes, state.initial()))
    assert b"suspended" in state_of("planned_guests:Slow").vmstate(1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("planned_guests:none", "'planned_guests:none' made a str, which is no Guest"),
        ("planned_guests:broken", "RuntimeError: no licence"),
        ("planned_guests:Failing", "no room"),
        ("planned_guests", "write MODULE:FACTORY"),
    ],
)
@pytest.mark.usefixtures("guests")
def test_what_is_no_guest(spec: str, says: str) -> None:
    assert says in refused(side="secondary", guest=spec)


def test_a_primary_sends_a_state_of_its_own() -> None:
    assert "--guest and --capture go with --side secondary" in refused(side="primary", guest="a:b")


def test_a_capture_is_a_vms(tmp_path: Path) -> None:
    assert "is no capture" in refused(side="secondary", capture=str(tmp_path))
    assert "one state can be sent" in refused(side="secondary", capture=str(tmp_path), guest="a:b")


# -- cases


def test_the_cases_by_hand_unless_asked_otherwise() -> None:
    made = secondary()
    assert made.cases() == by_hand(made.table)


def test_suites_in_their_order_each_once() -> None:
    made = secondary()
    both = made.cases(["wp", "must", "wp"])
    assert both == made.cases(["wp"]) + made.cases(["must"])


def test_a_protocol_without_cases_by_hand_has_those_of_its_table() -> None:
    made = plan(secondary="protocols.remus:SECONDARY")
    assert made.cases() == made.cases(["wp"]) != ()
    with pytest.raises(PlanError, match="Remus has no cases by hand: name another --suite"):
        made.cases(["must"])


def test_only_some_of_any_suite() -> None:
    made = secondary()
    one, *others = made.cases(only=["colo/secondary/wp/01", "colo/secondary/2.*"])
    assert one.id == "colo/secondary/2.1"
    assert others[-1].id == "colo/secondary/wp/01"
    assert {case.id[:17] for case in others[:-1]} == {"colo/secondary/2."}


def test_only_within_the_suites_that_are_named() -> None:
    with pytest.raises(
        PlanError, match=r"there is no case 'colo/secondary/2\.1': near it are colo/secondary"
    ):
        secondary().cases(["tour"], ["colo/secondary/2.1"])


def test_an_unknown_id_names_near_ones() -> None:
    with pytest.raises(PlanError) as caught:
        secondary().cases(only=["colo/secondary/3.77"])
    assert "near it are colo/secondary/3.1, colo/secondary/3." in str(caught.value)


def test_an_unknown_suite_names_all() -> None:
    with pytest.raises(PlanError, match=f"'wq' is no suite: write some of {','.join(SUITES)}"):
        secondary().cases(["wq"])


def test_the_command_that_plays_one_case_alone() -> None:
    given = {"side": "secondary", "listen": True, "ready": "it listens"}
    command = alone("cmd:./side {address}", "colo/secondary/2.1", given)
    assert shlex.split(command) == [
        "colo-fsm", "conformance", "cmd:./side {address}", "--only", "colo/secondary/2.1",
        "--side", "secondary", "--listen", "--ready", "it listens",
    ]  # fmt: skip
