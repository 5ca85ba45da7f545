"""The arms of a trial, as a recipe asks for them."""

from __future__ import annotations

from pydantic import Field

from synth.recipe_part import RecipePart

LARGEST_EFFECT = 5.0


class ArmSpec(RecipePart):
    """One arm of a trial: its share of the subjects, and what its treatment does from the first visit on."""

    share: float = Field(gt=0, le=1, description="share of the subjects in this arm")
    new_lesions: float = Field(
        1.0, ge=0, le=LARGEST_EFFECT, description="factor of the rate of new lesions, and of the growth of their volume"
    )
    loss: float = Field(
        1.0, ge=0, le=LARGEST_EFFECT, description="factor of the atrophy that the disease adds to that of age"
    )


def check_arms(arms: dict[str, ArmSpec]) -> dict[str, ArmSpec]:
    """Return ``arms``; raises ValueError if they are not all of the subjects."""
    total = sum(arm.share for arm in arms.values())
    if arms and abs(total - 1) > 1e-6:
        raise ValueError(f"the shares of the arms sum to {total:g}; they must sum to 1")
    if len(arms) == 1:
        raise ValueError("a trial has two arms at least")
    return arms
