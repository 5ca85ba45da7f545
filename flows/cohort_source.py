"""The images of a cohort of the catalog, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from catalog import Catalog
from catalog.rows import read_attributes
from flows.source_images import Choice, SourceImage
from synth.errors import CatalogError, suggest_nearest
from synth.evaluation.images.layout import Form, NotComparableError
from synth.nouns import Attribute, AttributeKind, AttributeValue, RefusedItem

COHORT_ATTRIBUTES = (
    Attribute("age_years", "continuous", "years", "Age on the visit."),
    Attribute("sex", "categorical", "", "Sex, F or M."),
    Attribute("diagnosis", "categorical", "", "Diagnosis, or none."),
    Attribute("manufacturer", "categorical", "", "Maker of the scanner."),
    Attribute("manufacturer_model", "categorical", "", "Model of the scanner."),
    Attribute("field_strength_t", "continuous", "T", "Field strength of the scanner."),
)


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


def find_cohort(catalog: Catalog, text: str) -> str:
    """Return the id of the cohort with that id or name; raises CatalogError if there is none, or more than one."""
    found = find_cohorts(catalog, text)
    if len(found) > 1:
        raise CatalogError(f"{len(found)} cohorts are called '{text}': {', '.join(found)}. Give the id of one.")
    if not found:
        known = [str(value) for row in catalog.sql("SELECT cohort_id, name FROM cohorts").rows() for value in row]
        hint = suggest_nearest(text, known) or f" Cohorts: {', '.join(known[::2]) or 'none'}."
        raise CatalogError(f"there is no file, folder or cohort '{text}'.{hint}")
    return found[0]


def find_cohorts(catalog: Catalog, text: str) -> list[str]:
    """Return the ids of the cohorts with that id or name, the oldest first."""
    query = "SELECT cohort_id FROM cohorts WHERE cohort_id = $1 OR name = $1 ORDER BY created_at, cohort_id"
    return [str(row[0]) for row in catalog.sql(query, [text]).rows()]


def open_cohort(catalog: Catalog, cohort_id: str, choice: Choice) -> CohortSource:
    """Return the images of a cohort; raises NotComparableError if it has none of the kind, or several kinds."""
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
