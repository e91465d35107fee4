"""What is particular to claims and registers in an etcd cluster: a real one, killed and frozen."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from inspect import signature
from typing import TypeVar

import etcd_cluster
import pytest
from etcd3gw.client import Etcd3Client
from etcd_cluster import EtcdCluster, Member
from standby_process import until

from colo_fsm.arbiter import (
    ArbiterUnreachable,
    Entry,
    EtcdArbiter,
    EtcdRegister,
    GenerationClaimed,
    UnknownGeneration,
)
from colo_fsm.fsm import Side

T = TypeVar("T")
P, S = Side.PRIMARY, Side.SECONDARY


def where(url: str) -> str:
    return url.removeprefix("etcd://")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One for us alone."""
    if reason := etcd_cluster.missing():
        pytest.skip(reason)
    with etcd_cluster.running(tmp_path_factory.mktemp("faulty")) as cluster:
        yield cluster


@pytest.fixture
def cluster(faulty: EtcdCluster) -> Iterator[EtcdCluster]:
    """It is whole before each test."""
    yield faulty
    for member in faulty.members:
        if member.process is not None:
            member.thaw()
    faulty.start()


def asked(ask: Callable[[], T]) -> T:
    """The answer, asked for again until there is one, as those do who claim."""

    def once() -> tuple[T] | None:
        try:
            return (ask(),)
        except ArbiterUnreachable:
            return None

    return until(once, "answer")[0]


class Users:
    """An arbiter and a register, and what they had before a fault."""

    def __init__(self, url: str) -> None:
        self.arbiter = EtcdArbiter(where(url), timeout=4)
        self.register = EtcdRegister(where(url), "orders", timeout=4)
        self.claimed, self.free = asked(self.arbiter.open), asked(self.arbiter.open)
        self.claim = asked(lambda: self.arbiter.claim(self.claimed, S))
        self.swapped(None, "one")
        self.entry = asked(self.register.read)

    def swapped(self, version: int | None, value: str) -> None:
        """Swap until it is done: the answer may be lost while the members elect who leads."""

        def swap() -> Entry | None:
            self.register.swap(version, value)
            return self.register.read()

        entry = asked(swap)
        assert entry is not None
        assert entry.value == value

    def asks(self, members: list[Member]) -> list[Callable[[], object]]:
        """Every question, put to these members."""
        url = f"{','.join(member.address for member in members)}/{self.arbiter.where.partition('/')[2]}"
        arbiter, register = EtcdArbiter(url, timeout=4), EtcdRegister(url, "orders", timeout=4)
        assert self.entry is not None
        version = self.entry.version
        return [
            arbiter.open,
            lambda: arbiter.check(self.free),
            lambda: arbiter.claim(self.claimed, P),
            lambda: arbiter.claim(self.free, P),
            register.read,
            lambda: register.swap(version, "two"),
            lambda: register.swap(None, "anew"),
        ]

    def hear_what_they_had(self) -> None:
        """It answers as before, and goes on."""
        assert asked(lambda: self.arbiter.claim(self.claimed, P)) == self.claim
        asked(lambda: self.arbiter.check(self.free))
        assert asked(self.register.read) == self.entry
        assert asked(lambda: self.arbiter.claim(self.free, P)).winner is P
        assert self.entry is not None
        self.swapped(self.entry.version, "two")


def nobody_is_answered(users: Users, *groups: list[Member]) -> None:
    """Whatever is asked, of whichever members: all at once, for each waits for what must not come."""

    def refused(ask: Callable[[], object]) -> bool:
        with pytest.raises(ArbiterUnreachable):
            ask()
        return True

    asks = [ask for members in groups for ask in users.asks(members)]
    with ThreadPoolExecutor(len(asks)) as pool:
        assert all(pool.map(refused, asks))


@pytest.mark.parametrize(
    ("stop", "which"),
    [
        (Member.freeze, 0),
        (Member.freeze, 1),
        (Member.freeze, 2),
        (Member.kill, 0),
        pytest.param(Member.kill, 1, marks=pytest.mark.soak),
        pytest.param(Member.kill, 2, marks=pytest.mark.soak),
    ],
)
def test_one_member_does_not_matter(cluster: EtcdCluster, which: int, stop: Callable[[Member], None]) -> None:
    """The first that is asked, and whoever of them leads."""
    users = Users(cluster.url())
    stop(cluster.members[which])
    users.hear_what_they_had()


def test_without_a_majority_nobody_is_answered_and_it_heals_by_itself(cluster: EtcdCluster) -> None:
    users = Users(cluster.url())
    for member in cluster.members[:2]:
        member.kill()
    nobody_is_answered(users, cluster.members, cluster.members[2:])
    cluster.start()
    users.hear_what_they_had()


def test_a_frozen_majority_does_not_answer_until_it_goes_on(cluster: EtcdCluster) -> None:
    users = Users(cluster.url())
    for member in cluster.members[1:]:
        member.freeze()
    nobody_is_answered(users, cluster.members, cluster.members[:1])
    for member in cluster.members[1:]:
        member.thaw()
    cluster.answers()
    users.hear_what_they_had()


def test_all_killed_and_back(cluster: EtcdCluster) -> None:
    users = Users(cluster.url())
    cluster.kill()
    with pytest.raises(ArbiterUnreachable) as caught:
        users.arbiter.claim(users.free, P)
    assert caught.value.reason == "; ".join(f"{m.address}:2379 cannot be reached" for m in cluster.members)
    cluster.start()
    users.hear_what_they_had()


def test_it_serves_several_machines(etcd_cluster: EtcdCluster) -> None:
    url = etcd_cluster.url()
    arbiter, register = EtcdArbiter(where(url)), EtcdRegister(where(url), "orders")
    assert [*signature(EtcdArbiter).parameters] == ["where", "timeout", "clock"]
    assert [*signature(EtcdRegister).parameters] == ["where", "name", "timeout", "clock"]
    assert not arbiter.local_only
    assert not register.local_only
    assert str(arbiter) == str(register) == url
    assert repr(register) == f"EtcdRegister(where='{where(url)}', name='orders', timeout=5.0)"
    assert {arbiter} == {EtcdArbiter(where(url))}


def test_check_accepts_an_open_generation_only(etcd_cluster: EtcdCluster) -> None:
    arbiter = EtcdArbiter(where(etcd_cluster.url()))
    generation = arbiter.open()
    arbiter.check(generation)
    claim = arbiter.claim(generation, S)
    with pytest.raises(GenerationClaimed, match="the secondary has claimed it: start both"):
        arbiter.check(generation)
    other = EtcdArbiter(where(etcd_cluster.url()))
    for call in (other.check, lambda number: other.claim(number, P)):
        with pytest.raises(UnknownGeneration, match=f"{generation} is unknown at etcd://"):
            call(generation)
    assert arbiter.claim(generation, P) == claim


def test_numbers_rise_though_every_start_finds_an_earlier_clock(etcd_cluster: EtcdCluster) -> None:
    at = where(etcd_cluster.url())
    tokens, generations, versions = [0], [0], [0]
    for time_now in (10**15, 10**12, 7, 0, -(10**15)):
        starting = EtcdArbiter(at, clock=lambda now=time_now: now)  # type: ignore[misc]
        generations.append(starting.open())
        tokens.append(starting.claim(generations[-1], P).token)
        register = EtcdRegister(at, "orders", clock=lambda now=time_now: now)  # type: ignore[misc]
        assert register.swap(versions[-1] or None, "x")
        entry = register.read()
        assert entry is not None
        versions.append(entry.version)
    for numbers in (tokens, generations, versions):
        assert numbers == sorted(set(numbers))


def test_what_somebody_has_damaged_by_hand_is_no_answer(etcd_cluster: EtcdCluster) -> None:
    url = etcd_cluster.url()
    arbiter, register = EtcdArbiter(where(url)), EtcdRegister(where(url), "orders")
    prefix = where(url).partition("/")[2]
    by_hand = Etcd3Client(etcd_cluster.members[0].address, api_path="/v3/")
    generation, other = arbiter.open(), arbiter.open()
    register.swap(None, "one")
    by_hand.delete(f"{prefix}/version/orders")
    with pytest.raises(ArbiterUnreachable, match="version/orders was removed, but not the record"):
        register.read()
    by_hand.put(f"{prefix}/claim/{generation}", "nobody")
    with pytest.raises(ArbiterUnreachable, match=f"claim/{generation} is damaged"):
        arbiter.claim(generation, P)
    by_hand.put(f"{prefix}/newest/token", "many")
    with pytest.raises(ArbiterUnreachable, match="a number is damaged: 'many'"):
        arbiter.claim(other, P)


def test_no_proxy_stands_between(etcd_cluster: EtcdCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    arbiter = EtcdArbiter(where(etcd_cluster.url()))
    assert arbiter.claim(arbiter.open(), P).winner is P


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, "{}", "is no etcd: its answer cannot be read"),
        (200, "[]", "is no etcd: its answer cannot be read"),
        (200, "<html>", "is no etcd: its answer cannot be read"),
        (200, '{"responses": [{"response_range": {"kvs": [{}]}}]}', "is no etcd: its answer cannot be read"),
        (404, "not found", "is no etcd: its answer cannot be read"),
        (503, "busy", "cannot be reached"),
        (503, '{"message": "etcdserver: no leader", "code": 14}', "says: etcdserver: no leader"),
        (400, '{"message": "etcdserver: user name is empty"}', "says: etcdserver: user name is empty"),
    ],
)
def test_whatever_else_is_there_is_no_answer(status: int, body: str, reason: str) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            with pytest.raises(ArbiterUnreachable) as caught:
                EtcdArbiter(f"127.0.0.1:{server.server_port}/x").claim(7, P)
        finally:
            server.shutdown()
    assert caught.value.reason == f"127.0.0.1:{server.server_port} {reason}"


def test_one_that_is_silent_has_its_share_of_the_time(etcd_cluster: EtcdCluster) -> None:
    url = where(etcd_cluster.url())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ArbiterUnreachable, match=rf"127.0.0.1:{port} gave no answer in 0\.1 s$"):
            EtcdArbiter(f"127.0.0.1:{port}/x", timeout=0.2).open()
        arbiter = EtcdArbiter(f"127.0.0.1:{port},{url}", timeout=5)
        generation = arbiter.open()
        claim = arbiter.claim(generation, S)
        assert claim.winner is S
        assert EtcdArbiter(url).claim(generation, P) == claim


def test_without_its_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "etcd3gw", None)
    with pytest.raises(ValueError, match=r"'etcd://h1/x': its client is missing: pip install 'colo-fsm\["):
        EtcdArbiter("h1/x")
