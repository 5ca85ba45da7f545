"""Does a segmentation that knows nothing of this engine find its tissues? Dice of dipy's HMRF on T1w at 1 mm, SNR 30.

    pip install dipy SimpleITK
    python infra/benchmarks/mri_segmentation.py --subjects 6 --picture docs/images/mri-segmentation.png

The image alone is given: everything above the noise of its corners is taken for the inside of the skull (there is no
skull in it), intensities are evened out by N4 (SimpleITK; Tustison et al., IEEE TMI 2010;29:1310), and dipy's
TissueClassifierHMRF (Zhang et al., IEEE TMI 2001;20:45) makes three classes, which are named by their brightness. Dice
is that of the labels that come with the image, lateral and third ventricles counted as fluid, lesions as white matter.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK
from dipy.segment.tissue import TissueClassifierHMRF
from numpy.typing import NDArray
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.nouns import Image
from synth.physics.grid import LABELS
from synth.population import find_population
from synth.spec import parse_spec

RECIPE = """name = "segmentation"
subjects = {subjects}
seed = {seed}
[imaging]
contrasts = ["T1w"]
resolution_mm = 1.0
snr = [{snr}, {snr}]
field_strength_t = 3.0
"""
CLASSES = ("fluid", "grey matter", "white matter")  # by brightness in T1w
GOAL = 0.85


def find_inside(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where the image is above the noise of its corners: the largest piece, closed and filled."""
    corner = values[:12, :12, :12]
    smooth = ndimage.gaussian_filter(values, 0.7)
    above = smooth > float(corner.mean()) + 4 * float(ndimage.gaussian_filter(corner, 0.7).std())
    labels, _ = ndimage.label(ndimage.binary_opening(above, iterations=2))
    largest = labels == np.bincount(labels[labels > 0]).argmax()
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_closing(largest, iterations=4)))


def even_out(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the image without its receive bias, as N4 estimates it on every fourth voxel."""
    image = SimpleITK.GetImageFromArray(values)
    mask = SimpleITK.GetImageFromArray(inside.astype(np.uint8))
    small, small_mask = (SimpleITK.Shrink(one, [4, 4, 4]) for one in (image, mask))
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([30, 30, 30])
    corrector.Execute(small, small_mask)
    bias = SimpleITK.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
    return np.asarray(values / np.exp(bias), np.float32)


def segment(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return 0 outside, 1 fluid, 2 grey and 3 white matter, from the pixels alone."""
    inside = find_inside(values)
    evened = even_out(values, inside)
    scaled = np.where(inside, evened / np.percentile(evened[inside], 99.5), 0).astype(np.float64)
    _, found, _ = TissueClassifierHMRF(verbose=False).classify(scaled, 3, 0.1, tolerance=1e-4, max_iter=40)
    levels = [scaled[inside & (found == label)].mean() for label in (1, 2, 3)]
    rank = np.zeros(4, np.uint8)
    rank[1 + np.argsort(levels)] = (1, 2, 3)
    return np.asarray(rank[found.astype(int)] * inside, np.uint8)


def merge_truth(tissue: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the labels of the image as the three classes."""
    return np.where(tissue == LABELS["ventricles"], LABELS["csf"], tissue).astype(np.uint8)


def dice(found: NDArray[np.uint8], truth: NDArray[np.uint8], label: int) -> float:
    """Return Dice's coefficient of one label."""
    one, other = found == label, truth == label
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def draw_picture(rows: Sequence[tuple[str, Image, NDArray[np.uint8]]], path: Path) -> None:
    """Draw each image with its labels, the classes that were found, and where they differ."""
    figure, axes = plt.subplots(len(rows), 4, figsize=(11, 3.1 * len(rows)), squeeze=False)
    for line, (name, image, found) in zip(axes, rows, strict=True):
        truth, middle = merge_truth(image.masks["tissue"]), image.pixels.shape[2] // 2
        panels: list[tuple[Any, dict[str, Any]]] = [
            (image.pixels, {"cmap": "gray", "vmin": 0, "vmax": np.percentile(image.pixels, 99.7)}),
            (truth, {"cmap": "viridis", "vmin": 0, "vmax": 3}),
            (found, {"cmap": "viridis", "vmin": 0, "vmax": 3}),
            (found != truth, {"cmap": "gray", "vmin": 0, "vmax": 1}),
        ]
        for axis, (volume, look) in zip(line, panels, strict=True):
            axis.imshow(volume[6:-6, 8:-8, middle].T, origin="lower", **look)
            axis.axis("off")
        line[0].set_title(name, fontsize=8, color="white", loc="left")
    for axis, title in zip(axes[0][1:], ("labels", "found blindly", "differ"), strict=True):
        axis.set_title(title, fontsize=9, color="white")
    figure.patch.set_facecolor("black")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=60, facecolor="black", metadata={"Description": "synthetic images"})


def main() -> None:
    """Segment, print Dice per subject and class, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--seed", type=int, default=30)
    parser.add_argument("--snr", type=float, default=30.0)
    parser.add_argument("--picture", type=Path, help="where three of them are drawn")
    arguments = parser.parse_args()
    spec = parse_spec(RECIPE.format(subjects=arguments.subjects, seed=arguments.seed, snr=arguments.snr))
    engine, rows, scores = MriEngine(), [], []
    print(f"{'subject':34s}" + "".join(f"{name:>14s}" for name in CLASSES) + f"{'seconds':>10s}")
    for subject in find_population(spec.population.source).draw_subjects(spec, "segmentation", 0, spec.subjects):
        [image] = engine.render(engine.draw_scans(spec, subject))
        start = time.process_time()
        found = segment(image.pixels.astype(np.float32))
        seconds = time.process_time() - start
        truth = merge_truth(image.masks["tissue"])
        scores.append([dice(found, truth, label) for label in (1, 2, 3)])
        name = f"{subject.sex}, {subject.age_years:.0f} years, {subject.diagnosis}"
        rows.append((name, image, found))
        print(f"{name:34s}" + "".join(f"{score:14.3f}" for score in scores[-1]) + f"{seconds:10.0f}", flush=True)
    mean, least = np.mean(scores, axis=0), np.min(scores, axis=0)
    print(f"{'mean':34s}" + "".join(f"{score:14.3f}" for score in mean))
    print(f"{'least':34s}" + "".join(f"{score:14.3f}" for score in least))
    verdict = "holds" if min(least[1:]) >= GOAL else "is missed"
    print(f"goal: Dice of grey and white matter {GOAL} or more in every subject: it {verdict}")
    if arguments.picture is not None:
        draw_picture(rows[:3], arguments.picture)


if __name__ == "__main__":
    main()
