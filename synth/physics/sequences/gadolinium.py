"""T1-weighted after contrast agent: relaxivity shortens T1 and T2* where the agent is."""

from __future__ import annotations

from dataclasses import replace

from synth.physics.relaxation import Tissue
from synth.physics.sequences.base import Parameter, Protocol, Sequence, at_fields
from synth.physics.sequences.spoiled import ECHO_WITHIN_TR, T1W_PARAMETERS, signal_spoiled_gradient_echo


def shorten_relaxation(tissue: Tissue, concentration_mmol_l: float, r1: float, r2: float) -> Tissue:
    """Return ``tissue`` with a contrast agent: 1/T = 1/T(0) + r C for T1, T2 and T2*, r in L/(mmol s).

    Source: Rohrer et al., Invest Radiol 2005;40:715. Valid for fast exchange of water between blood and tissue.
    """
    added1, added2 = r1 * concentration_mmol_l / 1000, r2 * concentration_mmol_l / 1000
    return replace(
        tissue,
        t1_ms=1 / (1 / tissue.t1_ms + added1),
        t2_ms=1 / (1 / tissue.t2_ms + added2),
        t2star_ms=1 / (1 / tissue.t2star_ms + added2),
    )


def signal_post_contrast(name: str, tissue: Tissue, protocol: Protocol) -> float:
    """Return the spoiled gradient echo of a tissue with its share of agent (see shorten_relaxation)."""
    own = tissue.uptake_mmol_l
    uptake = own if own is not None else protocol[f"uptake_{name}_mmol_l"]
    agent = shorten_relaxation(tissue, uptake, protocol["r1_l_mmol_s"], protocol["r2_l_mmol_s"])
    return signal_spoiled_gradient_echo(agent, protocol["tr_ms"], protocol["te_ms"], protocol["flip_angle_deg"])


# Relaxivity of gadobutrol in plasma at 37 degrees: r1 at 1.5, 3 and 7 T from Szomolanyi et al., Invest Radiol
# 2019;54:559, +- one standard deviation; r2, and r1 below 1 T (their 0.47 T), from Rohrer et al. 2005.
# Uptake: the barrier keeps the agent in the blood. 1 mmol/L in plasma some minutes after 0.1 mmol/kg, a plasma share of
# 0.6, and 5 % blood in grey and 2 % in white matter (table 3 of MRM 2011;66:40) give 0.03 and 0.012 mmol/L.
# Lesions are plaques whose barrier has closed; what diseases open it in are tissues of their own.
_R1 = at_fields((5.3, 5.9), (4.66, 4.90), (4.38, 5.56), (3.59, 4.07))
_R2 = at_fields((6.0, 6.6), (5.8, 6.4), (6.8, 7.4), (7.0, 9.0))
T1W_GD = Sequence(
    "T1-weighted 3D spoiled gradient echo after gadolinium",
    {
        **T1W_PARAMETERS,
        "r1_l_mmol_s": Parameter("L/(mmol s)", "longitudinal relaxivity", 1, 30, _R1),
        "r2_l_mmol_s": Parameter("L/(mmol s)", "transverse relaxivity", 1, 60, _R2),
        "uptake_gm_mmol_l": Parameter("mmol/L", "agent in grey matter", 0, 5, (0.02, 0.04)),
        "uptake_wm_mmol_l": Parameter("mmol/L", "agent in white matter", 0, 5, (0.008, 0.016)),
        "uptake_csf_mmol_l": Parameter("mmol/L", "agent in fluid", 0, 5, (0.0, 0.005)),
        "uptake_lesion_mmol_l": Parameter("mmol/L", "agent in lesions", 0, 5, (0.01, 0.04)),
    },
    signal_post_contrast,
    (ECHO_WITHIN_TR,),
)
