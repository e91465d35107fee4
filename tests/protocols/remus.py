"""A protocol like Remus: epochs; what the Primary has said leaves when the epoch is committed."""

from enum import StrEnum

from colo_fsm import Do as do
from colo_fsm import Fault, Message, Side, SyncPoint, Table, Words, row, send
from colo_fsm.fsm import begin, done, fault, lost, otherwise, recv, won


class M(Message):
    COMMITTED = 0
    EPOCH = 1


class S(StrEnum):
    INIT = "init"
    COMMITTED = "committed"
    SAVING = "saving"
    EPOCH = "epoch"
    LOADING = "loading"
    FAILOVER = "failover"
    ALONE = "alone"
    STOPPED = "stopped"
    ENDED = "ended"


REMUS = Words(
    "Remus",
    (SyncPoint(M.EPOCH, Side.PRIMARY, S.EPOCH), SyncPoint(M.COMMITTED, Side.SECONDARY, S.COMMITTED)),
    initial=S.INIT,
    failover=S.FAILOVER,
)
AFTER = (
    row(S.FAILOVER, won, S.ALONE, do.resume, do.release_all),
    row(S.FAILOVER, lost, S.STOPPED, do.discard),
    row(S.FAILOVER, begin.leave, S.STOPPED, do.discard),
    row((S.INIT, S.COMMITTED, S.ALONE), begin.leave, S.ENDED, do.disconnect, do.suspend, do.discard),
    row(S.ALONE, fault(Fault.GUEST_FAILED), S.STOPPED, do.suspend, do.discard),
    row(S.INIT, otherwise, S.STOPPED, do.disconnect, do.discard),
    row((S.FAILOVER, S.ALONE, S.STOPPED, S.ENDED), otherwise, None),
)
GIVE_UP = (do.disconnect, do.suspend, do.claim)
PRIMARY = Table(Side.PRIMARY, REMUS, start=(do.send_initial,), error=GIVE_UP, lines=(
    row(S.INIT, recv(M.COMMITTED), S.COMMITTED, do.resume),
    row(S.COMMITTED, begin.checkpoint, S.SAVING, do.suspend, do.save),
    row(S.SAVING, done(do.save), S.EPOCH, do.resume, send(M.EPOCH), do.send_live, do.send_state),
    row(S.EPOCH, recv(M.COMMITTED), S.COMMITTED, do.release),
    *AFTER,
))  # fmt: skip
SECONDARY = Table(Side.SECONDARY, REMUS, start=(do.receive_initial,), lines=(
    row(S.INIT, done(do.receive_initial), S.COMMITTED, send(M.COMMITTED)),
    row(S.COMMITTED, recv(M.EPOCH), S.EPOCH, do.receive_live, do.receive_state, do.store),
    row(S.EPOCH, done(do.store), S.COMMITTED, send(M.COMMITTED)),
    row((S.COMMITTED, S.EPOCH), otherwise, S.LOADING, do.disconnect, do.load),
    row(S.LOADING, done(do.load), S.FAILOVER, do.claim),
    row(S.LOADING, fault(Fault.GUEST_FAILED), S.STOPPED, do.discard),
    row(S.LOADING, otherwise, None),
    *AFTER,
))  # fmt: skip
