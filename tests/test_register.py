"""What holds for every register, and the URLs that name them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from etcd3gw.client import Etcd3Client
from etcd_cluster import EtcdCluster
from register_swapper import swapper

from colo_fsm.arbiter import Entry, Register, open_arbiter, open_register
from colo_fsm.fsm import Side

NAME = "orders"


@pytest.fixture(params=["sqlite", "etcd"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "etcd":
        cluster: EtcdCluster = request.getfixturevalue("etcd_cluster")
        return cluster.url()
    return f"sqlite:{tmp_path / 'claim.db'}"


@pytest.fixture
def register(url: str) -> Register:
    return open_register(url, NAME)


@pytest.fixture
def remove(url: str) -> Callable[[], object]:
    """Removes the record by hand."""

    def from_cluster() -> None:
        host, _, prefix = url.removeprefix("etcd://").partition("/")
        key = f"{prefix}/register/{NAME}"
        assert Etcd3Client(host.split(",")[0], api_path="/v3/").delete(key)

    def from_database() -> None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:"), isolation_level=None)) as db:
            db.execute("DELETE FROM colo_register WHERE name = ?", (NAME,))

    return from_cluster if url.startswith("etcd:") else from_database


def now_at(register: Register) -> Entry:
    entry = register.read()
    assert entry is not None
    return entry


def test_who_has_read_it_may_replace_it_once(register: Register, url: str) -> None:
    assert register.read() is None
    assert register.swap(None, "one")
    first = now_at(register)
    assert first.value == "one"
    assert not register.swap(None, "anew")
    assert not register.swap(first.version + 1, "guessed")
    assert register.swap(first.version, "two")
    assert not register.swap(first.version, "late")
    second = now_at(open_register(url, NAME))
    assert second.value == "two"
    assert second.version > first.version > 0


def test_the_same_value_again_is_a_new_version(register: Register) -> None:
    register.swap(None, "same")
    first = now_at(register)
    assert register.swap(first.version, "same")
    assert now_at(register).version > first.version
    assert not register.swap(first.version, "same")


def test_nothing_is_replaced_where_there_is_nothing(register: Register, url: str) -> None:
    open_register(url, "another").swap(None, "x")
    assert not register.swap(1, "one")
    assert register.read() is None


def test_data_sets_do_not_meet(register: Register, url: str) -> None:
    other = open_register(url, NAME + "2")
    assert register.swap(None, "one")
    assert other.read() is None
    assert other.swap(None, "two")
    assert other.swap(now_at(other).version, "three")
    assert (now_at(register).value, now_at(other).value) == ("one", "three")


@pytest.mark.parametrize("value", ["", "\0", "'; DROP TABLE x; --", "é\n\U0001f642" * 9, "x" * 65535])
def test_a_value_comes_back_as_it_was(register: Register, value: str) -> None:
    assert register.swap(None, value)
    assert now_at(register).value == value


@pytest.mark.parametrize("value", ["x" * 65536, "é" * 32768, "\ud800"])
def test_a_value_that_is_refused_changes_nothing(register: Register, value: str) -> None:
    with pytest.raises(ValueError, match=r"65536 bytes, and a register takes fewer than 65536|surrogates"):
        register.swap(None, value)
    assert register.read() is None


def test_versions_are_not_repeated_when_the_record_is_removed_by_hand(
    register: Register, remove: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever had read the old one could replace the new one."""
    register.swap(None, "one")
    register.swap(now_at(register).version, "two")
    old = now_at(register)
    remove()
    monkeypatch.setattr("time.time_ns", lambda: 0)
    assert register.read() is None
    assert not register.swap(old.version, "three")
    assert register.swap(None, "anew")
    assert now_at(register).version > old.version


def test_arbiter_and_register_share_a_url(register: Register, url: str) -> None:
    assert register.swap(None, "one")
    arbiter = open_arbiter(url)
    generation = arbiter.open()
    assert arbiter.claim(generation, Side.PRIMARY).winner is Side.PRIMARY
    assert register.local_only is arbiter.local_only
    assert now_at(open_register(url, NAME)).value == "one"
    assert open_arbiter(url).claim(generation, Side.SECONDARY).winner is Side.PRIMARY


def test_of_threads_that_swap_one_is_first(register: Register) -> None:
    version: int | None = None
    with ThreadPoolExecutor(6) as pool:
        for number in range(6):
            ready = threading.Barrier(6)

            def swap(name: int, at: int | None = version, ready: threading.Barrier = ready) -> bool:
                ready.wait()
                return register.swap(at, f"{number} {name}")  # noqa: B023 - read before the next round

            won = [name for name, first in enumerate(pool.map(swap, range(6))) if first]
            assert len(won) == 1
            entry = now_at(register)
            assert entry.value == f"{number} {won[0]}"
            assert version is None or entry.version > version
            version = entry.version


def test_counting_threads_lose_nothing(register: Register) -> None:
    register.swap(None, "0")

    def count(_: int) -> None:
        for _ in range(5):
            while True:
                entry = now_at(register)
                if register.swap(entry.version, str(int(entry.value) + 1)):
                    break

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert now_at(register).value == "20"


def race(register: Register, url: str, rounds: int) -> None:
    with ExitStack() as stack:
        members = [stack.enter_context(swapper(url, NAME)) for _ in range(3)]
        version: int | None = None
        for _ in range(rounds):
            members.append(members.pop(0))
            for number, member in enumerate(members):
                member.ask(version, str(number))
            won = [number for number, member in enumerate(members) if member.answer()]
            entry = now_at(register)
            assert won == [int(entry.value)]
            version = entry.version


def test_of_processes_that_swap_one_is_first(register: Register, url: str) -> None:
    race(register, url, rounds=15)


@pytest.mark.soak
def test_of_processes_that_swap_one_is_first_300_times(register: Register, url: str) -> None:
    race(register, url, rounds=300)


def test_the_reply_is_lost(register: Register, url: str) -> None:
    """Whoever asks again hears that it was replaced, and reads by whom."""
    with swapper(url, NAME, "reply", "SIGKILL") as dying:
        dying.ask(None, "its own")
        dying.wait_killed()
    assert not register.swap(None, "ours")
    assert now_at(register).value == "its own"


def test_no_call_leaves_a_descriptor_open(register: Register) -> None:
    def descriptors() -> set[Path]:
        return {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}

    before = descriptors()
    register.read()
    register.swap(None, "one")
    register.swap(None, "two")
    register.read()
    assert descriptors() == before


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:", "etcd:h/x", "claim.db", "http://host"])
def test_another_form(url: str) -> None:
    with pytest.raises(ValueError, match=rf"^'{url}' names no register: write sqlite:PATH or etcd://"):
        open_register(url, NAME)


def test_a_command_keeps_no_record() -> None:
    with pytest.raises(ValueError, match="'exec:true': a command keeps no record: name sqlite:PATH or etcd:"):
        open_register("exec:true", NAME)


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 256, "é" * 128, "\ud800"])
@pytest.mark.parametrize("url", ["sqlite:claim.db", "etcd://localhost/x"])
def test_a_name_that_is_none(url: str, name: str) -> None:
    with pytest.raises(ValueError, match="names no data set: write 1 to 255 bytes of printable text"):
        open_register(url, name)
