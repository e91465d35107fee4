"""A real etcd cluster of three members, which are killed and frozen by whoever needs that."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standby_process import until

from colo_fsm.arbiter import Arbiter, ArbiterUnreachable, EtcdArbiter

_clusters = itertools.count()


def missing() -> str | None:
    """Why no cluster can run here."""
    for program in ("etcd", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None if importlib.util.find_spec("etcd3gw") else "etcd3gw is not installed"


class Member:
    """One of them, as a process. It ends with ours, whatever ends that."""

    def __init__(self, folder: Path, address: str, token: str, all_of_them: dict[str, str]) -> None:
        self.address = address
        self._log = folder / f"{address}.log"
        name = next(name for name, at in all_of_them.items() if at == address)
        client, peer = f"http://{address}:2379", f"http://{address}:2380"
        self._command = [
            *("setpriv", "--pdeathsig", "KILL", "etcd", "--name", name, "--data-dir", str(folder / name)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(f"{n}=http://{at}:2380" for n, at in all_of_them.items())),
            *("--initial-cluster-token", token, "--log-level", "warn"),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Also once it was killed: it has its data."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def alive(self) -> None:
        """Raises AssertionError with what it has written."""
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()


class EtcdCluster:
    """Addresses of the loopback network of our own, so that the ports are free."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        pid, number = os.getpid(), next(_clusters)
        network = f"127.{64 + (pid >> 8) % 128}.{pid % 256}"
        addresses = [f"{network}.{4 * (number % 60) + at}" for at in (1, 2, 3)]
        named = dict(zip("abc", addresses, strict=True))
        self.members = [Member(folder, at, f"{pid}-{number}", named) for at in addresses]
        self._prefixes = itertools.count()

    def url(self, members: list[Member] | None = None, prefix: str | None = None) -> str:
        """A prefix that nobody has used, unless one is named."""
        prefix = prefix or f"tests/{next(self._prefixes)}"
        return f"etcd://{','.join(member.address for member in members or self.members)}/{prefix}"

    def start(self) -> None:
        for member in self.members:
            if member.process is None:
                member.start()
        self.answers()

    def answers(self) -> None:
        """Wait until it does."""
        arbiter = EtcdArbiter(self.url(prefix="ready").removeprefix("etcd://"), timeout=10)
        until(lambda: self._opened(arbiter), "answer of the cluster")

    def _opened(self, arbiter: Arbiter) -> int | None:
        for member in self.members:
            if member.process is not None:
                member.alive()
        try:
            return arbiter.open()
        except ArbiterUnreachable:
            return None

    def kill(self) -> None:
        for member in self.members:
            member.kill()


@contextmanager
def running(folder: Path) -> Iterator[EtcdCluster]:
    """A cluster that answers; it is ended, frozen or not."""
    cluster = EtcdCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
