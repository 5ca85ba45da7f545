"""Planted copies that are found, and false alarms on unseen real patients: over several splits of real radiographs.

    python infra/benchmarks/planted_copies.py [--set nih|pneumonia] [--splits 10] [--fill 5000]
    python infra/benchmarks/planted_copies.py --set scale [--count 10000]

In each split 60 % of the patients train, the others are unseen; made-up images (draws of a Gaussian in 150 principal
components of the training images, with their mean fine detail) fill the training side up to 5,000. One half of the
unseen patients sets the threshold, alarms are counted in the other, and the other way round. Copies of 50 real training
images are planted in every way of synth/evaluation/images/copies/planted.py, and turned and cropped by the nearest
pixel. Intervals are those of as many draws as there are patients (Clopper and Pearson). ``scale`` is about time and
memory.
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy import ndimage, stats

from synth.evaluation.images.copies.planted import ALTERATIONS, ANGLE, CROP, HARDER, plant_copies
from synth.evaluation.images.copies.scores import find_copies
from synth.evaluation.images.copies.search import CopySearch, make_copy_search
from synth.evaluation.images.copies.threshold import Threshold, calibrate_threshold, find_planted
from synth.evaluation.images.layout import Floats32, Form, Layout, bring_to_layout
from synth.evaluation.images.report import Pair
from synth.evaluation.images.sets import ImageSet, join_sets, make_image_set
from synth.seeds import stream

SIZE = 128
TRAIN = 0.6  # of the patients
COPIED = 50
COMPONENTS = 150


def rotate_nearest(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image turned by 5 degrees; each pixel is that of the nearest place."""
    return np.asarray(ndimage.rotate(image, np.rad2deg(ANGLE) * rng.choice((-1, 1)), reshape=False, order=0))


def crop_nearest(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image without 5 % on each side, resized back by repeating pixels."""
    size = np.asarray(image.shape)
    start = (size - 1) / 2 * 2 * CROP
    return np.asarray(ndimage.affine_transform(image, np.full(image.ndim, 1 - 2 * CROP), start, order=0))


NEAREST = {"rotated_nearest": rotate_nearest, "cropped_nearest": crop_nearest}


@dataclass(frozen=True)
class Found:
    """What one split gave: thresholds, recall by alteration, and the alarms of unseen patients."""

    thresholds: list[float]
    recall: dict[str, float]
    images: int
    alarms: list[Pair]
    patients: list[str]  # unseen
    same: int  # unseen images that the reference holds twice


def read_nih(folder: Path) -> ImageSet:
    """Return the sample of ChestX-ray14 at 128 x 128."""
    table = pq.read_table(folder / "nih_cxr_sample.parquet", columns=["png", "patient_id"])
    layout = Layout((SIZE, SIZE), "absolute")
    pixels = []
    for png in table["png"].to_pylist():
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        pixels.append(bring_to_layout(picture, Form("yx", picture.shape, "uint8"), None, layout))
    return make_image_set("nih", np.stack(pixels), patient_ids=[str(p) for p in table["patient_id"].to_pylist()])


def read_pneumonia(folder: Path) -> ImageSet:
    """Return PneumoniaMNIST, train and val together; each image counts as a patient, as the file names none."""
    with np.load(folder / "pneumoniamnist_28.npz", allow_pickle=False) as file:
        return make_image_set("pneumonia", np.concatenate([file["train_images"], file["val_images"]]) / 255)


def draw_filling(train: ImageSet, count: int, seed: int) -> ImageSet:
    """Return ``count`` made-up images with the principal components and the fine detail of the training images."""
    rng = stream(seed, -1, -1, "benchmark/filling")
    pixels = train.images(slice(None)).reshape(len(train), -1)
    mean = pixels.mean(axis=0)
    products = (pixels - mean) @ (pixels - mean).T
    vectors = np.linalg.eigh(products.astype(np.float64))[1][:, -COMPONENTS:].astype(np.float32)
    axes = vectors.T @ (pixels - mean) / np.sqrt(len(pixels))
    missing = np.sqrt(np.maximum((pixels - mean).var() - (axes**2).sum() / pixels.shape[1], 0))
    found = []
    for _ in range(count):
        smooth = (mean + rng.normal(size=len(axes)).astype(np.float32) @ axes).reshape(train.shape)
        detail = ndimage.gaussian_filter(rng.normal(size=train.shape), 0.7)
        found.append(smooth + missing * detail / detail.std())
    return make_image_set("filling", np.clip(np.stack(found), 0, 1))


def split_patients(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Return training patients and two halves of unseen ones."""
    patients = int(images.patient.max()) + 1
    share = (stream(seed, -1, -1, "benchmark/split").permutation(patients) / patients)[images.patient]
    part = np.digitize(share, [TRAIN, (1 + TRAIN) / 2])
    train, first, second = (images.select(part == number, name) for number, name in enumerate(("train", "1st", "2nd")))
    return train, first, second


def run_split(images: ImageSet, seed: int, fill: int) -> Found:
    """Return what one split gives."""
    train, *halves = split_patients(images, seed)
    missing = max(fill - len(train), 0)
    full = train if not missing else join_sets("train", [train, draw_filling(train, missing, seed)])
    search = make_copy_search(full)
    # only real images are calibrated with and copied: made-up ones would be easier
    thresholds = [calibrate_threshold(search, half, seed=seed) for half in halves]
    alarms: list[Pair] = []
    for own, other in ((0, 1), (1, 0)):
        alarms += _list_alarms(search, thresholds[own], thresholds[other], halves[other])
    copies = plant_copies(train, COPIED, seed, {**ALTERATIONS, **HARDER, **NEAREST}, stage="benchmark")
    scores = find_planted(search, copies, search.search(copies))
    kinds = np.asarray(copies.values("alteration"))
    reached = np.mean([scores >= threshold.value for threshold in thresholds], axis=0)
    return Found(
        [threshold.value for threshold in thresholds],
        {kind: float(reached[kinds == kind].mean()) for kind in dict.fromkeys(kinds.tolist())},
        sum(len(half) for half in halves),
        alarms,
        [str(name) for half in halves for name in half.records.column("patient_id").unique().to_pylist()],
        sum(len(threshold.duplicates) for threshold in thresholds),
    )


def _list_alarms(search: CopySearch, own: Threshold, other: Threshold, unseen: ImageSet) -> list[Pair]:
    """Return the alarms; ``other`` says which of the unseen images the reference holds twice."""
    twice = {pair.image_id for pair in other.duplicates}
    return [pair for pair in find_copies(search, own, unseen).copies if pair.image_id not in twice]


def bound_share(hits: float, count: float) -> str:
    """Return a share with its exact 95 % interval."""
    low = stats.beta.ppf(0.025, hits, count - hits + 1) if hits > 0 else 0.0
    high = stats.beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1.0
    return f"{hits / count:.4f} ({low:.4f} to {high:.4f})"


def measure_recall(images: ImageSet, splits: int, fill: int) -> None:
    """Print recall and false alarms over the splits."""
    found: list[Found] = []
    for seed in range(splits):
        started = time.perf_counter()
        one = run_split(images, seed, fill)
        found.append(one)
        worst = min(ALTERATIONS, key=lambda kind: one.recall[kind])
        print(
            f"split {seed}: thresholds {one.thresholds[0]:.3f} {one.thresholds[1]:.3f}   six alterations "
            f"{np.mean([one.recall[kind] for kind in ALTERATIONS]):.3f} (worst {worst} {one.recall[worst]:.2f})   "
            f"alarms {len(one.alarms)} of {one.images}, held twice {one.same}   {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        for pair in one.alarms:
            print(f"   alarm: {pair.image_id} like {pair.reference_image_id}, {pair.score:.3f}")
    for kind in found[0].recall:
        own = "" if kind in ALTERATIONS else "  (harder)" if kind in HARDER else "  (nearest pixel)"
        print(f"{kind:16s} {np.mean([one.recall[kind] for one in found]):.3f}{own}")
    draws = COPIED * splits
    recall = np.mean([[one.recall[kind] for kind in ALTERATIONS] for one in found])
    print(f"recall of the six {bound_share(float(recall) * draws, draws)} as if of {draws} images")
    total = sum(one.images for one in found)
    people = len({name for one in found for name in one.patients})
    alarms = sum(len(one.alarms) for one in found)
    print(
        f"false alarms {alarms} in {total} images: {bound_share(alarms / total * people, people)} of {people} patients"
    )


def draw_textures(count: int, seed: int) -> ImageSet:
    """Return made-up images: blends of individual clouds whose spectrum falls like that of pictures."""
    away = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    stored = np.empty((count, SIZE, SIZE), np.uint16)
    for number in range(count):
        rng = stream(seed, number, -1, "benchmark/textures")
        values = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIZE, SIZE))) / (away + 0.02) ** 1.8, s=(SIZE, SIZE))
        stored[number] = np.round((values - values.min()) / np.ptp(values) * 65535)
    empty = make_image_set("made-up", np.zeros((1, 1, 1)))
    names = [f"made-up-{seed}-{number}" for number in range(count)]
    table = empty.records.slice(0, 0).from_pylist([{"image_id": name, "patient_id": name} for name in names])
    return ImageSet("made-up", stored, table, ())


def measure_scale(count: int) -> None:
    """Print time and memory of a search of ``count`` images in ``count`` others."""
    train, images, unseen = (draw_textures(number, seed) for seed, number in enumerate((count, count, 500)))
    made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    search = make_copy_search(train.select(np.arange(64)))
    search.search(train.select(np.arange(8)))  # kernels are compiled
    started, processor = time.perf_counter(), time.process_time()
    search = make_copy_search(train)
    print(f"preparing {count} images: {time.perf_counter() - started:.0f} s", flush=True)
    threshold = calibrate_threshold(search, unseen)
    found = find_copies(search, threshold, images)
    print(
        f"{count} images in {count}, {SIZE} x {SIZE}, calibrated on 500: {time.perf_counter() - started:.0f} s, "
        f"{time.process_time() - processor:.0f} s of processor; memory {made:.2f} GB with all images, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB at most; {len(found.copies)} alarms, "
        f"threshold {threshold.value:.3f}"
    )


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", choices=("nih", "pneumonia", "scale"), default="nih")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--fill", type=int, default=5000)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.set == "scale":
        measure_scale(arguments.count)
        return
    images = {"nih": read_nih, "pneumonia": read_pneumonia}[arguments.set](arguments.data)
    print(f"{arguments.set}: {len(images)} images of {len(np.unique(images.patient))} patients, {images.shape}")
    measure_recall(images, arguments.splits, arguments.fill)


if __name__ == "__main__":
    main()
