"""White-matter hyperintensities of age: caps and bands around the ventricles, spots in deep white matter that merge.

A person has one field over white matter, high around the ventricles and in spots; a visit shows where it exceeds a
level, and more load lowers the level: caps become bands, spots appear, grow and merge, as Fazekas' grades describe.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from synth.nouns import Subject, Visit
from synth.physics.diseases import space
from synth.physics.diseases.base import Disease, Values, read_number
from synth.physics.grid import LESIONS
from synth.physics.look import Look
from synth.physics.overlay import WHITE, Part, crop_overlay
from synth.physics.relaxation import TissueKind
from synth.seeds import stream_from_key

NAME = "white-matter-hyperintensities"
_PARTS = (Part("hyperintensity", WHITE, LESIONS["lesion"]),)
_BAND_MM = 4.5  # fall of the field with distance from the ventricles
_CAPS = 0.3  # by how much less it falls before and behind the horns
_MIDLINE, _MIDLINE_MM = 1.6, 11.0  # the corpus callosum is spared
_DEEP_MM, _DEEP_SHALLOW_MM = 9.0, 3.0  # deep: this far from ventricles and from cortex
_SPOTS, _BANDS = 0.55, 0.4  # strength of the irregularity of spots and bands
_SPOT_MM, _BAND_NOISE_MM = 3.5, 5.0
_SYMMETRY = 0.75  # of variance that both hemispheres share (approximate)
_WIDTH = 0.12  # of the field, from none to all
_NOWHERE = -1e3


@functools.lru_cache(maxsize=1)
def _draw_field(key: int, deep: float) -> tuple[tuple[slice, slice, slice], space.Floats, space.Levels]:
    """Return a box, the person's field in it, low where none may be, and its levels."""
    white = space.white_matter()
    box = space.find_box(white > 0.5)
    x, y, z = space.positions_mm(box)
    weight = np.where((z > -12) & (y > -92), white[box], 0).astype(np.float32)
    generator = stream_from_key(key)
    middle = round(float(-x.ravel()[0]))  # index of the midline

    def draw(strength: float, scale_mm: float) -> space.Floats:
        own, both = (space.draw_coarse(generator, weight.shape, scale_mm) for _ in range(2))
        node = np.arange(len(both))  # on every second voxel
        mirror = np.clip(middle - node, 0, len(both) - 1)
        half = np.where(2 * node[:, None, None] > middle, both, both[mirror])
        shared, rest = strength * math.sqrt(_SYMMETRY), strength * math.sqrt(1 - _SYMMETRY)
        return space.refine_noise(shared * half + rest * own, weight.shape)

    horns = (np.exp(-(((y - 34) / 14) ** 2)) + np.exp(-(((y + 62) / 20) ** 2))).astype(np.float32)
    field = draw(_BANDS, _BAND_NOISE_MM)
    field += np.float32(1.2) - (_MIDLINE * np.exp(-((x / _MIDLINE_MM) ** 2))).astype(np.float32)
    field -= space.distance_mm("ventricles", box) * ((1 - _CAPS * horns) / np.float32(_BAND_MM))
    far = space.of_distance("ventricles", box, lambda mm: 1 / (1 + np.exp(-(mm - _DEEP_MM) / 2)))
    far *= space.of_distance("cortex", box, lambda mm: 1 / (1 + np.exp(-(mm - _DEEP_SHALLOW_MM) / 0.8)))
    far *= (1 / (1 + np.exp(-(z - 8) / 6))).astype(np.float32)  # deep and high
    spots = draw(_SPOTS, _SPOT_MM)
    spots += np.float32(deep + 2)
    spots *= far
    spots -= np.float32(2)
    np.maximum(field, spots, out=field)
    field[weight <= 0] = _NOWHERE
    return box, field, space.rank_levels(field, weight)


class WhiteMatterHyperintensities(Disease):
    """Hyperintensities presumed to be vascular; label: lesion. The load is ``hyperintensity_ml`` of a visit."""

    name = NAME
    description = "age-related hyperintensities: periventricular caps and bands, deep spots that merge"
    sources = (
        "grades: Fazekas et al., AJR 1987;149:351",
        "appearance: STRIVE, Wardlaw et al., Lancet Neurol 2013;12:822",
        "symmetry, fall with distance and balance of deep and periventricular ones are approximate",
    )
    tissues: ClassVar[Mapping[str, TissueKind]] = {
        "hyperintensity": TissueKind(
            "wm",
            1.3,
            1.75,
            0.82,
            (0.85, 1.15),
            (0.01, 0.03),
            "diffusivity: Helenius et al., Stroke 2002;33:45; rest approximate",
        ),
    }

    def affects(self, subject: Subject) -> bool:
        """Return whether any visit has a load of them."""
        return any(_load_ml(visit) > 0 for visit in subject.visits)

    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw the field (by its key) and how much deep white matter takes part."""
        return {"field_key": hex(key), "deep": float(generator.uniform(-0.2, 0.4))}

    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return the load."""
        return {"volume_ml": _load_ml(visit)}

    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return the part of white matter where the field is highest."""
        box, field, levels = _draw_field(int(drawn["field_key"], 16), drawn["deep"])
        fractions = space.to_fractions(field, levels.at(size_ml), _WIDTH)
        low = tuple(one.start for one in box)
        return Look(overlays=(crop_overlay(fractions[..., None], _PARTS, (low[0], low[1], low[2])),))


def _load_ml(visit: Visit) -> float:
    return read_number(visit.attributes, "hyperintensity_ml", 0.0)
