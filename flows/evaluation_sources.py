"""Where images to be judged come from: files of any tool, a cohort of the catalog, or a split of a reference.

Foreign files go through the adapters of ``cohortium import`` in their limited process; nothing of them is registered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from catalog import Catalog, Reference
from catalog.rows import read_attributes
from flows.import_feed import read_items, read_plan
from flows.imports import hash_source
from synth.errors import CatalogError, suggest_nearest
from synth.evaluation.images.layout import Form, NotComparableError
from synth.nouns import Attribute, AttributeKind, AttributeValue, ReferenceImage, RefusedItem
from synth.references.plan import Budget, Options, ReferencePlan
from synth.references.splits import DEFAULT_SHARES
from synth.seeds import COHORT_LEVEL, stream

REFERENCE = "reference:"
CONTRASTS = ("contrast", "kind")  # attributes of references and files that say what --kind says of cohorts
COHORT_ATTRIBUTES = (
    Attribute("age_years", "continuous", "years", "Age on the visit."),
    Attribute("sex", "categorical", "", "Sex, F or M."),
    Attribute("diagnosis", "categorical", "", "Diagnosis, or none."),
    Attribute("manufacturer", "categorical", "", "Maker of the scanner."),
    Attribute("manufacturer_model", "categorical", "", "Model of the scanner."),
    Attribute("field_strength_t", "continuous", "T", "Field strength of the scanner."),
)


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image before it is brought to the common form."""

    image_id: str
    patient_id: str
    attributes: Mapping[str, AttributeValue]
    pixels: NDArray[Any]
    form: Form
    affine: NDArray[np.float64] | None = None
    masks: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which images of a source are judged: of one ``kind`` (contrast) only, ``limit`` of them drawn by ``seed``."""

    kind: str | None = None
    limit: int | None = None
    seed: int = 0

    def draw(self, count: int) -> set[int] | None:
        """Return the places that are judged of ``count``, or None for all."""
        if self.limit is None or self.limit >= count:
            return None
        order = stream(self.seed, COHORT_LEVEL, COHORT_LEVEL, "evaluate/limit").permutation(count)
        return {int(place) for place in order[: self.limit]}


class Source(Protocol):
    """Images to be judged."""

    name: str
    sha256: str
    kind: str | None
    count: int
    schema: tuple[Attribute, ...]
    notes: tuple[str, ...]

    def read(self) -> Iterator[SourceImage | RefusedItem]:
        """Yield every image that is judged, and what of the source cannot be read; one image is in memory."""
        ...


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
            elif hits and _is_kind(item.attributes, self.kind):
                yield _from_reference_image(cast(ReferenceImage, item))
            if not left:
                return


@dataclass(frozen=True)
class CohortSource:
    """The images of one contrast of a registered cohort; a subject is a patient."""

    catalog: Catalog
    cohort_id: str
    kind: str
    sha256: str
    image_ids: Sequence[str]
    schema: tuple[Attribute, ...] = COHORT_ATTRIBUTES
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The id of the cohort."""
        return self.cohort_id

    @property
    def count(self) -> int:
        """Images that will be read."""
        return len(self.image_ids)

    def read(self) -> Iterator[SourceImage | RefusedItem]:
        """Yield the images, each verified against its SHA-256."""
        names = [attribute.name for attribute in self.schema]
        for image in self.catalog.images(self.image_ids):
            axes = "xyz" if image.pixels.ndim == 3 else "yx"
            form = Form(axes, image.pixels.shape, image.pixels.dtype.name, image.spacing_mm)
            known = {**image.row, **_read_own(image.row)}
            values = {name: known.get(name) for name in names}
            subject = image.row["subject_id"]
            yield SourceImage(image.image_id, subject, values, image.pixels, form, image.affine, image.masks)


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
        rows = [row for row in rows if _is_kind(row, self.kind)]
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
    path, cohorts = Path(images).expanduser(), _find_cohorts(catalog, images)
    if cohorts and path.exists():
        raise CatalogError(f"'{images}' is a cohort and a file or folder; write './{images}' for the latter, or an id.")
    if path.exists():
        return _open_files(path.resolve(), choice, options or Options(), budget or Budget())
    return _open_cohort(catalog, find_cohort(catalog, images), choice)


def find_cohort(catalog: Catalog, text: str) -> str:
    """Return the id of the cohort with that id or name; raises CatalogError if there is none, or more than one."""
    found = _find_cohorts(catalog, text)
    if len(found) > 1:
        raise CatalogError(f"{len(found)} cohorts are called '{text}': {', '.join(found)}. Give the id of one.")
    if not found:
        known = [str(value) for row in catalog.sql("SELECT cohort_id, name FROM cohorts").rows() for value in row]
        hint = suggest_nearest(text, known) or f" Cohorts: {', '.join(known[::2]) or 'none'}."
        raise CatalogError(f"there is no file, folder or cohort '{text}'.{hint}")
    return found[0]


def _find_cohorts(catalog: Catalog, text: str) -> list[str]:
    query = "SELECT cohort_id FROM cohorts WHERE cohort_id = $1 OR name = $1 ORDER BY created_at, cohort_id"
    return [str(row[0]) for row in catalog.sql(query, [text]).rows()]


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


def _open_cohort(catalog: Catalog, cohort_id: str, choice: Choice) -> CohortSource:
    query = "SELECT kind, count(*) FROM images WHERE cohort_id = ? GROUP BY kind ORDER BY kind"
    kinds = [str(row[0]) for row in catalog.sql(query, [cohort_id]).rows()]
    if choice.kind is None and len(kinds) > 1:
        raise NotComparableError(
            f"cohort '{cohort_id}' has images of {' and '.join(kinds)}; choose those that the reference has: --kind "
            f"{kinds[0]}"
        )
    kind = choice.kind or kinds[0]
    if kind not in kinds:
        raise NotComparableError(
            f"--kind {kind}: cohort '{cohort_id}' has {', '.join(kinds)}.{suggest_nearest(kind, kinds)}"
        )
    query = """
        SELECT image_id FROM images WHERE cohort_id = $1 AND kind = $2
        AND image_id NOT IN (SELECT image_id FROM image_pairs WHERE cohort_id = $1)  -- partners are a study's own
        ORDER BY image_id
    """
    ids = [str(row[0]) for row in catalog.sql(query, [cohort_id, kind]).rows()]
    chosen = choice.draw(len(ids))
    digest = catalog.sql("SELECT images_hash FROM cohorts WHERE cohort_id = ?", [cohort_id]).scalar()
    picked = [name for place, name in enumerate(ids) if chosen is None or place in chosen]
    return CohortSource(catalog, cohort_id, kind, str(digest), picked, _list_attributes(catalog, cohort_id))


def _list_attributes(catalog: Catalog, cohort_id: str) -> tuple[Attribute, ...]:
    """Return the attributes that subjects of a cohort have: columns that are not all empty, and their own."""
    query = """
        SELECT DISTINCT p.attributes_json AS subject_attributes_json, s.attributes_json
        FROM scans AS s JOIN subjects AS p ON p.subject_id = s.subject_id WHERE s.cohort_id = ?
    """
    own: dict[str, Attribute] = {}
    for row in catalog.sql(query, [cohort_id]).dicts():
        for name, value in _read_own(row).items():
            if value is not None and (name not in own or own[name].kind == "integer"):
                own[name] = Attribute(name, _find_kind(value))
    places = {"sex": "p.sex", "diagnosis": "p.diagnosis"}
    columns = ", ".join(f"count({places.get(a.name, f's.{a.name}')})" for a in COHORT_ATTRIBUTES)
    query = f"SELECT {columns} FROM scans AS s JOIN subjects AS p ON p.subject_id = s.subject_id WHERE s.cohort_id = ?"
    counts = next(iter(catalog.sql(query, [cohort_id]).rows()))
    known = {a.name: a for a, count in zip(COHORT_ATTRIBUTES, counts, strict=True) if count}
    for name in own.keys() & known.keys():
        own[name] = replace(own[name], unit=known[name].unit, description=known[name].description)
    return tuple({**known, **own}.values())


def _read_own(row: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Return the attributes in a row of an image that are no columns of the catalog."""
    return {**read_attributes(row["subject_attributes_json"]), **read_attributes(row["attributes_json"])}


def _find_kind(value: AttributeValue) -> AttributeKind:
    if isinstance(value, tuple):
        return "set"
    return "integer" if isinstance(value, int) else "continuous" if isinstance(value, float) else "categorical"


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


def peek(items: Iterator[SourceImage | RefusedItem]) -> tuple[Form | None, Iterable[SourceImage | RefusedItem]]:
    """Return the form of the first image, or None if no item can be read, and all items from the start."""
    seen: list[SourceImage | RefusedItem] = []
    for item in items:
        seen.append(item)
        if isinstance(item, SourceImage):
            return item.form, chain(seen, items)
    return None, seen


def read_form(row: Mapping[str, Any]) -> Form:
    """Return the form of an image of a reference from its row."""
    spacing = None if row["spacing_mm"] is None else tuple(row["spacing_mm"])
    return Form(row["axes"], tuple(row["shape"]), row["dtype"], spacing)


def read_affine(row: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the affine of an image of a reference from its row, (4, 4), or None if it is not known."""
    return None if row["affine"] is None else np.asarray(row["affine"], np.float64).reshape(4, 4)


def _is_kind(values: Mapping[str, Any], kind: str | None) -> bool:
    stated = [values[name] for name in CONTRASTS if values.get(name) is not None]
    return kind is None or not stated or kind.lower() in [str(value).lower() for value in stated]


def _from_reference_image(item: ReferenceImage) -> SourceImage:
    assert item.pixels is not None
    form = Form(item.axes, item.pixels.shape, item.pixels.dtype.name, item.spacing_mm)
    affine = None if item.affine is None else np.asarray(item.affine, np.float64).reshape(4, 4)
    return SourceImage(item.name, item.patient_id, item.attributes, item.pixels, form, affine)
