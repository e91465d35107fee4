"""Two pairs of tables that are not COLO's, to be drawn: one like Remus, and COLO with a goodbye."""

from __future__ import annotations

from enum import StrEnum

import attrs

from colo_fsm.colo import COLO, PRIMARY, SECONDARY, State
from colo_fsm.fsm import (
    Do,
    Message,
    Send,
    Side,
    SyncPoint,
    Table,
    Words,
    begin,
    done,
    lost,
    otherwise,
    recv,
    row,
    won,
)


class Epoch(Message):
    EPOCH = 0
    COMMITTED = 1


class Where(StrEnum):
    """The Primary has `sending`, the Secondary `storing` and `loading`; the rest is both sides'."""

    INIT = "init"
    RUNNING = "running"
    SENDING = "sending"
    SENT = "sent"
    LOADING = "loading"
    FAILOVER = "failover"
    ALONE = "running alone"
    STOPPED = "stopped"
    ENDED = "ended"


E, W = Epoch, Where
REMUS = Words(
    "Remus",
    points=(
        SyncPoint(E.EPOCH, Side.PRIMARY, W.SENT),
        SyncPoint(E.COMMITTED, Side.SECONDARY, W.RUNNING),
    ),
    initial=W.INIT,
    failover=W.FAILOVER,
)

AFTER = (
    row(W.FAILOVER, won, W.ALONE, Do.resume, Do.release_all),
    row(W.FAILOVER, lost, W.STOPPED, Do.discard),
    row(W.ALONE, begin.leave, W.ENDED, Do.suspend),
    row((W.INIT, W.RUNNING), begin.leave, W.ENDED, Do.disconnect, Do.suspend, Do.discard),
    row((W.FAILOVER, W.ALONE, W.STOPPED, W.ENDED), otherwise, None),
)
REMUS_PRIMARY = Table(
    Side.PRIMARY,
    REMUS,
    start=(Do.send_initial,),
    error=(Do.disconnect, Do.suspend, Do.claim),
    lines=(
        row(W.INIT, recv(E.COMMITTED), W.RUNNING, Do.resume),
        row(W.RUNNING, begin.checkpoint, W.SENDING, Do.suspend, Do.save),
        row(W.SENDING, done(Do.save), W.SENT, Send(E.EPOCH), Do.send_state, Do.resume),
        row(W.SENT, recv(E.COMMITTED), W.RUNNING, Do.release),
        *AFTER,
    ),
)
REMUS_SECONDARY = Table(
    Side.SECONDARY,
    REMUS,
    start=(Do.receive_initial,),
    error=(Do.disconnect, Do.claim),
    lines=(
        row(W.INIT, done(Do.receive_initial), W.RUNNING, Send(E.COMMITTED)),
        row(W.RUNNING, recv(E.EPOCH), W.SENT, Do.receive_state, Do.store),
        row(W.SENT, done(Do.store), W.LOADING, Do.load),
        row(W.LOADING, done(Do.load), W.RUNNING, Send(E.COMMITTED)),
        *AFTER,
    ),
)


class More(Message):
    GOODBYE = 7


S = State
POLITE = attrs.evolve(
    COLO, name="COLO with a goodbye", points=(*COLO.points, SyncPoint(More.GOODBYE, Side.PRIMARY, S.ENDED))
)
POLITE_PRIMARY = attrs.evolve(
    PRIMARY,
    words=POLITE,
    lines=(
        *(line for line in PRIMARY.lines if line.trigger is not begin.leave or S.INIT not in line.sources),
        row((S.INIT, S.READY, S.LOADED), begin.leave, S.ENDED, Send(More.GOODBYE), Do.disconnect, Do.discard),
    ),
)
POLITE_SECONDARY = attrs.evolve(
    SECONDARY,
    words=POLITE,
    lines=(
        row((S.READY, S.LOADED), recv(More.GOODBYE), S.ENDED, Do.disconnect, Do.discard),
        *SECONDARY.lines,
    ),
)
