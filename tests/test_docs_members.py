"""docs/members.md, followed to the letter: its two commands, its client, a kill, and what a store holds."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from members import PATIENCE
from qemu import free_port
from test_docs_standby import blocks, done, terminal

PAGE = (Path(__file__).parent.parent / "docs" / "members.md").read_text()
PORTS = ("9998", "9999", "5433", "5434")


class Page:
    """What is pasted from the page, with ports that are free here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = dict(zip(PORTS, (str(free_port()) for _ in PORTS), strict=True))
        (client,) = blocks(PAGE, "python")
        (folder / "ask.py").write_text(self._here(client))
        lines = [line for block in blocks(PAGE, "sh") for line in block.splitlines()]
        start_a, start_b, self.create, self.insert, self.look_a, self.look_b, self.export, self.select = map(
            self._here, lines
        )
        self.starts = (start_a, start_b)

    def _here(self, text: str) -> str:
        return re.sub("|".join(PORTS), lambda found: self._ports[found[0]], text)

    def ask(self, command: str, *, protected: bool) -> dict[str, Any]:
        """Run this until somebody answers, who is protected or is not."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if said := done(command, self.folder):
                reply: dict[str, Any] = json.loads(said)
                if reply["protected"] is protected:
                    return reply
        raise AssertionError(f"nobody answers {command}")

    def runs(self) -> int:
        """Which of the two serves: 0 or 1."""
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", int(self._ports["5433"]))) and 1


def ended(process: subprocess.Popen[str]) -> str:
    """All that it has said, once it has ended in order."""
    process.terminate()
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return out


def test_every_command_of_the_page(tmp_path: Path) -> None:
    page = Page(tmp_path)
    with terminal(page.starts[0], tmp_path) as a, terminal(page.starts[1], tmp_path) as b:
        created = page.ask(page.create, protected=True)
        assert "error" not in created
        assert page.ask(page.insert, protected=True)["changes"] == 1
        first = page.runs()
        survivor = (b, a)[first]
        (a, b)[first].kill()
        count = 'python3 ask.py "SELECT count(*) FROM city"'
        assert page.ask(count, protected=False)["rows"] == [[1]]
        with terminal(page.starts[first], tmp_path) as again:
            assert page.ask(count, protected=True)["rows"] == [[1]]
            assert "secondary" in ended(again)
        page.ask(count, protected=False)
        assert "alone" in ended(survivor)
    looked = [done(page.look_a, tmp_path), done(page.look_b, tmp_path)]
    assert all(f"city{' ' if at == 0 else ''}" in text for at, text in enumerate(looked)), looked
    assert json.loads(looked[1])["member"] == "b"
    done(page.export, tmp_path)
    with closing(sqlite3.connect(tmp_path / "city.db")) as connection:
        assert connection.execute("SELECT * FROM city").fetchall() == [("Ulm",)]
    if shutil.which("sqlite3"):
        assert done(page.select, tmp_path) == "Ulm\n"
