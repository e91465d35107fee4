"""Under COLO_FSM_REQUIRE_ALL=1 a skipped test is a failed one."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("COLO_FSM_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and COLO_FSM_REQUIRE_ALL=1 forbids that"
    return report


# A shell that starts us in the background has ^C ignored, here and in every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
