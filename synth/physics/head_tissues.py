"""Relaxation, diffusion and enhancement of what lies around the brain.

T1 and T2 of fat are BrainWeb's at 1.5 T and MRzero's at 3 T (as for the brain, see relaxation); of muscle BrainWeb's
at 1.5 T and Stanisz's at 3 T (MRM 2005;54:507). At 0.064 T both are approximate, after O'Reilly and Webb (MRM 2022;
87:884); at 7 T, too, after Jordan et al. (Eur J Radiol 2013;82:734), who found T1 longer and T2 shorter than at 3 T.
Cortical bone is a fifth water (Jerban et al., Magn Reson Imaging 2020;67:85) with a T2 of 0.4 ms (Horch et al., MRM
2012;68:1774), so it has no signal at any echo time that a recipe can ask for. Marrow of adults' skulls is mostly fat.
Skin, dura and all T2* without a source are approximate. Chemical shift of fat is not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from synth.physics.relaxation import CUT, Tissue

_FIELDS_T = (0.064, 1.5, 3.0, 7.0)
_SPREAD = 0.06  # between people, a choice
# Like CSF or white matter of the same person: the humours of the eye, and the nerves with the spinal cord.
_SAME = {"humour": "csf", "nerve": "wm"}


@dataclass(frozen=True, slots=True)
class Kind:
    """T1, T2 and T2* in ms at 0.064, 1.5, 3 and 7 T, proton density, mean diffusivity (um2/ms), gadolinium (mmol/L)."""

    t1_ms: tuple[float, float, float, float]
    t2_ms: tuple[float, float, float, float]
    t2star_ms: tuple[float, float, float, float]
    proton_density: float
    adc_um2_ms: float
    uptake_mmol_l: tuple[float, float]


KINDS: dict[str, Kind] = {
    "fat": Kind((130, 350, 374, 580), (90, 70, 125, 50), (88, 58, 40, 20), 1.0, 0.1, (0.0, 0.02)),
    "marrow": Kind((130, 350, 374, 560), (90, 70, 125, 50), (60, 25, 14, 7), 0.9, 0.3, (0.0, 0.05)),
    "muscle": Kind((171, 900, 1412, 1550), (39, 47, 50, 25), (38, 30, 27, 16), 0.9, 1.5, (0.1, 0.3)),
    "skin": Kind((160, 700, 900, 1200), (35, 32, 30, 22), (30, 20, 15, 10), 0.8, 1.0, (0.2, 0.5)),
    "dura": Kind((200, 800, 1000, 1300), (25, 22, 20, 15), (22, 14, 10, 6), 0.7, 0.8, (0.3, 0.6)),
    "bone": Kind((140, 200, 250, 300), (0.4, 0.4, 0.4, 0.4), (0.4, 0.4, 0.4, 0.4), 0.2, 0.1, (0.0, 0.0)),
}
HEAD_TISSUES = (*KINDS, *_SAME)


def draw_head_tissues(
    generator: np.random.Generator, field_strength_t: float, tissues: Mapping[str, Tissue]
) -> dict[str, Tissue]:
    """Draw one person's tissues of the head, given those of the brain; nothing beyond CUT standard deviations."""
    place = _FIELDS_T.index(field_strength_t)
    drawn = {}
    for name, kind in KINDS.items():
        f1, f2 = (1 + _SPREAD * np.clip(generator.standard_normal(2), -CUT, CUT)).tolist()
        uptake = float(generator.uniform(*kind.uptake_mmol_l))
        t2_ms, t2star_ms = kind.t2_ms[place] * f2, kind.t2star_ms[place] * f2
        drawn[name] = Tissue(kind.t1_ms[place] * f1, t2_ms, t2star_ms, kind.proton_density, kind.adc_um2_ms, uptake)
    for name, like in _SAME.items():
        one = tissues[like]
        adc, uptake = (3.0, 0.0) if name == "humour" else (0.8, 0.01)
        drawn[name] = Tissue(one.t1_ms, one.t2_ms, one.t2star_ms, one.proton_density, adc, uptake)
    return drawn
