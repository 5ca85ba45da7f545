"""The registry of measurements: what is measured back from an image, and how far it may be from the request.

Volumes come from the labels; signal-to-noise ratio and contrast come from the pixels, inside regions that the labels
give: voxels whose six neighbours carry the same label (one voxel away from any partial volume). The signal of
fluid is that of their median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synth.measure.regions import RegionStatistics, measure_regions
from synth.nouns import Image, Measurement

Labels = tuple[Mapping[str, NDArray[np.uint8]], tuple[float, ...], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measurement: its unit, what it is, the request, the measured value and the tolerance as functions.

    ``requested(request, signals)`` and ``measured(statistics)`` return a value in ``unit`` (NaN: not measurable);
    ``tolerance(requested)`` is absolute, in ``unit``.
    """

    unit: str
    description: str
    requested: Callable[[Mapping[str, float], Mapping[str, float]], float]
    measured: Callable[[RegionStatistics], float]
    tolerance: Callable[[float], float]


def _volume(request: str, labels: tuple[str, ...], description: str, share: float, floor_ml: float) -> Measure:
    return Measure(
        "mL",
        description,
        lambda requested, _: requested.get(request, math.nan),
        lambda seen: seen.volume_ml(*labels),
        lambda value: share * value + floor_ml,
    )


def _ratio(tissue: str, label: str, description: str, share: float, floor: float) -> Measure:
    return Measure(
        "1",
        description,
        lambda _, signals: signals[tissue] / signals["wm"],
        lambda seen: seen.signal(label) / (seen.signal("white_matter") or math.nan),
        lambda value: share * value + floor,
    )


MEASURES: dict[str, Measure] = {
    "intracranial_volume": _volume(
        "intracranial_ml",
        ("csf", "grey_matter", "white_matter", "ventricles"),
        "volume of all labelled voxels",
        0.01,
        0,
    ),
    "brain_volume": _volume(
        "brain_ml", ("grey_matter", "white_matter"), "volume of grey and white matter, lesions included", 0.01, 0
    ),
    "grey_matter_volume": _volume("grey_ml", ("grey_matter",), "volume of grey matter", 0.02, 0),
    "white_matter_volume": _volume("white_ml", ("white_matter",), "volume of white matter, lesions included", 0.02, 0),
    "ventricle_volume": _volume("ventricle_ml", ("ventricles",), "volume of the lateral ventricles", 0.03, 0.3),
    "lesion_volume": _volume("lesion_ml", ("lesion",), "volume of the lesion mask", 0.05, 0.05),
    "snr": Measure(
        "1",
        "white-matter signal over the standard deviation of the noise, which is estimated from air",
        lambda requested, _: requested["snr"],
        lambda seen: seen.signal("white_matter") / seen.noise_sigma,
        lambda value: 0.1 * value,
    ),
    "gm_wm_ratio": _ratio("gm", "grey_matter", "grey-matter over white-matter signal", 0.15, 0.05),
    "csf_wm_ratio": _ratio("csf", "ventricles", "ventricular fluid over white-matter signal", 0.15, 0.1),
}


def measure_image(
    image: Image, signals: Mapping[str, float], spoilt: frozenset[str] = frozenset(), labels: Labels | None = None
) -> Image:
    """Return ``image`` with its measurements; ``signals`` are the requested pure-tissue signals by tissue.

    What was not requested is not measured: a map, or a scan without noise, has no signal-to-noise ratio, and an effect
    of the scanner that was asked for may leave none to speak of (``spoilt``). Volumes are those of ``labels`` where
    the image's own are cut into thick slices: masks, their spacing, and which voxels of the image hold one tissue.
    """
    assert image.spacing_mm is not None  # a physics engine knows its grid
    snr = image.scan.parameters.get("snr")
    requested = {**image.scan.parameters["requested"], "snr": math.nan if snr is None else snr}
    pure = None if labels is None else labels[2]
    seen = measure_regions(image.pixels, image.masks["tissue"], image.masks["lesion"], image.spacing_mm, pure)
    whole = seen
    if labels is not None:
        masks, spacing_mm, _ = labels
        whole = measure_regions(masks["tissue"].astype(np.uint16), masks["tissue"], masks["lesion"], spacing_mm)
    found = []
    for name, measure in MEASURES.items():
        wanted = measure.requested(requested, signals)
        if math.isnan(wanted) or name in spoilt:
            continue
        measured = measure.measured(whole if measure.unit == "mL" else seen)
        found.append(Measurement(name, measure.unit, wanted, measured, measure.tolerance(wanted)))
    return replace(image, measurements=tuple(found))
