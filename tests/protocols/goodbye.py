"""COLO with one more message: a Primary that leaves says so, and its Secondary ends without a claim."""

import attrs

from colo_fsm import COLO, Do, Message, Side, State, SyncPoint, Table, begin, recv, row, send
from colo_fsm.colo import PRIMARY as COLO_PRIMARY
from colo_fsm.colo import SECONDARY as COLO_SECONDARY


class M(Message):
    GOODBYE = 7


WORDS = attrs.evolve(
    COLO,
    name="COLO with a goodbye",
    points=(*COLO.points, SyncPoint(M.GOODBYE, Side.PRIMARY, State.ENDED)),
)
BETWEEN = (State.READY, State.LOADED)

PRIMARY: Table = attrs.evolve(
    COLO_PRIMARY,
    words=WORDS,
    lines=(
        *(line for line in COLO_PRIMARY.lines if line.trigger != begin.leave),
        row(State.INIT, begin.leave, State.ENDED, Do.disconnect, Do.suspend, Do.discard),
        row(BETWEEN, begin.leave, State.ENDED, send(M.GOODBYE), Do.disconnect, Do.suspend, Do.discard),
        row(State.ALONE, begin.leave, State.ENDED, Do.suspend),
        row(State.FAILOVER, begin.leave, State.STOPPED, Do.discard),
    ),
)
SECONDARY: Table = attrs.evolve(
    COLO_SECONDARY,
    words=WORDS,
    lines=(
        *COLO_SECONDARY.lines,
        row(BETWEEN, recv(M.GOODBYE), State.ENDED, Do.disconnect, Do.suspend, Do.discard),
    ),
)
