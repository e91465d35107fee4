"""What real QEMU processes send is decoded whole, and a new QEMU loads what we make of it."""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import socket
import struct
from pathlib import Path

import attrs
import pytest
import qemus
from qemu import Qemu, needs_kvm, refused_capabilities
from qemu_relay import Relay
from vm_stream import Memory

from colo_fsm.stream import (
    PAGE_SIZE,
    Blocks,
    DescriptionDecoder,
    StreamError,
    VmInitialDecoder,
    VmLiveDecoder,
    device_sections,
    pong,
    shut,
    vm,
)
from colo_fsm.stream.source import Decoder

pytestmark = needs_kvm

MIB = 1 << 20
LIMIT = 1 << 30
REGION, REGION_PAGES = 4 * MIB, 64
"""Guest memory that no firmware uses."""

UUID = "00000000-1111-1111-1111-222222222222"


@attrs.frozen
class Case:
    machine: str
    type: str
    memory: int
    smp: int
    rounds: int
    capabilities: dict[str, bool]
    extra: tuple[str, ...] = ()


CASES = {
    "pc": Case("pc", "pc-i440fx-", 16, 1, 5, {}),
    "pc with xbzrle": Case("pc", "pc-i440fx-", 24, 2, 5, {"xbzrle": True}),
    # A Secondary of this type aborts before 11, once the firmware has run.
    "q35": Case("q35", "pc-q35-", 16, 2, 2, {"validate-uuid": True}, ("-uuid", UUID)),
}


@attrs.frozen
class Capture:
    """A pair that replicated `case.rounds` rounds: its forward channel, and the survivor's memory."""

    case: Case
    sent: bytes
    survivor: bytes


def dirty(primary: Qemu, number: int) -> None:
    """Nothing in one round, little in the next (a few bytes of each page), then much."""
    rng = random.Random(number)
    for page in range(REGION_PAGES):
        address = REGION + page * PAGE_SIZE
        if number % 3 == 1:
            primary.write(address + rng.randrange(PAGE_SIZE - 8), rng.randbytes(8))
        elif number % 3 == 2:
            primary.write(address, rng.choice((bytes(PAGE_SIZE), rng.randbytes(PAGE_SIZE))))


def capture(folder: Path, case: Case) -> Capture:
    def side(name: str, incoming: str | None = None) -> Qemu:
        return Qemu(
            folder,
            name,
            incoming=incoming,
            machine=case.machine,
            memory=case.memory,
            smp=case.smp,
            extra=case.extra,
        )

    with (
        side("secondary", "tcp:127.0.0.1:0") as secondary,
        Relay(secondary.uri) as relay,
        side("primary") as primary,
    ):
        primary.write(REGION, random.Random(99).randbytes(REGION_PAGES * PAGE_SIZE // 2))
        secondary.enable_colo(**case.capabilities)
        primary.replicate(relay.uri, **case.capabilities)
        for number in range(1, case.rounds + 1):
            dirty(primary, number)
            primary.checkpoint()
        primary.kill()
        relay.over.wait(10)
        secondary.lost_heartbeat()
        survivor = secondary.read(REGION, REGION_PAGES * PAGE_SIZE)
        relay.stop()
        return Capture(case, relay.recorded("p2s"), survivor)


@pytest.fixture(scope="module", params=CASES)
def captured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, qemu_version: qemus.Version
) -> Capture:
    return capture(tmp_path_factory.mktemp("pair"), CASES[request.param])


class Channel:
    """The forward channel as a Secondary reads it; whole, or in random pieces."""

    def __init__(self, data: bytes, seed: int | None) -> None:
        self.data = data
        self.at = 0
        self._rng = random.Random(seed) if seed is not None else None

    def feed(self, decoder: Decoder) -> None:
        while not decoder.complete:
            step = self._rng.choice((1, 5, 4096, 4105, 65536)) if self._rng else len(self.data)
            assert self.at < len(self.data)
            self.at += decoder.feed(self.data[self.at : self.at + step])

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def expect(self, *messages: int) -> None:
        assert self.take(4 * len(messages)) == struct.pack(f">{len(messages)}I", *messages)


class Decoded:
    """A checkpoint: all that a channel has brought."""

    def __init__(self, data: bytes, seed: int | None = None) -> None:
        channel = Channel(data, seed)
        self.initial = VmInitialDecoder(self._open, limit=LIMIT)
        channel.feed(self.initial)
        self.devices, self.sections = self.initial.devices, self.initial.sections
        described = DescriptionDecoder()
        channel.feed(described)
        self.description = described.description
        self.rounds: list[int] = []
        while channel.at < len(data) and len(data) - channel.at > 8:
            channel.expect(1, 3)
            live = VmLiveDecoder(self.initial.ram, self.memory)
            channel.feed(live)
            channel.expect(4)
            vmstate = channel.take(*struct.unpack(">Q", channel.take(8)))
            self.sections = device_sections(vmstate)
            self.devices = vmstate[:-1]
            self.rounds.append(live.pages)

    def _open(self, blocks: Blocks) -> Memory:
        self.memory = Memory(blocks)
        return self.memory

    def stream(self, description: bytes | None) -> bytes:
        memory = {name: memoryview(content) for name, content in self.memory.blocks.items()}
        return b"".join(vm(self.initial.head, self.initial.ram.section, memory, self.devices, description))


def test_everything_is_decoded_in_any_pieces(captured: Capture) -> None:
    case = captured.case
    whole, pieces = Decoded(captured.sent), Decoded(captured.sent, seed=1)
    for found in (whole, pieces):
        initial = found.initial
        assert initial.machine.startswith(case.type)
        assert initial.answers == ([pong(1), shut()] if initial.return_path else [])
        assert initial.blocks["pc.ram"] == case.memory * MIB
        assert {"pc.bios", "pc.rom", "/rom@etc/acpi/tables"} <= initial.blocks.keys()
        assert initial.pages >= sum(initial.blocks.values()) // PAGE_SIZE
        assert len(found.rounds) == case.rounds
        offset = REGION + REGION_PAGES * PAGE_SIZE
        assert found.memory.blocks["pc.ram"][REGION:offset] == captured.survivor
    assert whole.memory.blocks == pieces.memory.blocks
    assert whole.devices == pieces.devices
    assert whole.rounds == pieces.rounds
    assert bool(whole.memory.patched) == ("xbzrle" in case.capabilities)


def test_sections_are_those_that_the_description_names(captured: Capture) -> None:
    found = Decoded(captured.sent)
    assert found.description is not None
    named = [(d["name"], d["instance_id"], d["version"]) for d in json.loads(found.description)["devices"]]
    for sections in (found.initial.sections, found.sections):
        assert [(s.name, s.instance, s.version) for s in sections] == named
    assert [s.name for s in found.sections].count("cpu") == captured.case.smp


def test_cut_short_is_never_complete(captured: Capture) -> None:
    sent = captured.sent
    initial = VmInitialDecoder(Memory, limit=LIMIT)
    end = initial.feed(sent)
    for cut in (100, end // 2, end - 20_000, end - 1):
        short = VmInitialDecoder(Memory, limit=LIMIT)
        assert short.feed(sent[:cut]) == cut
        assert not short.complete


@pytest.mark.parametrize("described", [True, False])
def test_checkpoint_is_loaded_by_a_new_qemu(captured: Capture, described: bool, tmp_path: Path) -> None:
    case, found = captured.case, Decoded(captured.sent)
    file = tmp_path / "checkpoint"
    file.write_bytes(found.stream(found.description if described else None))
    options = {"machine": case.machine, "memory": case.memory, "smp": case.smp, "extra": case.extra}
    with Qemu(tmp_path, "restored", incoming=f"exec:cat {file}", paused=True, **options) as restored:  # type: ignore[arg-type]
        restored.wait_loaded()
        ram = found.memory.blocks["pc.ram"]
        for start, end in ((0, 0xA0000), (MIB, case.memory * MIB)):
            assert restored.read(start, end - start) == ram[start:end]
        restored.qmp("cont")
        assert restored.qmp("query-status")["status"] == "running"
        assert ("vmdescription" not in restored.log.read_text()) == described


def decode_from(server: socket.socket) -> None:
    """Decode what a Primary sends over the first connection to `server`; drain the others."""
    decoder = VmInitialDecoder(Memory, limit=LIMIT)
    main: socket.socket | None = None
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while not decoder.complete:
            (key, _), *_ = selector.select(20)
            assert isinstance(key.fileobj, socket.socket)
            if key.fileobj is server:
                link = stack.enter_context(server.accept()[0])
                selector.register(link, selectors.EVENT_READ)
                main = main or link
            elif data := key.fileobj.recv(1 << 18):
                if key.fileobj is main:
                    decoder.feed(data)
            else:
                selector.unregister(key.fileobj)


def test_capability_is_refused_by_its_name(tmp_path: Path) -> None:
    for capability in refused_capabilities():
        with socket.create_server(("127.0.0.1", 0)) as server, Qemu(tmp_path, "p", memory=16) as primary:
            primary.enable_colo(**{capability: True})
            primary.migrate(f"tcp:127.0.0.1:{server.getsockname()[1]}")
            with pytest.raises(StreamError, match=f"switch .*{capability}.* off"):
                decode_from(server)


def test_ping_and_its_answer_are_qemus(tmp_path: Path) -> None:
    """Shown by a migration with return-path, where QEMU itself sends the one and answers with the other."""
    return_path = [{"capability": "return-path", "state": True}]
    with (
        Qemu(tmp_path, "destination", incoming="tcp:127.0.0.1:0") as destination,
        Relay(destination.uri) as relay,
        Qemu(tmp_path, "source") as source,
    ):
        for side in (source, destination):
            side.qmp("migrate-set-capabilities", capabilities=return_path)
        source.migrate(relay.uri)
        source.until(lambda: relay.passed("s2p") >= 8 or None, "the answer to the ping")
        relay.stop()
    sent = relay.recorded("p2s")
    decoder = VmInitialDecoder(Memory, limit=LIMIT)
    decoder.feed(sent[: 64 << 10])
    assert decoder.answers == [pong(1)]
    assert relay.recorded("s2p").startswith(pong(1))
