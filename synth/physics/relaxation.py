"""Relaxation times and proton densities of the brain, as priors from which each subject draws its own.

Grey and white matter of one field strength always come from one source, because sources differ more than people do:
- 1.5 T: BrainWeb tissue parameters (Kwan, Evans, Pike, IEEE TMI 1999;18:1085): T1, T2, T2* and proton density.
- 3 T: Stanisz et al., MRM 2005;54:507, T1 and T2. Free fluid, which they did not measure, and T2' (with
  1/T2* = 1/T2 + 1/T2') are those of the MRzero phantom (Loktyushin et al., MRM 2021;86:709). Proton density does not
  depend on the field, so BrainWeb's is kept. For lesions, BrainWeb's ratio of lesion to white matter is applied to
  the 3 T white matter. MRzero's own grey and white matter (T2 83 and 75 ms) are not used: with them FLAIR shows white
  matter brighter than cortex, which clinical images do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from synth.errors import PermanentError

TISSUES = ("gm", "wm", "csf", "lesion")


@dataclass(frozen=True, slots=True)
class Tissue:
    """T1, T2 and T2* in milliseconds, proton density relative to water."""

    t1_ms: float
    t2_ms: float
    t2star_ms: float
    proton_density: float


_BRAINWEB_1T5 = {
    "gm": Tissue(833, 83, 69, 0.86),
    "wm": Tissue(500, 70, 61, 0.77),
    "csf": Tissue(2569, 329, 58, 1.0),
    "lesion": Tissue(752, 237, 204, 0.76),
}


def _t2star_ms(t2_ms: float, t2prime_ms: float) -> float:
    return 1 / (1 / t2_ms + 1 / t2prime_ms)


def _scale_lesion(wm: Tissue) -> Tissue:
    lesion, white = _BRAINWEB_1T5["lesion"], _BRAINWEB_1T5["wm"]
    return Tissue(
        wm.t1_ms * lesion.t1_ms / white.t1_ms,
        wm.t2_ms * lesion.t2_ms / white.t2_ms,
        wm.t2star_ms * lesion.t2star_ms / white.t2star_ms,
        lesion.proton_density,
    )


_WM_3T = Tissue(1084, 69, _t2star_ms(69, 180), 0.77)

RELAXATION: dict[float, dict[str, Tissue]] = {
    1.5: _BRAINWEB_1T5,
    3.0: {
        "gm": Tissue(1820, 99, _t2star_ms(99, 320), 0.86),
        "wm": _WM_3T,
        "csf": Tissue(4163, 1650, _t2star_ms(1650, 59), 1.0),
        "lesion": _scale_lesion(_WM_3T),
    },
}

# Spread as a share of the mean: Stanisz et al. at 3 T
# (white matter T1 1084 +- 45, T2 69 +- 3; grey matter T1 1820 +- 114, T2 99 +- 7).
T1_SPREAD = {"gm": 0.063, "wm": 0.042, "csf": 0.03, "lesion": 0.08}
T2_SPREAD = {"gm": 0.071, "wm": 0.043, "csf": 0.05, "lesion": 0.08}
_SHARED = 0.9  # correlation of a person's tissues with what they share; a choice, no source gives it


def draw_relaxation(generator: np.random.Generator, field_strength_t: float) -> dict[str, Tissue]:
    """Draw one subject's tissues at ``field_strength_t`` (1.5 or 3 tesla) around the literature means.

    T2 and T2* of a tissue vary together, and the tissues of a person mostly together (_SHARED). Nothing is drawn
    beyond 2.5 standard deviations.
    Raises PermanentError for a field strength without literature values here.
    """
    if field_strength_t not in RELAXATION:
        raise PermanentError(
            f"field strength {field_strength_t} T has no relaxation values; choose one of {sorted(RELAXATION)} T"
        )
    shared = generator.standard_normal(2)
    drawn = {}
    for name in TISSUES:
        mean = RELAXATION[field_strength_t][name]
        z = _SHARED * shared + math.sqrt(1 - _SHARED**2) * generator.standard_normal(2)
        z1, z2 = np.clip(z, -2.5, 2.5).tolist()
        f1, f2 = 1 + T1_SPREAD[name] * z1, 1 + T2_SPREAD[name] * z2
        drawn[name] = Tissue(mean.t1_ms * f1, mean.t2_ms * f2, mean.t2star_ms * f2, mean.proton_density)
    return drawn
