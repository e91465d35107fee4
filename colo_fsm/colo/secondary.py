"""The Secondary's machine.

It receives the initial state, says so once, and then takes one checkpoint after the other: replies,
receives, stores, loads. In mode `periodic` its guest does not run between checkpoints.

Rules that hold here:
- A checkpoint is in the store before `vmstate-received` is sent: that message lets packets out.
- With a gate the Primary's packets come here. They leave before `vmstate-loaded` does: its guest still stands.
- A half-loaded guest never runs: a fault met while storing or loading loads the newest checkpoint first
  (QEMU's `relaunch`), and then sends nothing. A load that fails is tried once more; then there is
  nothing to run, and nothing to claim for: a Secondary claims only with what it has loaded.
- A side that never reached `ready` has nothing to claim: a fault in `init` stops it.
- What is not listed goes to `failover`: `complete()` adds those rows.

Sources: the patch's colo_process_incoming_thread() and colo_wait_handle_message(); for the profile
`qemu` also colo_incoming_process_checkpoint(). Failover, claim and leaving are ours.
"""

from __future__ import annotations

from colo_fsm.fsm.table import Table, begin, done, fault, lost, otherwise, recv, row, send, won
from colo_fsm.fsm.terms import Do as do
from colo_fsm.fsm.terms import Fault, Side

from .words import COLO, Mode, Profile, ReleaseOn
from .words import COLOMessage as M
from .words import State as S

HYBRID, PATCH, QEMU = Mode.HYBRID, Profile.PATCH, Profile.QEMU
WITH_GATE = ReleaseOn.GATE

# fmt: off
SECONDARY = Table(
    Side.SECONDARY,
    COLO,
    start=(do.receive_initial,),
    error=(do.disconnect, do.suspend, do.claim),
    lines=(
        # colo_process_incoming_thread(): the initial work, then ready
        row(S.INIT,              done(do.receive_initial),   S.READY,     send(M.CHECKPOINT_READY)),
        # colo_wait_handle_message(): between checkpoints
        row((S.READY, S.LOADED), recv(M.CHECKPOINT_REQUEST), S.REQUESTED, do.suspend),
        row(S.REQUESTED,         done(do.suspend),           S.REPLIED,   send(M.CHECKPOINT_REPLY)),
        # colo_incoming_process_checkpoint(): one checkpoint
        row(S.REPLIED,           recv(M.VMSTATE_SEND),       S.SENDING,   do.receive_live, when=QEMU),
        row(S.SENDING,           recv(M.VMSTATE_SIZE),       S.SIZED,     do.receive_state, do.store, when=QEMU),
        row(S.SIZED,             done(do.store),             S.RECEIVED,  send(M.VMSTATE_RECEIVED), do.load, when=QEMU),
        row(S.REPLIED,           recv(M.VMSTATE_SEND),       S.SENDING,   do.store, when=PATCH),
        row(S.SENDING,           done(do.store),             S.RECEIVED,  send(M.VMSTATE_RECEIVED), do.load, when=PATCH),
        row(S.RECEIVED,          done(do.load),              S.LOADED,    do.release(WITH_GATE), send(M.VMSTATE_LOADED), do.resume(HYBRID)),
        # a fault once a checkpoint may be stored: load it, send nothing; a load that fails twice leaves nothing to claim for
        row((S.SIZED, S.RECEIVED), otherwise,                S.FINISHING, do.load, when=QEMU),
        row((S.SENDING, S.RECEIVED), otherwise,              S.FINISHING, do.load, when=PATCH),
        row(S.FINISHING,         done(do.load),              S.FAILOVER,  do.disconnect, do.claim),
        row((S.FINISHING, S.ALONE), fault(Fault.GUEST_FAILED), S.STOPPED, do.disconnect, do.suspend, do.discard),
        row(S.FINISHING,         otherwise,                  None),
        # leaving: before the first round or between two, and from running alone
        row((S.INIT, S.READY, S.LOADED), begin.leave,        S.ENDED,     do.disconnect, do.suspend, do.discard),
        row(S.ALONE,             begin.leave,                S.ENDED,     do.suspend),
        # after a break nobody runs before the claim is answered; the newest checkpoint is loaded
        row(S.FAILOVER,          won,                        S.ALONE,     do.resume, do.release_all),
        row(S.FAILOVER,          lost,                       S.STOPPED,   do.discard),
        row(S.FAILOVER,          begin.leave,                S.STOPPED,   do.discard),
        # what is left over, where it is not the error transition
        row(S.INIT,              otherwise,                  S.STOPPED,   do.disconnect, do.discard),
        row((S.FAILOVER, S.ALONE, S.STOPPED, S.ENDED), otherwise, None),
    ),
)
# fmt: on
