"""The Secondary's table against one written by hand from the patch, its picture and the design.

Everything here is stated without the table: one that has changed, or has lost a row, is noticed.
"""

from __future__ import annotations

import pytest
from pair import differences, unnoticed_mutants

from colo_fsm.colo import SECONDARY, COLOMessage, Mode, Profile, ReleaseOn, State, Variant
from colo_fsm.fsm import complete

REST: dict[str, str] = {
    "*": "failover: disconnect, suspend, claim",
    "init": "stopped: disconnect, discard",
    "received": "finishing: load",
    "finishing": "stays",
    "failover": "stays",
    "alone": "stays",
    "stopped": "stays",
    "ended": "stays",
}
"""What every (state, trigger) does that is not in `by_hand`, in every variant."""


def rest(variant: Variant) -> dict[str, str]:
    """And in this one: where a checkpoint may be stored already, it is loaded before the claim."""
    return REST | {"sized" if variant.profile is Profile.QEMU else "sending": "finishing: load"}


def by_hand(variant: Variant) -> dict[str, str]:
    """The written rows: "state trigger" -> "dest: effects"."""
    gate = variant.release_on is ReleaseOn.GATE
    rows = {
        # colo_process_incoming_thread(): the initial work, ready, then the loop
        "init done_receive_initial": "ready: send checkpoint-ready",
        # colo_wait_handle_message()
        "ready recv_checkpoint_request": "requested: suspend",
        "loaded recv_checkpoint_request": "requested: suspend",
        # one checkpoint
        "requested done_suspend": "replied: send checkpoint-reply",
        "received done_load": "loaded: " + "release, " * gate + "send vmstate-loaded",
        # a fault while loading: finish the load, send nothing; one that fails twice leaves nothing to run
        "finishing done_load": "failover: disconnect, claim",
        "finishing fault_guest_failed": "stopped: disconnect, suspend, discard",
        "alone fault_guest_failed": "stopped: disconnect, suspend, discard",
        # leaving in order
        "init begin_leave": "ended: disconnect, suspend, discard",
        "ready begin_leave": "ended: disconnect, suspend, discard",
        "loaded begin_leave": "ended: disconnect, suspend, discard",
        "alone begin_leave": "ended: suspend",
        # failover: the claim decides
        "failover won": "alone: resume, release_all",
        "failover lost": "stopped: discard",
        "failover begin_leave": "stopped: discard",
    }
    if variant.profile is Profile.PATCH:
        rows |= {
            "replied recv_vmstate_send": "sending: store",
            "sending done_store": "received: send vmstate-received, load",
        }
    else:
        rows |= {
            "replied recv_vmstate_send": "sending: receive_live",
            "sending recv_vmstate_size": "sized: receive_state, store",
            "sized done_store": "received: send vmstate-received, load",
        }
    if variant.mode is Mode.HYBRID:
        rows["received done_load"] += ", resume"
    return rows


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_every_state_and_trigger_does_what_was_written_by_hand(variant: Variant) -> None:
    table = complete(SECONDARY, variant)
    assert differences(table, by_hand(variant), rest(variant)) == []
    assert {f"{r.source} {r.trigger}" for r in table.written} == set(by_hand(variant))


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_its_states_are_the_sync_points_and_what_follows_a_break(variant: Variant) -> None:
    sized = () if variant.profile is Profile.PATCH else (State.SIZED,)
    assert complete(SECONDARY, variant).states == (
        *(State.INIT, State.READY, State.REQUESTED, State.REPLIED, State.SENDING, *sized),
        *(State.RECEIVED, State.LOADED, State.FINISHING),
        *(State.FAILOVER, State.ALONE, State.STOPPED, State.ENDED),
    )


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_it_loads_the_initial_state_first(variant: Variant) -> None:
    assert list(map(str, complete(SECONDARY, variant).start)) == ["receive_initial"]


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_it_awaits_the_primarys_messages_in_turn(variant: Variant) -> None:
    request, send, size = COLOMessage.CHECKPOINT_REQUEST, COLOMessage.VMSTATE_SEND, COLOMessage.VMSTATE_SIZE
    table = complete(SECONDARY, variant)
    accepted = {State.READY: request, State.LOADED: request, State.REPLIED: send}
    ahead = {State.INIT: request, State.REQUESTED: send, State.RECEIVED: request}
    if variant.profile is Profile.QEMU:
        accepted[State.SENDING] = size
        ahead[State.SIZED] = request
    else:
        ahead[State.SENDING] = request
    assert {s: m for s, messages in table.accepts.items() for m in messages} == accepted
    assert {s: m for s, m in table.expects.items() if m is not None} == accepted | ahead


def test_no_line_source_or_effect_can_be_lost_unnoticed() -> None:
    unnoticed, tried = unnoticed_mutants(SECONDARY, by_hand, rest)
    assert unnoticed == []
    assert tried > 400
