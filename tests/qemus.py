"""The versions of QEMU that the tests run with: what is installed, and others from Debian's suites.

Those of other suites are unpacked under `~/.cache/colo_fsm/qemus` (or `$COLO_FSM_QEMUS`) with all their
libraries, and started with their own loader: no root, no chroot, and nothing of the system changes. The
packages come from the mirror that this machine's apt is set up with, checked by Debian's keys.

    python tests/qemus.py          fetch what is missing (`make qemus`), and say what is there
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

PROGRAM = "qemu-system-x86_64"
PACKAGES = ("qemu-system-x86", "seabios", "ipxe-qemu")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CACHE = Path(os.environ.get("COLO_FSM_QEMUS") or Path.home() / ".cache" / "colo_fsm" / "qemus")
TRIES = 3


class CannotFetch(Exception):
    """A version cannot be had; the text says why, and what to do."""


@functools.cache
def _says(binary: str) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+\.\d+\.\d+)", said.stdout)
    if found is None:
        raise CannotFetch(f"{binary} does not start: {said.stderr.strip() or 'it names no version'}")
    return found[1]


@attrs.frozen
class Version:
    """A QEMU of a Debian suite. `expected` is its version when this was written; sid's moves on."""

    expected: str
    suite: str

    @property
    def binary(self) -> str | None:
        """What to start, or None if it is not there."""
        installed = shutil.which(PROGRAM)
        if installed and _says(installed).startswith(f"{self.expected}."):
            return installed
        wrapper = CACHE / self.suite / PROGRAM
        return str(wrapper) if wrapper.exists() else None

    @property
    def found(self) -> str:
        """Its version as it says, like 7.2.22; `expected` if it is not there."""
        return self.expected if self.binary is None else _says(self.binary)

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(map(int, self.found.split(".")))

    @property
    def name(self) -> str:
        """Major and minor version."""
        return ".".join(self.found.split(".")[:2])

    @property
    def missing(self) -> str:
        """What to say of a test that is skipped for it."""
        return f"QEMU {self.expected} (Debian {self.suite}) is not here: make qemus"


VERSIONS = (Version("7.2", "bookworm"), Version("10.0", "trixie"), Version("11.1", "sid"))
"""The oldest first."""

_current = next((version for version in VERSIONS if version.binary), VERSIONS[0])


def current() -> Version:
    """What `qemu-system-x86_64` starts now: the oldest one, unless `use` says otherwise."""
    return _current


@contextmanager
def use(version: Version) -> Iterator[None]:
    """Inside, this is the `qemu-system-x86_64` of this process and of those that it starts."""
    global _current
    assert version.binary is not None
    before, path = _current, os.environ["PATH"]
    _current, os.environ["PATH"] = version, f"{Path(version.binary).parent}:{path}"
    try:
        yield
    finally:
        _current, os.environ["PATH"] = before, path


def fetch(version: Version) -> None:
    """Fetch and unpack it, unless it is there. Raises CannotFetch."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(CACHE / f"{version.suite}.lock"):
        if version.binary is not None:
            return
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise CannotFetch(f"{program} is missing: other versions are fetched on Debian only")
        if not KEYRING.exists():
            raise CannotFetch(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
        with tempfile.TemporaryDirectory(prefix=version.suite, dir=CACHE) as folder:
            made = Path(folder) / version.suite
            _download(version, Path(folder))
            _unpack(Path(folder) / "archives", made)
            _says(str(made / PROGRAM))
            shutil.rmtree(CACHE / version.suite, ignore_errors=True)
            made.rename(CACHE / version.suite)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _mirrors() -> list[str]:
    """Where this machine's apt gets Debian itself from; as sure as can be told, best first."""
    if mirror := os.environ.get("COLO_FSM_DEBIAN_MIRROR"):
        return [mirror]
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(LABEL)", "Created-By: Packages"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    targets = dict.fromkeys(line.partition("|")[::2] for line in lines)
    named = [uri for uri, label in targets if label == "Debian"]  # apt has a list of it
    likely = [uri for uri, label in targets if uri.rstrip("/").endswith("/debian")]
    return list(dict.fromkeys(named + likely))


def _download(version: Version, folder: Path) -> None:
    mirrors = _mirrors()
    if not mirrors:
        raise CannotFetch("this machine's apt has no Debian mirror: name one in COLO_FSM_DEBIAN_MIRROR")
    words = ""
    for mirror in mirrors * TRIES:  # sid may change between its list and its packages
        try:
            return _apt(mirror, version.suite, folder)
        except subprocess.CalledProcessError as error:
            words = next((line for line in error.stderr.splitlines() if line.startswith("E:")), "it failed")
    raise CannotFetch(f"Debian {version.suite} cannot be fetched, {TRIES} tries: {words}")


def _apt(mirror: str, suite: str, folder: Path) -> None:
    """Download packages with all that they depend on, as if nothing were installed."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "root",  # the folder is ours alone
        "Acquire::Languages": "none",
        "Acquire::Retries": 3,
        "Acquire::http::Timeout": 30,
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    install = ["-y", "--no-install-recommends", "--download-only", "install", *PACKAGES]
    for command in (["--error-on=any", "update"], install):
        subprocess.run([*apt, *command], capture_output=True, text=True, check=True)


def _unpack(archives: Path, made: Path) -> None:
    """What the packages hold, and a program that starts QEMU with its own loader, libraries and firmware."""
    root = made / "root"
    root.mkdir(parents=True)
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    loader = next(path for path in root.glob("**/ld-linux-x86-64.so.2") if path.is_file())
    libraries = [f"$root/{where}/x86_64-linux-gnu" for where in ("lib", "usr/lib")]
    firmware = [f'-L "$root/usr/{where}"' for where in ("share/qemu", "share/seabios", "lib/ipxe/qemu")]
    wrapper = made / PROGRAM
    wrapper.write_text(
        "#!/bin/sh\nroot=${0%/*}/root\n"
        f'exec "$root/{loader.relative_to(root)}" --library-path "{":".join(libraries)}" '
        f'"$root/usr/bin/{PROGRAM}" {" ".join(firmware)} "$@"\n'
    )
    wrapper.chmod(0o755)


def main() -> int:
    status = 0
    for version in VERSIONS:
        try:
            fetch(version)
            print(f"QEMU {version.found} (Debian {version.suite}): {version.binary}")
        except (CannotFetch, OSError, subprocess.CalledProcessError) as error:
            print(f"QEMU {version.expected} (Debian {version.suite}): {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
