"""What a model may learn from: a Reference, or a cohort of the catalog with its masks, dealt out by subject.

A cohort is made-up, so it is good for a first training that a second one on real images follows, and its masks may
drive the images. No mask of real images is kept: a Reference has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import numpy as np

from catalog import Catalog
from flows.cohort_source import CohortSource, find_cohort
from flows.evaluation_sides import read_reference_form
from flows.evaluation_sources import open_reference, open_source
from flows.source_images import Choice, SourceImage, read_affine, read_form
from synth.errors import ModelError, suggest_nearest
from synth.evaluation.images.layout import Form
from synth.learned.recipe import TrainSpec
from synth.nouns import Attribute, Split
from synth.references.splits import DEFAULT_SHARES
from synth.seeds import COHORT_LEVEL, stream

COHORT = "cohort:"
MADE_UP = "made up by Cohortium"  # the licence of a cohort
LEAST_SUBJECTS = 6  # of a cohort, so that each split has one


@dataclass(frozen=True)
class TrainingSource:
    """Images by split, and what is known of all of them; ``name`` is what a recipe calls it.

    ``read`` yields the images of a split, each verified; one is in memory.
    """

    name: str
    fingerprint: str
    licence: str
    source: str
    schema: tuple[Attribute, ...]
    patients_known: bool
    count: int
    form: Form
    masks: tuple[str, ...]
    read: Callable[[Split], Iterator[SourceImage]]


def open_training_source(catalog: Catalog, spec: TrainSpec) -> TrainingSource:
    """Return what ``spec.reference`` names: a Reference, or a cohort by its id or name after ``cohort:``.

    Raises CatalogError or NotComparableError if there is none with pixels, ModelError if a cohort has other contrasts
    than ``spec.kind`` or too few subjects, or if the mask that the recipe names is missing.
    """
    if spec.reference.startswith(COHORT):
        found = _open_cohort(catalog, find_cohort(catalog, spec.reference.removeprefix(COHORT)), spec)
    else:
        found = _open_reference(catalog, spec.reference)
    if spec.labels is not None and spec.labels.mask not in found.masks:
        raise ModelError(
            f"labels.mask: '{found.name}' has no mask '{spec.labels.mask}'; it has {', '.join(found.masks) or 'none'}."
            f"{suggest_nearest(spec.labels.mask, found.masks)} Masks are learned from cohorts: reference = "
            f"'{COHORT}NAME'."
        )
    return found


def _open_reference(catalog: Catalog, name: str) -> TrainingSource:
    reference = open_reference(catalog, name)
    row = reference.row

    def read(split: Split) -> Iterator[SourceImage]:
        rows = {one["image_id"]: one for one in reference.records(split).to_pylist()}
        for image in reference.images(split):
            own = rows[image.image_id]
            form = read_form(image.row)
            yield SourceImage(image.image_id, own["patient_id"], own, image.pixels, form, read_affine(image.row))

    return TrainingSource(
        reference.name, reference.fingerprint, str(row["licence"] or "unknown"), str(row["source"] or "unknown"),
        reference.schema, bool(row["patients_known"]), int(row["images"]), read_reference_form(catalog, reference), (),
        read,
    )  # fmt: skip


def _open_cohort(catalog: Catalog, cohort_id: str, spec: TrainSpec) -> TrainingSource:
    query = "SELECT DISTINCT kind FROM images WHERE cohort_id = ? ORDER BY kind"
    kinds = [str(row[0]) for row in catalog.sql(query, [cohort_id]).rows()]
    if spec.kind not in kinds:
        raise ModelError(
            f"kind: cohort '{cohort_id}' has images of {', '.join(kinds)}, not of '{spec.kind}'."
            f"{suggest_nearest(spec.kind, kinds)}"
        )
    cohort = cast(CohortSource, open_source(catalog, cohort_id, Choice(spec.kind)))
    query = """SELECT image_id, subject_id, dtype, shape, spacing_mm, mask_names, mask_sha256, pixels_sha256 FROM images
               WHERE cohort_id = $1 AND kind = $2
               AND image_id NOT IN (SELECT image_id FROM image_pairs WHERE cohort_id = $1) ORDER BY image_id"""
    rows = catalog.sql(query, [cohort_id, spec.kind]).dicts()
    masks = set(rows[0]["mask_names"]).intersection(*(row["mask_names"] for row in rows))
    splits = _deal_out(cohort_id, rows)

    def read(split: Split) -> Iterator[SourceImage]:
        for item in replace(cohort, image_ids=splits[split]).read():
            yield cast(SourceImage, item)  # nothing of a cohort is refused

    engine = catalog.sql("SELECT engine, engine_version FROM cohorts WHERE cohort_id = ?", [cohort_id]).dicts()[0]
    source = f"cohort {cohort_id} of engine {engine['engine']} {engine['engine_version']}"
    return TrainingSource(
        f"{COHORT}{cohort_id}", _fingerprint(rows), MADE_UP, source, cohort.schema, True, len(rows),
        _find_form(rows[0]), tuple(sorted(masks)), read,
    )  # fmt: skip


def _fingerprint(rows: list[dict[str, Any]]) -> str:
    """Return the SHA-256 of the images' names, pixels and masks."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr([row["image_id"], row["pixels_sha256"], row["mask_names"], row["mask_sha256"]]).encode())
    return digest.hexdigest()


def _find_form(row: Mapping[str, Any]) -> Form:
    shape, spacing = tuple(row["shape"]), row["spacing_mm"]
    return Form("xyz" if len(shape) == 3 else "yx", shape, row["dtype"], tuple(spacing) if spacing else None)


def _deal_out(cohort_id: str, rows: list[dict[str, Any]]) -> dict[Split, tuple[str, ...]]:
    """Return the images of each split: subjects are shuffled and cut at the shares of an import."""
    subjects = sorted({str(row["subject_id"]) for row in rows})
    if len(subjects) < LEAST_SUBJECTS:
        raise ModelError(
            f"cohort '{cohort_id}' has {len(subjects)} subjects; {LEAST_SUBJECTS} are the least to learn from."
        )
    order = stream(0, COHORT_LEVEL, COHORT_LEVEL, "train/cohort").permutation(len(subjects))
    edges = np.round(np.cumsum(list(DEFAULT_SHARES.values())) * len(subjects)).astype(int)
    place = {subjects[who]: int(np.searchsorted(edges, rank, side="right")) for rank, who in enumerate(order)}
    return {
        split: tuple(str(row["image_id"]) for row in rows if place[str(row["subject_id"])] == number)
        for number, split in enumerate(get_args(Split))
    }
