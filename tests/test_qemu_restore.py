"""`colo-fsm restore` and `inspect`: what a standby held is a stream that QEMU loads, and says what it is."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import zlib
from pathlib import Path

import pytest
import qemus
from click.testing import CliRunner, Result
from qemu import Qemu, needs_kvm
from qemu_writer import Writer
from standby_process import COMMAND, StandbyProcess, devices, initial, page
from vm_link import keep, recorded
from vm_stream import described

from colo_fsm.cli.app import cli
from colo_fsm.replica import DirectoryStore
from colo_fsm.stream import Delta

MEMORY = 24
MACHINE = "-accel kvm -nodefaults -display none -vga none"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A store with a VM that is only a stream."""
    with DirectoryStore(tmp_path / "vm") as store:
        keep(store, 2)
    return tmp_path / "vm"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, qemu_version: qemus.Version) -> Path:
    """A store with the VM of a real QEMU."""
    folder = tmp_path_factory.mktemp("real")
    with StandbyProcess(folder) as standby, Qemu(folder, "primary", memory=MEMORY) as primary:
        primary.replicate(standby.uri)
        primary.write(Writer.start, b"written" * 1000)
        primary.checkpoint()
        primary.kill()
        assert standby.wait() == 0
    return standby.store


def mapped(ram: Path) -> tuple[str, ...]:
    """QEMU's options for RAM that is a file, as docs/standby.md has them."""
    backend = f"memory-backend-file,id=pc.ram,size={MEMORY}M,mem-path={ram}"
    return (
        "-machine", "memory-backend=pc.ram",
        "-object", f"{backend},x-use-canonical-path-for-ramblock-id=off",
    )  # fmt: skip


@needs_kvm
class TestReal:
    def test_check_says_that_it_loads(self, real: Path) -> None:
        result = run("restore", real, "--check", f"{qemus.PROGRAM} -machine pc -m {MEMORY} {MACHINE}")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "checkpoint 1 loads: paused\n"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (f"-machine pc -m {2 * MEMORY}", "Size mismatch: pc.ram"),
            (f"-machine q35 -m {MEMORY}", "Machine type received is"),
            (f"-machine pc -m {MEMORY} -device nonsense", "'nonsense' is not a valid device model name"),
        ],
    )
    def test_check_says_that_it_does_not_load_in_qemu_s_words(
        self, real: Path, options: str, words: str
    ) -> None:
        result = run("restore", real, "--check", f"{qemus.PROGRAM} {options} {MACHINE}")
        assert result.exit_code == 1
        assert words in result.stderr

    def test_the_description_is_kept_and_qemu_misses_it_without(self, real: Path, tmp_path: Path) -> None:
        stream = tmp_path / "stream"
        assert run("restore", real, "-o", stream).exit_code == 0
        whole = stream.read_bytes()
        end = whole.rindex(b"\0\x06", 0, whole.rindex(b'{"vmsd_name'))
        missed = []
        for data in (whole, whole[: end + 1]):
            stream.write_bytes(data)
            loader = Qemu(tmp_path, "q", memory=MEMORY, incoming=f"exec:cat {stream}", paused=True)
            with loader as qemu:
                qemu.wait_loaded()
                assert qemu.read(Writer.start, 7) == b"written"
                missed.append("vmdesc" in qemu.log.read_text())
        assert missed == [False, True]

    def test_its_ram_may_be_mapped_instead_of_read(self, real: Path, tmp_path: Path) -> None:
        """QEMU has it as it was, and what the VM writes then is its own: the checkpoint stays."""
        ram, stream, whole = (tmp_path / name for name in ("ram", "stream", "whole"))
        assert run("restore", real, "-o", whole).exit_code == 0
        assert run("restore", real, "--unchecked", "--ram", ram, "-o", stream).exit_code == 0
        assert stream.stat().st_size < 1 << 20
        before = ram.read_bytes()
        found = []
        for source, options in ((whole, ()), (stream, mapped(ram))):
            with Qemu(
                tmp_path, "q", memory=MEMORY, incoming=f"exec:cat {source}", paused=True, extra=options
            ) as qemu:
                qemu.wait_loaded()
                qemu.qmp("pmemsave", val=0, size=MEMORY << 20, filename=str(tmp_path / "memory"))
                found.append((tmp_path / "memory").read_bytes())
                qemu.qmp("cont")
                qemu.write(Writer.start, b"another" * 1000)
        assert found[0] == found[1]
        assert found[0][Writer.start :].startswith(b"written")
        assert ram.read_bytes() == before
        assert run("inspect", real).exit_code == 0

    def test_inspect_of_the_store_and_of_the_stream_agree(self, real: Path, tmp_path: Path) -> None:
        run("restore", real, "-o", tmp_path / "stream")
        kept = json.loads(run("inspect", real, "--json").stdout)
        file = json.loads(run("inspect", tmp_path / "stream", "--json").stdout)
        assert (kept.pop("checkpoint"), file.pop("checkpoint")) == (1, None)
        assert kept.pop("generation") > 0
        assert file.pop("generation") is None
        assert kept == file
        assert kept["machine"].startswith("pc-i440fx-")
        assert kept["has_description"]
        (ram,) = (b for b in kept["blocks"] if b["name"] == "pc.ram")
        assert ram["size"] == MEMORY << 20
        assert {"timer", "cpu", "fw_cfg"} <= {s["name"] for s in kept["sections"]}

    def test_inspect_for_people(self, real: Path) -> None:
        said = run("inspect", real).stdout
        for words in ("machine: pc-i440fx-", "checkpoint: 1", "disks: none", "pc.ram", "fw_cfg"):
            assert words in said


class TestOutput:
    def test_a_file_is_for_its_owner_only(self, small: Path, tmp_path: Path) -> None:
        assert run("restore", small, "-o", tmp_path / "stream").exit_code == 0
        assert (tmp_path / "stream").stat().st_mode & 0o777 == 0o600

    def test_standard_output(self, small: Path, tmp_path: Path) -> None:
        run("restore", small, "-o", tmp_path / "stream")
        piped = subprocess.run([*COMMAND, "restore", small, "-o", "-"], capture_output=True, timeout=20)
        assert piped.stdout == (tmp_path / "stream").read_bytes()

    @pytest.mark.parametrize("where", ["-", "/dev/stdout"])
    def test_a_terminal_is_refused(self, small: Path, where: str) -> None:
        ours, theirs = pty.openpty()
        command = [*COMMAND, "restore", str(small), "-o", where]
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=20)
        os.close(theirs)
        with pytest.raises(OSError, match="Input/output"):  # nothing came, and nobody is there any more
            os.read(ours, 1)
        os.close(ours)
        assert done.returncode == 2
        assert "nothing for a terminal" in done.stderr

    def test_nothing_asked_for(self, small: Path) -> None:
        assert run("restore", small).exit_code == 2

    def test_ram_that_cannot_be_mapped(self, small: Path) -> None:
        assert run("restore", small, "--ram", small.parent / "ram", "-o", "-").exit_code == 2
        result = run("restore", small, "--ram", "/proc/ram", "-o", small.parent / "stream")
        assert result.exit_code == 1
        assert "/proc/ram cannot be another name of" in result.stderr

    def test_a_page_that_is_damaged_is_found_unless_nobody_looks(self, small: Path, tmp_path: Path) -> None:
        """But that the image is of another round is always found."""
        image = next(small.glob("image-*"))
        data = bytearray(image.read_bytes())
        with DirectoryStore(small) as store:
            assert store.newest is not None
            store.commit(Delta(), store.newest.device)  # so that no log makes it good
        data[5] ^= 1
        image.write_bytes(data)
        assert "differs from its checksum" in run("restore", small, "-o", tmp_path / "stream").stderr
        assert run("restore", small, "--unchecked", "-o", tmp_path / "stream").exit_code == 0
        data[-1] ^= 1
        image.write_bytes(data)
        result = run("restore", small, "--unchecked", "-o", tmp_path / "stream")
        assert "is not the image of this checkpoint" in result.stderr

    def test_a_file_that_cannot_be_written(self, small: Path) -> None:
        result = run("restore", small, "-o", "/dev/full")
        assert result.exit_code == 1
        assert "No space left on device" in result.stderr

    def test_a_command_that_does_not_start(self, small: Path) -> None:
        result = run("restore", small, "--check", "no-such-qemu -m 24")
        assert (result.exit_code, "cannot start 'no-such-qemu'" in result.stderr) == (1, True)

    def test_a_command_that_is_no_qemu(self, small: Path) -> None:
        result = run("restore", small, "--check", "sh -c 'echo I am a shell >&2; exit 1'")
        assert (result.exit_code, "does not load: I am a shell" in result.stderr) == (1, True)


class TestInspect:
    def test_a_store(self, small: Path) -> None:
        found = json.loads(run("inspect", small, "--json").stdout)
        ram, bios = (f"{zlib.crc32(page(2) * pages):08x}" for pages in (3, 1))
        assert found == {
            "machine": "pc-i440fx-7.2", "generation": 7, "checkpoint": 2, "disks": [],
            "has_description": True,
            "blocks": [
                {"name": "pc.ram", "size": 3 * 4096, "zero_pages": 0, "checksum": ram},
                {"name": "pc.bios", "size": 4096, "zero_pages": 0, "checksum": bios},
            ],
            "sections": [
                {"name": "timer", "instance": 0, "version": 1, "section": 0, "offset": 19, "size": 8},
                {"name": "cpu", "instance": 0, "version": 1, "section": 4, "offset": 49, "size": 100},
            ],
            "vmstate_checksum": f"{zlib.crc32(devices(2)):08x}",
        }  # fmt: skip

    def test_a_recording_and_a_file_are_their_initial_states(self, tmp_path: Path) -> None:
        recorded(tmp_path / "capture", 1)
        (tmp_path / "file").write_bytes(initial())
        (tmp_path / "bare").write_bytes(initial()[: -len(described())])
        of_capture, of_file, of_bare = (
            json.loads(run("inspect", tmp_path / name, "--json").stdout)
            for name in ("capture", "file", "bare")
        )
        assert of_capture == of_file
        assert (of_file["generation"], of_file["checkpoint"]) == (None, None)
        assert [b["zero_pages"] for b in of_file["blocks"]] == [3, 1]
        assert (of_file.pop("has_description"), of_bare.pop("has_description")) == (True, False)
        assert of_file == of_bare

    def test_for_people(self, small: Path, tmp_path: Path) -> None:
        said = run("inspect", small).stdout
        for words in (
            "machine: pc-i440fx-7.2", "generation: 7", "checkpoint: 2", "memory: 16384 bytes",
            "vmstate: 108 bytes, crc32 ", "disks: none", "description: yes", "RAM blocks", "pc.bios", "timer",
        ):  # fmt: skip
            assert words in said
        (tmp_path / "bare").write_bytes(initial()[: -len(described())])
        said = run("inspect", tmp_path / "bare").stdout
        for words in ("generation: -", "checkpoint: -", "description: no (QEMU warns"):
            assert words in said


class TestSource:
    def test_what_is_no_standby_s(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").touch()
        with DirectoryStore(tmp_path / "guest") as store:
            store.begin({"ram": 4096})
            store.complete(1, b"")
        for folder, words in (
            ("empty", "is not a directory that a standby"),
            ("other", "holds something else than a store"),
            ("guest", "colo-fsm export gives back"),
        ):
            result = run("restore", tmp_path / folder, "-o", "-")
            assert result.exit_code == 1
            assert words in result.stderr
        assert list((tmp_path / "empty").iterdir()) == []

    def test_a_store_in_use(self, small: Path) -> None:
        with DirectoryStore(small):
            result = run("inspect", small)
        assert (result.exit_code, "open in a process" in result.stderr) == (1, True)

    def test_inspect_of_a_file_that_is_cut_short_or_no_stream(self, small: Path, tmp_path: Path) -> None:
        stream = tmp_path / "stream"
        run("restore", small, "-o", stream)
        whole = stream.read_bytes()
        for size in (0, 10, 5000, len(whole) - 1):
            stream.write_bytes(whole[:size])
            result = run("inspect", stream)
            assert (result.exit_code, f"ends too early (at byte {size})" in result.stderr) == (1, True)
        stream.write_bytes(b"nonsense" * 10)
        assert "is not that of a migration stream" in run("inspect", stream).stderr
