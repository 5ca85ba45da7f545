"""Relaxation times and proton densities of the brain, as priors from which each subject draws its own.

PRIORS is the one table of values, intervals and sources. Grey and white matter of one field strength come from one
group each, because sources differ more than people do:
- 0.064 T: O'Reilly and Webb measured at 0.05 T; T1 rises by a tenth from there to 0.064 T, which the spread covers.
- 1.5 T: BrainWeb.
- 3 T: Stanisz; free fluid and T2' (1/T2* = 1/T2 + 1/T2') are those of the MRzero phantom. MRzero's own grey and white
  matter (T2 83 and 75 ms) are not used: with them FLAIR shows white matter brighter than cortex, which clinical images
  do not.
- 7 T: Wright (T1), Cox and Gowland (T2).
Where T2* was not measured, 1/T2' grows in proportion to the field, from 1.5 T down and from 3 T up; at 7 T that gives
35 ms for cortex, where Cohen-Adad et al. (NeuroImage 2012;60:1006) measured 32.
Proton density does not depend on the field, and the ratio of lesion to white matter is BrainWeb's at every field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from synth.errors import PermanentError

TISSUES = ("gm", "wm", "csf", "lesion")
CUT = 2.5  # standard deviations beyond which nothing is drawn


@dataclass(frozen=True, slots=True)
class Tissue:
    """T1, T2 and T2* in milliseconds, proton density relative to water.

    Tissues of diseases know their mean diffusivity and the gadolinium that they take up, too; of the others a protocol
    does.
    """

    t1_ms: float
    t2_ms: float
    t2star_ms: float
    proton_density: float
    adc_um2_ms: float | None = None
    uptake_mmol_l: float | None = None

    def to_json(self) -> dict[str, float]:
        """Return what is known of it, as a scan's row stores it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class TissueKind:
    """A tissue that a disease brings, at every field strength: ``like`` one of TISSUES, with factors of its T1 and T2.

    T2' is that of ``like`` (1/T2* = 1/T2 + 1/T2'). ``adc_um2_ms`` (mean diffusivity) and ``uptake_mmol_l`` (gadolinium
    some minutes after 0.1 mmol/kg) are ranges that are drawn from evenly.
    """

    like: str
    t1: float
    t2: float
    proton_density: float
    adc_um2_ms: tuple[float, float]
    uptake_mmol_l: tuple[float, float]
    source: str
    spread: float = 0.08


@dataclass(frozen=True, slots=True)
class Prior:
    """One value of the table: its mean, its spread between people (standard deviation over mean) and its source."""

    field_strength_t: float
    tissue: str
    quantity: str
    mean: float
    spread: float
    source: str

    @property
    def interval(self) -> tuple[float, float]:
        """The least and the largest value that is drawn."""
        return self.mean * (1 - CUT * self.spread), self.mean * (1 + CUT * self.spread)


_BRAINWEB = "BrainWeb: Kwan, Evans, Pike, IEEE TMI 1999;18:1085"
_STANISZ = "Stanisz et al., MRM 2005;54:507"
_MRZERO = "MRzero phantom: Loktyushin et al., MRM 2021;86:709"
_OREILLY = "O'Reilly, Webb, MRM 2022;87:884 (0.05 T)"
_WRIGHT = "Wright et al., MAGMA 2008;21:121"
_COX = "Cox, Gowland, MRM 2010;64:1440"
_ROONEY = "Rooney et al., MRM 2007;57:308"
_SPIJKERMAN = "about half of 3 T: Spijkerman et al., MAGMA 2018;31:415"
_LINEAR = "1/T2' in proportion to the field: Li et al., MRM 2009;62:1652"
_RATIO = "BrainWeb's ratio of lesion to white matter"

# T1 and T2 in milliseconds as (mean, spread, source), T2* as (mean, source), by field strength in tesla and tissue.
# Spreads that the source does not give (fluid; 1.5 T) are Stanisz's or a choice; T2 and T2* vary together.
_Measured = tuple[tuple[float, float, str], tuple[float, float, str], tuple[float, str] | None]


def _t2star_ms(t2_ms: float, t2prime_ms: float) -> float:
    return 1 / (1 / t2_ms + 1 / t2prime_ms)


_MEASURED: dict[float, dict[str, _Measured]] = {
    0.064: {
        "gm": ((327, 0.06, _OREILLY), (102, 0.06, _OREILLY), None),
        "wm": ((275, 0.05, _OREILLY), (102, 0.06, _OREILLY), None),
        "csf": ((3695, 0.08, _OREILLY), (1584, 0.08, _OREILLY), None),
    },
    1.5: {
        "gm": ((833, 0.063, _BRAINWEB), (83, 0.071, _BRAINWEB), (69, _BRAINWEB)),
        "wm": ((500, 0.042, _BRAINWEB), (70, 0.043, _BRAINWEB), (61, _BRAINWEB)),
        "csf": ((2569, 0.03, _BRAINWEB), (329, 0.05, _BRAINWEB), (58, _BRAINWEB)),
    },
    3.0: {
        "gm": ((1820, 0.063, _STANISZ), (99, 0.071, _STANISZ), (_t2star_ms(99, 320), _MRZERO)),
        "wm": ((1084, 0.042, _STANISZ), (69, 0.043, _STANISZ), (_t2star_ms(69, 180), _MRZERO)),
        "csf": ((4163, 0.03, _MRZERO), (1650, 0.05, _MRZERO), (_t2star_ms(1650, 59), _MRZERO)),
    },
    7.0: {
        "gm": ((1939, 0.077, _WRIGHT), (47, 0.05, _COX), None),
        "wm": ((1126, 0.086, _WRIGHT), (47, 0.05, _COX), None),
        "csf": ((4329, 0.046, _ROONEY), (1050, 0.1, _SPIJKERMAN), None),
    },
}
_NEAREST_T2STAR = {0.064: 1.5, 7.0: 3.0}  # the field whose T2' is scaled where T2* was not measured
_LESION_1T5, _WHITE_1T5 = Tissue(752, 237, 204, 0.76), Tissue(500, 70, 61, 0.77)
_LESION_SPREAD = 0.08  # a choice
_PROTON_DENSITY = {"gm": 0.86, "wm": 0.77, "csf": 1.0, "lesion": 0.76}


def _find_t2star(tesla: float, name: str) -> tuple[float, str]:
    """Return T2* of a tissue and its source: measured, or by the law that 1/T2' is proportional to the field."""
    _, t2, measured = _MEASURED[tesla][name]
    if measured is not None:
        return measured
    other = _NEAREST_T2STAR[tesla]
    _, other_t2, other_t2star = _MEASURED[other][name]
    assert other_t2star is not None
    t2prime_ms = other / tesla / (1 / other_t2star[0] - 1 / other_t2[0])
    return _t2star_ms(t2[0], t2prime_ms), _LINEAR


def _list_priors() -> list[Prior]:
    rows = []
    for tesla, tissues in _MEASURED.items():
        for name, (t1, t2, _) in tissues.items():
            t2star_ms, source = _find_t2star(tesla, name)
            rows.append(Prior(tesla, name, "t1_ms", *t1))
            rows.append(Prior(tesla, name, "t2_ms", *t2))
            rows.append(Prior(tesla, name, "t2star_ms", t2star_ms, t2[1], source))
        t1, t2, _ = tissues["wm"]
        for quantity, mean in (("t1_ms", t1[0]), ("t2_ms", t2[0]), ("t2star_ms", _find_t2star(tesla, "wm")[0])):
            mean = mean * getattr(_LESION_1T5, quantity) / getattr(_WHITE_1T5, quantity)
            source = _BRAINWEB if tesla == 1.5 else _RATIO
            rows.append(Prior(tesla, "lesion", quantity, mean, _LESION_SPREAD, source))
        rows += [Prior(tesla, name, "proton_density", _PROTON_DENSITY[name], 0.0, _BRAINWEB) for name in TISSUES]
    return rows


PRIORS = tuple(_list_priors())
_BY_NAME = {(p.field_strength_t, p.tissue, p.quantity): p for p in PRIORS}
RELAXATION: dict[float, dict[str, Tissue]] = {
    tesla: {
        name: Tissue(
            *(_BY_NAME[tesla, name, quantity].mean for quantity in ("t1_ms", "t2_ms", "t2star_ms", "proton_density"))
        )
        for name in TISSUES
    }
    for tesla in _MEASURED
}
_SHARED = 0.9  # correlation of a person's tissues with what they share; a choice, no source gives it


def draw_relaxation(generator: np.random.Generator, field_strength_t: float) -> dict[str, Tissue]:
    """Draw one subject's tissues at ``field_strength_t`` (tesla, one of RELAXATION) around the literature means.

    T2 and T2* of a tissue vary together, and the tissues of a person mostly together (_SHARED). Nothing is drawn
    beyond CUT standard deviations. The same stream at another field strength gives the same person there.
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
        z1, z2 = np.clip(z, -CUT, CUT).tolist()
        f1, f2 = (
            1 + _BY_NAME[field_strength_t, name, quantity].spread * number
            for quantity, number in (("t1_ms", z1), ("t2_ms", z2))
        )
        drawn[name] = Tissue(mean.t1_ms * f1, mean.t2_ms * f2, mean.t2star_ms * f2, mean.proton_density)
    return drawn


def draw_kind(generator: np.random.Generator, kind: TissueKind, tissues: Mapping[str, Tissue]) -> Tissue:
    """Draw one person's tissue of a disease from what was drawn of the healthy ``tissues`` of that person."""
    like = tissues[kind.like]
    f1, f2 = (1 + kind.spread * np.clip(generator.standard_normal(2), -CUT, CUT)).tolist()
    t2_ms = like.t2_ms * kind.t2 * f2
    rate_prime = 1 / like.t2star_ms - 1 / like.t2_ms
    adc, uptake = (float(generator.uniform(*bounds)) for bounds in (kind.adc_um2_ms, kind.uptake_mmol_l))
    return Tissue(like.t1_ms * kind.t1 * f1, t2_ms, 1 / (1 / t2_ms + rate_prime), kind.proton_density, adc, uptake)
