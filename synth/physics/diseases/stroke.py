"""Ischaemic stroke: part of the territory of one artery, bright on diffusion for days, a cavity with a scar for good.

The infarct is where a person's field over the territory is highest. Its tissue follows the time since onset: swollen
cells hold water still for about ten days, T2 rises within hours, then tissue softens and a cavity of fluid is left.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synth.nouns import Subject, Visit
from synth.physics.diseases import space
from synth.physics.diseases.base import Disease, Values, own_volume_ml, read_number
from synth.physics.diseases.mass import push_away
from synth.physics.grid import LESIONS
from synth.physics.look import Look
from synth.physics.overlay import BRAIN, Part, crop_overlay
from synth.physics.relaxation import TissueKind
from synth.physics.template import load_template
from synth.seeds import stream_from_key

NAME = "ischaemic-stroke"
TERRITORIES = {"MCA": 0.77, "PCA": 0.15, "ACA": 0.08}  # shares of hemispheric infarcts (approximate)
_PHASES_DAYS = (0.5, 10.0, 60.0)  # end of hyperacute, acute, subacute
_PHASE_NAMES = ("hyperacute", "acute", "subacute")
_CAVITY = 0.6  # share of a chronic infarct that is fluid (approximate)
_FALL_MM, _UNEVEN, _UNEVEN_MM = 16.0, 0.5, 6.0
_EDGE = 0.12
_NOWHERE = -1e3
# where an artery's infarcts are centred, in MNI mm (|x|, y, z) with their spread
_CENTRES = {"MCA": ((40, -12, 18), (8, 18, 12)), "ACA": ((9, 22, 38), (2, 14, 8)), "PCA": ((16, -78, 4), (5, 8, 6))}


def weigh_territory(artery: str, side: int, box: tuple[slice, ...]) -> space.Floats:
    """Return how surely each template voxel is fed by ``artery`` on ``side`` (-1 left, 1 right), 0 to 1.

    Planes that approximate the map of Tatu et al., Neurology 1998;50:1699: ACA the medial strip before the parieto-
    occipital sulcus, PCA the occipital lobe and the lower temporal lobe, MCA the rest of the hemisphere.
    """
    x, y, z = space.positions_mm(box)
    lateral = side * x
    medial = _step(19 + 0.12 * (z - 20) - lateral, 2.0) * _step(y + 45 - 0.5 * (z - 20), 4.0) * _step(z + 8, 4.0)
    behind = np.maximum(_step(-58 + 0.35 * (z - 10) - y, 4.0), _step(-12 - z, 3.0) * _step(-18 - y, 4.0))
    own = {"ACA": medial, "PCA": behind * (1 - medial), "MCA": (1 - medial) * (1 - behind)}[artery]
    cerebrum = _step(z + 22 + 0.2 * np.minimum(y + 40, 0) * -1, 3.0)
    return np.asarray(own * _step(lateral - 1, 1.0) * cerebrum, np.float32)


def _step(distance: NDArray[np.floating[Any]], width: float) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(np.clip(-distance / width, -50, 50))), np.float32)


@functools.lru_cache(maxsize=1)
def _draw_infarct(key: int, artery: str, side: int) -> tuple[tuple[slice, slice, slice], space.Floats, space.Levels]:
    """Return a box, the field in it, which is low outside of the territory, and its levels."""
    generator = stream_from_key(key)
    middle, spread = (np.asarray(each, float) for each in _CENTRES[artery])
    centre = (middle + spread * np.clip(generator.standard_normal(3), -1.5, 1.5)) * (side, 1, 1)
    box = space.box_around(centre, 75)
    x, y, z = space.positions_mm(box)
    away = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    territory = weigh_territory(artery, side, box)
    uneven = space.draw_noise(generator, territory.shape, _UNEVEN_MM)
    field = -away / _FALL_MM + _UNEVEN * uneven + 3 * np.log(np.maximum(territory, 1e-3))
    tissue = space.brain(box)
    field = np.where(tissue > 0, field, _NOWHERE).astype(np.float32)
    return box, field, space.rank_levels(field, tissue)


class IschaemicStroke(Disease):
    """An infarct in one territory; labels: lesion (infarct, later the scar), core (the cavity)."""

    name = NAME
    description = "infarct in a territory (MCA, ACA, PCA): restricted diffusion, later a cavity"
    sources = (
        "territories: Tatu et al., Neurology 1998;50:1699 (planes that approximate them)",
        "diffusion over time: Lansberg et al., AJNR 2001;22:637; Schlaug et al., Neurology 1997;49:113",
    )
    tissues: ClassVar[Mapping[str, TissueKind]] = {
        "infarct-hyperacute": TissueKind(
            "gm", 1.02, 1.03, 0.86, (0.4, 0.55), (0.01, 0.03), "Lansberg et al., AJNR 2001;22:637"
        ),
        "infarct-acute": TissueKind(
            "gm", 1.15, 1.45, 0.88, (0.45, 0.6), (0.02, 0.06), "ADC: Lansberg 2001; rest approximate"
        ),
        "infarct-subacute": TissueKind(
            "gm", 1.2, 1.6, 0.9, (0.8, 1.2), (0.1, 0.4), "ADC: Lansberg 2001; rest approximate"
        ),
        "infarct-scar": TissueKind(
            "wm", 1.6, 2.2, 0.85, (1.1, 1.5), (0.01, 0.03), "ADC: Schlaug 1997; rest approximate"
        ),
        "infarct-cavity": TissueKind("csf", 0.95, 0.9, 0.99, (2.5, 3.0), (0.0, 0.01), "nearly fluid (approximate)"),
    }

    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw side, artery (unless the population says it: ``artery``) and the field by its key."""
        side = -1 if generator.random() < 0.54 else 1  # left more often noticed: Hedna et al., J Clin Neurol 2013;9:97
        drawn = str(generator.choice(list(TERRITORIES), p=list(TERRITORIES.values())))
        known = subject.attributes.get("artery")
        return {"field_key": hex(key), "side": side, "artery": known if known in TERRITORIES else drawn}

    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return the volume and the days since onset (``days_since_onset``; else one day at the first visit)."""
        usual = 1 + 365.25 * (visit.years_since_first or 0.0)
        return {"volume_ml": own_volume_ml(visit), "days": read_number(visit.attributes, "days_since_onset", usual)}

    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return the part of the territory where the field is highest."""
        box, field, levels = _draw_infarct(int(drawn["field_key"], 16), drawn["artery"], drawn["side"])
        whole = space.to_fractions(field, levels.at(size_ml), _EDGE)
        low = (box[0].start, box[1].start, box[2].start)
        if state["days"] <= _PHASES_DAYS[-1]:
            phase = _PHASE_NAMES[int(np.searchsorted(_PHASES_DAYS, state["days"]))]
            parts: tuple[Part, ...] = (Part(f"infarct-{phase}", BRAIN, LESIONS["lesion"]),)
            return Look(overlays=(crop_overlay(whole[..., None], parts, low),))
        hollow = np.minimum(space.to_fractions(field, levels.at(_CAVITY * size_ml), _EDGE), whole)
        fractions = np.stack([whole - hollow, hollow], axis=-1)
        parts = (Part("infarct-scar", BRAIN, LESIONS["lesion"]), Part("infarct-cavity", BRAIN, LESIONS["core"]))
        radius = max(float(np.cbrt(3000 * size_ml / (4 * np.pi))), 5.0)
        middle = np.asarray(np.argwhere(whole > 127).mean(axis=0)) + low + load_template().origin_mm
        return Look(overlays=(crop_overlay(fractions, parts, low),), fields=push_away(middle, radius, -0.15 * radius))
