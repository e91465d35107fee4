"""`colo-fsm watch-primary` as a process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qemu_lines import PATIENCE
from standby_process import COMMAND, until


class WatchProcess:
    """The command with --json in a `with` block, beside a QEMU with `-qmp unix:FOLDER/w`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._out, self._log = folder / "watch.out", folder / "watch.log"
        here = str(Path(__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": here}  # tests/qemu.py is no package that has a qmp
        command = [*COMMAND, "watch-primary", "--json", "--qmp", f"unix:{folder}/w", *options]
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        """What is on its standard error."""
        return self._log.read_text()

    @property
    def told(self) -> list[Mapping[str, Any]]:
        *whole, _ = self._out.read_text().split("\n")
        return [json.loads(line) for line in whole]

    def comes_to(self, state: str) -> None:
        def there() -> bool | None:
            assert self.process.poll() is None, self.said
            return state in [told["state"] for told in self.told] or None

        until(there, state)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)
