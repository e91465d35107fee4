"""Protocols that are not COLO, with public names alone: they run, are drawn, verified and simulated."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from protocols import goodbye, remus

import colo_fsm
from colo_fsm import State, StateGuest, Variant, blocking
from colo_fsm.check import Property, Scenario, Strike, explore
from colo_fsm.check.model.scenario import BREAKS
from colo_fsm.draw import pair
from colo_fsm.fsm import Side, complete

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "framework.md"
BOTH = pytest.mark.parametrize("protocol", [remus, goodbye], ids=["remus", "goodbye"])


def tables(protocol: ModuleType) -> dict[Side, Any]:
    return {side: complete(getattr(protocol, side.name), Variant()) for side in Side}


def command(*arguments: str, folder: Path) -> str:
    """What `colo-fsm …` says, with the protocols on its path."""
    result = subprocess.run(
        [sys.executable, "-m", "colo_fsm", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@BOTH
def test_it_is_declared_in_under_60_lines_of_public_names(protocol: ModuleType) -> None:
    source = Path(str(protocol.__file__)).read_text()
    assert len(source.splitlines()) < 60
    for package, names in re.findall(r"^from (colo_fsm[\w.]*) import (.*)$", source, re.MULTILINE):
        public = sys.modules[package].__all__
        assert {name.split(" as ")[0] for name in names.split(", ")} <= set(public)


@BOTH
def test_it_holds_with_every_break(protocol: ModuleType) -> None:
    for faults in (frozenset[Strike](), BREAKS):
        result = explore(Scenario(protocol.__name__, faults=faults, tables=tables(protocol)))
        assert result.broken == {}
        assert result.states > 20


def test_a_commit_that_comes_twice_is_remus_weakness() -> None:
    faults = BREAKS | {Strike.DUPLICATE}
    broken = explore(Scenario("remus", faults=faults, tables=tables(remus))).broken
    assert set(broken) == {Property.OUTPUT_COMMIT, Property.TAKEOVER}


@BOTH
def test_a_planted_error_is_found(protocol: ModuleType) -> None:
    """Packets leave as soon as the state is saved: whatever the protocol, that is too early."""
    sound = tables(protocol)
    early = tuple(
        attrs.evolve(r, effects=(colo_fsm.Do.release, *r.effects)) if "done_save" in str(r) else r
        for r in sound[Side.PRIMARY].rows
    )
    planted = sound | {Side.PRIMARY: attrs.evolve(sound[Side.PRIMARY], rows=early)}
    assert Property.OUTPUT_COMMIT in explore(Scenario("planted", tables=planted)).broken


@BOTH
def test_it_is_drawn(protocol: ModuleType) -> None:
    dot = pair(*tables(protocol).values()).dot
    messages = {p.message.text for p in tables(protocol)[Side.PRIMARY].words.points}
    assert all(text in dot for text in messages)


@BOTH
def test_it_is_simulated(protocol: ModuleType, tmp_path: Path) -> None:
    shutil.copy(str(protocol.__file__), tmp_path / "mine.py")
    said = command(
        *("simulate", "--primary", "mine:PRIMARY", "--secondary", "mine:SECONDARY", "--seeds", "60"),
        folder=tmp_path,
    )
    assert re.search(r"lost\D+0", said)


class Counter:
    """A service whose whole state is a number."""

    def __init__(self) -> None:
        self.value = 0

    def get_state(self) -> bytes:
        return b"%d" % self.value

    def set_state(self, state: bytes) -> None:
        self.value = int(state)


def test_remus_survives_a_primary_that_is_cut_off(tmp_path: Path) -> None:
    """The blocking driver; the asyncio driver runs in the docs' page."""
    claim = f"sqlite:{tmp_path / 'claim.db'}"
    ours, theirs = Counter(), Counter()
    a, b = colo_fsm.link_pair()
    there = blocking.secondary(StateGuest(theirs, 4096), listen=b, arbiter=claim, table=remus.SECONDARY)
    here = blocking.primary(StateGuest(ours, 4096), peer=a, arbiter=claim, table=remus.PRIMARY)
    with there as secondary, here as primary:
        for _ in range(20):
            with primary.turn():
                ours.value += 1
            primary.committed()
        primary.request_leave()
        secondary.running()
        assert theirs.value == 20
        assert secondary.state == "alone"
    assert secondary.wait() is remus.S.ENDED


def test_a_goodbye_needs_no_claim(tmp_path: Path) -> None:
    claim = f"sqlite:{tmp_path / 'claim.db'}"
    ours, theirs = Counter(), Counter()
    a, b = colo_fsm.link_pair()
    there = blocking.secondary(StateGuest(theirs, 4096), listen=b, arbiter=claim, table=goodbye.SECONDARY)
    here = blocking.primary(StateGuest(ours, 4096), peer=a, arbiter=claim, table=goodbye.PRIMARY)
    with there as secondary:
        with here as primary:
            with primary.turn():
                ours.value += 1
            primary.committed()
        assert secondary.wait(timeout=30) is State.ENDED
    assert (secondary.session.error, secondary.token) == (None, 0)


# -- the page in the docs ------------------------------------------------------------------------------


def test_the_page_shows_the_file_that_is_tested() -> None:
    (shown,) = re.findall(r"<!-- file: [\w/.]+ -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown == (HERE / "protocols" / "remus.py").read_text()


def test_the_page_runs(tmp_path: Path) -> None:
    shutil.copy(HERE / "protocols" / "remus.py", tmp_path / "remus.py")
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "answered 1\nsurvived 1\n", ran.stderr


def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    shutil.copy(HERE / "protocols" / "remus.py", tmp_path / "remus.py")
    *draw, verify = re.findall(r"^colo-fsm ((?:diagram|verify) .*)$", PAGE.read_text(), re.MULTILINE)
    for each in draw:
        command(*each.split(), folder=tmp_path)
    assert draw
    assert all(file.read_text().startswith("<?xml") for file in tmp_path.glob("*.svg"))
    assert len(list(tmp_path.glob("*.svg"))) == len(draw)
    breaks = re.findall(r"`(--faults [\w,-]+)`", PAGE.read_text())[0].split()
    assert "fails" not in command(*verify.split(), *breaks, folder=tmp_path)
