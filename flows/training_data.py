"""The images of a Reference or a cohort on the grid of a training recipe, by split, streamed into files."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from catalog import Catalog
from catalog.home import explain_refusals
from flows.training_sources import TrainingSource, open_training_source
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
    """Return the images of the recipe's reference or cohort, written below ``folder``.

    Raises CatalogError or NotComparableError if there is no such thing with pixels, ModelError if its patients are
    not known, an attribute or mask is missing, or too many images cannot be used; StorageError if they do not fit on
    the disk.
    """
    source = open_training_source(catalog, spec)
    _check_source(source, spec)
    form = source.form
    layout = Layout(spec.shape, "absolute" if form.dtype == "uint8" else "relative")
    if len(form.spatial) != len(spec.shape):
        raise ModelError(
            f"shape: {list(spec.shape)} has {len(spec.shape)} axes, but the images of '{source.name}' are "
            f"{' x '.join(map(str, form.spatial))}; give {len(form.spatial)} numbers."
        )
    _check_space(folder, spec, source.count)
    with explain_refusals(folder):
        sets = {split: _write_split(source, spec, split, layout, folder, tell) for split in get_args(Split)}
    notes = [_describe_unusable(part, sets[part]) for part in sets if sets[part].unusable]
    for part in ("train", "validation"):
        usable, left_out = len(sets[part]), len(sets[part].unusable)
        if left_out > MOST_UNUSABLE * (usable + left_out) or not usable:
            raise ModelError(f"reference '{source.name}': {_describe_unusable(part, sets[part])}")
    return TrainingData(
        sets["train"], sets["validation"], sets["holdout"], source.name, source.fingerprint, source.licence,
        source.source, tuple(notes), layout,
    )  # fmt: skip


def _check_source(source: TrainingSource, spec: TrainSpec) -> None:
    if not source.patients_known and spec.patients == "known":
        raise ModelError(
            f"reference '{source.name}' does not say whose its images are, so training and validation may share "
            "patients. Import it again with --patient COLUMN or, if each image is of another patient, say so in the "
            "recipe: patients = 'images'."
        )
    known = [attribute.name for attribute in source.schema]
    for name in spec.attributes:
        if name not in known:
            raise ModelError(
                f"attributes: reference '{source.name}' has no '{name}'.{suggest_nearest(name, known)} It has: "
                f"{', '.join(known) or 'none'}."
            )


def _check_space(folder: Path, spec: TrainSpec, images: int) -> None:
    bytes_each = math.prod(spec.shape) * (2 if spec.labels is None else 3)
    needed, free = images * bytes_each, shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"the training images need about {needed / 1e9:.1f} GB for a while, but only {free / 1e9:.1f} GB are free "
            f"at '{folder}'. Free some space and run the command again."
        )


def _write_split(
    source: TrainingSource, spec: TrainSpec, split: Split, layout: Layout, folder: Path, tell: Tell
) -> ImageSet:
    mask = spec.labels.mask if spec.labels is not None else None
    with ImageWriter(folder / f"{split}.u16", split, layout, source.schema, mask) as writer:
        for done, image in enumerate(source.read(split), start=1):
            labels = image.masks.get(mask) if mask is not None else None
            own = (image.image_id, image.patient_id, image.attributes, image.pixels, image.form, image.affine, labels)
            writer.add(*own)
            tell(f"reading {split} images of {source.name}", done, source.count)
        return writer.finish()


def _describe_unusable(part: str, images: ImageSet) -> str:
    reasons = "; ".join(f"{one.name}: {one.reason.rstrip('.')}" for one in images.unusable[:SHOWN])
    more = f"; and {len(images.unusable) - SHOWN} more" if len(images.unusable) > SHOWN else ""
    of = len(images) + len(images.unusable)
    return f"{len(images.unusable)} of {of} {part} images cannot be used ({reasons or 'there is none'}{more})."
