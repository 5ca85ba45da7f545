"""Spin echo with one refocusing pulse: T2-weighted."""

from __future__ import annotations

import math

from synth.physics.relaxation import Tissue
from synth.physics.sequences.base import Parameter, Sequence, at_fields, plain
from synth.physics.sequences.spoiled import ECHO_WITHIN_TR


def signal_spin_echo(tissue: Tissue, tr_ms: float, te_ms: float) -> float:
    """Spin echo: PD (1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)) exp(-TE/T2).

    Source: Bernstein, King, Zhou, Handbook of MRI Pulse Sequences (2004), section 14.3. The 180 degree pulse at
    TE/2 inverts what has recovered by then. Valid for TR > TE.
    """
    recovered = 1 - 2 * math.exp(-(tr_ms - te_ms / 2) / tissue.t1_ms) + math.exp(-tr_ms / tissue.t1_ms)
    return tissue.proton_density * recovered * math.exp(-te_ms / tissue.t2_ms)


T2W = Sequence(
    "T2-weighted spin echo",
    {
        "tr_ms": Parameter(
            "ms", "repetition time", 200, 20000, at_fields((2000, 3000), (4000, 6000), (4000, 6000), (4500, 6500))
        ),
        "te_ms": Parameter("ms", "echo time", 5, 500, at_fields((150, 200), (85, 105), (85, 105), (55, 75))),
    },
    plain(signal_spin_echo),
    (ECHO_WITHIN_TR,),
)
