"""pytest: the cases of a suite as tests of a target, for projects in any language.

    pytest --colo-target 'cmd:./standby --listen {address}' --colo-side secondary

Each case is a test `colo-fsm::ID`, which fails with the report of `colo-fsm conformance`. Without
`--colo-target` this does nothing, and loads nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conform.case import Case
    from .conform.expected import Expected
    from .conform.link import Target
    from .conform.plan import Plan
    from .conform.run import Judged

NAME = "colo-fsm"
PLANNED = {
    "side": "Which side the target is: primary or secondary.",
    "profile": "COLO's profile: qemu (default) or patch.",
    "mode": "COLO's mode: periodic (default) or hybrid.",
    "primary": "MODULE:TABLE, a Table of yours for the Primary.",
    "secondary": "MODULE:TABLE, a Table of yours for the Secondary.",
    "guest": "MODULE:FACTORY, a guest of yours whose state a Secondary gets.",
    "capture": "A recording of colo-fsm tap: a Secondary gets its VM's state.",
    "ready": "A text that cmd:COMMAND says when it is ready.",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """See pytest."""
    group = parser.getgroup(NAME, "conformance of a side of a pair (colo-fsm conformance --help)")
    group.addoption(
        "--colo-target", metavar="TARGET",
        help="Test this: cmd:COMMAND, tcp:HOST:PORT, unix:PATH, qemu[:BINARY] or self.",
    )  # fmt: skip
    for name, text in PLANNED.items():
        group.addoption(f"--colo-{name}", metavar="TEXT", help=text)
    group.addoption("--colo-listen", action="store_true", help="The side connects to the target's address.")
    group.addoption("--colo-timeout", type=float, metavar="SECONDS", help="How long an answer may take.")
    group.addoption("--colo-suite", default="", metavar="SUITE,...", help="Which cases; default: must.")
    group.addoption(
        "--colo-expect", action="append", default=[], metavar="FILE",
        help="Expected failures: these tests are xfail, strictly.",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """See pytest."""
    if (text := config.getoption("colo_target")) is not None:
        config.pluginmanager.register(Conformance(config, text), "colo-fsm-conformance")


class Conformance:
    """The run of one target: it is opened by its first test, and closed with the session."""

    def __init__(self, config: pytest.Config, text: str) -> None:
        from .conform.expected import Expected, ExpectedError, read
        from .conform.plan import PlanError, plan
        from .conform.talk import Pace

        options = {name: config.getoption(f"colo_{name}") for name in (*PLANNED, "timeout", "listen")}
        self.given = {name: value for name, value in options.items() if value}
        try:
            self.plan: Plan = plan(**self.given)
            suites = [word.strip() for word in config.getoption("colo_suite").split(",") if word.strip()]
            self.cases: tuple[Case, ...] = self.plan.cases(suites)
            self.expected: Expected = sum(map(read, map(Path, config.getoption("colo_expect"))), Expected())
            self._opening = self.plan.target(text)
        except (PlanError, ExpectedError) as error:
            raise pytest.UsageError(f"{NAME}: {error}") from None
        self.text = text
        self.pace = Pace(self.plan.timeout)
        self.judged: list[Judged] = []
        self._stack = ExitStack()
        self._target: Target | None = None

    @property
    def target(self) -> Target:
        """The target; opened now, if it is not. Raises CannotTest."""
        if self._target is None:
            self._target = self._stack.enter_context(self._opening)
            self.expected += self.plan.known(self._target)
        return self._target

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Put the cases behind what the session has found by itself."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result.append(Cases.from_parent(collector, name=NAME, nodeid=NAME, run=self))
        return report

    def pytest_unconfigure(self) -> None:
        """See pytest."""
        self._stack.close()


class Cases(pytest.Collector):
    """Where the cases stand."""

    def __init__(self, *, run: Conformance, **more: Any) -> None:
        super().__init__(**more)
        self._run = run

    def collect(self) -> Iterator[pytest.Item]:
        """See pytest."""
        for case in self._run.cases:
            yield CaseItem.from_parent(self, name=case.id, case=case, run=self._run)
        yield GoneItem.from_parent(self, name="expected failures", run=self._run)


class Failed(Exception):
    """A test has failed; this is the whole report."""


class _Item(pytest.Item):
    def __init__(self, *, run: Conformance, **more: Any) -> None:
        super().__init__(**more)
        self._run = run

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The report; nobody wants our traceback."""
        if isinstance(excinfo.value, Failed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """See pytest."""
        return NAME, None, self.name


class CaseItem(_Item):
    """One case."""

    def __init__(self, *, case: Case, **more: Any) -> None:
        super().__init__(**more)
        self._case = case

    def runtest(self) -> None:
        """Play it, and judge."""
        from .conform.link import CannotTest
        from .conform.plan import alone
        from .conform.play import play
        from .conform.report import details
        from .conform.run import Outcome

        run = self._run
        try:
            result = play(self._case, run.target, run.pace)
        except CannotTest as error:
            self.session.shouldfail = f"cannot test {run.text}: {error}"
            raise Failed(self.session.shouldfail) from None
        judged = run.expected.judged(result)
        run.judged.append(judged)
        if judged.outcome is Outcome.EXPECTED:
            raise pytest.xfail.Exception(judged.why)
        if judged.outcome is Outcome.LENIENT:
            self.user_properties.append(("lenient", judged.why))
        if not judged.outcome.ok:
            raise Failed("\n".join(details(judged, alone(run.text, self._case.id, run.given))))


class GoneItem(_Item):
    """The last test: each expected deviation was met where it could be."""

    def runtest(self) -> None:
        """Only where all cases were played, and in this process."""
        if len(self._run.judged) < len(self._run.cases):
            pytest.skip("not all cases were played in this process")
        if gone := list(self._run.expected.gone(self._run.judged)):
            raise Failed("\n".join(gone))
