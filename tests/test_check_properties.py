"""Every property can fail: for each there is a slip in a table or in a driver that it names."""

from __future__ import annotations

import pytest
from systems import also, at, backwards, changed, doing, errors, to, unwritten, without, written

from colo_fsm.check import Policy, Property, Scenario, Strike, documented, explore
from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import State, Variant
from colo_fsm.fsm import Do, Fault, Send, Side, begin, done, fault, recv, won

S = State
P = Side.PRIMARY
SEC = Side.SECONDARY

QUIET = documented("no-faults").scenario
CLAIM = documented("claim").scenario
ALL = documented("claim-all-breaks").scenario
WIRE = documented("claim-disturbed").scenario
HYBRID = documented("hybrid-all-breaks").scenario

HALF_LOADED = changed(
    CLAIM,
    SEC,
    lambda row: row.implied and row.source is S.RECEIVED,
    to(S.FAILOVER, Do.disconnect, Do.suspend, Do.claim),
)
"""A fault while loading does not finish the load."""

SLIPS = {
    "the error transition does not hang up": (
        Property.NO_DEADLOCK,
        changed(CLAIM, P, errors, without(Do.disconnect)),
    ),
    "it stops its guest, and its peer waits meanwhile": (
        Property.HUNG_UP,
        changed(CLAIM, SEC, errors, to(S.FAILOVER, Do.suspend, Do.disconnect, Do.claim)),
    ),
    "nobody claims": (Property.SETTLES, changed(CLAIM, P, errors, without(Do.claim))),
    "the winner does not run": (
        Property.SETTLES,
        changed(CLAIM, P, at(S.FAILOVER, won), without(Do.resume)),
    ),
    "it claims before it has stopped its guest": (Property.FIT_CLAIM, changed(CLAIM, P, errors, backwards)),
    "a half-loaded side claims": (Property.FIT_CLAIM, HALF_LOADED),
    "a half-loaded side runs": (Property.WHOLE, HALF_LOADED),
    "a guest runs on while the claim is open": (
        Property.CLAIMED,
        changed(CLAIM, P, errors, doing(Do.disconnect, Do.claim)),
    ),
    "a fault leads straight to running alone": (
        Property.CLAIMED,
        changed(CLAIM, P, at(S.READY, fault(Fault.FAILOVER_REQUEST)), to(S.ALONE, Do.resume)),
    ),
    "packets leave when the state is saved": (
        Property.OUTPUT_COMMIT,
        changed(QUIET, P, at(S.REPLIED, done(Do.save)), also(Do.release)),
    ),
    "the guest is saved while it runs": (
        Property.SUSPENDED,
        changed(QUIET, P, at(S.REQUESTED, recv(M.CHECKPOINT_REPLY)), backwards),
    ),
    "a message waits for the load": (
        Property.SYNC_POINTS,
        changed(QUIET, SEC, at(S.SIZED, done(Do.store)), backwards),
    ),
    "a sync point leads to another's state": (
        Property.SYNC_POINTS,
        changed(QUIET, P, at(S.READY, begin.checkpoint), to(S.REPLIED)),
    ),
    "the state is announced and not sent": (
        Property.PROGRESS,
        changed(QUIET, P, at(S.SENDING, done(Do.send_live)), without(Do.send_state)),
    ),
    "the Primary does not go on after a round": (
        Property.PROGRESS,
        changed(QUIET, P, at(S.RECEIVED, recv(M.VMSTATE_LOADED)), without(Do.resume)),
    ),
    "nobody replies": (
        Property.NO_DEADLOCK,
        changed(QUIET, SEC, at(S.REQUESTED, done(Do.suspend)), without(Send(M.CHECKPOINT_REPLY))),
    ),
    "a message out of order is ignored": (
        Property.FAILOVER,
        changed(WIRE, P, at(S.REQUESTED, recv(M.VMSTATE_LOADED)), to(None)),
    ),
    "who leaves does not stop its guest": (
        Property.ORDERLY,
        changed(ALL, P, at(S.READY, begin.leave), without(Do.suspend)),
    ),
    "who leaves keeps its packets": (
        Property.ORDERLY,
        changed(ALL, P, at(S.READY, begin.leave), without(Do.discard)),
    ),
    "who goes on drops packets that wait for a checkpoint": (
        Property.ORDERLY,
        changed(QUIET, P, at(S.REQUESTED, recv(M.CHECKPOINT_REPLY)), also(Do.discard)),
    ),
    "who has stopped comes back": (
        Property.ORDERLY,
        changed(ALL, P, at(S.STOPPED, fault(Fault.FAILOVER_REQUEST)), to(S.FAILOVER)),
    ),
    "comparing goes on into the checkpoint": (
        Property.COMPARING,
        changed(HYBRID, P, at(S.LOADED, begin.checkpoint), without(Do.stop_comparing)),
    ),
    "another message is awaited than the one that comes": (
        Property.UNEXPECTED,
        changed(
            QUIET,
            P,
            lambda row: row.source is S.SIZED and row.trigger.message is not None,
            lambda row: (written if row.trigger.message is M.VMSTATE_LOADED else unwritten)(row),
        ),
    ),
    "a row that nothing leads to": (Property.REACHED, changed(ALL, P, at(S.INIT, won), written)),
    "no arbiter": (Property.NO_SPLIT, documented("plain-link").scenario),
    "no arbiter, one after the other": (Property.NO_STALE, documented("plain-all-breaks").scenario),
    "damaged state": (Property.LOADABLE, documented("claim-damaged").scenario),
    "a forged message": (Property.TAKEOVER, documented("claim-injected").scenario),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_the_slip_is_named(slip: str) -> None:
    which, scenario = SLIPS[slip]
    assert which in explore(scenario).broken


def test_no_property_is_left_out() -> None:
    assert {which for which, _ in SLIPS.values()} == set(Property)


BUGS = {
    Policy.RELEASE_EARLY: {Property.OUTPUT_COMMIT},
    Policy.LOAD_HALF: {Property.WHOLE, Property.FIT_CLAIM},
    Policy.CLAIM_SKIPPED: {Property.NO_SPLIT},
    Policy.CACHED_CLAIM: {Property.NO_SPLIT},
}


@pytest.mark.parametrize("policy", BUGS)
def test_a_driver_that_breaks_its_promise_is_found(policy: Policy) -> None:
    faults = frozenset({Strike.CRASH, Strike.CLOSED, Strike.ARBITER})
    assert BUGS[policy] <= explore(Scenario(faults=faults, policy=policy)).broken.keys()


def test_a_sound_driver_is_not_accused() -> None:
    assert explore(Scenario(faults=frozenset({Strike.CRASH, Strike.CLOSED, Strike.ARBITER}))).broken == {}


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_every_variant_is_sound_under_breaks(variant: Variant) -> None:
    faults = frozenset({Strike.CRASH, Strike.CLOSED, Strike.SILENT, Strike.REQUEST, Strike.TIMEOUT})
    assert explore(Scenario(variant=variant, faults=faults)).broken == {}
