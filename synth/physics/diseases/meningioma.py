"""Meningioma: a mass outside of the brain, broad on the dura, that enhances evenly and pushes the brain away.

Its base is a place on the inner side of the skull; the body is a ball about a point below it, cut by the dura, with a
tail along the dura. Brain that was there lies around it: a map that keeps volumes outside of the ball.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synth.nouns import Subject, Visit
from synth.physics import deformation
from synth.physics.anatomy import Volumes
from synth.physics.diseases import space
from synth.physics.diseases.base import Disease, Values, own_volume_ml
from synth.physics.grid import LABELS, LESIONS
from synth.physics.look import Fields, Look
from synth.physics.overlay import INSIDE, Part, crop_overlay
from synth.physics.relaxation import TissueKind
from synth.physics.template import load_template
from synth.seeds import stream_from_key

NAME = "meningioma"
_PARTS = (Part("meningioma", INSIDE, LESIONS["enhancing"], LABELS["csf"]),)
_DEPTH = 0.45  # of the radius: how far the centre lies below the dura
_TAIL_MM, _TAIL = 1.6, 1.5  # thickness of the dural tail, and its reach over the radius
_LOBES, _LOBES_MM = 0.05, 6.0  # irregularity of the surface over the radius
_VOID = 0.9  # share of the ball that the map empties
_FAR = 2.6  # radii at which the displacement has ended
# Places of the base, as directions from the middle of the head (MNI), with their shares (approximate): parasagittal,
# convexity, sphenoid wing, tentorium
_MIDDLE_MM = np.array([0.0, -20.0, 10.0])
_PLACES = (
    (0.3, (0.25, 0.3, 1.0), (0.08, 0.5, 0.1)),
    (0.4, (0.9, 0.2, 0.5), (0.15, 0.6, 0.3)),
    (0.2, (0.75, 0.75, -0.45), (0.1, 0.1, 0.1)),
    (0.1, (0.7, -0.9, -0.25), (0.15, 0.15, 0.1)),
)


@functools.lru_cache(maxsize=2)
def _find_base(key: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return the base on the dura (MNI mm), the direction inwards, and a key of the surface's irregularity."""
    generator = stream_from_key(key)
    place = _PLACES[int(generator.choice(len(_PLACES), p=[share for share, _, _ in _PLACES]))]
    side = -1 if generator.random() < 0.5 else 1
    middle, spread = (np.asarray(each, float) for each in place[1:])
    towards = (middle + spread * generator.uniform(-1, 1, 3)) * (side, 1, 1)
    towards /= np.linalg.norm(towards)
    depth, origin = space.distance_mm("dura"), load_template().origin_mm
    along = _MIDDLE_MM + np.arange(20.0, 120.0, 0.5)[:, None] * towards
    index = np.rint(along - origin).astype(int)
    kept = ((index >= 0) & (index < depth.shape)).all(axis=1)
    inside = np.flatnonzero(depth[tuple(index[kept].T)] > 0)
    base = along[kept][inside[-1]]
    corner = np.rint(base - origin).astype(int)
    box = tuple(slice(max(c - 8, 0), c + 9) for c in corner)
    slope = np.stack([np.gradient(depth[box], axis=axis).mean() for axis in range(3)])
    inwards = slope / max(float(np.linalg.norm(slope)), 1e-6) - 0.5 * towards
    return base, np.asarray(inwards / np.linalg.norm(inwards)), int(generator.integers(2**63))


def push_brain(base_mm: NDArray[np.float64], inwards: NDArray[np.float64], radius_mm: float) -> Fields:
    """Return the fields that empty a ball below the base: r -> (r^3 - v R^3 w)^(1/3) from its centre on the dura.

    With w = 1 that keeps volumes; w falls to 0 at _FAR radii. Inside of the ball distances shrink in proportion.
    """
    away = deformation.node_positions_mm() - base_mm
    distance = np.linalg.norm(away, axis=-1)
    reach = (1 + _DEPTH) * radius_mm
    fall = np.clip((_FAR * reach - distance) / ((_FAR - 1) * reach), 0, 1)
    fall = fall**2 * (3 - 2 * fall)
    outside = np.cbrt(np.maximum(distance**3 - _VOID * reach**3 * fall, 0))
    inside = distance * np.cbrt(1 - _VOID)
    ratio = np.where(distance > reach, outside, inside) / np.maximum(distance, 1e-6)
    moved = away * (ratio - 1)[..., None]
    return np.concatenate([moved, np.zeros_like(moved[..., :1])], axis=-1)


class Meningioma(Disease):
    """A meningioma; label: enhancing. It counts as what is not brain in the tissue map (cerebrospinal fluid)."""

    name = NAME
    description = "mass outside of the brain with a broad dural base and tail, evenly enhancing, pushing the brain"
    sources = (
        "places, base and enhancement: Watts et al., Insights Imaging 2014;5:113",
        "growth: Hashiba et al., J Neurosurg 2009;110:675",
    )
    tissues: ClassVar[Mapping[str, TissueKind]] = {
        "meningioma": TissueKind(
            "gm", 0.95, 1.05, 0.86, (0.75, 1.0), (0.2, 0.45), "ADC: Nagar et al., AJNR 2008;29:1147; rest approximate"
        ),
    }

    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw the place and the surface, by their key."""
        return {"field_key": hex(key)}

    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return the volume of the mass."""
        return {"volume_ml": own_volume_ml(visit)}

    def aim(self, state: Values, volumes: Volumes) -> Volumes:
        """Return the volumes with the mass, which is not brain: fluid, brain and ventricles make room (approximate)."""
        mass_ml = state["volume_ml"]
        keep = 1 - 0.3 * mass_ml / volumes.brain_ml
        grey_ml = None if volumes.grey_ml is None else volumes.grey_ml * keep
        ventricle_ml = volumes.ventricle_ml * math.exp(-mass_ml / 150)
        return replace(volumes, brain_ml=volumes.brain_ml * keep, grey_ml=grey_ml, ventricle_ml=ventricle_ml)

    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return the ball of ``size_ml`` under the dura, its tail, and the brain pushed away."""
        base, inwards, key = _find_base(int(drawn["field_key"], 16))
        radius = float(np.cbrt(3000 * size_ml / (4 * np.pi) / 0.8))  # the dura cuts about a fifth off
        box = space.box_around(base, _TAIL * radius + 8)
        x, y, z = space.positions_mm(box)
        depth = space.distance_mm("dura", box)
        lobes = _LOBES * radius * space.draw_noise(stream_from_key(key), depth.shape, _LOBES_MM)
        centre = base + _DEPTH * radius * inwards
        ball, tail = (
            np.sqrt((x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2) - reach
            for c, reach in ((centre, radius), (base, _TAIL * radius))
        )
        thin = np.maximum(tail / 4, depth - _TAIL_MM * np.clip(-tail / (0.4 * radius), 0, 1))
        inside = np.where(depth > 0, np.clip(0.5 - np.minimum(ball + lobes, thin), 0, 1), 0)
        fractions = np.rint(255 * inside[..., None]).astype(np.uint8)
        low = (box[0].start, box[1].start, box[2].start)
        return Look(overlays=(crop_overlay(fractions, _PARTS, low),), fields=push_brain(base, inwards, radius))
