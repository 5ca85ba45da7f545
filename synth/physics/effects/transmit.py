"""Transmit field (B1+): flip angles are not the same everywhere.

The signal of a tissue is a curve in the field. It is rendered at a few levels of the field, and each voxel mixes the
two nearest: levels are weighted by hats, which sum to 1, so the kernel's linear mixing is kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.physics.effects.base import CONTRAST, Effect, Values
from synth.physics.sequences.base import Parameter, Protocol, at_fields

LEVELS = 7
_RADII_MM = (75.0, 95.0, 80.0)  # of the ellipsoid on which the field has fallen by its spread


def transmit_field(positions_mm: NDArray[Any], values: Values) -> NDArray[np.float64]:
    """Return the flip angle over the nominal one at ``positions_mm`` (..., 3), in image millimetres.

    ``level`` is the field of half-way between middle and rim; the middle has more and the rim less by half of
    ``spread``, as dielectric effects make it (Collins et al., JMRI 2005;21:192), and a gradient of ``tilt`` times the
    spread is added.
    """
    place = positions_mm / np.asarray(_RADII_MM)
    dome = 0.5 - np.clip((place**2).sum(axis=-1), 0, 1.5)
    tilt = (place * np.asarray([values[f"tilt_{axis}"] for axis in "xyz"])).sum(axis=-1)
    return np.asarray(np.clip(values["level"] * (1 + values["spread"] * (dome + tilt)), 0.05, 2.5))


def choose_levels(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the levels at which signals are rendered: even steps that span ``field``."""
    low, high = float(field.min()), float(field.max())
    return np.linspace(low, high, LEVELS) if high > low else np.asarray([low])


def weigh_levels(field: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much of each level a place takes, shape field.shape + (levels,); linear between neighbours."""
    if len(levels) == 1:
        return np.ones((*field.shape, 1))
    step = levels[1] - levels[0]
    return np.asarray(np.clip(1 - np.abs(field[..., None] - levels) / step, 0, None))


def scale_protocol(protocol: Protocol, level: float) -> tuple[Protocol, float]:
    """Return the protocol and a factor of the signal where flip angles are ``level`` times the nominal ones.

    Gradient echoes follow their angle. In an echo train the excitation gives sin(90 level) and refocusing angles
    follow; a spin echo loses sin(90 level) at its excitation and sin^2(90 level) at its refocusing (Hahn, Phys Rev
    1950;80:580), with TR long against T1. Inversions are adiabatic.
    """
    scaled = {name: value * level for name, value in protocol.items() if name in ("flip_angle_deg", "refocus_deg")}
    excitation = abs(math.sin(math.pi / 2 * level))
    factor = 1.0 if "flip_angle_deg" in scaled else excitation if "refocus_deg" in scaled else excitation**3
    return {**protocol, **scaled}, factor


TRANSMIT = Effect(
    "transmit field: flip angles are larger in the middle of the head than at its rim",
    {
        "level": Parameter("", "flip angle over nominal, half-way to the rim", 0.3, 1.7, (0.95, 1.05)),
        "spread": Parameter(
            "", "from the middle to the rim", 0.0, 0.9, at_fields((0.0, 0.02), (0.05, 0.12), (0.2, 0.35), (0.4, 0.65))
        ),
        **{
            f"tilt_{axis}": Parameter("", f"gradient along {axis} over the spread", -1, 1, (-0.2, 0.2))
            for axis in "xyz"
        },
    },
    CONTRAST,
    shared=True,
)
