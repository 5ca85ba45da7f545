"""Inversion-recovery spin echo: FLAIR, whose inversion time nulls cerebrospinal fluid."""

from __future__ import annotations

import math

from synth.physics.relaxation import Tissue
from synth.physics.sequences.base import Draw, Parameter, Rule, Sequence, at_fields, plain
from synth.physics.sequences.spoiled import ECHO_WITHIN_TR

_NULL_ERROR = (0.985, 1.015)  # scanners null fluid by a fixed setting, which misses this person's by a few per cent


def signal_inversion_recovery(tissue: Tissue, tr_ms: float, te_ms: float, ti_ms: float) -> float:
    """Magnitude of inversion-recovery spin echo.

    PD |1 - 2 exp(-TI/T1) + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)| exp(-TE/T2).
    Source: Bernstein, King, Zhou (2004), section 14.2. Valid for TI + TE < TR.
    """
    mz = (
        1
        - 2 * math.exp(-ti_ms / tissue.t1_ms)
        + 2 * math.exp(-(tr_ms - te_ms / 2) / tissue.t1_ms)
        - math.exp(-tr_ms / tissue.t1_ms)
    )
    return tissue.proton_density * abs(mz) * math.exp(-te_ms / tissue.t2_ms)


def null_inversion_time_ms(t1_ms: float, tr_ms: float, te_ms: float) -> float:
    """Inversion time at which a tissue of ``t1_ms`` gives no signal (the zero of signal_inversion_recovery)."""
    rest = 1 + 2 * math.exp(-(tr_ms - te_ms / 2) / t1_ms) - math.exp(-tr_ms / t1_ms)
    return -t1_ms * math.log(rest / 2)


def _null_fluid(protocol: dict[str, float], draw: Draw) -> dict[str, float]:
    tr_ms, te_ms = protocol["tr_ms"], protocol["te_ms"]
    share = float(draw.generator.uniform(*_NULL_ERROR))
    wanted = draw.range_of("ti_ms")
    if wanted is None:
        ti_ms = null_inversion_time_ms(draw.tissues["csf"].t1_ms, tr_ms, te_ms) * share
    else:
        ti_ms = wanted[0] + (wanted[1] - wanted[0]) * (share - _NULL_ERROR[0]) / (_NULL_ERROR[1] - _NULL_ERROR[0])
    return {**protocol, "ti_ms": ti_ms}


FLAIR = Sequence(
    "fluid-attenuated inversion recovery",
    {
        "tr_ms": Parameter(
            "ms", "repetition time", 1000, 20000, at_fields((4000, 5000), (9000, 11000), (9000, 11000), (9000, 11000))
        ),
        "te_ms": Parameter("ms", "echo time", 5, 400, at_fields((150, 180), (100, 125), (100, 125), (70, 90))),
        "ti_ms": Parameter("ms", "inversion time; by default it nulls fluid", 20, 6000, None),
    },
    plain(signal_inversion_recovery),
    (
        ECHO_WITHIN_TR,
        Rule(
            ("ti_ms", "te_ms", "tr_ms"),
            "TI + TE must be shorter than TR",
            lambda p: p["tr_ms"] - p["te_ms"] - p["ti_ms"],
        ),
    ),
    _null_fluid,
)
