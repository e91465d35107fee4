"""Runs as a JUnit file, as CI systems read it: a suite a target, a test a case, whose name is its ID.

Expected failures are skipped tests with their reasons; one that passes, and what is inconclusive, has
failed. A target that cannot be tested is an error.
"""

from __future__ import annotations

import datetime
import re
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence

from .report import details
from .run import Judged, Outcome, Run

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(runs: Sequence[Run], alone: Callable[[Run, str], str]) -> bytes:
    """The file. `alone` is the command that runs one case of a run."""
    root = ElementTree.Element("testsuites", name="colo-fsm conformance")
    for run in runs:
        _suite(root, run, alone)
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _suite(root: ElementTree.Element, run: Run, alone: Callable[[Run, str], str]) -> None:
    suite = ElementTree.SubElement(root, "testsuite")
    for judged in run.judged:
        _tell(_test(suite, run, judged.result.case.id, judged.result.seconds), run, judged, alone)
    for text in run.gone:
        _add(_test(suite, run, "expected failures"), "failure", Outcome.SURPRISE, text)
    if run.broken is not None:
        _add(_test(suite, run, "cannot test"), "error", "cannot test", run.broken)
    counts = {
        "tests": len(suite),
        "failures": len(suite.findall("*/failure")),
        "errors": len(suite.findall("*/error")),
        "skipped": len(suite.findall("*/skipped")),
    }
    suite.attrib |= {"name": _legal(run.name), **{name: str(count) for name, count in counts.items()}}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    suite.attrib |= {"time": f"{run.seconds:.3f}", "timestamp": now, "hostname": _legal(socket.gethostname())}


def _test(suite: ElementTree.Element, run: Run, name: str, seconds: float = 0.0) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=_legal(run.name), name=name, time=f"{seconds:.3f}"
    )


def _tell(test: ElementTree.Element, run: Run, judged: Judged, alone: Callable[[Run, str], str]) -> None:
    match judged.outcome:
        case Outcome.PASS:
            pass
        case Outcome.LENIENT:
            ElementTree.SubElement(test, "system-out").text = _legal(f"lenient: {judged.why}")
        case Outcome.EXPECTED:
            _add(test, "skipped", judged.outcome, judged.why)
        case _:
            more = "\n".join(details(judged, alone(run, judged.result.case.id)))
            _add(test, "failure", judged.outcome, judged.why, more)


def _add(test: ElementTree.Element, tag: str, kind: str, message: str, text: str = "") -> None:
    found = ElementTree.SubElement(test, tag, type=kind, message=_legal(message))
    found.text = _legal(text) or None


def _legal(text: str) -> str:
    """What may stand in XML; all else in Python's notation."""
    return _ILLEGAL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
