"""Diffusion-weighted spin echo at several b-values, and the map of the apparent diffusion coefficient."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import exp1

from synth.physics.relaxation import TISSUES, Tissue
from synth.physics.sequences.base import Map, Parameter, Protocol, Sequence, at_fields
from synth.physics.sequences.spin_echo import signal_spin_echo
from synth.physics.sequences.spoiled import ECHO_WITHIN_TR

B_VALUES_S_MM2 = (0, 500, 1000, 1500)
_MAP_B = (0, 1000)
_VISIBLE = 4.0  # the map is 0 where the image without diffusion weighting is below this many noise deviations
_LEAST = 1e-100  # signal whose logarithm is taken, that of bone
_FAT_LEFT = 0.05  # fat is saturated, as in every clinical protocol; what is left is approximate
_HIGHEST_UM2_MS = 10.0  # noise can make the map larger than any water; it is cut here


def signal_diffusion(tissue: Tissue, tr_ms: float, te_ms: float, b_s_mm2: float, adc_um2_ms: float) -> float:
    """Spin echo with diffusion weighting: S(TR, TE) exp(-b D), the mean over directions.

    Source: Stejskal and Tanner, J Chem Phys 1965;42:288; Le Bihan et al., Radiology 1986;161:401. b in s/mm2, D in
    um2/ms (1e-3 mm2/s). Valid up to about b = 1500 s/mm2, above which tissue is no longer mono-exponential.
    """
    return signal_spin_echo(tissue, tr_ms, te_ms) * math.exp(-b_s_mm2 * adc_um2_ms / 1000)


def compute_adc(
    images: NDArray[np.float32], sigmas: NDArray[np.float64], b_low_s_mm2: float, b_high_s_mm2: float
) -> NDArray[np.float32]:
    """Return ln(S_low / S_high) / (b_high - b_low) in um2/ms, from two magnitude images (2, x, y, z).

    Cut to 0 and _HIGHEST_UM2_MS; 0 where S_low is below _VISIBLE times its noise (``sigmas``).
    """
    low, high = (np.maximum(image, np.float32(1e-12)) for image in images)
    adc = np.log(low / high) * np.float32(1000 / (b_high_s_mm2 - b_low_s_mm2))
    adc[low < np.float32(_VISIBLE * sigmas[0])] = 0
    return np.asarray(np.clip(adc, 0, _HIGHEST_UM2_MS), np.float32)


def expect_adc(signals: tuple[float, ...], sigmas: tuple[float, ...], b_low_s_mm2: float, b_high_s_mm2: float) -> float:
    """Return the mean of the map (um2/ms) where a tissue has ``signals`` and the images have noise ``sigmas``.

    The mean of ln M of a Rician M is ln S + E1(S^2 / 2 sigma^2) / 2 (Lapidoth and Moser, IEEE Trans Inf Theory
    2003;49:2426, two degrees of freedom): the noise floor makes fluid seem to diffuse less than it does.
    """
    low, high = (
        math.log(signal) + (float(exp1(signal**2 / (2 * sigma**2))) / 2 if sigma else 0.0)
        for signal, sigma in zip((max(one, _LEAST) for one in signals), sigmas, strict=True)
    )
    return (low - high) * 1000 / (b_high_s_mm2 - b_low_s_mm2)


def _signal(name: str, tissue: Tissue, protocol: Protocol) -> float:
    adc = tissue.adc_um2_ms if tissue.adc_um2_ms is not None else protocol[f"adc_{name}_um2_ms"]
    signal = signal_diffusion(tissue, protocol["tr_ms"], protocol["te_ms"], protocol["b_s_mm2"], adc)
    return signal * (_FAT_LEFT if name in ("fat", "marrow") else 1.0)


def _split_map(protocol: Protocol) -> dict[str, Protocol]:
    values = [protocol[name] for name in ("b_low_s_mm2", "b_high_s_mm2")]
    return {f"DWI-b{b:g}": {**protocol, "b_s_mm2": b} for b in values}


def _combine_map(images: NDArray[np.float32], sigmas: NDArray[np.float64], protocol: Protocol) -> NDArray[np.float32]:
    return compute_adc(images, sigmas, protocol["b_low_s_mm2"], protocol["b_high_s_mm2"])


# Mean +- two standard deviations of people. Grey and white matter: Helenius et al., AJNR 2002;23:194 (0.89 +- 0.04 and
# 0.70 +- 0.03). Fluid: free water at 37 degrees, Holz et al., Phys Chem Chem Phys 2000;2:4740. Lesions: above white
# matter, most in active ones (Tievsky et al., AJNR 1999;20:1491); the range is a choice.
_ADC = {"gm": (0.81, 0.97), "wm": (0.64, 0.76), "csf": (2.9, 3.2), "lesion": (0.9, 1.3)}
_PARAMETERS = {
    "tr_ms": Parameter(
        "ms", "repetition time", 500, 20000, at_fields((2500, 3500), (5000, 8000), (5000, 8000), (6000, 9000))
    ),
    "te_ms": Parameter("ms", "echo time", 10, 300, at_fields((100, 120), (80, 100), (65, 90), (55, 70))),
    **{
        f"adc_{name}_um2_ms": Parameter("um2/ms", f"mean diffusivity of {name}", 0.05, 5, _ADC[name], person=True)
        for name in TISSUES
    },
}


def _weight(b_s_mm2: int) -> Sequence:
    return Sequence(
        f"diffusion-weighted spin echo, b = {b_s_mm2} s/mm2, mean of directions",
        _PARAMETERS,
        _signal,
        (ECHO_WITHIN_TR,),
        series="DWI",
        fixed={"b_s_mm2": float(b_s_mm2)},
        reference=lambda protocol: {**protocol, "b_s_mm2": 0.0},
    )


DWI = {f"DWI-b{b}": _weight(b) for b in B_VALUES_S_MM2}
ADC = replace(
    _weight(0),
    description=f"map of the apparent diffusion coefficient, from b = {_MAP_B[0]} and {_MAP_B[1]} s/mm2",
    fixed={"b_low_s_mm2": float(_MAP_B[0]), "b_high_s_mm2": float(_MAP_B[1])},
    map=Map(
        "um2/ms",
        0.001,
        _split_map,
        _combine_map,
        lambda signals, sigmas, protocol: expect_adc(
            signals, sigmas, protocol["b_low_s_mm2"], protocol["b_high_s_mm2"]
        ),
    ),
)
