"""What a data set lives through: crashes, restarts, rejoins, with real processes and a client of its own."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import etcd_cluster
import pytest
from members import NAMES, Members, Writer, lost, members

SEED = int(os.environ.get("COLO_FSM_SEED", "20261126"))


@pytest.fixture
def data_set(tmp_path: Path) -> Iterator[Members]:
    with members(tmp_path) as both:
        yield both


def test_a_survivor_takes_a_new_secondary_in_and_the_two_change_places(data_set: Members) -> None:
    with Writer(data_set) as writer:
        for _ in range(2):
            primary = data_set.until_protected()
            writer.until(5)
            primary.kill()
            writer.until(5)
            data_set.start(primary.name)
        data_set.until_protected()
        writer.until(5)
    assert not lost(data_set, writer)


@pytest.mark.parametrize("first", [(0, 1), (1, 0)])
def test_after_a_power_cut_the_same_two_commands_bring_it_all_back(
    data_set: Members, first: tuple[int, int]
) -> None:
    """In both orders. One of them alone may have to wait: the other one's store is the newest."""
    with Writer(data_set) as writer:
        data_set.until_protected()
        writer.until(20)
        for each in data_set.running.values():
            each.process.kill()
        for each in data_set.running.values():
            each.gone()
        for index in first:
            data_set.start(NAMES[index])
        data_set.until_protected()
        writer.until(5)
    assert not lost(data_set, writer)


def test_a_survivor_that_is_stopped_and_started_has_all_that_it_acknowledged_alone(data_set: Members) -> None:
    primary = data_set.until_protected()
    survivor = data_set.other(primary)
    primary.kill()
    with Writer(data_set) as writer:
        writer.until(20)
        assert survivor.end() == 0
        data_set.start(survivor.name)
        writer.until(5)
        data_set.running[survivor.name].kill()
        data_set.start(survivor.name)
        writer.until(5)
    assert not lost(data_set, writer)
    assert data_set.ask("SELECT 1")["protected"] is False


def test_the_older_store_waits_for_the_newer_one(data_set: Members) -> None:
    """The survivor acknowledges alone, and dies; the other one, started again, must not serve what it has."""
    primary = data_set.until_protected()
    survivor = data_set.other(primary)
    primary.kill()
    survivor.until("member", state="alone")
    data_set.ask("INSERT INTO ledger VALUES ('alone')")
    survivor.kill()
    old = data_set.start(primary.name)
    old.until("member", state="secondary")
    data_set.start(survivor.name)
    data_set.until_protected()
    assert data_set.keys() == {"alone"}
    assert not [e for e in old.events if e["event"] == "serving"]


def test_a_secondary_that_is_frozen_does_not_stop_the_survivor(data_set: Members) -> None:
    """Its kernel takes connections; the survivor serves until the other one has the whole copy."""
    primary = data_set.until_protected()
    survivor = data_set.other(primary)
    primary.kill()
    survivor.until("serving")
    survivor.process.send_signal(signal.SIGSTOP)
    back = data_set.start(primary.name)
    back.until("member", state="secondary")
    back.process.send_signal(signal.SIGSTOP)
    survivor.process.send_signal(signal.SIGCONT)
    with Writer(data_set) as writer:
        writer.until(50)
        back.process.send_signal(signal.SIGCONT)
        data_set.until_protected()
        writer.until(5)
    assert not lost(data_set, writer)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[etcd_cluster.EtcdCluster]:
    """One whose members may be killed."""
    if reason := etcd_cluster.missing():
        pytest.skip(reason)
    with etcd_cluster.running(tmp_path / "etcd") as ours:
        yield ours


def test_without_a_quorum_a_pair_goes_on_and_a_survivor_waits_until_there_is_one(
    tmp_path: Path, cluster: etcd_cluster.EtcdCluster
) -> None:
    with members(tmp_path, arbiter=cluster.url()) as data_set, Writer(data_set) as writer:
        primary = data_set.until_protected()
        survivor = data_set.other(primary)
        writer.until(5)
        for each in cluster.members[:2]:
            each.kill()
        writer.until(5)
        primary.kill()
        survivor.until("claim-unanswered")
        assert not [e for e in survivor.events if e["event"] == "serving"]
        cluster.start()
        writer.until(5)
        data_set.start(primary.name)
        data_set.until_protected()
        assert not lost(data_set, writer)


def switched_over(data_set: Members) -> None:
    primary = data_set.until_protected()
    done = primary.ctl("switchover")
    assert done.returncode == 0, done
    assert data_set.until_protected() is data_set.other(primary)


def test_a_planned_switchover_loses_nothing_and_the_two_change_places(data_set: Members) -> None:
    with Writer(data_set) as writer:
        for _ in range(2):
            data_set.until_protected()
            writer.until(5)
            switched_over(data_set)
        writer.until(5)
    assert not lost(data_set, writer)
    assert not [
        e for each in data_set.running.values() for e in each.events if e["event"] == "claim-unanswered"
    ]


def test_both_machines_are_upgraded_one_after_the_other_without_a_stop(data_set: Members) -> None:
    with Writer(data_set) as writer:
        for name in NAMES:
            if data_set.until_protected().name == name:
                switched_over(data_set)
            assert data_set.running[name].end() == 0
            writer.until(5)
            data_set.start(name)
            data_set.until_protected()
        writer.until(5)
    assert not lost(data_set, writer)


@pytest.mark.soak
def test_ten_switchovers_in_a_row_under_load(data_set: Members) -> None:
    pauses = []
    with Writer(data_set) as writer:
        for _ in range(10):
            data_set.until_protected()
            writer.until(20)
            writer.longest = 0.0
            switched_over(data_set)
            writer.until(5)
            pauses.append(writer.longest)
    print(f"pauses of a switchover, s: p50 {statistics.median(pauses):.2f}, max {max(pauses):.2f}")
    assert not lost(data_set, writer)


def test_a_survivor_that_answers_from_memory_stores_it_all_when_it_is_stopped(tmp_path: Path) -> None:
    """Its store is written once an hour: what it has, it has from the last moment."""
    with members(tmp_path, "--alone-commit", "memory", "--alone-interval-ms", "3600000") as both:
        primary = both.until_protected()
        survivor = both.other(primary)
        primary.kill()
        survivor.until("member", state="alone")
        for key in ("one", "two", "three"):
            assert both.ask("INSERT INTO ledger VALUES (?)", params=[key], key=key)["protected"] is False
        assert survivor.end() == 0
        both.start(survivor.name)
        assert both.keys() == {"one", "two", "three"}


@pytest.mark.soak
def test_everything_is_killed_at_fifty_random_moments(data_set: Members) -> None:
    chance = random.Random(SEED)
    with Writer(data_set, "x") as writer, Writer(data_set, "y") as another:
        for _ in range(50):
            time.sleep(chance.random() * 2)  # no moment is the right one
            victims = chance.choice([("a",), ("b",), ("a", "b")])
            for name in victims:
                data_set.running[name].process.kill()
            for name in victims:
                data_set.running[name].gone()
            for name in chance.sample(victims, len(victims)):
                data_set.start(name)
                time.sleep(chance.choice([0, 0, 1]) * chance.random() * 2)
        data_set.until_protected()
        writer.until(5)
        another.until(5)
    print(
        f"acknowledged {len(writer.acknowledged) + len(another.acknowledged)}, longest {writer.longest:.1f} s"
    )
    assert not lost(data_set, writer, another)


@pytest.mark.soak
def test_ten_failovers_in_a_row_change_sides_under_load(data_set: Members) -> None:
    with Writer(data_set) as writer:
        for _ in range(10):
            primary = data_set.until_protected()
            writer.until(20)
            primary.kill()
            writer.until(5)
            data_set.start(primary.name)
        data_set.until_protected()
    print(f"acknowledged {len(writer.acknowledged)}, longest {writer.longest:.2f} s")
    assert not lost(data_set, writer)
