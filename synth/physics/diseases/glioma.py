"""Glioma: cells spread by reaction and diffusion; where they are dense it enhances, in its middle it dies.

One simulation a person gives the time at which cells reach each density everywhere; a visit is a moment of it. T1 after
gadolinium shows densities above 0.8 and T2 above 0.16 of the most that tissue carries (Harpold, Alvord, Swanson, J
Neuropathol Exp Neurol 2007;66:1). The core is what has been dense for long enough that the rim has the drawn thickness.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synth.nouns import Subject, Visit
from synth.physics.anatomy import Volumes
from synth.physics.diseases import space
from synth.physics.diseases.base import Disease, Values, own_volume_ml, read_number
from synth.physics.diseases.mass import push_away
from synth.physics.diseases.reaction_diffusion import front_speed_mm, grow_tumour
from synth.physics.grid import LESIONS
from synth.physics.look import Look
from synth.physics.overlay import FLUID, FULL, GREY, WHITE, Overlay, Part
from synth.physics.relaxation import TissueKind
from synth.physics.template import load_template
from synth.seeds import stream_from_key

NAME = "glioma"
T1_DENSITY, T2_DENSITY = 0.8, 0.16
_GREY_SLOWER = 5.0  # D of white over that of grey matter (Swanson 2000)
_SPACING_MM, _REACH_MM = 2, 56  # of the simulation
_UNEVEN, _UNEVEN_MM = 1.1, 9.0  # spread of log D from place to place (approximate)
_RIM_UNEVEN, _RIM_UNEVEN_MM = 0.45, 4.0  # of the log of the rim's thickness (approximate)
_EDGE_MM = 1.5  # width of the borders
_TOUGH = GREY | WHITE | FLUID
_PARTS = (
    Part("glioma-oedema", WHITE, LESIONS["oedema"]),
    Part("glioma-rim", _TOUGH, LESIONS["enhancing"]),
    Part("glioma-core", _TOUGH, LESIONS["core"]),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """When cells become visible on T2 and dense, in years at 1 mm (float32), a box, and the centre.

    ``dead`` is when the core dies; ``levels`` say which volume is visible when (of minus the time).
    """

    seen: space.Floats
    dense: space.Floats
    dead: space.Floats
    levels: space.Levels
    box: tuple[slice, slice, slice]
    centre_mm: NDArray[np.float64]


def _choose_seed(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return where it starts, in MNI mm: in the white matter of the cerebrum, off the midline and the brain's edges."""
    white, origin = space.white_matter(), load_template().origin_mm
    x, y, z = space.positions_mm()
    sites = (white > 0.9) & (np.abs(x) > 16) & (np.abs(x) < 48) & (z > -5) & (z < 45) & (y > -70) & (y < 45)
    sites &= (space.distance_mm("dura") > 16) & (space.distance_mm("ventricles") > 8)
    found = np.argwhere(sites)
    return np.asarray(found[generator.integers(len(found))] + origin)


@functools.lru_cache(maxsize=1)
def _simulate(key: int, diffusion_mm2: float, rho: float, rim_mm: float) -> Growth:
    generator = stream_from_key(key)
    centre = _choose_seed(generator)
    box = space.box_around(centre, _REACH_MM)
    coarse = tuple(slice(one.start, one.stop, _SPACING_MM) for one in box)
    brain, white = space.brain(coarse), space.white_matter(coarse)
    uneven = np.exp(_UNEVEN * space.draw_noise(generator, tuple(n * _SPACING_MM for n in brain.shape), _UNEVEN_MM))
    uneven = uneven[::_SPACING_MM, ::_SPACING_MM, ::_SPACING_MM]
    grey_share = 1 / _GREY_SLOWER
    diffusion = np.where(
        brain > 0.4, diffusion_mm2 * (grey_share + (1 - grey_share) * white) * np.minimum(uneven, 3), 0
    )
    origin = load_template().origin_mm
    x, y, z = (
        int((middle - start - one.start) / _SPACING_MM) for middle, start, one in zip(centre, origin, box, strict=True)
    )
    years = 1.6 * _REACH_MM / front_speed_mm(diffusion_mm2, rho)
    arrival = grow_tumour(
        diffusion.astype(np.float32), rho, _SPACING_MM, (x, y, z), years, np.array([T2_DENSITY, T1_DENSITY], np.float32)
    )
    shape = tuple(one.stop - one.start for one in box)
    seen, dense = (_refine(np.minimum(one, 2 * years), shape) for one in arrival)
    lag = (
        rim_mm
        / front_speed_mm(diffusion_mm2, rho)
        * np.exp(_RIM_UNEVEN * space.draw_noise(generator, shape, _RIM_UNEVEN_MM))
    )
    return Growth(
        seen,
        dense,
        np.asarray(ndimage.gaussian_filter(dense, 1.0) + lag, np.float32),
        space.rank_levels(-seen, space.brain(box)),
        box,
        centre,
    )


def _refine(values: space.Floats, shape: tuple[int, ...]) -> space.Floats:
    """Return ``values`` at 1 mm, linear in between."""
    for axis, count in enumerate(shape):
        place = np.minimum(np.arange(count, dtype=np.float32) / _SPACING_MM, values.shape[axis] - 1.001)
        low = place.astype(int)
        rest = (place - low).reshape([-1 if a == axis else 1 for a in range(3)])
        values = np.take(values, low, axis) * (1 - rest) + np.take(values, low + 1, axis) * rest
    return np.asarray(values, np.float32)


class Glioma(Disease):
    """A malignant glioma; labels: oedema (with infiltration), enhancing (rim), core (necrosis)."""

    name = NAME
    description = "glioma grown by reaction and diffusion: necrotic core, enhancing rim, oedema, mass effect"
    sources = (
        "growth: Swanson, Alvord, Murray, Cell Prolif 2000;33:317",
        "what images show: Harpold, Alvord, Swanson, J Neuropathol Exp Neurol 2007;66:1",
        "D and rho of people: Wang et al., Cancer Res 2009;69:9133 (ranges approximate)",
    )
    tissues: ClassVar[Mapping[str, TissueKind]] = {
        "glioma-oedema": TissueKind(
            "wm",
            1.45,
            1.9,
            0.86,
            (1.1, 1.5),
            (0.01, 0.04),
            "T1, T2: Blystad et al., PLoS ONE 2017;12:e0177135; rest approximate",
        ),
        "glioma-rim": TissueKind(
            "gm",
            0.95,
            1.15,
            0.88,
            (0.8, 1.2),
            (0.15, 0.45),
            "T1, T2: Blystad et al., PLoS ONE 2017;12:e0177135; rest approximate",
        ),
        "glioma-core": TissueKind(
            "csf", 0.75, 0.25, 0.95, (1.6, 2.4), (0.02, 0.08), "approximate: between fluid and tumour, rich in protein"
        ),
    }

    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw the place and unevenness (by their key), D in white matter, rho, the rim and how hard it pushes.

        D and rho are those of the population where it says so (``diffusion_mm2_year``, ``rho_year``).
        """
        usual = {
            "diffusion_mm2": float(np.exp(generator.uniform(math.log(15), math.log(90)))),
            "rho": float(np.exp(generator.uniform(math.log(8), math.log(40)))),
        }
        own = {name: read_number(subject.attributes, f"{name}_year", value) for name, value in usual.items()}
        rim_mm, push = float(generator.uniform(4.0, 9.0)), float(generator.uniform(0.2, 0.4))
        return {"field_key": hex(key), **own, "rim_mm": rim_mm, "push": push}

    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return the volume of all that shows, oedema included."""
        return {"volume_ml": own_volume_ml(visit)}

    def aim(self, state: Values, volumes: Volumes) -> Volumes:
        """Return the volumes with the mass: the tumour counts as brain, fluid makes room (shares approximate)."""
        return make_room(volumes, 0.35 * state["volume_ml"])

    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return the moment at which ``size_ml`` of the brain shows on T2."""
        growth = _simulate(int(drawn["field_key"], 16), drawn["diffusion_mm2"], drawn["rho"], drawn["rim_mm"])
        speed = front_speed_mm(drawn["diffusion_mm2"], drawn["rho"])
        now = -growth.levels.at(size_ml)
        width = _EDGE_MM / speed
        seen, dense, dead = (
            np.clip((now - since) / width + 0.5, 0, 1) for since in (growth.seen, growth.dense, growth.dead)
        )
        dense, dead = np.minimum(dense, seen), np.minimum(dead, dense)
        fractions = np.stack([seen - dense, dense - dead, dead], axis=-1)
        low = tuple(one.start for one in growth.box)
        overlay = Overlay(np.floor(fractions * FULL).astype(np.uint8), (low[0], low[1], low[2]), _PARTS)
        dense_ml = float((dense * space.brain(growth.box)).sum()) / 1000
        radius = max(float(np.cbrt(3000 * dense_ml / (4 * math.pi))), 4.0)
        middle = growth.centre_mm
        if dense_ml > 0.1:
            middle = np.asarray(ndimage.center_of_mass(dense)) + low + load_template().origin_mm
        return Look(overlays=(overlay,), fields=push_away(middle, radius, drawn["push"] * radius))


def make_room(volumes: Volumes, mass_ml: float) -> Volumes:
    """Return ``volumes`` with a mass that counts as brain: fluid gives half of its room, and ventricles shrink."""
    brain_ml = volumes.brain_ml + 0.5 * mass_ml
    grow = brain_ml / volumes.brain_ml
    grey_ml = None if volumes.grey_ml is None else volumes.grey_ml * grow
    return replace(
        volumes, brain_ml=brain_ml, grey_ml=grey_ml, ventricle_ml=volumes.ventricle_ml * math.exp(-mass_ml / 120)
    )
