"""The words: values and names are those of the patch and of QEMU, so that wires and logs agree."""

from __future__ import annotations

import pytest

from colo_fsm.colo import COLOMessage, Mode, Profile, ReleaseOn, ResumeOn, Variant
from colo_fsm.fsm import Do, FailoverStatus, Send, Side


def test_the_messages_are_those_of_the_patch() -> None:
    assert [(int(m), m.text) for m in COLOMessage] == [
        (0, "checkpoint-ready"),
        (1, "checkpoint-request"),
        (2, "checkpoint-reply"),
        (3, "vmstate-send"),
        (4, "vmstate-size"),
        (5, "vmstate-received"),
        (6, "vmstate-loaded"),
    ]


def test_the_failover_status_has_the_words_of_qemu() -> None:
    assert [str(s) for s in FailoverStatus] == ["none", "require", "active", "completed", "relaunch"]


def test_each_side_has_the_other_as_its_peer() -> None:
    assert Side.PRIMARY.peer is Side.SECONDARY
    assert Side.SECONDARY.peer is Side.PRIMARY


def test_there_are_32_variants() -> None:
    assert {str(v) for v in Variant.all()} == {
        f"{profile}/{mode}/{release}{resume}"
        for profile in ("patch", "qemu")
        for mode in ("periodic", "hybrid")
        for release in ("received", "loaded", "gate")
        for resume in ("/resume-saved", "/resume-received", "")
        if (release, resume) != ("gate", "/resume-saved")
    }
    assert len(Variant.all()) == 32


def test_with_a_gate_the_guest_stands_until_its_checkpoint_is_stored() -> None:
    with pytest.raises(ValueError, match="the guest stands until its checkpoint is stored"):
        Variant(release_on=ReleaseOn.GATE, resume_on=ResumeOn.SAVED)


def test_the_default_variant_is_what_qemu_speaks_with_the_safe_release() -> None:
    assert Variant() == Variant(Profile.QEMU, Mode.PERIODIC, ReleaseOn.LOADED, ResumeOn.LOADED)


def test_equal_variants_are_one_key() -> None:
    assert {Variant(): 1}[Variant(Profile.QEMU)] == 1


@pytest.mark.parametrize("condition", [Profile.PATCH, Mode.HYBRID, ReleaseOn.LOADED])
def test_a_variant_meets_its_own_choices_only(condition: Profile | Mode | ReleaseOn) -> None:
    chosen = Variant(Profile.PATCH, Mode.HYBRID, ReleaseOn.LOADED)
    assert condition in chosen
    assert condition not in Variant(release_on=ReleaseOn.RECEIVED)


def test_choices_of_two_kinds_may_have_the_same_word() -> None:
    chosen = Variant(release_on=ReleaseOn.RECEIVED, resume_on=ResumeOn.LOADED)
    assert (ResumeOn.RECEIVED in chosen, ReleaseOn.LOADED in chosen) == (False, False)


def test_effects_read_as_what_they_ask_for() -> None:
    assert str(Do.send_live) == "send_live"
    assert str(Send(COLOMessage.VMSTATE_SEND)) == "send vmstate-send"
    assert Send(COLOMessage.VMSTATE_SEND) == Send(COLOMessage.VMSTATE_SEND)
