"""MPRAGE: an inversion, then a train of spoiled gradient echoes whose middle is the centre of k-space."""

from __future__ import annotations

import math

from synth.physics.relaxation import Tissue
from synth.physics.sequences.base import Parameter, Protocol, Rule, Sequence, at_fields, plain


def signal_mprage(
    tissue: Tissue,
    tr_ms: float,
    te_ms: float,
    ti_ms: float,
    flip_angle_deg: float,
    echo_spacing_ms: float,
    echoes: float,
) -> float:
    """Magnitude of MPRAGE in its steady state, at the echo in the middle of the train.

    TI runs from the inversion to pulse N/2 of the train (N ``echoes``, ``echo_spacing_ms`` apart), TR from inversion to
    inversion. In the train the magnetisation tends to M* = (1 - E) / (1 - E cos a), E = exp(-spacing/T1), as
    M_n = M* + (M_0 - M*) (E cos a)^n; before and after it recovers freely, and the inversion turns M into -M. All three
    are affine, so the steady state is the fixed point of one cycle. The signal is PD |M_{N/2}| sin a exp(-TE/T2*).
    Source: Deichmann et al., NeuroImage 2000;12:112; Mugler and Brookeman, MRM 1990;15:152. Valid for perfect
    inversion and spoiling, and a train that fits between TI - N/2 spacing > 0 and TR.
    """
    angle = math.radians(flip_angle_deg)
    before, after = echoes // 2, echoes - echoes // 2
    e_start = math.exp(-(ti_ms - before * echo_spacing_ms) / tissue.t1_ms)
    e_end = math.exp(-(tr_ms - ti_ms - after * echo_spacing_ms) / tissue.t1_ms)
    e_echo = math.exp(-echo_spacing_ms / tissue.t1_ms)
    factor = e_echo * math.cos(angle)
    resting = (1 - e_echo) / (1 - factor)

    def play(mz: float) -> tuple[float, float]:
        """Return the magnetisation at the middle pulse and at the end of the cycle that starts with ``mz``."""
        first = 1 - (1 + mz) * e_start
        middle = resting + (first - resting) * factor**before
        last = resting + (first - resting) * factor**echoes
        return middle, 1 - (1 - last) * e_end

    from_zero, from_one = play(0.0)[1], play(1.0)[1]
    middle, _ = play(from_zero / (1 - (from_one - from_zero)))
    return tissue.proton_density * abs(middle) * math.sin(angle) * math.exp(-te_ms / tissue.t2star_ms)


def _time_before_train(protocol: Protocol) -> float:
    return protocol["ti_ms"] - protocol["echoes"] // 2 * protocol["echo_spacing_ms"]


def _time_after_train(protocol: Protocol) -> float:
    left = protocol["echoes"] - protocol["echoes"] // 2
    return protocol["tr_ms"] - protocol["ti_ms"] - left * protocol["echo_spacing_ms"]


# 1.5 and 3 T: the protocols of ADNI (Jack et al., JMRI 2008;27:685), with a train of one partition direction.
_TR = at_fields((1300, 1600), (2300, 2500), (2200, 2400), (2500, 2800))
_TI = at_fields((310, 350), (950, 1050), (880, 950), (1050, 1150))
_FLIP = at_fields((8, 10), (7, 9), (8, 10), (5, 7))
_SPACING = at_fields((7, 8), (7, 8), (6.5, 7.5), (6, 7))
_ECHOES = at_fields((48, 64), (160, 176), (160, 176), (160, 192))
MPRAGE = Sequence(
    "T1-weighted MPRAGE",
    {
        "tr_ms": Parameter("ms", "time between inversions", 300, 10000, _TR),
        "te_ms": Parameter("ms", "echo time", 0.5, 30, at_fields((3, 4), (3, 4), (2.5, 3.5), (2, 3))),
        "ti_ms": Parameter("ms", "inversion to the middle of the train", 50, 5000, _TI),
        "flip_angle_deg": Parameter("degrees", "flip angle", 1, 45, _FLIP),
        "echo_spacing_ms": Parameter("ms", "time between echoes", 2, 40, _SPACING),
        "echoes": Parameter("", "echoes of a train", 8, 400, _ECHOES, whole=True),
    },
    plain(signal_mprage),
    (
        Rule(
            ("te_ms", "echo_spacing_ms"),
            "TE must be shorter than the echo spacing",
            lambda p: p["echo_spacing_ms"] - p["te_ms"],
        ),
        Rule(("ti_ms", "echoes", "echo_spacing_ms"), "half of the train must fit before TI", _time_before_train),
        Rule(
            ("ti_ms", "tr_ms", "echoes", "echo_spacing_ms"),
            "TI and half of the train must fit into TR",
            _time_after_train,
        ),
    ),
)
