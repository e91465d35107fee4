"""What holds for every arbiter, and the URLs that name them."""

from __future__ import annotations

import math
import os
import re
import resource
import signal
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from arbiter_claimer import claimer
from arbiter_once import once
from etcd_cluster import EtcdCluster

from colo_fsm.arbiter import (
    Arbiter,
    ArbiterError,
    Claim,
    EtcdArbiter,
    ExecArbiter,
    SqliteArbiter,
    Unarbitrated,
    open_arbiter,
)
from colo_fsm.fsm import Side

P, S = Side.PRIMARY, Side.SECONDARY

NO_CLUSTERS = [
    f"etcd://{where}"
    for where in (
        "",
        "h1",
        "h1/",
        "/x",
        "h1,,h2/x",
        "h1:0/x",
        "h1:65536/x",
        "h1:2379:1/x",
        "me@h1/x",
        "h1/a\nb",
    )
]


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'claim.db'}"


@pytest.fixture(params=["sqlite", "etcd", "exec"])
def url(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> str:
    if request.param == "etcd":
        cluster: EtcdCluster = request.getfixturevalue("etcd_cluster")
        return cluster.url()
    return database if request.param == "sqlite" else once(tmp_path)


@pytest.fixture
def arbiter(url: str) -> Arbiter:
    return open_arbiter(url)


@pytest.mark.parametrize("first", Side)
def test_first_claim_wins_for_good(arbiter: Arbiter, url: str, first: Side) -> None:
    generation = arbiter.open()
    won = arbiter.claim(generation, first)
    assert won.winner is first
    assert arbiter.claim(generation, first.peer) == won
    assert arbiter.claim(generation, first) == won
    assert open_arbiter(url).claim(generation, first.peer) == won


def test_a_claim_is_answered_where_no_descriptor_is_left(arbiter: Arbiter) -> None:
    """Clients have taken them all."""
    generation = arbiter.open()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[0]), limits[1]))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with suppress(OSError):
            while True:
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        for _ in range(3):
            assert arbiter.claim(generation, S).winner is S
        with pytest.raises(OSError, match="Too many open files"):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))


def test_generations_and_tokens_rise(arbiter: Arbiter) -> None:
    generations = [arbiter.open() for _ in range(4)]
    assert generations == sorted(set(generations))
    tokens = [arbiter.claim(generation, S).token for generation in generations]
    assert tokens == sorted(set(tokens))


def test_generations_rise_while_the_clock_does_not(arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch) -> None:
    microseconds = 4_102_444_800_123_456  # in the year 2100
    monkeypatch.setattr("time.time_ns", lambda: microseconds * 1000 + 999)
    before = arbiter.open()
    assert before == microseconds
    monkeypatch.setattr("time.time_ns", lambda: 0)
    assert [arbiter.open(), arbiter.open()] == [before + 1, before + 2]


def test_every_thread_hears_the_same(arbiter: Arbiter) -> None:
    with ThreadPoolExecutor(8) as pool:
        generations = list(pool.map(lambda _: arbiter.open(), range(8)))
        assert len(set(generations)) == 8
        claims = list(pool.map(lambda side: arbiter.claim(generations[0], side), [P, S] * 4))
    assert len(set(claims)) == 1


def race(url: str, rounds: int) -> None:
    arbiter = open_arbiter(url)
    last_token = 0
    with claimer(url, P) as primary, claimer(url, S) as secondary:
        sides = [primary, secondary]
        for _ in range(rounds):
            generation = arbiter.open()
            sides.reverse()
            for side in sides:
                side.ask(generation)
            first, second = (side.answer() for side in sides)
            assert first == second == arbiter.claim(generation, P)
            assert first.token > last_token
            last_token = first.token


def test_two_processes_race(url: str) -> None:
    race(url, rounds=15)


@pytest.mark.soak
def test_two_processes_race_300_times(url: str) -> None:
    race(url, rounds=300)


def test_the_reply_is_lost(arbiter: Arbiter, url: str) -> None:
    generation = arbiter.open()
    with claimer(url, S, "reply", "SIGKILL") as dying:
        dying.ask(generation)
        dying.wait_killed()
    claim = arbiter.claim(generation, P)
    assert claim.winner is S
    assert arbiter.claim(generation, S) == claim


def test_a_side_frozen_before_its_claim_loses(arbiter: Arbiter, url: str) -> None:
    generation = arbiter.open()
    with claimer(url, P) as frozen:
        frozen.signal(signal.SIGSTOP)
        frozen.wait_stopped()
        frozen.ask(generation)
        won = arbiter.claim(generation, S)
        assert won.winner is S
        frozen.signal(signal.SIGCONT)
        assert frozen.answer() == won


def descriptors() -> set[Path]:
    """The files that this process has open."""
    return {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_no_call_leaves_a_descriptor_open(arbiter: Arbiter, tmp_path: Path) -> None:
    """Not even while the error of a failed one is kept."""
    before = descriptors()
    generation = arbiter.open()
    arbiter.check(generation)
    arbiter.claim(generation, P)
    failing = open_arbiter("exec:sh -c 'exit 2'") if isinstance(arbiter, ExecArbiter) else arbiter
    with pytest.raises(ArbiterError) as kept:
        failing.claim(generation + 1, P)
    assert kept.value.__traceback__ is not None
    assert descriptors() == before


def test_each_form(database: str) -> None:
    assert str(open_arbiter(database)) == database
    assert str(open_arbiter("etcd://h1:2379,[::1],h2/some/where")) == "etcd://h1:2379,[::1],h2/some/where"
    assert str(open_arbiter("exec:true  'a b'")) == "exec:true  'a b'"


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:", "exec:", "etcd:host/x", "claim.db"])
def test_another_form(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:PATH, etcd://HOST.*/PREFIX or exec:COMMAND ARGS\.\.\.$"):
        open_arbiter(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("exec: ", "name a command that can be executed"),
        ("exec:/no/such/command", "name a command that can be executed"),
        ("exec:sh 'unclosed", "No closing quotation"),
        *((url, "write etcd://HOST\\[:PORT\\],HOST,HOST/PREFIX") for url in NO_CLUSTERS),
        ("sqlite:/no/such/directory/claim.db", "name a file in an existing directory"),
        ("sqlite:/", "name a file in an existing directory"),
        (f"sqlite:{__file__}", "this file is no claim database, name another one"),
    ],
)
def test_nothing_that_could_work(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^'?{re.escape(url)}'?: {text}$"):
        open_arbiter(url)


def test_the_database_of_another_program(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE accounts (id)")
    with pytest.raises(ValueError, match=r"other\.db: this file is no claim database"):
        open_arbiter(f"sqlite:{tmp_path / 'other.db'}")


TIMED: list[Callable[[float], Arbiter]] = [
    lambda t: ExecArbiter("true", t),
    lambda t: SqliteArbiter("claim.db", t),
    lambda t: EtcdArbiter("localhost/x", t),
]


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -1.0, 1e5])
@pytest.mark.parametrize("made", TIMED)
def test_a_time_that_never_ends_is_none(made: Callable[[float], Arbiter], timeout: float) -> None:
    with pytest.raises(ValueError, match="'timeout' must be"):
        made(timeout)


def test_no_arbiter_grants_every_claim_on_any_machine() -> None:
    nobody = Unarbitrated()
    generation = nobody.open()
    nobody.check(generation)
    assert [nobody.claim(generation, side) for side in (P, S)] == [Claim(P, generation), Claim(S, generation)]
    assert (str(nobody), nobody.local_only) == ("no arbiter", False)
    assert nobody.open() >= generation > 0
