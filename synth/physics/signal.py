"""Steady-state magnetisation of the three pulse sequences, in closed form.

All times are in milliseconds and angles in degrees. Signals are relative to the equilibrium magnetisation of water
(proton density 1), so they lie between 0 and 1 and are combined linearly over the tissues of a voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from synth.physics.relaxation import Tissue


def signal_spoiled_gradient_echo(tissue: Tissue, tr_ms: float, te_ms: float, flip_angle_deg: float) -> float:
    """Ideal spoiled gradient echo: PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE/T2*), with E1 = exp(-TR/T1).

    Source: Ernst and Anderson, Rev Sci Instrum 1966;37:93. Valid for perfect spoiling and 0 < flip angle < 180.
    """
    angle = math.radians(flip_angle_deg)
    e1 = math.exp(-tr_ms / tissue.t1_ms)
    steady = math.sin(angle) * (1 - e1) / (1 - math.cos(angle) * e1)
    return tissue.proton_density * steady * math.exp(-te_ms / tissue.t2star_ms)


def signal_spin_echo(tissue: Tissue, tr_ms: float, te_ms: float) -> float:
    """Spin echo: PD (1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)) exp(-TE/T2).

    Source: Bernstein, King, Zhou, Handbook of MRI Pulse Sequences (2004), section 14.3. The 180 degree pulse at
    TE/2 inverts what has recovered by then. Valid for TR > TE.
    """
    recovered = 1 - 2 * math.exp(-(tr_ms - te_ms / 2) / tissue.t1_ms) + math.exp(-tr_ms / tissue.t1_ms)
    return tissue.proton_density * recovered * math.exp(-te_ms / tissue.t2_ms)


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


def _draw_t1w(generator: np.random.Generator, csf_t1_ms: float, field_strength_t: float) -> dict[str, float]:
    # Published 3D spoiled-gradient-echo protocols: TR 18 ms and 30 degrees at 1.5 T (BrainWeb), shorter TE at 3 T.
    te_ms = 5.0 if field_strength_t < 2 else 4.0
    return {
        "tr_ms": float(generator.uniform(17, 21)),
        "te_ms": float(generator.uniform(te_ms - 1, te_ms + 1)),
        "flip_angle_deg": float(generator.uniform(24, 30)),
    }


def _draw_t2w(generator: np.random.Generator, csf_t1_ms: float, field_strength_t: float) -> dict[str, float]:
    return {"tr_ms": float(generator.uniform(4000, 6000)), "te_ms": float(generator.uniform(85, 105))}


def _draw_flair(generator: np.random.Generator, csf_t1_ms: float, field_strength_t: float) -> dict[str, float]:
    tr_ms, te_ms = float(generator.uniform(9000, 11000)), float(generator.uniform(100, 125))
    # Scanners null fluid by a fixed setting: it misses this person's fluid by a few per cent.
    ti_ms = null_inversion_time_ms(csf_t1_ms, tr_ms, te_ms) * float(generator.uniform(0.985, 1.015))
    return {"tr_ms": tr_ms, "te_ms": te_ms, "ti_ms": ti_ms}


class Sequence:
    """A contrast: how its protocol is drawn and which closed form turns tissue into signal."""

    def __init__(
        self,
        description: str,
        draw: Callable[[np.random.Generator, float, float], dict[str, float]],
        signal: Callable[..., float],
    ) -> None:
        self.description = description
        self.draw_protocol = draw
        self._signal = signal

    def signal(self, tissue: Tissue, protocol: Mapping[str, float]) -> float:
        """Return the signal of one tissue (relative to the equilibrium magnetisation of water)."""
        return self._signal(tissue, **protocol)


SEQUENCES: dict[str, Sequence] = {
    "T1w": Sequence("T1-weighted 3D spoiled gradient echo", _draw_t1w, signal_spoiled_gradient_echo),
    "T2w": Sequence("T2-weighted fast spin echo", _draw_t2w, signal_spin_echo),
    "FLAIR": Sequence("fluid-attenuated inversion recovery", _draw_flair, signal_inversion_recovery),
}
