"""From a CohortSpec to what will be built: the cohort's id, its shards and its number of images. Pure arithmetic."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from synth.engines import find_engine
from synth.nouns import ShardPlan
from synth.population import find_population
from synth.spec import CohortSpec

SHARD_BYTES = 32 << 20  # uncompressed pixels of a shard, which sets the default number of subjects in it


@dataclass(frozen=True, slots=True)
class CohortPlan:
    """A resolved recipe: checked against its population and engine, and cut into shards."""

    spec: CohortSpec
    cohort_id: str
    engine_version: str
    population_version: str
    images: int
    shards: tuple[ShardPlan, ...]


def name_cohort(spec: CohortSpec) -> str:
    """Return the cohort's id: the recipe's name and a hash of all that decides its images."""
    engine, population = find_engine(spec.imaging.engine), find_population(spec.population.source)
    content = f"{spec.images_hash}/{engine.name}/{engine.version}/{population.name}/{population.version}"
    return f"{spec.name}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def default_shard_subjects(spec: CohortSpec) -> int:
    """Return how many subjects make a shard of about SHARD_BYTES of pixels, between 1 and 64."""
    engine = find_engine(spec.imaging.engine)
    images_per_subject = count_images(spec) / spec.subjects
    return max(1, min(64, math.floor(SHARD_BYTES / (engine.image_bytes(spec) * images_per_subject))))


def count_images(spec: CohortSpec) -> int:
    """Return the number of images of the cohort: one per visit and contrast."""
    return find_population(spec.population.source).count_visits(spec) * len(spec.imaging.contrasts)


def plan_cohort(spec: CohortSpec, shard_subjects: int | None = None) -> CohortPlan:
    """Check ``spec`` and cut it into shards of ``shard_subjects`` consecutive subjects.

    Raises SpecError or PopulationError if the recipe asks for something that its engine or population cannot give.
    The shard size changes where images are stored, never what they are.
    """
    engine, population = find_engine(spec.imaging.engine), find_population(spec.population.source)
    engine.check(spec)
    population.check(spec)
    cohort_id = name_cohort(spec)
    size = shard_subjects or default_shard_subjects(spec)
    shards = tuple(
        _plan_shard(cohort_id, first, min(size, spec.subjects - first)) for first in range(0, spec.subjects, size)
    )
    return CohortPlan(spec, cohort_id, engine.version, population.version, count_images(spec), shards)


def _plan_shard(cohort_id: str, first: int, subjects: int) -> ShardPlan:
    return ShardPlan(f"{cohort_id}-{first:07d}-{subjects}", cohort_id, first, subjects)
