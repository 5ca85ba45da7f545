"""Spoiled gradient echo: T1-weighted at short TR and large angle, T2*-weighted at long TE."""

from __future__ import annotations

import math

from synth.physics.relaxation import Tissue
from synth.physics.sequences.base import Parameter, Rule, Sequence, at_fields, plain


def signal_spoiled_gradient_echo(tissue: Tissue, tr_ms: float, te_ms: float, flip_angle_deg: float) -> float:
    """Ideal spoiled gradient echo: PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE/T2*), with E1 = exp(-TR/T1).

    Source: Ernst and Anderson, Rev Sci Instrum 1966;37:93. Valid for perfect spoiling and 0 < flip angle < 180.
    """
    angle = math.radians(flip_angle_deg)
    e1 = math.exp(-tr_ms / tissue.t1_ms)
    steady = math.sin(angle) * (1 - e1) / (1 - math.cos(angle) * e1)
    return tissue.proton_density * steady * math.exp(-te_ms / tissue.t2star_ms)


ECHO_WITHIN_TR = Rule(("te_ms", "tr_ms"), "TE must be shorter than TR", lambda p: p["tr_ms"] - p["te_ms"])

# Published 3D protocols: TR 18 ms and 30 degrees at 1.5 T (BrainWeb), shorter TE at 3 T. At 0.064 T all T1 are short
# and grey and white matter close together: a large angle keeps what contrast there is.
T1W_PARAMETERS = {
    "tr_ms": Parameter("ms", "repetition time", 4, 200, at_fields((20, 26), (17, 21), (17, 21), (17, 21))),
    "te_ms": Parameter("ms", "echo time", 0.5, 30, at_fields((7, 9), (4, 6), (3, 5), (2, 3))),
    "flip_angle_deg": Parameter("degrees", "flip angle", 1, 90, at_fields((50, 65), (24, 30), (24, 30), (20, 26))),
}
T1W = Sequence(
    "T1-weighted 3D spoiled gradient echo (SPGR)",
    T1W_PARAMETERS,
    plain(signal_spoiled_gradient_echo),
    (ECHO_WITHIN_TR,),
)
T2STARW = Sequence(
    "T2*-weighted gradient echo",
    {
        "tr_ms": Parameter("ms", "repetition time", 20, 3000, (550, 800)),
        "te_ms": Parameter("ms", "echo time", 2, 120, at_fields((50, 70), (22, 28), (18, 23), (12, 17))),
        "flip_angle_deg": Parameter("degrees", "flip angle", 1, 90, (15, 22)),
    },
    plain(signal_spoiled_gradient_echo),
    (ECHO_WITHIN_TR,),
)
