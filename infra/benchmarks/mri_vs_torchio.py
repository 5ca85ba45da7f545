"""One 1 mm T1w brain volume: Cohortium's MRI engine beside the same steps in TorchIO, on the same ICBM labels.

Run with the ``bench`` extra installed:

    .venv/bin/pip install -e '.[bench]'
    .venv/bin/python infra/benchmarks/mri_vs_torchio.py

The peer does four steps on two threads, each with TorchIO's own defaults where it has them: RandomElasticDeformation
(7 control points, borders locked twice, 7.5 mm at most), RandomLabelsToImage (a mean per tissue from the spoiled
gradient-echo equation), RandomBiasField (order 3), RandomNoise (Gaussian; Rician needs two draws and would be slower).
It is given what favours it: labels already in memory, no copies between the steps, warmed up. Cohortium renders partial
volumes, so the variant with one map per tissue does the same work; the one with a discrete label map does less.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import torch
import torchio
from numpy.typing import NDArray
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.population import find_population
from synth.spec import parse_spec

THREADS = 2
CROP = (160, 200, 168)  # holds the whole brain of the 197 x 233 x 189 template; ours has 168 x 208 x 176 voxels
VARIANTS = (
    ("partial volumes, cropped grid", CROP, True),
    ("partial volumes, full grid", None, True),
    ("discrete labels, cropped grid", CROP, False),
    ("discrete labels, full grid", None, False),
)
REPETITION_MS, FLIP_DEG, SNR = 18.0, 20.0, 40.0
# T1 in ms and proton density at 3 T: Stanisz et al., MRM 2005;54:507 for grey and white matter; fluid about 4 s.
TISSUES = {"csf": (4000.0, 1.0), "gm": (1820.0, 0.82), "wm": (1084.0, 0.70)}


@dataclass(frozen=True)
class Timing:
    """Seconds of one volume: the median, the shortest (least disturbed by others), and mean processor seconds."""

    median: float
    shortest: float
    processor: float

    @classmethod
    def summarise(cls, wall: Sequence[float], processor: Sequence[float]) -> Timing:
        """Return the timing of repeats that took ``wall`` and ``processor`` seconds each."""
        return cls(statistics.median(wall), min(wall), statistics.mean(processor))


@dataclass(frozen=True)
class Labels:
    """The anatomy both sides start from, RAS+ at 1 mm, ``affine`` to MNI millimetres.

    ``discrete``: uint8 (1, x, y, z), 0 background, 1 fluid, 2 grey, 3 white. ``partial``: float32 (3, x, y, z), the
    fractions of fluid, grey and white matter.
    """

    discrete: NDArray[np.uint8]
    partial: NDArray[np.float32]
    affine: NDArray[np.float64]


def signal_spgr(t1_ms: float, density: float) -> float:
    """Return the spoiled gradient-echo signal, density sin(a) (1 - E) / (1 - E cos(a)) with E = exp(-TR / T1)."""
    flip, decay = np.deg2rad(FLIP_DEG), np.exp(-REPETITION_MS / t1_ms)
    return float(density * np.sin(flip) * (1 - decay) / (1 - decay * np.cos(flip)))


def load_labels(crop: tuple[int, int, int] | None) -> Labels:
    """Return the ICBM 2009a labels from nilearn's wheel, cropped around the brain if ``crop`` is given."""
    spec = importlib.util.find_spec("nilearn")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "datasets" / "data"
    images = {
        name: nibabel.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")
        for name in ("gm", "wm", "t1")
    }
    maps = {name: np.asarray(image.dataobj, dtype=np.float32) / 255 for name, image in images.items()}
    mask = ndimage.binary_fill_holes(maps["t1"] > 0)
    grey, white = maps["gm"] * mask, maps["wm"] * mask
    partial = np.stack([np.clip(1 - grey - white, 0, 1) * mask, grey, white]).astype(np.float32)
    affine = images["gm"].affine.copy()
    if crop is not None:
        start = _start_of_crop(mask, crop)
        partial = partial[(slice(None), *(slice(s, s + n) for s, n in zip(start, crop, strict=True)))]
        affine[:3, 3] += start
    partial = np.ascontiguousarray(partial)
    discrete = np.where(partial.sum(axis=0) > 0, partial.argmax(axis=0) + 1, 0).astype(np.uint8)[np.newaxis]
    return Labels(discrete, partial, affine)


def _start_of_crop(mask: NDArray[np.bool_], crop: tuple[int, int, int]) -> NDArray[np.int_]:
    corners = np.argwhere(mask)
    low, high = corners.min(axis=0), corners.max(axis=0) + 1
    start = np.clip((low + high - np.asarray(crop)) // 2, 0, np.asarray(mask.shape) - crop)
    if np.any(start > low) or np.any(start + crop < high):
        raise ValueError(f"crop {crop} does not hold the brain, which spans {low} to {high}; choose a larger one")
    return np.asarray(start)


# ------------------------------------------------------------------------------------------------------------- peer


def make_steps(partial: bool) -> dict[str, Any]:
    """Return the peer's transforms in order; ``partial`` chooses partial-volume maps over one discrete label map."""
    signals = [signal_spgr(*TISSUES[name]) for name in ("csf", "gm", "wm")]
    means = signals if partial else [0.0, *signals]
    return {
        "elastic deformation": torchio.RandomElasticDeformation(
            num_control_points=7,
            max_displacement=7.5,
            locked_borders=2,
            label_interpolation="linear" if partial else "nearest",
            copy=False,
        ),
        "labels to image": torchio.RandomLabelsToImage(
            label_key="labels", image_key="t1w", mean=means, std=[0.0] * len(means), copy=False
        ),
        "bias field": torchio.RandomBiasField(coefficients=0.5, order=3, copy=False),
        "noise": torchio.RandomNoise(std=signals[-1] / SNR, copy=False),
    }


def make_subject(labels: Labels, partial: bool) -> torchio.Subject:
    """Return a subject with a fresh copy of the labels (the steps change it in place; the copy is not timed)."""
    data = labels.partial if partial else labels.discrete
    return torchio.Subject(labels=torchio.LabelMap(tensor=torch.from_numpy(data.copy()), affine=labels.affine))


def time_torchio(repeats: int, labels: Labels, partial: bool = False) -> dict[str, Timing]:
    """Return the timing of each of TorchIO's steps, and of all together under ``total``, after one warm-up."""
    steps = make_steps(partial)
    wall: dict[str, list[float]] = {name: [] for name in (*steps, "total")}
    processor: dict[str, list[float]] = {name: [] for name in (*steps, "total")}
    for number in range(repeats + 1):
        subject = make_subject(labels, partial)
        clocks = [(time.perf_counter(), time.process_time())]
        for step in steps.values():
            subject = step(subject)
            clocks.append((time.perf_counter(), time.process_time()))
        check_volume(subject["t1w"].data.numpy(), labels)
        if number == 0:
            continue
        spans = zip([*clocks[:-1], clocks[0]], [*clocks[1:], clocks[-1]], strict=True)
        for name, ((wall_0, cpu_0), (wall_1, cpu_1)) in zip(wall, spans, strict=True):
            wall[name].append(wall_1 - wall_0)
            processor[name].append(cpu_1 - cpu_0)
    return {name: Timing.summarise(wall[name], processor[name]) for name in wall}


def check_volume(volume: NDArray[np.float32], labels: Labels) -> None:
    """Raise ValueError unless ``volume`` has the grid of ``labels``, and white matter brighter than fluid."""
    if volume.shape[1:] != labels.discrete.shape[1:]:
        raise ValueError(f"volume has shape {volume.shape}, labels have {labels.discrete.shape}")
    fluid, white = (float(np.median(volume[labels.discrete == label])) for label in (1, 3))
    if not 0 < fluid < white:
        raise ValueError(f"not a T1w volume: median signal {fluid:g} in fluid, {white:g} in white matter")


# ------------------------------------------------------------------------------------------------------ our engine


def time_cohortium(repeats: int) -> dict[str, Timing]:
    """Return the timings of one 1 mm T1w volume by the MRI engine on THREADS threads, after one warm-up.

    "Cohortium" is the same four steps, with labels and measurements besides. "with drawing" adds what TorchIO has no
    part of: drawing the subject's anatomy and solving it so that head, brain and ventricles have the drawn volumes.
    """
    spec = parse_spec('name = "bench"\nsubjects = 1\n[imaging]\ncontrasts = ["T1w"]\nresolution_mm = 1.0\n')
    subject = find_population(spec.population.source).draw_subjects(spec, "bench", 0, 1)[0]
    engine = MriEngine(threads=THREADS)
    scans = engine.draw_scans(spec, subject)
    return {
        "Cohortium": time_callable(lambda: engine.render(scans), repeats),
        "Cohortium, with drawing": time_callable(lambda: engine.render(engine.draw_scans(spec, subject)), repeats),
    }


def time_callable(call: Callable[[], object], repeats: int) -> Timing:
    """Return the timing of ``call()`` after one warm-up."""
    call()
    wall, processor = [], []
    for _ in range(repeats):
        wall_start, processor_start = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - wall_start)
        processor.append(time.process_time() - processor_start)
    return Timing.summarise(wall, processor)


def memory_copy_floor(shape: tuple[int, ...], repeats: int) -> Timing:
    """Return the timing of copying one float32 volume: no engine that writes its result once can be faster."""
    source, target = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return time_callable(lambda: np.copyto(target, source), repeats)


# ---------------------------------------------------------------------------------------------------------- report


def print_timing(name: str, timing: Timing) -> None:
    """Print one line of the table."""
    figures = (timing.median, timing.shortest, timing.processor, timing.processor / timing.median)
    print("  {:32s} {:10.1f} {:10.1f} {:10.1f} {:10.2f}".format(name, *(1000 * f for f in figures[:3]), figures[3]))


def main() -> None:
    """Measure, and print the table and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="timed volumes of each variant, after one warm-up")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)  # TorchIO draws from torch's global generator
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    warnings.filterwarnings("ignore", message="The maximum displacement is larger")
    print(f"TorchIO {torchio.__version__}, torch {torch.__version__}, {THREADS} threads, {repeats} volumes each")
    print(f"\n  {'milliseconds a volume':32s} {'median':>10s} {'shortest':>10s} {'processor':>10s} {'used':>10s}")
    found = {kind: _compare(crop, partial, repeats) for kind, crop, partial in VARIANTS}
    print()
    for kind, (same_steps, with_drawing) in found.items():
        print(f"TorchIO / Cohortium, {kind}: {same_steps:.1f} (with drawing and solving: {with_drawing:.1f})")


def _compare(crop: tuple[int, int, int] | None, partial: bool, repeats: int) -> tuple[float, float]:
    """Print one variant of TorchIO with ours measured right after it; return the ratios of the medians."""
    labels = load_labels(crop)
    shape = labels.discrete.shape[1:]
    kind = "three partial-volume maps" if partial else "one discrete label map"
    print(f"\n{' x '.join(map(str, shape))} at 1 mm, TorchIO with {kind}")
    timings = time_torchio(repeats, labels, partial)
    ours = time_cohortium(repeats)
    rows = timings | ours | {"copy of one float32 volume": memory_copy_floor(shape, 20 * repeats)}
    for name, timing in rows.items():
        print_timing(name, timing)
    same_steps, with_drawing = (timings["total"].median / timing.median for timing in ours.values())
    return same_steps, with_drawing


if __name__ == "__main__":
    main()
