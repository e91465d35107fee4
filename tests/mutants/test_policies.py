"""The tables are sound, the driver is not: what it breaks is noticed, in every variant where it does harm."""

from __future__ import annotations

import pytest

from colo_fsm.check import DISTURBANCES, Policy, Property, Scenario, Strike, explore
from colo_fsm.colo import Profile, Variant

BREAKS = frozenset(Strike) - DISTURBANCES

NOTICED: dict[Policy, tuple[frozenset[Strike], Property]] = {
    Policy.RELEASE_EARLY: (frozenset(), Property.OUTPUT_COMMIT),
    Policy.LOAD_HALF: (BREAKS, Property.FIT_CLAIM),
    Policy.CLAIM_SKIPPED: (BREAKS, Property.NO_SPLIT),
    Policy.CACHED_CLAIM: (BREAKS, Property.NO_SPLIT),
}
"""What has to strike, and what the driver then breaks."""


def drivers() -> list[tuple[Policy, Variant]]:
    """In `patch` no half of a checkpoint ever arrives: a state comes with its message."""
    return [
        (policy, variant)
        for policy in NOTICED
        for variant in Variant.all()
        if policy is not Policy.LOAD_HALF or variant.profile is Profile.QEMU
    ]


@pytest.mark.parametrize(("policy", "variant"), drivers(), ids=str)
def test_a_driver_that_breaks_its_promise_is_noticed(policy: Policy, variant: Variant) -> None:
    faults, broken = NOTICED[policy]
    result = explore(Scenario(variant=variant, faults=faults, policy=policy), stop_at_first=True)
    assert broken in result.broken


def test_every_policy_is_tried() -> None:
    assert NOTICED.keys() == set(Policy) - {Policy.SOUND}


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_a_sound_driver_breaks_nothing_there(variant: Variant) -> None:
    assert not explore(Scenario(variant=variant, faults=BREAKS)).broken
