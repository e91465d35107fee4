"""Behind a gate no client of a real VM has an answer taken back, and the network outlives the standby."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from answering_guest import Asker, Burst, Pcap, user_netdev
from frames import Wire, answered, request, tap
from gated_vm import answering_vm, counted, gate_filter, gates, restored_vm
from qemu import ON_DEMAND, each_version, free_port, needs_kvm
from qemu_lines import PATIENCE
from standby_process import StandbyProcess
from watch_process import WatchProcess

pytestmark = needs_kvm

DELAY = 20
ONE_AND_ALL = [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 30))]


@pytest.fixture
def asker() -> Iterator[Asker]:
    made = Asker(free_port())
    yield made
    made.close()


def taken_back(folder: Path, asker: Asker, *, gated: bool, delay: int) -> int:
    """How many answers a client has had that the restored VM gives again, after a kill at a random moment."""
    network = user_netdev(asker.port)
    options, filters = (gates(folder), gate_filter(folder)) if gated else ([], ())
    with (
        StandbyProcess(folder, *options) as standby,
        answering_vm(folder, *network, filters=filters) as primary,
    ):
        primary.replicate(standby.uri, delay)
        last = asker.asks_until(lambda: len(standby.objects) > 10)
        killer = threading.Timer(random.uniform(0, 0.1), primary.kill)
        killer.start()
        last = max(last, asker.asks_until(lambda: not primary.alive))
        killer.join()
        assert standby.wait() == 0
        with restored_vm(standby, folder, *network):
            first = asker.ask()
    assert first is not None
    return max(0, last - first + 1)


@each_version
@pytest.mark.parametrize("_n", ONE_AND_ALL)
def test_no_answer_is_taken_back(tmp_path: Path, asker: Asker, _n: int) -> None:
    assert taken_back(tmp_path, asker, gated=True, delay=DELAY) == 0


@each_version
def test_without_a_gate_answers_are_taken_back(tmp_path: Path, asker: Asker) -> None:
    """What the gate is for: no round comes between these answers and the end."""
    network = user_netdev(asker.port)
    with StandbyProcess(tmp_path) as standby, answering_vm(tmp_path, *network) as primary:
        primary.replicate(standby.uri, ON_DEMAND)
        primary.checkpoint()
        last = [asker.ask() for _ in range(5)][-1]
        primary.kill()
        assert standby.wait() == 0
        with restored_vm(standby, tmp_path, *network):
            first = asker.ask()
    assert first is not None
    assert last is not None
    assert last >= first


@pytest.mark.soak
@each_version
def test_at_random_moments_answers_are_taken_back_without_one(tmp_path: Path, asker: Asker) -> None:
    """A round every 100 ms: of five Primaries one at least dies with an answer that no round has covered."""
    folders = [tmp_path / str(n) for n in range(5)]
    for folder in folders:
        folder.mkdir()
    assert sum(taken_back(folder, asker, gated=False, delay=100) for folder in folders) > 0


@each_version
def test_an_answer_comes_with_its_round(tmp_path: Path, asker: Asker) -> None:
    network = user_netdev(asker.port)
    with (
        StandbyProcess(tmp_path, *gates(tmp_path)) as standby,
        answering_vm(tmp_path, *network, filters=gate_filter(tmp_path)) as primary,
    ):
        assert asker.ask() is not None, "before it is replicated"
        primary.replicate(standby.uri, ON_DEMAND)
        for _ in range(3):
            assert asker.ask(0.3) is None
            primary.checkpoint()
            assert asker.hears() is not None
        primary.kill()
        assert standby.wait() == 0


@pytest.mark.parametrize("cards", [2])
def test_several_cards(tmp_path: Path, cards: int) -> None:
    askers = [Asker(free_port()) for _ in range(cards)]
    network = [word for n, each in enumerate(askers) for word in user_netdev(each.port, n)]
    filters = [word for n in range(cards) for word in gate_filter(tmp_path, n)]
    with (
        StandbyProcess(tmp_path, *gates(tmp_path, cards)) as standby,
        answering_vm(tmp_path, *network, filters=filters, cards=cards) as primary,
    ):
        assert all(each.ask() is not None for each in askers)
        primary.replicate(standby.uri, ON_DEMAND)
        assert [each.ask(0.2) for each in askers] == [None] * cards
        primary.checkpoint()
        assert all(each.hears() is not None for each in askers)
    for each in askers:
        each.close()


@pytest.mark.parametrize("kind", ["stream", "socket", "dgram"])
def test_netdevs(tmp_path: Path, kind: str) -> None:
    wire = Wire(kind, tmp_path)
    with (
        StandbyProcess(tmp_path, *gates(tmp_path)) as standby,
        answering_vm(tmp_path, "-netdev", wire.options, filters=gate_filter(tmp_path)) as primary,
        wire.connected(),
    ):
        wire.send(request(1))
        while wire.hears(0.1) is None:  # it comes up
            wire.send(request(1))
        primary.replicate(standby.uri, ON_DEMAND)
        while wire.hears(0.2):
            pass
        wire.send(request(2))
        assert wire.hears(0.3) is None
        primary.checkpoint()
        answer = wire.hears()
        assert answer is not None
        assert answered(answer)[0] == 2


@each_version
def test_a_tcp_connection_outlives_the_primary(tmp_path: Path) -> None:
    """Over a tap, with the kernel's own TCP: every request is answered once, in order."""
    with ThreadPoolExecutor(1) as thread:  # which has a network of its own from then on
        thread.submit(_tcp_over_a_tap, tmp_path).result()


def _tcp_over_a_tap(folder: Path) -> None:
    listen = f"unix:{folder}/standby"
    with tap() as fd:
        network = ("-netdev", f"tap,id=n0,fd={fd}")
        with (
            StandbyProcess(folder, *gates(folder), listen=listen) as standby,
            answering_vm(folder, *network, filters=gate_filter(folder), inherits=[fd]) as primary,
            socket.create_connection(("10.0.2.15", 7), PATIENCE) as client,
        ):
            counts = list(asked_over_tcp(client, 5))
            primary.replicate(standby.uri, DELAY)
            counts += asked_over_tcp(client, 20)
            client.sendall(struct.pack(">Q", 77))
            primary.kill()
            assert standby.wait() == 0
            with restored_vm(standby, folder, *network, inherits=[fd]):
                number, count = struct.unpack(">QI", client.recv(12, socket.MSG_WAITALL))
                assert number == 77
                counts += [count, *asked_over_tcp(client, 5)]
    assert counts == list(range(1, 32))


def asked_over_tcp(client: socket.socket, times: int) -> Iterator[int]:
    for asked in range(times):
        client.sendall(struct.pack(">Q", asked))
        number, count = struct.unpack(">QI", client.recv(12, socket.MSG_WAITALL))
        assert number == asked
        yield count


def test_a_burst_that_finds_no_room_stops_neither_qemu_nor_its_rounds(tmp_path: Path, asker: Asker) -> None:
    """Some 60 MB wait for a round that nobody begins, where 2 MB may."""
    with (
        contextlib.closing(Burst(asker.port)) as burst,
        StandbyProcess(tmp_path, *gates(tmp_path), "--gate-limit", str(2 << 20)) as standby,
        answering_vm(
            tmp_path, *user_netdev(asker.port, bursts=True), filters=gate_filter(tmp_path)
        ) as primary,
    ):
        assert asker.ask() is not None  # its address is known then: what tells it would wait, too
        primary.replicate(standby.uri, ON_DEMAND)
        burst.ask(40_000, 1400)
        standby.says("the gate of network card 0 is full: packets are dropped until a round lets some go")
        for _ in range(3):
            primary.checkpoint()
        assert burst.heard() > 0
        assert standby.memory < 300 << 20


@each_version
@pytest.mark.parametrize("_n", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 34))])
@pytest.mark.parametrize("shut", [True, False], ids=["shut", "open"])
def test_the_network_outlives_the_standby(tmp_path: Path, asker: Asker, shut: bool, _n: int) -> None:
    """SIGKILLed at a random moment, with its gate shut (replicating) or open (before that)."""
    capture = tmp_path / "sent.pcap"
    dump = ("-object", f"filter-dump,id=dump,netdev=n0,queue=rx,file={capture}")
    arbiter = ("--arbiter", f"sqlite:{tmp_path}/claim.db")
    network = user_netdev(asker.port)
    with (
        StandbyProcess(tmp_path, *gates(tmp_path), *arbiter) as standby,
        answering_vm(tmp_path, *network, filters=(*gate_filter(tmp_path), *dump)) as primary,
        WatchProcess(
            tmp_path, *arbiter, "--generation", str(standby.generation), "--gate-object", "gate0"
        ) as watch,
    ):
        watch.comes_to("waiting")
        if shut:
            primary.replicate(standby.uri, 5)
            watch.comes_to("watching")
            asker.asks_until(lambda: len(standby.objects) > 5)
        asker.asks_for(random.uniform(0, 0.2))
        watch.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        standby.kill()
        if shut:
            assert Pcap(capture).counts[-1] <= counted(standby.store), "a packet has left before its round"
        watch.process.send_signal(signal.SIGCONT)
        assert asker.ask() is not None
        assert time.monotonic() - began < 2
        if shut:
            assert watch.wait() == 0


def test_a_standby_that_ends_in_order_opens_its_gate(tmp_path: Path, asker: Asker) -> None:
    opens = ("--qmp", f"unix:{tmp_path}/w", "--gate-object", "gate0")
    with (
        StandbyProcess(tmp_path, *gates(tmp_path), *opens) as standby,
        answering_vm(tmp_path, *user_netdev(asker.port), filters=gate_filter(tmp_path)) as primary,
    ):
        primary.replicate(standby.uri, ON_DEMAND)
        primary.checkpoint()
        standby.terminate()
        assert standby.wait() == 0
        assert "the gate is open: gate0 deleted" in standby.said
        assert asker.ask() is not None
