"""What a worker does: subjects -> scans -> images -> one shard on disk. Nothing heavy is imported beyond the engine."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from catalog.home import Home
from catalog.records import ShardRecord
from catalog.shards import write_shard
from flows.shelf import FolderShelf
from synth.engines import find_engine
from synth.nouns import Image, Scan, ShardPlan, Subject
from synth.population import find_population
from synth.spec import CohortSpec


@functools.cache
def parse_spec_json(spec_json: str) -> CohortSpec:
    """Return the spec in ``spec_json``; parsed once per process."""
    return CohortSpec.model_validate_json(spec_json)


def warm_up(spec_json: str, home: Home | None = None) -> None:
    """Get a fresh worker ready for a recipe: anatomy or model loaded, kernels compiled."""
    spec = parse_spec_json(spec_json)
    find_engine(spec.imaging.engine, home and FolderShelf(home.models)).warm_up(spec)


def render_images(spec: CohortSpec, subjects: list[Subject], home: Home | None = None) -> Iterator[Image]:
    """Yield every image of ``subjects``, subject by subject, with its measurements."""
    engine = find_engine(spec.imaging.engine, home and FolderShelf(home.models))
    size, waiting = engine.batch(spec), list[Scan]()
    for subject in subjects:
        waiting += engine.draw_scans(spec, subject)
        whole = len(waiting) - len(waiting) % size
        yield from engine.render(waiting[:whole])
        del waiting[:whole]
    yield from engine.render(waiting)


def render_shard(home: Home, spec_json: str, plan: ShardPlan) -> ShardRecord:
    """Render the shard of ``plan`` and write it below ``home``; returns its record."""
    spec = parse_spec_json(spec_json)
    population = find_population(spec.population.source, FolderShelf(home.models))
    stop = plan.first_subject + plan.subjects
    subjects = population.draw_subjects(spec, plan.cohort_id, plan.first_subject, stop)
    return write_shard(home, plan, subjects, render_images(spec, subjects, home))
