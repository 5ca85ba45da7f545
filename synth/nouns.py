"""The words of Cohortium as types. Everything else passes these around; see docs/words.md.

All of them are frozen: a subject is drawn once, a scan's parameters are drawn once, and images follow from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Sex = Literal["F", "M"]
Status = Literal["released", "refused", "built"]
Split = Literal["train", "validation", "holdout"]
AttributeKind = Literal["categorical", "integer", "continuous", "set"]
AttributeValue = str | int | float | tuple[str, ...] | None  # None: missing


@dataclass(frozen=True, slots=True)
class Visit:
    """What a subject is like on one visit: the values its images are asked to show.

    None where the population does not know a value. ``attributes`` holds whatever else it knows of this visit by name.
    """

    visit: int
    years_since_first: float | None
    age_years: float | None
    brain_ml: float | None = None
    ventricle_ml: float | None = None
    lesion_ml: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """One digital person: everything drawn before any pixel. ``design_weight`` undoes deliberate oversampling.

    None where the population does not know a value. ``attributes`` holds, by name, whatever it knows of the subject
    that is the same on all visits; what may change is in those of the visits.
    """

    subject_id: str
    cohort_id: str
    subject_index: int
    age_years: float | None
    sex: str | None
    diagnosis: str | None
    intracranial_ml: float | None
    manufacturer: str | None
    manufacturer_model: str | None
    field_strength_t: float | None
    design_weight: float
    visits: tuple[Visit, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)

    def describe_visit(self, visit: Visit) -> dict[str, AttributeValue]:
        """Return all that is known of the subject on one visit, by attribute; of equal names the visit's counts."""
        known = {
            "sex": self.sex,
            "diagnosis": self.diagnosis,
            "intracranial_ml": self.intracranial_ml,
            "manufacturer": self.manufacturer,
            "manufacturer_model": self.manufacturer_model,
            "field_strength_t": self.field_strength_t,
            "age_years": visit.age_years,
            "brain_ml": visit.brain_ml,
            "ventricle_ml": visit.ventricle_ml,
            "lesion_ml": visit.lesion_ml,
        }
        return {n: v for n, v in known.items() if v is not None} | {**self.attributes, **visit.attributes}


@dataclass(frozen=True, slots=True)
class Scan:
    """One acquisition of a subject, with every drawn parameter; an image can be regenerated from it alone.

    ``parameters`` holds only JSON values (numbers, strings, lists, mappings).
    """

    scan_id: str
    cohort_id: str
    subject_id: str
    visit: int
    kind: str
    engine: str
    engine_version: str
    manufacturer: str | None
    manufacturer_model: str | None
    field_strength_t: float | None
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A quantity measured back from an image, beside what was requested. ``tolerance`` is absolute, in ``unit``."""

    name: str
    unit: str
    requested: float
    measured: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the measured value lies within the tolerance of the requested one (never true for NaN)."""
        return bool(abs(self.measured - self.requested) <= self.tolerance)


@dataclass(frozen=True, slots=True)
class Image:
    """Pixels, masks and geometry of one scan.

    ``pixels`` is uint16, C order, indexed (x, y, z) for volumes and (y, x) for pictures; stored value times
    ``intensity_scale`` is the signal in the engine's unit ``intensity_unit``. ``affine`` maps voxel indices to
    millimetres (RAS+); it and ``spacing_mm`` are None where the engine does not know them. ``masks`` are uint8 label
    maps of the same shape.
    """

    image_id: str
    scan: Scan
    pixels: NDArray[np.uint16]
    affine: NDArray[np.float64] | None
    spacing_mm: tuple[float, ...] | None
    intensity_scale: float
    intensity_unit: str
    masks: Mapping[str, NDArray[np.uint8]]
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """N consecutive subjects to be rendered together. ``shard_id`` names the content, so it names the file."""

    shard_id: str
    cohort_id: str
    first_subject: int
    subjects: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of real records: its kind, the unit of a number, and what its values are."""

    name: str
    kind: AttributeKind
    unit: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """One real image, or one real record without an image (``pixels`` is None). It is never released.

    ``item`` is its position in the source, ``name`` what the source calls it, ``order`` what sorts the visits of a
    patient. ``axes`` has one letter an axis: x, y, z in space (volumes are indexed (x, y, z), pictures (y, x)), c for
    colours. Stored value times ``intensity_scale`` is the signal. ``affine`` maps voxel indices to millimetres (RAS+);
    spacing and affine are None where the source does not know them.
    """

    item: int
    name: str
    patient_id: str
    split: Split
    attributes: Mapping[str, AttributeValue]
    order: float | None = None
    pixels: NDArray[Any] | None = None
    axes: str = ""
    spacing_mm: tuple[float, ...] | None = None
    affine: tuple[float, ...] | None = None
    intensity_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """One or more consecutive items of a source that were left out, and why."""

    item: int
    name: str
    reason: str
    items: int = 1


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate of a report: the value it looked at, the threshold, and a sentence that says how far it is off."""

    gate: str
    value: float
    threshold: float
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """The scorecard of a cohort. ``scores`` are flat numbers; ``gates`` decide the release."""

    cohort_id: str
    spec_hash: str
    scores: Mapping[str, float]
    gates: tuple[GateResult, ...] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether every gate holds."""
        return all(gate.passed for gate in self.gates)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the gates that do not hold."""
        return tuple(gate.reason for gate in self.gates if not gate.passed)
