"""Results and runs as tests of reports need them: made by hand, each of one short case."""

from __future__ import annotations

from colo_fsm.colo import COLOMessage
from colo_fsm.conform.blackbox import END, Input, Output
from colo_fsm.conform.case import Accepted, Case, Deviation, Given, Line, Result, Seen, Step, Verdict
from colo_fsm.conform.run import Judged, Outcome, Run

READY, REPLY = Output((COLOMessage.CHECKPOINT_READY,), False), Output((COLOMessage.CHECKPOINT_REPLY,), False)
NOTHING, GONE = Output((), False), Output((), True)
FIRST, SECOND, THIRD = "init --done--> ready", "ready --request--> replied", "replied --eof--> failover"
EXCHANGE = (Line(0.0, "<-", "checkpoint-ready"), Line(0.5, "->", "checkpoint-request"))


def case(id: str = "colo/secondary/2.1", lenient: bool = False) -> Case:
    """Ready, then a request and its reply, then the link's end."""
    replies = (Accepted(REPLY), *([Accepted(NOTHING, "it may take its time")] if lenient else []))
    steps = (
        Step(None, (Accepted(READY),), row=FIRST),
        Step(Given(Input(COLOMessage.CHECKPOINT_REQUEST)), replies, row=SECOND),
        Step(Given(END), (Accepted(GONE),), row=THIRD),
    )
    return Case(id, "The Secondary MUST answer.", "the patch, colo_wait_handle_message()", steps)


def result(
    verdict: Verdict = Verdict.PASS,
    id: str = "colo/secondary/2.1",
    step: int = 1,
    got: Seen = Seen(NOTHING, late=True),  # noqa: B008 - frozen
    lenient: bool = False,
) -> Result:
    """What came of such a case: one that has not passed deviates at `step`."""
    made = case(id, lenient)
    if verdict in (Verdict.PASS, Verdict.LENIENT):
        reasons = ("it may take its time",) if verdict is Verdict.LENIENT else ()
        return Result(made, verdict, 0.25, EXCHANGE, reasons=reasons)
    outputs = tuple(one.output for one in made.steps[step].accepted)
    deviation = Deviation(step, outputs, got, made.steps[step].row)
    before = (Line(0.0, "--", "nothing for 1 s"),)
    return Result(made, verdict, 0.25, EXCHANGE, deviation, before, evidence="ended with status 3: no room")


def judged(outcome: Outcome, id: str = "colo/secondary/2.1", reason: str = "") -> Judged:
    """A result that counts as this."""
    verdicts = {Outcome.EXPECTED: Verdict.FAIL, Outcome.SURPRISE: Verdict.PASS}
    return Judged(result(verdicts.get(outcome) or Verdict(outcome), id), outcome, reason)


def run(
    *found: Judged, name: str = "this, secondary", gone: tuple[str, ...] = (), broken: str | None = None
) -> Run:
    """A run of these."""
    return Run("cmd:./this {address}", name, 1.5, found, gone, broken)
