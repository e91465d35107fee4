"""The target `cmd:COMMAND`: a side that is started afresh for every case, and ended after it.

`{address}` in the command is where it has to listen (a Secondary) or to connect to (a Primary).
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs

from colo_fsm.fsm import CompleteTable, Side
from colo_fsm.replica.address import Address

from ..link import CannotTest, Link, SocketLink
from ..voice import Voice
from .address import VoiceMaker, accepted, connected

ADDRESS = "{address}"
LAST_WORDS = 300
"""Characters of a command's last words that stand in a report."""


class Process(SocketLink):
    """The link to a process; its standard error is evidence."""

    words: Path

    def evidence(self) -> str:
        """What it said last."""
        return last_words(self.words)


def last_words(said: Path) -> str:
    """The end of what a command has said, in one line."""
    return " / ".join(said.read_text(errors="replace").split("\n"))[-LAST_WORDS:].strip(" /")


@attrs.frozen
class Command:
    """`command` is split as a shell does; `patience`, in seconds, is how long it may take to be there."""

    command: str
    table: CompleteTable
    voice: VoiceMaker
    patience: float

    def __attrs_post_init__(self) -> None:
        if ADDRESS not in self.command:
            raise ValueError(f"'{self.command}' does not say where its side is: write {ADDRESS} in it")
        if not shlex.split(self.command):
            raise ValueError("a command is missing")

    @property
    def name(self) -> str:
        return f"{shlex.split(self.command)[0]}, {self.table.side}"

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        """See `Target`."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
            address = Address(path=str(folder / "link"))
            listener = None
            if self.table.side is Side.PRIMARY:
                listener = stack.enter_context(address.listen())
            words = folder / "words"
            process = stack.enter_context(started(self.command.replace(ADDRESS, str(address)), words))
            try:
                sock = (
                    connected(address, self.patience)
                    if listener is None
                    else accepted(listener, address, self.patience)
                )
            except CannotTest as error:
                ended = process.poll() is not None
                why = f"it has ended with status {process.returncode}" if ended else str(error)
                said = last_words(words)
                raise CannotTest(f"{self.command}: {why}{f': {said}' * bool(said)}") from None
            link = Process(sock, self.patience)
            link.words = words
            stack.callback(link.close)
            yield link, self.voice()


@contextmanager
def started(command: str, words: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a group of its own, all of which is killed in the end. Raises CannotTest."""
    with words.open("wb") as said:
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's command
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotTest(f"{command}: {error.strerror}") from error
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
