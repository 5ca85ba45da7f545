"""Fast spin echo: one excitation, a train of refocusing pulses; T2- and proton-density-weighted.

Refocusing pulses below 180 degrees store part of the magnetisation along z and give it back as stimulated echoes, so
the signal at the effective echo time mixes T2 with T1. The extended phase graph follows all of these pathways.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from synth.physics.relaxation import Tissue
from synth.physics.sequences.base import Draw, Parameter, Protocol, Rule, Sequence, at_fields, plain


def _refocusing_matrix(angle: float) -> NDArray[np.complex128]:
    """Return how a pulse about x mixes (F+, F-, Z) of one order (Weigel 2015, equation 15, phase 0)."""
    c, s, sine = math.cos(angle / 2) ** 2, math.sin(angle / 2) ** 2, math.sin(angle)
    return np.array([[c, s, -1j * sine], [s, c, 1j * sine], [-0.5j * sine, 0.5j * sine, math.cos(angle)]])


def simulate_train(
    t1_ms: float, t2_ms: float, mz: float, echo_spacing_ms: float, echoes: int, refocus_deg: float
) -> tuple[NDArray[np.float64], float]:
    """Return the amplitude of each echo of a train and the longitudinal magnetisation at its end.

    ``mz`` (equilibrium 1) is tipped along x by a perfect 90 degree pulse. Refocusing pulses of ``refocus_deg`` about x
    follow half a spacing later and then every spacing (CPMG), between crushers that dephase by one order each.
    Extended phase graph: Hennig, Concepts Magn Reson 1991;3:125; Weigel, JMRI 2015;41:266.
    """
    pulse = _refocusing_matrix(math.radians(refocus_deg))
    e1, e2 = math.exp(-echo_spacing_ms / 2 / t1_ms), math.exp(-echo_spacing_ms / 2 / t2_ms)
    decay = np.array([[e2], [e2], [e1]])
    states = np.zeros((3, 2 * echoes + 2), complex)  # F+, F- and Z of orders 0, 1, 2, ...
    states[:2, 0] = mz
    amplitudes = np.empty(echoes)

    def wait() -> None:
        """Relax for half a spacing, then let the crusher raise every order by one."""
        states[:] *= decay
        states[2, 0] += 1 - e1
        states[0, 1:] = states[0, :-1]
        states[1, :-1] = states[1, 1:]
        states[1, -1] = 0
        states[0, 0] = np.conj(states[1, 0])

    for number in range(echoes):
        wait()
        states[:] = pulse @ states
        wait()
        amplitudes[number] = abs(states[0, 0])
    return amplitudes, float(states[2, 0].real)


def simulate_steady_train(
    tissue: Tissue, tr_ms: float, echo_spacing_ms: float, echoes: float, refocus_deg: float
) -> NDArray[np.float64]:
    """Return the amplitude of each echo in the steady state of repeated trains, proton density included.

    The train is affine in the magnetisation that it starts with, and TR - train is free recovery with no transverse
    magnetisation left, so the steady state is the fixed point of one repetition. Source: see simulate_train.
    """
    count = round(echoes)
    train = (echo_spacing_ms, count, refocus_deg)
    (_, end_zero), (_, end_one) = (simulate_train(tissue.t1_ms, tissue.t2_ms, mz, *train) for mz in (0.0, 1.0))
    recovery = math.exp(-(tr_ms - count * echo_spacing_ms) / tissue.t1_ms)
    mz = (1 - (1 - end_zero) * recovery) / (1 - (end_one - end_zero) * recovery)
    return tissue.proton_density * simulate_train(tissue.t1_ms, tissue.t2_ms, mz, *train)[0]


def signal_fast_spin_echo(
    tissue: Tissue, tr_ms: float, te_ms: float, echo_spacing_ms: float, echoes: float, refocus_deg: float
) -> float:
    """Fast spin echo in its steady state, at the echo nearest ``te_ms`` (see simulate_steady_train).

    Valid for te_ms from one echo spacing to the end of the train, which is shorter than TR.
    """
    amplitudes = simulate_steady_train(tissue, tr_ms, echo_spacing_ms, echoes, refocus_deg)
    return float(amplitudes[effective_echo(te_ms, echo_spacing_ms) - 1])


def weigh_echoes(tissue: Tissue, protocol: Protocol) -> NDArray[np.float64]:
    """Return the amplitude of each echo over that of the effective one."""
    train = {name: value for name, value in protocol.items() if name != "te_ms"}
    amplitudes = simulate_steady_train(tissue, **train)
    return np.asarray(amplitudes / amplitudes[effective_echo(protocol["te_ms"], protocol["echo_spacing_ms"]) - 1])


def effective_echo(te_ms: float, echo_spacing_ms: float) -> int:
    """Return the number (from 1) of the echo that fills the centre of k-space."""
    return max(1, round(te_ms / echo_spacing_ms))


def _snap_echo_time(protocol: dict[str, float], draw: Draw) -> dict[str, float]:
    """Move TE to the nearest echo of the train."""
    spacing = protocol["echo_spacing_ms"]
    return {**protocol, "te_ms": effective_echo(protocol["te_ms"], spacing) * spacing}


_SPACING = Parameter("ms", "time between echoes", 3, 40, at_fields((9, 11), (8, 11), (8, 11), (8, 10)))
_REFOCUS = Parameter(
    "degrees", "flip angle of the refocusing pulses", 20, 180, at_fields((160, 180), (150, 180), (120, 160), (100, 140))
)
_RULES = (
    Rule(
        ("te_ms", "echoes", "echo_spacing_ms"),
        "TE must lie within the echo train (echoes x echo spacing)",
        lambda p: (p["echoes"] + 0.5) * p["echo_spacing_ms"] - p["te_ms"],
    ),
    Rule(
        ("tr_ms", "echoes", "echo_spacing_ms"),
        "the echo train must be shorter than TR",
        lambda p: p["tr_ms"] - p["echoes"] * p["echo_spacing_ms"],
    ),
)
T2W_FSE = Sequence(
    "T2-weighted fast spin echo, echo train by extended phase graph",
    {
        "tr_ms": Parameter(
            "ms", "repetition time", 500, 20000, at_fields((2000, 3000), (4000, 6000), (4000, 6000), (4500, 6500))
        ),
        "te_ms": Parameter("ms", "effective echo time", 5, 500, at_fields((150, 180), (85, 105), (85, 105), (55, 75))),
        "echo_spacing_ms": _SPACING,
        "echoes": Parameter(
            "", "echoes of a train", 2, 256, at_fields((22, 28), (14, 20), (14, 20), (10, 14)), whole=True
        ),
        "refocus_deg": _REFOCUS,
    },
    plain(signal_fast_spin_echo),
    _RULES,
    _snap_echo_time,
    train=weigh_echoes,
)
PDW = Sequence(
    "proton-density-weighted fast spin echo",
    {
        "tr_ms": Parameter(
            "ms", "repetition time", 500, 20000, at_fields((2000, 3000), (3000, 4000), (4500, 6000), (5500, 7000))
        ),
        "te_ms": Parameter("ms", "effective echo time", 3, 100, (9, 14)),
        "echo_spacing_ms": _SPACING,
        "echoes": Parameter("", "echoes of a train", 2, 64, (4, 8), whole=True),
        "refocus_deg": _REFOCUS,
    },
    plain(signal_fast_spin_echo),
    _RULES,
    _snap_echo_time,
    train=weigh_echoes,
)
