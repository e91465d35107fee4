"""QEMU's versions, etcd, what workers share; with COLO_FSM_REQUIRE_ALL=1 a skipped test has failed."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator

import etcd_cluster as etcd_cluster_
import pytest
import qemus
import systems

_VERSIONS = {version.name: version for version in qemus.VERSIONS}


def pytest_configure(config: pytest.Config) -> None:
    """A folder of this run and all its workers, in the environment so that they and their children know it.

    The hundreds of processes that tests start find our modules compiled there, and each system explored.
    """
    if hasattr(config, "workerinput"):
        return
    shared = tempfile.TemporaryDirectory(prefix="colo-fsm-tests-")
    config.add_cleanup(shared.cleanup)
    os.environ[systems.SHARED] = os.environ["PYTHONPYCACHEPREFIX"] = shared.name
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that needs a QEMU runs with all of them, in soak but for the oldest, or `each_version`."""
    if metafunc.definition.get_closest_marker("real_qemu") is None:
        return
    each = metafunc.definition.get_closest_marker("each_version") is not None
    names = [
        pytest.param(name, marks=() if each or not at else pytest.mark.soak)
        for at, name in enumerate(_VERSIONS)
    ]
    metafunc.parametrize("qemu_version", names, indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def qemu_version(request: pytest.FixtureRequest) -> Generator[qemus.Version]:
    """The version that runs. A fixture that keeps a QEMU's work for several tests has to ask for it."""
    if (name := getattr(request, "param", None)) is None:
        yield qemus.current()
        return
    version = _VERSIONS[name]
    if version.binary is None:
        pytest.skip(version.missing)
    with qemus.use(version):
        yield version


@pytest.fixture(scope="session")
def etcd_cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[etcd_cluster_.EtcdCluster]:
    """A real one. Its members are left alone."""
    if reason := etcd_cluster_.missing():
        pytest.skip(reason)
    with etcd_cluster_.running(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("real_qemu"):
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        if mark.kwargs.get("kvm") and not os.access("/dev/kvm", os.R_OK | os.W_OK):
            pytest.skip("/dev/kvm is missing")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("COLO_FSM_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and COLO_FSM_REQUIRE_ALL=1 forbids that"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What strangers have cost: a row for each listener and phase (test_strangers)."""
    rows: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    for report in (r for found in terminalreporter.stats.values() for r in found):
        at = str(getattr(report, "nodeid", "")).partition("[")[2].partition("]")[0].partition("-")[0]
        for what, value in getattr(report, "user_properties", ()):
            if what == "strangers" and getattr(report, "when", "") == "call":
                rows.setdefault((at, value[0]), []).append(tuple(value[1:]))
    if rows:
        terminalreporter.section("strangers")
    for (at, phase), found in sorted(rows.items()):
        kinds, made = sum(r[0] for r in found), sum(r[1] for r in found)
        after, within = (max(r[n] for r in found) / (1 << 20) for n in (2, 3))
        cost = f"at most {after:4.1f} MiB more when they have gone, {within:5.1f} while they are there"
        terminalreporter.line(f"{at:10} {phase:7} {kinds:4} kinds, {made:6} connections, {cost}")


# A shell that starts us in the background has ^C ignored, here and in every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
