"""Subjects and images as rows of a shard, and rows back as scans, subjects and measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from catalog.codec import encode_array, hash_array
from catalog.cohort_tables import PIXELS
from catalog.columns import Table
from catalog.preview import draw_preview
from synth.errors import CatalogError
from synth.nouns import AttributeValue, GateResult, Image, Measurement, Scan, ShardPlan, Subject, Visit

_MEASUREMENT = pa.struct(
    [("name", pa.string()), ("unit", pa.string()), ("requested", pa.float64()), ("measured", pa.float64()),
     ("tolerance", pa.float64()), ("within", pa.bool_())]
)  # fmt: skip
_MASK = pa.struct([("name", pa.string()), ("dtype", pa.string()), ("sha256", pa.string()), ("data", pa.binary())])
_ARROW_TYPES: dict[str, Any] = {
    "VARCHAR": pa.string(), "INTEGER": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BLOB": pa.binary(),
    "INTEGER[]": pa.list_(pa.int32()), "DOUBLE[]": pa.list_(pa.float64()), "VARCHAR[]": pa.list_(pa.string()),
}  # fmt: skip
_NESTED = {"measurements": pa.list_(_MEASUREMENT), "masks": pa.list_(_MASK)}


def arrow_types(table: Table, nested: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the name and Arrow type of each column of ``table``; ``nested`` gives those of its nested columns."""
    return [(c.name, nested[c.name] if c.name in nested else _ARROW_TYPES[c.type]) for c in table.columns]


_FIELDS = [pa.field(name, kind) for name, kind in arrow_types(PIXELS, _NESTED)]
_ATTRIBUTES = ("subject_attributes_json", "attributes_json")
ATTRIBUTE_SCHEMA: Any = pa.schema(_FIELDS)
SHARD_SCHEMA: Any = pa.schema([one for one in _FIELDS if one.name not in _ATTRIBUTES])


def choose_schema(subjects: Iterable[Subject]) -> Any:
    """Return the schema of a shard of ``subjects``.

    Columns of attributes are left out where there are none, so that shards made before there were any keep their bytes.
    """
    known = any(subject.attributes or any(visit.attributes for visit in subject.visits) for subject in subjects)
    return ATTRIBUTE_SCHEMA if known else SHARD_SCHEMA


EncodedMasks = dict[int, tuple[NDArray[Any], dict[str, Any]]]  # by id; the mask is kept, so its id stays its own


def image_row(plan: ShardPlan, subject: Subject, image: Image, encoded: EncodedMasks) -> dict[str, Any]:
    """Return the shard's row of one image, without its place in the shard (row_group, row_in_group).

    ``encoded`` remembers masks, which the contrasts of one visit share. Raises CatalogError if the image does not
    belong to the subject or cannot be stored.
    """
    _check_image(plan, subject, image)
    masks = [{"name": name, **_encode_mask(mask, encoded)} for name, mask in sorted(image.masks.items())]
    return {
        "image_id": image.image_id,
        "shard_id": plan.shard_id,
        "pixels_sha256": hash_array(image.pixels),
        "status": "ok" if all(m.within for m in image.measurements) else "missed",
        "dtype": image.pixels.dtype.name,
        "shape": list(image.pixels.shape),
        "spacing_mm": None if image.spacing_mm is None else [float(mm) for mm in image.spacing_mm],
        "affine": None if image.affine is None else [float(value) for value in image.affine.ravel()],
        "intensity_scale": float(image.intensity_scale),
        "intensity_unit": image.intensity_unit,
        "mask_names": [mask["name"] for mask in masks],
        "mask_sha256": [mask["sha256"] for mask in masks],
        **_subject_columns(subject),
        **_visit_columns(_find_visit(subject, image.scan)),
        **_scan_columns(image.scan),
        "measurements": [_measurement_row(m) for m in image.measurements],
        "preview": draw_preview(image.image_id, image.pixels, image.spacing_mm),
        "pixels": encode_array(image.pixels),
        "masks": masks,
    }


def _encode_mask(mask: NDArray[Any], encoded: EncodedMasks) -> dict[str, Any]:
    if id(mask) not in encoded:
        row = {"dtype": mask.dtype.name, "sha256": hash_array(mask), "data": encode_array(mask)}
        encoded[id(mask)] = (mask, row)
    return encoded[id(mask)][1]


def _check_image(plan: ShardPlan, subject: Subject, image: Image) -> None:
    scan = image.scan
    if (scan.cohort_id, scan.subject_id) != (plan.cohort_id, subject.subject_id):
        raise CatalogError(f"image '{image.image_id}' is of subject '{scan.subject_id}' of cohort '{scan.cohort_id}', "
                           f"not of '{subject.subject_id}' of '{plan.cohort_id}'.")  # fmt: skip
    spaced = image.spacing_mm is None or len(image.spacing_mm) == image.pixels.ndim
    if image.pixels.size == 0 or not spaced or (image.affine is not None and image.affine.shape != (4, 4)):
        raise CatalogError(
            f"image '{image.image_id}' must have pixels, a spacing for each of its axes (or none) and a 4 x 4 affine "
            "(or none)."
        )
    for name, mask in image.masks.items():
        if mask.shape != image.pixels.shape:
            raise CatalogError(f"mask '{name}' of '{image.image_id}' has shape {mask.shape}, not {image.pixels.shape}.")


def _find_visit(subject: Subject, scan: Scan) -> Visit:
    for visit in subject.visits:
        if visit.visit == scan.visit:
            return visit
    raise CatalogError(
        f"scan '{scan.scan_id}' is of visit {scan.visit}, which subject '{subject.subject_id}' never had."
    )


def _subject_columns(subject: Subject) -> dict[str, Any]:
    return {
        "cohort_id": subject.cohort_id,
        "subject_id": subject.subject_id,
        "subject_index": subject.subject_index,
        "age_first_visit_years": subject.age_years,
        "sex": subject.sex,
        "diagnosis": subject.diagnosis,
        "intracranial_ml": subject.intracranial_ml,
        "design_weight": subject.design_weight,
        "visits": len(subject.visits),
        "subject_manufacturer": subject.manufacturer,
        "subject_manufacturer_model": subject.manufacturer_model,
        "subject_field_strength_t": subject.field_strength_t,
        "subject_attributes_json": _dump_attributes(subject.attributes),
    }


def _visit_columns(visit: Visit) -> dict[str, Any]:
    names = ("visit", "years_since_first", "age_years", "brain_ml", "ventricle_ml", "lesion_ml")
    return {**{name: getattr(visit, name) for name in names}, "attributes_json": _dump_attributes(visit.attributes)}


def _dump_attributes(values: Mapping[str, AttributeValue]) -> str | None:
    try:
        return dump_json(values) if values else None
    except (TypeError, ValueError) as error:
        raise CatalogError(f"attributes {dict(values)} must be text, finite numbers or tuples of text.") from error


def read_attributes(text: str | None) -> dict[str, AttributeValue]:
    """Return the attributes in a column attributes_json."""
    values: dict[str, Any] = json.loads(text) if text else {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _scan_columns(scan: Scan) -> dict[str, Any]:
    names = ("scan_id", "kind", "engine", "engine_version", "manufacturer", "manufacturer_model", "field_strength_t")
    return {**{name: getattr(scan, name) for name in names}, "parameters_json": _dump_parameters(scan)}


def _dump_parameters(scan: Scan) -> str:
    try:
        return dump_json(scan.parameters)
    except (TypeError, ValueError) as error:
        raise CatalogError(f"parameters of scan '{scan.scan_id}' must be plain JSON values: {error}.") from error


def dump_json(value: Mapping[str, Any]) -> str:
    """Return ``value`` as compact JSON with sorted keys; TypeError or ValueError if it is not plain JSON."""
    return json.dumps(dict(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _measurement_row(measurement: Measurement) -> dict[str, Any]:
    names = ("name", "unit", "requested", "measured", "tolerance", "within")
    return {name: getattr(measurement, name) for name in names}


def scan_from_row(row: Mapping[str, Any]) -> Scan:
    """Return the scan in a row that has the columns of the table ``scans``."""
    names = ("scan_id", "cohort_id", "subject_id", "visit", "kind", "engine", "engine_version", "manufacturer",
             "manufacturer_model", "field_strength_t")  # fmt: skip
    return Scan(**{name: row[name] for name in names}, parameters=json.loads(row["parameters_json"]))


def subject_from_rows(row: Mapping[str, Any], visits: list[dict[str, Any]]) -> Subject:
    """Return the subject in a row of ``subjects``, with ``visits``: mappings with the columns of ``scans``."""
    names = ("subject_id", "cohort_id", "subject_index", "age_years", "sex", "diagnosis", "intracranial_ml",
             "manufacturer", "manufacturer_model", "field_strength_t", "design_weight")  # fmt: skip
    return Subject(
        **{name: row[name] for name in names},
        visits=tuple(_visit_from_row(visit) for visit in visits),
        attributes=read_attributes(row["attributes_json"]),
    )


def _visit_from_row(row: Mapping[str, Any]) -> Visit:
    names = ("visit", "years_since_first", "age_years", "brain_ml", "ventricle_ml", "lesion_ml")
    return Visit(**{name: row[name] for name in names}, attributes=read_attributes(row["attributes_json"]))


def gate_from_row(row: Mapping[str, Any]) -> GateResult:
    """Return the gate in an element of ``reports.gates``; a missing number is NaN."""
    numbers = {name: math.nan if row[name] is None else float(row[name]) for name in ("value", "threshold")}
    return GateResult(gate=row["gate"], passed=row["passed"], reason=row["reason"], **numbers)


def measurement_from_row(row: Mapping[str, Any]) -> Measurement:
    """Return the measurement in a row that has the columns of the table ``measurements``; a missing value is NaN."""
    numbers = {name: math.nan if row[name] is None else row[name] for name in ("requested", "measured", "tolerance")}
    return Measurement(name=row["name"], unit=row["unit"], **numbers)
