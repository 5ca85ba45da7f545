"""The images of a Reference on the grid of a training recipe, by split; streamed into files, as judging them does."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from catalog import Catalog, Reference
from catalog.home import explain_refusals
from flows.evaluation_sides import read_reference_form
from flows.evaluation_sources import open_reference, read_affine, read_form
from synth.errors import ModelError, StorageError, suggest_nearest
from synth.evaluation.images.features.base import Tell
from synth.evaluation.images.layout import Layout
from synth.evaluation.images.sets import ImageSet, ImageWriter
from synth.learned.recipe import TrainSpec
from synth.nouns import Split

SHOWN = 3  # reasons that an error lists
MOST_UNUSABLE = 0.2  # share of images that may be left out


@dataclass(frozen=True)
class TrainingData:
    """The three splits in one form, where they are from, and what a user should know about them."""

    train: ImageSet
    validation: ImageSet
    holdout: ImageSet
    reference: str
    fingerprint: str
    licence: str
    source: str
    notes: tuple[str, ...]
    layout: Layout


def read_training_data(catalog: Catalog, spec: TrainSpec, folder: Path, tell: Tell) -> TrainingData:
    """Return the images of the recipe's reference, written below ``folder``.

    Raises CatalogError or NotComparableError if there is no such reference with pixels, ModelError if its patients are
    not known, an attribute is missing, or too many images cannot be used; StorageError if they do not fit on the disk.
    """
    reference = open_reference(catalog, spec.reference)
    _check_reference(reference, spec)
    form = read_reference_form(catalog, reference)
    layout = Layout(spec.shape, "absolute" if form.dtype == "uint8" else "relative")
    if len(form.spatial) != len(spec.shape):
        raise ModelError(
            f"shape: {list(spec.shape)} has {len(spec.shape)} axes, but the images of '{reference.name}' are "
            f"{' x '.join(map(str, form.spatial))}; give {len(form.spatial)} numbers."
        )
    _check_space(folder, spec, int(reference.row["images"]))
    with explain_refusals(folder):
        sets = {split: _write_split(reference, split, layout, folder, tell) for split in get_args(Split)}
    notes = [_describe_unusable(part, sets[part]) for part in sets if sets[part].unusable]
    for part in ("train", "validation"):
        usable, left_out = len(sets[part]), len(sets[part].unusable)
        if left_out > MOST_UNUSABLE * (usable + left_out) or not usable:
            raise ModelError(f"reference '{reference.name}': {_describe_unusable(part, sets[part])}")
    return TrainingData(
        sets["train"], sets["validation"], sets["holdout"], reference.name, reference.fingerprint,
        str(reference.row["licence"] or "unknown"), str(reference.row["source"] or "unknown"), tuple(notes), layout,
    )  # fmt: skip


def _check_reference(reference: Reference, spec: TrainSpec) -> None:
    if not reference.row["patients_known"] and spec.patients == "known":
        raise ModelError(
            f"reference '{reference.name}' does not say whose its images are, so training and validation may share "
            "patients. Import it again with --patient COLUMN or, if each image is of another patient, say so in the "
            "recipe: patients = 'images'."
        )
    known = [attribute.name for attribute in reference.schema]
    for name in spec.attributes:
        if name not in known:
            raise ModelError(
                f"attributes: reference '{reference.name}' has no '{name}'.{suggest_nearest(name, known)} It has: "
                f"{', '.join(known) or 'none'}."
            )


def _check_space(folder: Path, spec: TrainSpec, images: int) -> None:
    needed, free = 2 * images * math.prod(spec.shape), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"the training images need about {needed / 1e9:.1f} GB for a while, but only {free / 1e9:.1f} GB are free "
            f"at '{folder}'. Free some space and run the command again."
        )


def _write_split(reference: Reference, split: Split, layout: Layout, folder: Path, tell: Tell) -> ImageSet:
    total, done = int(reference.row["images"]), 0
    rows = {row["image_id"]: row for row in reference.records(split).to_pylist()}
    with ImageWriter(folder / f"{split}.u16", split, layout, reference.schema) as writer:
        for image in reference.images(split):
            row = rows[image.image_id]
            writer.add(
                image.image_id, row["patient_id"], row, image.pixels, read_form(image.row), read_affine(image.row)
            )
            done += 1
            tell(f"reading {split} images of {reference.name}", done, total)
        return writer.finish()


def _describe_unusable(part: str, images: ImageSet) -> str:
    reasons = "; ".join(f"{one.name}: {one.reason.rstrip('.')}" for one in images.unusable[:SHOWN])
    more = f"; and {len(images.unusable) - SHOWN} more" if len(images.unusable) > SHOWN else ""
    of = len(images) + len(images.unusable)
    return f"{len(images.unusable)} of {of} {part} images cannot be used ({reasons or 'there is none'}{more})."
