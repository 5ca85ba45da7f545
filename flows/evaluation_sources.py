"""Where images to be judged come from: files of any tool, a cohort of the catalog, or a split of a reference.

Foreign files go through the adapters of ``cohortium import`` in their limited process; nothing of them is registered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from catalog import Catalog, Reference
from flows.cohort_source import find_cohort, find_cohorts, open_cohort
from flows.import_feed import read_items, read_plan
from flows.imports import hash_source
from flows.source_images import CONTRASTS, Choice, Source, SourceImage, is_kind, read_affine, read_form
from synth.errors import CatalogError
from synth.evaluation.images.layout import Form, NotComparableError
from synth.nouns import Attribute, ReferenceImage, RefusedItem
from synth.references.plan import Budget, Options, ReferencePlan
from synth.references.splits import DEFAULT_SHARES

REFERENCE = "reference:"


@dataclass(frozen=True)
class FileSource:
    """Images that any tool has left in a file or folder."""

    path: Path
    plan: ReferencePlan
    budget: Budget
    choice: Choice
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file or folder, without its path."""
        return self.path.name

    @property
    def kind(self) -> str | None:
        """The contrast that was asked for."""
        return self.choice.kind

    @property
    def count(self) -> int:
        """Images that will be read, before any is refused."""
        return self.plan.items if self.choice.limit is None else min(self.choice.limit, self.plan.items)

    @property
    def schema(self) -> tuple[Attribute, ...]:
        """The attributes that were recognised."""
        return tuple(attribute.to_attribute() for attribute in self.plan.attributes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the adapter says about the source."""
        return self.plan.notes

    def read(self) -> Iterator[SourceImage | RefusedItem]:
        """Yield the images; those that cannot be read are refused by name."""
        chosen = self.choice.draw(self.plan.items)
        left = self.count
        for item in read_items(self.path, self.plan, self.budget, 0, dict(DEFAULT_SHARES)):
            places = range(item.item, item.item + (item.items if isinstance(item, RefusedItem) else 1))
            hits = len(places) if chosen is None else sum(place in chosen for place in places)
            left -= hits
            if hits and isinstance(item, RefusedItem):
                yield RefusedItem(item.item, item.name, item.reason, hits)
            elif hits and is_kind(item.attributes, self.kind):
                yield _from_reference_image(cast(ReferenceImage, item))
            if not left:
                return


@dataclass(frozen=True)
class SplitSource:
    """The images of one split of a reference, or of all of it."""

    reference: Reference
    split: str | None
    choice: Choice = field(default_factory=Choice)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the reference, and the split."""
        return f"{REFERENCE}{self.reference.name}" + (f"/{self.split}" if self.split else "")

    @property
    def sha256(self) -> str:
        """The fingerprint of the reference's content."""
        return self.reference.fingerprint

    @property
    def kind(self) -> str | None:
        """The contrast that was asked for."""
        return self.choice.kind

    @property
    def schema(self) -> tuple[Attribute, ...]:
        """The attributes of the reference."""
        return self.reference.schema

    @property
    def count(self) -> int:
        """Images that will be read."""
        return len(self._pick())

    def read(self) -> Iterator[SourceImage | RefusedItem]:
        """Yield the images, each verified against its SHA-256."""
        picked = self._pick()
        for image in self.reference.images(self.split):
            row = picked.get(image.image_id)
            if row is not None:
                yield SourceImage(
                    image.image_id, row["patient_id"], row, image.pixels, read_form(image.row), read_affine(image.row)
                )

    def _pick(self) -> dict[str, dict[str, Any]]:
        """Return the records of the images that are judged, by id."""
        with_pixels = set(self.reference.image_ids(self.split))
        rows = [row for row in self.reference.records(self.split).to_pylist() if row["image_id"] in with_pixels]
        rows = [row for row in rows if is_kind(row, self.kind)]
        chosen = self.choice.draw(len(rows))
        return {row["image_id"]: row for place, row in enumerate(rows) if chosen is None or place in chosen}


def open_source(
    catalog: Catalog, images: str, choice: Choice, options: Options | None = None, budget: Budget | None = None
) -> Source:
    """Return the images called ``images``: a path, a cohort's id or name, or ``reference:NAME/SPLIT``.

    Raises CatalogError, ReferenceError or NotComparableError, saying what there is, if it names nothing with pixels.
    """
    if images.startswith(REFERENCE):
        return _open_split(catalog, images, choice)
    path, cohorts = Path(images).expanduser(), find_cohorts(catalog, images)
    if cohorts and path.exists():
        raise CatalogError(f"'{images}' is a cohort and a file or folder; write './{images}' for the latter, or an id.")
    if path.exists():
        return _open_files(path.resolve(), choice, options or Options(), budget or Budget())
    return open_cohort(catalog, find_cohort(catalog, images), choice)


def _open_files(path: Path, choice: Choice, options: Options, budget: Budget) -> FileSource:
    plan = read_plan(path, options, budget)
    if not plan.has_pixels:
        raise NotComparableError(
            f"'{path.name}' holds records without pictures ({plan.reason}). Name the column with the pictures or their "
            "files with --image, or give the folder they are in."
        )
    if choice.kind is not None and not any(attribute.name in CONTRASTS for attribute in plan.attributes):
        raise NotComparableError(f"--kind {choice.kind}: '{path.name}' does not say of which contrast its images are.")
    return FileSource(path, plan, budget, choice, hash_source(path, plan))


def _open_split(catalog: Catalog, images: str, choice: Choice) -> SplitSource:
    name, _, split = images.removeprefix(REFERENCE).partition("/")
    source = SplitSource(open_reference(catalog, name), split or None, choice)
    source.reference.image_ids(source.split)  # raises if there is no such split
    return source


def open_reference(catalog: Catalog, name: str) -> Reference:
    """Return a reference that has pixels; raises CatalogError or NotComparableError if there is none."""
    reference = catalog.reference(name.removeprefix(REFERENCE))
    if not reference.row["has_pixels"]:
        raise NotComparableError(
            f"reference '{reference.name}' holds records without images, so images cannot be compared with it. "
            "For records there is: cohortium population check MODEL TABLE"
        )
    return reference


def _from_reference_image(item: ReferenceImage) -> SourceImage:
    assert item.pixels is not None
    form = Form(item.axes, item.pixels.shape, item.pixels.dtype.name, item.spacing_mm)
    affine = None if item.affine is None else np.asarray(item.affine, np.float64).reshape(4, 4)
    return SourceImage(item.name, item.patient_id, item.attributes, item.pixels, form, affine)
