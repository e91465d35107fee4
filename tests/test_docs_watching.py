"""docs/watching.md, followed to the letter with two real QEMUs."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import qemus
from qemu import each_version, free_port, needs_kvm
from test_docs_standby import done, said, terminal

PAGE = Path(__file__).parent.parent / "docs" / "watching.md"


class Page:
    """The page's commands and prompts, with ports that are free here."""

    def __init__(self) -> None:
        self._ports = {port: str(free_port()) for port in ("9998", "9999")}

    def commands(self) -> list[str]:
        blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
        return [self._here(line) for block in blocks for line in block.splitlines()]

    def type(self, side: str, process: subprocess.Popen[str]) -> None:
        """Type what the page says at this side's prompt."""
        assert process.stdin is not None
        sides = f"{side}|qemu 11" if qemus.current().number >= (11,) else side
        for line in re.findall(rf"^\((?:{sides})\) (.*)$", PAGE.read_text(), re.MULTILINE):
            process.stdin.write(f"{self._here(line)}\n")
        process.stdin.write("info version\n")
        process.stdin.flush()
        said(process, "info version")

    def _here(self, text: str) -> str:
        for port, free in self._ports.items():
            text = text.replace(port, free)
        return text


@needs_kvm
@each_version
def test_every_command_of_the_page(tmp_path: Path) -> None:
    page = Page()
    secondary, tap, primary, again, inspect, trace, replay = page.commands()
    with terminal(secondary, tmp_path) as standing_by:
        page.type("secondary", standing_by)
        with terminal(tap, tmp_path) as watching:
            said(watching, "listening")
            with terminal(primary, tmp_path) as running:
                page.type("primary", running)
                for _ in range(3):
                    said(watching, "pages")
                watching.send_signal(signal.SIGINT)
                out, _ = watching.communicate(timeout=20)
                assert watching.returncode == 0, out
    with terminal(again, tmp_path) as looking:
        out, _ = looking.communicate(timeout=60)
        assert "pages" in out
        assert looking.returncode == ("broke:" in out), "^C may have come in the middle of a round"
    assert "machine: pc-i440fx" in done(inspect, tmp_path)
    assert done(trace, tmp_path)
    with terminal(secondary, tmp_path) as standing_by:
        page.type("secondary", standing_by)
        assert "ready, 3 rounds" in done(replay, tmp_path)
