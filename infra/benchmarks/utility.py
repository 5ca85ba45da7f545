"""Utility scores on real radiographs: how good the real-only networks are, how long it takes, and three known outcomes.

    python infra/benchmarks/utility.py [--set nih] [--images others] [--preset full] [--count 2000]

``others`` are real patients who stand in for synthetic ones (half of the training patients), ``gaussian`` are draws of
a Gaussian per combination of view, sex and pneumonia in the space of 40 principal components, ``shuffled`` are those
with their records shuffled. Splits are by patient: 70 % train, 10 % validate, 20 % are held out.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from synth.evaluation.images.layout import Layout
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.evaluation.images.utility.measure import measure_utility
from synth.evaluation.images.utility.settings import UtilitySettings
from synth.nouns import Attribute
from synth.seeds import stream

SIZE = 128
COMPONENTS = 40
SPLIT = (0.7, 0.8)  # where validation and holdout begin


def read_chests(folder: Path) -> ImageSet:
    """Return the sample of ChestX-ray14 with view, sex and findings."""
    rows = pq.read_table(folder / "nih_cxr_sample.parquet").to_pylist()
    pictures = [Image.open(io.BytesIO(row["png"])).convert("L").resize((SIZE, SIZE)) for row in rows]
    schema = (Attribute("view", "categorical"), Attribute("sex", "categorical"), Attribute("findings", "set"))
    values = {attribute.name: [row[attribute.name] for row in rows] for attribute in schema}
    patients = [str(row["patient_id"]) for row in rows]
    return make_image_set("nih", np.stack(pictures) / 255.0, values, schema, patients)


def read_pneumonia(folder: Path) -> ImageSet:
    """Return PneumoniaMNIST, train and val together; each image counts as a patient."""
    with np.load(folder / "pneumoniamnist_28.npz", allow_pickle=False) as file:
        pixels = np.concatenate([file["train_images"], file["val_images"]]) / 255.0
        labels = np.concatenate([file["train_labels"], file["val_labels"]]).ravel()
    values = {"diagnosis": ["pneumonia" if label else "normal" for label in labels]}
    return make_image_set("pneumonia", pixels, values, (Attribute("diagnosis", "categorical"),))


def split_patients(images: ImageSet, seed: int) -> RealImages:
    """Return the images as a reference, split by patient."""
    place = stream(seed, -1, -1, "split").permutation(images.patient.max() + 1)[images.patient]
    share = place / (images.patient.max() + 1)
    parts = np.digitize(share, SPLIT)
    sides = [images.select(parts == part, name) for part, name in enumerate(("train", "validation", "holdout"))]
    return RealImages(images.name, "", *sides, Layout(images.shape, "absolute"))


def draw_gaussians(images: ImageSet, count: int, seed: int) -> ImageSet:
    """Return ``count`` draws of one Gaussian per combination of records, of as many principal components as fit."""
    rng = stream(seed, -1, -1, "gaussian")
    rows = images.records.drop(["image_id", "patient_id"]).to_pylist()
    if "findings" in images.records.column_names:
        rows = [{**row, "findings": [f for f in row["findings"] if f == "Pneumonia"]} for row in rows]
    names, codes = np.unique([str(row) for row in rows], return_inverse=True)
    pixels = images.images(slice(None)).reshape(len(images), -1)
    mean = pixels.mean(0)
    _, _, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    found, records = [], []
    for code in range(len(names)):
        members = np.flatnonzero(codes == code)
        number = round(count * len(members) / len(images))
        scores = (pixels[members] - mean) @ axes[:COMPONENTS].T
        spread = np.atleast_2d(np.cov(scores.T)) if len(members) > COMPONENTS else np.diag(scores.var(0))
        drawn = rng.multivariate_normal(scores.mean(0), spread, size=number)
        found.append(mean + drawn @ axes[:COMPONENTS])
        records += [rows[members[0]]] * number
    values = {attribute.name: [record[attribute.name] for record in records] for attribute in images.schema}
    return make_image_set("gaussian", np.concatenate(found).reshape(-1, *images.shape), values, images.schema)


def shuffle_records(images: ImageSet, seed: int) -> ImageSet:
    """Return the pixels with the records of other images."""
    order = stream(seed, -1, -1, "shuffle").permutation(len(images))
    records: Sequence[dict[str, Any]] = images.records.take(order).to_pylist()
    values = {attribute.name: [record[attribute.name] for record in records] for attribute in images.schema}
    return make_image_set("shuffled", images.images(slice(None)), values, images.schema)


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", choices=("nih", "pneumonia"), default="nih")
    parser.add_argument("--images", choices=("others", "gaussian", "shuffled"), default="gaussian")
    parser.add_argument("--preset", choices=("full", "quick"), default="full")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    real = split_patients(
        {"nih": read_chests, "pneumonia": read_pneumonia}[arguments.set](arguments.data), arguments.seed
    )
    if arguments.images == "others":
        half = real.train.patient % 2 == 0
        images = real.train.select(~half, "others")
        real = RealImages(real.name, "", real.train.select(half), real.validation, real.holdout, real.layout)
    else:
        images = draw_gaussians(real.train, arguments.count, arguments.seed)
        images = images if arguments.images == "gaussian" else shuffle_records(images, arguments.seed)
    settings = UtilitySettings.preset(arguments.preset)
    started, busy = time.perf_counter(), time.process_time()
    found = measure_utility(images, real, seed=arguments.seed, settings=settings)
    for score in found.scores:
        interval = f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]" if score.value is not None else "-"
        control = f"control {score.control:.3f}" if score.control is not None else ""
        print(f"{score.name:45s} {interval:24s} {control:14s} {score.reason}", flush=True)
    print(f"{len(real.train)} real, {len(images)} other and {len(real.holdout)} holdout images")
    print(f"{time.perf_counter() - started:.0f} s, of which {time.process_time() - busy:.0f} s of processor time")


if __name__ == "__main__":
    main()
