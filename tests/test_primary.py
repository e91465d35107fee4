"""The Primary's table against one written by hand from the patch, its picture and the design.

Everything here is stated without the table: one that has changed, or has lost a row, is noticed.
"""

from __future__ import annotations

import pytest
from pair import differences, unnoticed_mutants

from colo_fsm.colo import PRIMARY, COLOMessage, Mode, Profile, ReleaseOn, State, Variant
from colo_fsm.fsm import complete

REST = {
    "init": "stopped: disconnect, discard",
    "failover": "stays",
    "alone": "stays",
    "stopped": "stays",
    "ended": "stays",
}
"""What a state does with what is not in `by_hand`; the others take the error transition."""


def rest(variant: Variant) -> dict[str, str]:
    """The same with the error transition."""
    comparing = "stop_comparing, " if variant.mode is Mode.HYBRID else ""
    return REST | {"*": f"failover: disconnect, {comparing}suspend, claim"}


def by_hand(variant: Variant) -> dict[str, str]:
    """The written rows: "state trigger" -> "dest: effects"."""
    rows = {
        # colo_process_checkpoint(): wait for ready, vm_start(), then the loop
        "init recv_checkpoint_ready": "ready: resume",
        "ready begin_checkpoint": "requested: send checkpoint-request",
        "loaded begin_checkpoint": "requested: send checkpoint-request",
        # colo_do_checkpoint_transaction()
        "requested recv_checkpoint_reply": "replied: suspend, save",
        # leaving in order
        "init begin_leave": "ended: disconnect, suspend, discard",
        "ready begin_leave": "ended: disconnect, suspend, discard",
        "loaded begin_leave": "ended: disconnect, suspend, discard",
        "alone begin_leave": "ended: suspend",
        # failover: the claim decides
        "failover won": "alone: resume, release_all",
        "failover lost": "stopped: discard",
        "failover begin_leave": "stopped: discard",
        "alone fault_guest_failed": "stopped: suspend, discard",
    }
    if variant.profile is Profile.PATCH:
        received, last = "sending recv_vmstate_received", ["send vmstate-send"]
    else:
        received, last = "sized recv_vmstate_received", ["send vmstate-send", "send_live"]
        rows["sending done_send_live"] = "sized: send vmstate-size, send_state"
    # who lets packets out, and lets the guest run on
    after: dict[str, list[str]] = {"saved": [], "received": [], "loaded": []}
    if variant.release_on is not ReleaseOn.GATE:
        after[variant.release_on].append("release")
    after[variant.resume_on].append("resume")
    if variant.mode is Mode.HYBRID:
        after["loaded"].append("compare")
    rows["replied done_save"] = f"sending: {', '.join(after['saved'] + last)}"
    rows[received] = f"received: {', '.join(after['received'])}"
    rows["received recv_vmstate_loaded"] = f"loaded: {', '.join(after['loaded'])}"
    if variant.mode is Mode.HYBRID:
        for idle in ("ready", "loaded"):
            rows[f"{idle} begin_checkpoint"] = "requested: stop_comparing, send checkpoint-request"
        for before in ("init", "ready", "loaded"):
            rows[f"{before} begin_leave"] = "ended: disconnect, stop_comparing, suspend, discard"
    return rows


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_every_state_and_trigger_does_what_was_written_by_hand(variant: Variant) -> None:
    table = complete(PRIMARY, variant)
    assert differences(table, by_hand(variant), rest(variant)) == []
    assert {f"{r.source} {r.trigger}" for r in table.written} == set(by_hand(variant))


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_its_states_are_the_sync_points_and_what_follows_a_break(variant: Variant) -> None:
    sized = () if variant.profile is Profile.PATCH else (State.SIZED,)
    assert complete(PRIMARY, variant).states == (
        *(State.INIT, State.READY, State.REQUESTED, State.REPLIED, State.SENDING, *sized),
        *(State.RECEIVED, State.LOADED, State.FAILOVER, State.ALONE, State.STOPPED, State.ENDED),
    )


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_it_sends_the_initial_state_first_where_state_is_on_the_wire(variant: Variant) -> None:
    start = [] if variant.profile is Profile.PATCH else ["send_initial"]
    assert list(map(str, complete(PRIMARY, variant).start)) == start


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_it_awaits_the_secondarys_four_messages_in_turn(variant: Variant) -> None:
    ready, reply = COLOMessage.CHECKPOINT_READY, COLOMessage.CHECKPOINT_REPLY
    received, loaded = COLOMessage.VMSTATE_RECEIVED, COLOMessage.VMSTATE_LOADED
    table = complete(PRIMARY, variant)
    last = State.SENDING if variant.profile is Profile.PATCH else State.SIZED
    assert {s: m for s, accepted in table.accepts.items() for m in accepted} == {
        State.INIT: ready,
        State.REQUESTED: reply,
        last: received,
        State.RECEIVED: loaded,
    }
    assert {s: table.expects[s] for s in (State.READY, State.REPLIED, State.SENDING, State.LOADED)} == {
        State.READY: reply,
        State.REPLIED: received,
        State.SENDING: received,
        State.LOADED: reply,
    }


def test_no_line_source_or_effect_can_be_lost_unnoticed() -> None:
    unnoticed, tried = unnoticed_mutants(PRIMARY, by_hand, rest)
    assert unnoticed == []
    assert tried > 400
