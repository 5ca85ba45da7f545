"""The records that go in and out of the catalog, beside the nouns of synth.nouns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synth.nouns import Attribute, GateResult, Measurement, RefusedItem, Scan

Decision = Literal["released", "refused", "withdrawn"]


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One finished shard. ``path`` is relative to the home folder; ``sha256`` is over the whole file."""

    shard_id: str
    cohort_id: str
    path: str
    sha256: str
    bytes: int
    subjects: int
    images: int


@dataclass(frozen=True, slots=True)
class DamagedShard:
    """A shard whose file is missing or no longer has its SHA-256, and in which way."""

    shard_id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class CohortRow:
    """What is registered about a cohort; ``subjects`` and ``images`` are the planned counts, checked on commit."""

    cohort_id: str
    name: str
    spec_hash: str
    images_hash: str
    spec_json: str
    engine: str
    engine_version: str
    population: str
    population_version: str
    subjects: int
    images: int
    numeric_profile: Mapping[str, Any] = field(default_factory=dict)
    mlflow_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReferenceShard:
    """One finished shard of a reference: the items ``first_item`` to ``next_item`` of its source, without the last."""

    shard_id: str
    reference_id: str
    path: str
    sha256: str
    bytes: int
    first_item: int
    next_item: int
    images: int
    refused: tuple[RefusedItem, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """What is registered about a reference beside its images. ``request`` holds only JSON values."""

    reference_id: str
    name: str
    adapter: str
    source_file: str
    source_sha256: str
    request_hash: str
    request: Mapping[str, Any]
    attributes: tuple[Attribute, ...]
    items: int
    patients_known: bool
    has_pixels: bool
    notes: tuple[str, ...] = ()
    licence: str = "unknown"
    source: str = "unknown"


@dataclass(frozen=True, slots=True)
class ReferenceState:
    """How a reference is registered."""

    reference_id: str
    name: str
    fingerprint: str
    images: int
    patients: int
    splits: Mapping[str, int]
    refused: tuple[RefusedItem, ...]
    licence: str
    source: str
    notes: tuple[str, ...]
    snapshot_id: int


@dataclass(frozen=True, slots=True)
class StoredReferenceImage:
    """One real image, its pixels verified against their SHA-256. ``row`` is its row of ``reference_images``."""

    image_id: str
    pixels: NDArray[Any]
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScorecardRow:
    """A scorecard of images as plain values; ``cohort_id`` is None unless the images are a cohort's.

    ``report`` and ``request`` hold only JSON values; ``report`` has the lists ``metrics`` and ``copies``.
    ``images_sha256`` says which images, ``document`` where the pages are, relative to the home folder.
    """

    scorecard_id: str
    cohort_id: str | None
    images_name: str
    images_sha256: str
    images: int
    reference_id: str
    reference_fingerprint: str
    policy: str
    policy_hash: str
    gates: tuple[GateResult, ...]
    controls_valid: bool
    seed: int
    request: Mapping[str, Any]
    document: str
    report: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every control behaves and every gate holds."""
        return self.controls_valid and all(gate.passed for gate in self.gates)


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """The latest decision about a cohort, and the catalog snapshot that contains it."""

    release_id: str
    cohort_id: str
    report_id: str
    decision: Decision
    reasons: tuple[str, ...]
    decided_by: str
    snapshot_id: int
    policy_hash: str | None = None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image as stored: pixels and masks verified against their SHA-256.

    ``pixels`` times ``intensity_scale`` is the signal in ``intensity_unit``; ``affine`` maps voxel indices to
    millimetres (RAS+, 4 x 4); it and the spacing are None where they are not known. ``row`` is the image's row of the
    catalog joined with its scan and subject.
    """

    image_id: str
    pixels: NDArray[Any]
    masks: Mapping[str, NDArray[Any]]
    spacing_mm: tuple[float, ...] | None
    affine: NDArray[np.float64] | None
    intensity_scale: float
    intensity_unit: str
    scan: Scan
    measurements: tuple[Measurement, ...]
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """One shard of a running verification was hashed. ``damaged`` is None if it is sound."""

    checked: int
    shards: int
    bytes: int
    damaged: DamagedShard | None


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The outcome of a verification."""

    shards: int
    damaged: tuple[DamagedShard, ...]
