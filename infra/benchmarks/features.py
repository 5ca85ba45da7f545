"""What features cost, and whether they know training patients better than others: real radiographs, split by patient.

    python infra/benchmarks/features.py [--set nih|pneumonia|volumes] [--features encoder,radiomics,pixels] [--fastrad]

For each kind of features: seconds of processor and of the clock to fit it, milliseconds an image to extract it, and the
Frechet distance and KID of validation against holdout patients beside those of as many training patients (20 draws).
A kind that remembers its training patients has a larger distance in the second column than in the first.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage
from PIL import Image

from synth.evaluation.images.features.base import compute_features
from synth.evaluation.images.features.radiomics import LEVELS, compute_radiomics
from synth.evaluation.images.features.registry import make_extractor
from synth.evaluation.images.layout import Form, Layout, bring_to_layout
from synth.evaluation.images.sets import RealImages, make_image_set
from synth.nouns import Attribute
from synth.seeds import stream

SPLITS = (("train", 0.7), ("validation", 0.15), ("holdout", 0.15))
DRAWS = 20
NIH = (
    Attribute("age_years", "integer", "years"), Attribute("sex", "categorical"), Attribute("view", "categorical"),
    Attribute("findings", "set"),
)  # fmt: skip


def split_patients(pixels: np.ndarray, columns: dict, schema: tuple[Attribute, ...], patients: list[str]) -> RealImages:
    """Return a reference whose patients are dealt to the splits."""
    names, of = np.unique(patients, return_inverse=True)
    cuts = (np.cumsum([share for _, share in SPLITS])[:-1] * len(names)).astype(int)
    part = np.empty(len(names), int)
    part[stream(0, -1, -1, "benchmark/split").permutation(len(names))] = np.searchsorted(
        cuts, np.arange(len(names)), side="right"
    )
    sides = []
    for number, (name, _) in enumerate(SPLITS):
        places = np.flatnonzero(part[of] == number)
        values = {key: [column[i] for i in places] for key, column in columns.items()}
        sides.append(make_image_set(name, pixels[places], values, schema, [patients[i] for i in places]))
    return RealImages("benchmark", "0" * 64, *sides, Layout(pixels.shape[1:], "absolute"))


def read_nih(folder: Path) -> RealImages:
    """Return the radiographs at 128 x 128."""
    table = pq.read_table(folder / "nih_cxr_sample.parquet")
    layout = Layout((128, 128), "absolute")
    pixels = []
    for png in table["png"].to_pylist():
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        pixels.append(bring_to_layout(picture, Form("yx", picture.shape, "uint8"), None, layout))
    columns = {attribute.name: table[attribute.name].to_pylist() for attribute in NIH}
    return split_patients(np.stack(pixels), columns, NIH, [str(p) for p in table["patient_id"].to_pylist()])


def read_pneumonia(folder: Path) -> RealImages:
    """Return the small paediatric radiographs, each its own patient."""
    with np.load(folder / "pneumoniamnist_28.npz", allow_pickle=False) as file:
        pixels = np.concatenate([file["train_images"], file["val_images"]]) / 255
        labels = np.concatenate([file["train_labels"], file["val_labels"]]).ravel()
    columns = {"pneumonia": ["yes" if label else "no" for label in labels]}
    schema = (Attribute("pneumonia", "categorical"),)
    return split_patients(pixels, columns, schema, [f"p{i}" for i in range(len(pixels))])


def draw_volumes(count: int = 160, side: int = 48) -> RealImages:
    """Return made-up heads: ellipsoids with a dark middle, whose size follows the attribute."""
    grid = (np.indices((side,) * 3) - (side - 1) / 2) / (side / 2)
    pixels, ages = [], []
    for number in range(count):
        rng = stream(number, -1, -1, "benchmark/volumes")
        ages.append(float(rng.uniform(20, 90)))
        away = np.sqrt(sum((axis / radius) ** 2 for axis, radius in zip(grid, rng.uniform(0.6, 0.85, 3), strict=True)))
        head = (away < 1) * (0.5 + 0.15 * np.cos(6 * away + rng.uniform(0, 6))) - 0.3 * (away < ages[-1] / 200)
        pixels.append(np.clip(head + rng.normal(0, 0.03, head.shape), 0, 1).astype(np.float32))
    schema = (Attribute("age_years", "continuous", "years"),)
    return split_patients(np.stack(pixels), {"age_years": ages}, schema, [f"p{i}" for i in range(count)])


def measure_frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance of Gaussians fitted to two sets of features."""
    means = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()
    return float(means + np.trace(one) + np.trace(other) - 2 * shared)


def measure_kid(first: np.ndarray, second: np.ndarray) -> float:
    """Return the unbiased squared MMD with the cubic kernel."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    own = [(kernel(a, a).sum() - np.trace(kernel(a, a))) / (len(a) * (len(a) - 1)) for a in (first, second)]
    return float(sum(own) - 2 * kernel(first, second).mean())


def measure_features(name: str, real: RealImages) -> None:
    """Print cost and distances of one kind of features."""
    clock, processor = time.perf_counter(), time.process_time()
    extractor = make_extractor(name, real)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    started = time.process_time()
    found = [compute_features(extractor, side).astype(float) for side in (real.train, real.validation, real.holdout)]
    each = (time.process_time() - started) / sum(map(len, found)) * 1000
    count = min(len(found[1]), len(found[2]))
    draws = []
    for draw in range(DRAWS):
        rng = stream(draw, -1, -1, "benchmark/draw")
        places = np.argsort(rng.random(real.train.patient.max() + 1)[real.train.patient], kind="stable")[:count]
        draws.append((measure_frechet(found[0][places], found[2]), measure_kid(found[0][places], found[2])))
    mean, spread = np.mean(draws, axis=0), np.std(draws, axis=0)
    print(
        f"{extractor.name:10s} {extractor.dimensions:4d} d   fit {processor:6.1f} s of processor, {clock:6.1f} s   "
        f"extract {each:6.2f} ms/image\n"
        f"   Frechet  validation-holdout {measure_frechet(found[1][:count], found[2]):7.3f}   "
        f"train-holdout {mean[0]:7.3f} (sd {spread[0]:.3f})\n"
        f"   KID      validation-holdout {measure_kid(found[1][:count], found[2]):7.4f}   "
        f"train-holdout {mean[1]:7.4f} (sd {spread[1]:.4f})",
        flush=True,
    )


def compare_with_fastrad(real: RealImages) -> None:
    """Print the processor time of the same feature classes here and by fastrad."""
    images = real.train.images(slice(0, 16))
    compute_radiomics(images[:1])
    started = time.process_time()
    compute_radiomics(images)
    ours = (time.process_time() - started) / len(images) * 1000
    classes = ["firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm"]
    extractor = FeatureExtractor(FeatureSettings(feature_classes=classes, bin_width=1 / LEVELS, device="cpu"))
    started = time.process_time()
    for image in images:
        tensor = torch.from_numpy(image.reshape(1, *image.shape) if image.ndim == 2 else image)
        extractor.extract(MedicalImage(tensor), Mask(torch.ones_like(tensor)))
    theirs = (time.process_time() - started) / len(images) * 1000
    print(f"radiomics  {ours:.2f} ms/image here, {theirs:.1f} by fastrad: {theirs / ours:.0f} times")


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", choices=("nih", "pneumonia", "volumes"), default="nih")
    parser.add_argument("--features", default="encoder,radiomics,pixels")
    parser.add_argument("--fastrad", action="store_true", help="time the same radiomics by fastrad")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    readers = {"nih": read_nih, "pneumonia": read_pneumonia}
    real = draw_volumes() if arguments.set == "volumes" else readers[arguments.set](arguments.data)
    print(
        f"{arguments.set}: {len(real.train)} + {len(real.validation)} + {len(real.holdout)} images, {real.train.shape}"
    )
    if arguments.fastrad:
        compare_with_fastrad(real)
    for name in arguments.features.split(","):
        measure_features(name, real)


if __name__ == "__main__":
    main()
