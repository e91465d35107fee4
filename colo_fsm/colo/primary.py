"""The Primary's machine.

It runs the guest. It waits for the Secondary once, then takes checkpoints: asks, saves and sends the
state, and lets the packets out that the Secondary's checkpoint covers.

Rules that hold here:
- The guest does not run before `checkpoint-ready`, nor alone before the claim is won.
- Packets leave only in rows with `release` or `release_all`: a guest that runs on before (`resume_on`) is not heard.
- A side that never reached `ready` has nothing to claim: a fault in `init` stops it.
- What is not listed goes to `failover`: `complete()` adds those rows.

Sources: the patch's colo_process_checkpoint() and colo_do_checkpoint_transaction(); for the profile
`qemu` the functions of the same names in QEMU 2.8 and later. Failover, claim and leaving are ours:
QEMU leaves its loop and waits for a manager's x-colo-lost-heartbeat.
"""

from __future__ import annotations

from colo_fsm.fsm.table import Table, begin, done, fault, lost, otherwise, recv, row, send, won
from colo_fsm.fsm.terms import Do as do
from colo_fsm.fsm.terms import Fault, Side

from .words import COLO, Mode, Profile, ReleaseOn, ResumeOn
from .words import COLOMessage as M
from .words import State as S

HYBRID, PATCH, QEMU = Mode.HYBRID, Profile.PATCH, Profile.QEMU
ON_RECEIVED, ON_LOADED = ReleaseOn.RECEIVED, ReleaseOn.LOADED
FROM_SAVED, FROM_RECEIVED, FROM_LOADED = ResumeOn.SAVED, ResumeOn.RECEIVED, ResumeOn.LOADED

# fmt: off
PRIMARY = Table(
    Side.PRIMARY,
    COLO,
    start=(do.send_initial(QEMU),),
    error=(do.disconnect, do.stop_comparing(HYBRID), do.suspend, do.claim),
    lines=(
        # colo_process_checkpoint(): wait for the Secondary, then let the guest run
        row(S.INIT,              recv(M.CHECKPOINT_READY), S.READY,     do.resume),
        row((S.READY, S.LOADED), begin.checkpoint,         S.REQUESTED, do.stop_comparing(HYBRID), send(M.CHECKPOINT_REQUEST)),
        # colo_do_checkpoint_transaction(): one checkpoint
        row(S.REQUESTED,         recv(M.CHECKPOINT_REPLY), S.REPLIED,   do.suspend, do.save),
        row(S.REPLIED,           done(do.save),            S.SENDING,   do.resume(FROM_SAVED), send(M.VMSTATE_SEND), do.send_live(QEMU)),
        row(S.SENDING,           done(do.send_live),       S.SIZED,     send(M.VMSTATE_SIZE), do.send_state, when=QEMU),
        row(S.SIZED,             recv(M.VMSTATE_RECEIVED), S.RECEIVED,  do.release(ON_RECEIVED), do.resume(FROM_RECEIVED), when=QEMU),
        row(S.SENDING,           recv(M.VMSTATE_RECEIVED), S.RECEIVED,  do.release(ON_RECEIVED), do.resume(FROM_RECEIVED), when=PATCH),
        row(S.RECEIVED,          recv(M.VMSTATE_LOADED),   S.LOADED,    do.release(ON_LOADED), do.resume(FROM_LOADED), do.compare(HYBRID)),
        # leaving: before the first round or between two, and from running alone; packets not covered are never sent
        row((S.INIT, S.READY, S.LOADED), begin.leave,      S.ENDED,     do.disconnect, do.stop_comparing(HYBRID), do.suspend, do.discard),
        row(S.ALONE,             begin.leave,              S.ENDED,     do.suspend),
        # after a break nobody runs alone before the claim is answered
        row(S.FAILOVER,          won,                      S.ALONE,     do.resume, do.release_all),
        row(S.FAILOVER,          lost,                     S.STOPPED,   do.discard),
        row(S.FAILOVER,          begin.leave,              S.STOPPED,   do.discard),
        row(S.ALONE,             fault(Fault.GUEST_FAILED), S.STOPPED,  do.suspend, do.discard),
        # what is left over, where it is not the error transition
        row(S.INIT,              otherwise,                S.STOPPED,   do.disconnect, do.discard),
        row((S.FAILOVER, S.ALONE, S.STOPPED, S.ENDED), otherwise, None),
    ),
)
# fmt: on
