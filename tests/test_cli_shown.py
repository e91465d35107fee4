"""What comes from outside, as a terminal gets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from standby_process import StandbyProcess, StreamPrimary
from vm_link import keep
from vm_stream import DEVICES, MIXED, device, head, ram, record, start

from colo_fsm.cli.app import cli
from colo_fsm.cli.shown import as_markup, as_text, lines, shown
from colo_fsm.replica import DirectoryStore
from colo_fsm.stream import PAGE_SIZE

EVIL = "[/bold]\x1b[2J\r"
"""Markup that rich cannot take, an escape sequence, a line that is written over."""

PLAIN = r"[/bold]\x1b[2J\r"

NAME = "\x1b[2J\x9b31m\u202e\n[red]\udcff"
"""For a file: escape sequences of one byte and of two, a turned direction, a line's end, and no UTF-8."""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@given(st.text(st.characters()))
def test_a_line_is_one_line_that_can_be_printed(text: str) -> None:
    assert shown(text).isprintable()
    assert all(line.isprintable() for line in lines(text).split("\n"))
    assert as_text(text).plain == Text.from_markup(f"{as_markup(text)}[bold]").plain == shown(text)
    shown(text).encode()  # no lone surrogate is left


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert shown("Ümläut [red] \\x1b 東京 C:\\") == "Ümläut [red] \\x1b 東京 C:\\"


def test_a_log_record_keeps_its_lines_and_nothing_else() -> None:
    script = f"""
import logging
from colo_fsm.cli.shown import log_to_stderr
log_to_stderr(logging.INFO)
logging.getLogger("colo").info("peer says %s" + chr(10) + "and more", {EVIL!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.stderr == f"colo: peer says {PLAIN}\nand more\n"


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A VM whose every name is a stranger's."""
    pages = record(0, 0x08, EVIL) + MIXED
    path = tmp_path / "stream"
    path.write_bytes(
        head(EVIL) + start("ram", {EVIL: PAGE_SIZE}) + ram(2, pages) + ram(3, b"")
        + DEVICES + device(9, "[/bold]", b"state") + b"\0"
    )  # fmt: skip
    return path


def test_inspect_shows_a_stranger_s_names_without_obeying_them(stream: Path) -> None:
    result = run("inspect", stream)
    assert result.exit_code == 0, result.output
    assert f"machine: {PLAIN}\n" in result.stdout
    assert result.stdout.count(PLAIN) == 2  # and the block
    assert "\n [/bold]  " in result.stdout
    assert result.stdout.replace("\n", "").isprintable()


def test_as_json_they_are_data(stream: Path) -> None:
    result = run("inspect", stream, "--json")
    assert result.stdout.strip().isascii()
    assert json.loads(result.stdout)["machine"] == EVIL


def test_an_error_about_a_stranger_s_file_is_one_plain_line(tmp_path: Path) -> None:
    log = tmp_path / f"log{NAME}"
    log.write_text("colo_send_message Send '\x1b]0;owned\x07' message\n")
    result = run("trace", log)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path}/log{shown(NAME)}:1: '\\x1b]0;owned\\x07' is no COLO message\n"
    )


def test_so_is_one_about_the_arguments(tmp_path: Path) -> None:
    result = run("replay", tmp_path, "--connect", f"tcp:{EVIL}:1")
    assert result.exit_code in (1, 2)
    assert result.stderr.replace("\n", "").isprintable()
    assert PLAIN in run("diagram", "--primary", f"nowhere{EVIL}:X").stderr


def test_qemu_s_own_words_are_one_line_too(tmp_path: Path, stream: Path) -> None:
    with DirectoryStore(tmp_path / "vm") as store:
        keep(store, 1)
    says = "sh -c 'printf \"one\\033[2J\\ntwo\\n\" >&2; exit 1'"
    result = run("restore", tmp_path / "vm", "--check", says)
    assert result.exit_code == 1
    assert result.stderr == "Error: checkpoint 1 does not load: one\\x1b[2J; two\n"


def test_an_arbiter_s_words_cannot_drive_the_standby_s_terminal(tmp_path: Path) -> None:
    arbiter = tmp_path / "arbiter"
    arbiter.write_text("#!/bin/sh\nprintf '[/bold]\\033[2Jgone' >&2\nexit 1\n")
    arbiter.chmod(0o755)
    with StandbyProcess(tmp_path, "--arbiter", f"exec:{arbiter}") as standby:
        with StreamPrimary(standby.connect()) as primary:
            primary.begin()
            primary.round(1)
        standby.says("the arbiter does not answer: ")
        assert "status 1 is no answer: 0 is won, 10 is lost; it says: " in standby.said
        assert r"[/bold]\x1b[2Jgone; suspended, asking again in 1 s" in standby.said
