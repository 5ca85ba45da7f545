"""Atrophy of Alzheimer's type: the medial temporal lobes shrink first and most, then temporal and parietal cortex.

The population says how much brain is lost and how the ventricles grow; here it is said where. Each hippocampus is drawn
together until it has lost the wanted share, and sulci of temporal and parietal cortex gain fluid, of which the rest of
the brain then has less.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from synth.nouns import Subject, Visit
from synth.physics import deformation
from synth.physics.diseases.base import Disease, Values, read_number
from synth.physics.look import Fields, Look

NAME = "alzheimer-disease"
# The hippocampus and what lies around it as ellipsoids, MNI mm (|x|, y, z): centre and half axes (approximate)
HIPPOCAMPUS_MM, HALF_AXES_MM = np.array([27.0, -20.0, -15.0]), np.array([7.0, 17.0, 7.0])
_REACH_MM = np.array([9.0, 18.0, 9.0])
_MOST_PULL = 1.6  # beyond 2.2 the middle would fold (see pull_together)
# Log-odds of fluid for each unit of loss: places (|x|, y, z), their reach in mm, and strength (approximate; pattern
# after Scahill et al., PNAS 2002;99:4703, and Dickerson et al., Cereb Cortex 2009;19:497)
_FLUID = (
    ((30, -16, -19), 10.0, 32.0),
    ((48, -12, -26), 20.0, 35.0),
    ((44, -52, 34), 22.0, 30.0),
    ((8, -56, 32), 16.0, 30.0),
)
_LOSS_AT_FIRST, _LOSS_A_YEAR = 0.17, 0.035  # where the population does not say


def pull_together(pull: float) -> Fields:
    """Return the fields that shrink both medial temporal lobes: q = p + k (p - c) exp(-|(p - c) / s|^2 / 2).

    The derivative along a ray is least at sqrt(3) s, where it is 1 - 2 k exp(-3/2): positive for k < 2.2.
    """
    place = deformation.node_positions_mm()
    fields = np.zeros((*place.shape[:3], 4))
    for side in (-1, 1):
        away = place - HIPPOCAMPUS_MM * (side, 1, 1)
        fields[..., :3] += pull * away * np.exp(-((away / _REACH_MM) ** 2).sum(axis=-1, keepdims=True) / 2)
    return fields


def measure_loss(fields: Fields) -> float:
    """Return the share of the volume of the hippocampi (ellipsoids) that ``fields`` take away, on a 1.5 mm grid."""
    axes = [np.arange(-reach, reach, 1.5) for reach in 1.5 * HALF_AXES_MM]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    left = []
    for side in (-1, 1):
        centre = HIPPOCAMPUS_MM * (side, 1, 1)
        moved = grid + deformation.interpolate_field(np.ascontiguousarray(fields[..., :3]), grid + centre)
        before, after = ((((where / HALF_AXES_MM) ** 2).sum(axis=-1) < 1).sum() for where in (grid, moved))
        left.append(after / before)
    return float(1 - np.mean(left))


@functools.lru_cache(maxsize=64)
def find_pull(loss: float) -> float:
    """Return the pull at which the hippocampi have lost the share ``loss``, by bisection."""
    low, high = 0.0, _MOST_PULL
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if measure_loss(pull_together(middle)) < loss else (low, middle)
    return (low + high) / 2


def _weigh_fluid() -> NDArray[np.float64]:
    """Return the log-odds of fluid for a unit of loss, on the nodes."""
    place = deformation.node_positions_mm()
    gain = np.zeros(place.shape[:3])
    for centre, reach, strength in _FLUID:
        for side in (-1, 1):
            gain += strength * np.exp(-(((place - np.array(centre) * (side, 1, 1)) / reach) ** 2).sum(axis=-1) / 2)
    return gain


class AlzheimerDisease(Disease):
    """Regional atrophy; no label in the lesion mask. ``medial_temporal_loss`` of a visit is the share that is lost."""

    name = NAME
    description = (
        "atrophy of hippocampi and medial temporal lobes, then of temporal and parietal cortex; wide ventricles"
    )
    sources = (
        "hippocampi 15 to 25 % smaller when mild: Barnes et al., Neurobiol Aging 2009;30:1711 (4.7 %/yr, controls 1.4)",
        "regions: Scahill et al., PNAS 2002;99:4703; Dickerson et al., Cereb Cortex 2009;19:497",
    )

    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw how much regional the atrophy is, over the mean."""
        return {"regional": float(generator.uniform(0.7, 1.3))}

    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return the share of the hippocampi that is lost beyond age."""
        usual = _LOSS_AT_FIRST + _LOSS_A_YEAR * (visit.years_since_first or 0.0)
        return {"medial_temporal_loss": read_number(visit.attributes, "medial_temporal_loss", usual)}

    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return the fields of the loss."""
        loss = state["medial_temporal_loss"]
        fields = pull_together(find_pull(loss))
        fields[..., 3] = drawn["regional"] * loss * _weigh_fluid()
        return Look(fields=fields)
