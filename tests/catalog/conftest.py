"""A tiny cohort made without any engine: everything follows from a seed, so that equal calls give equal images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog import CohortRow, Home, ShardRecord, commit_cohort, resolve_home, write_shard
from synth.nouns import GateResult, Image, Measurement, Report, Scan, ShardPlan, Subject, Visit

SHAPE = (6, 5, 4)
COHORT = "tiny-0123456789"
KINDS = ("T1w", "FLAIR")
PARAMETERS = {"te_ms": 0.1 + 0.2, "nested": [1, {"a": "ü"}]}


class Maker:
    """Makes subjects, images, plans, rows and reports of one cohort."""

    def __init__(self, cohort_id: str = COHORT, subjects: int = 4, shard_size: int = 2, shape=SHAPE) -> None:
        self.cohort_id, self.subjects, self.shard_size, self.shape = cohort_id, subjects, shard_size, shape

    def plans(self) -> list[ShardPlan]:
        starts = range(0, self.subjects, self.shard_size)
        return [
            ShardPlan(f"{self.cohort_id}-p{i:05d}", self.cohort_id, first, min(self.shard_size, self.subjects - first))
            for i, first in enumerate(starts)
        ]

    def subject(self, index: int) -> Subject:
        visits = tuple(
            Visit(v, 1.25 * v, 41.3 + 9 * index + 1.25 * v, 1200.5 - v, 20.25 + v, 0.5 * v)
            for v in range(1 + index % 2)
        )
        return Subject(
            f"{self.cohort_id}-s{index:07d}", self.cohort_id, index, visits[0].age_years, "FM"[index % 2],
            ("healthy", "ms")[index % 2], 1500.0 + index / 3, "Siemens", "Prisma", 3.0, 0.75 + index, visits,
        )  # fmt: skip

    def image(self, subject: Subject, visit: int, kind: str) -> Image:
        scan = Scan(
            f"{subject.subject_id}-v{visit}-{kind.lower()}", self.cohort_id, subject.subject_id, visit, kind, "toy",
            "1.0", subject.manufacturer, subject.manufacturer_model, 3.0, PARAMETERS,
        )  # fmt: skip
        generator = np.random.Generator(np.random.Philox(key=subject.subject_index * 10 + visit + 7 * len(kind)))
        pixels = generator.integers(0, 65536, self.shape, dtype=np.uint16)
        masks = {"tissue": (pixels % 4).astype(np.uint8), "lesion": (pixels > 60000).astype(np.uint8)}
        affine = np.diag([1.5, 2.0, 2.5, 1.0])
        measurements = (
            Measurement("snr", "1", 30.0, 30.0 + subject.subject_index, 2.0),
            Measurement("brain", "ml", 1200.0, 1201.0, 5.0),
        )
        return Image(
            f"{scan.scan_id}-0", scan, pixels, affine, (1.5, 2.0, 2.5), 0.125, "signal", masks, measurements
        )  # fmt: skip

    def images(self, plan: ShardPlan) -> Iterator[Image]:
        for subject in self.subjects_of(plan):
            for visit in subject.visits:
                yield from (self.image(subject, visit.visit, kind) for kind in KINDS)

    def subjects_of(self, plan: ShardPlan) -> list[Subject]:
        return [self.subject(i) for i in range(plan.first_subject, plan.first_subject + plan.subjects)]

    def write(self, home: Home, plan: ShardPlan) -> ShardRecord:
        return write_shard(home, plan, self.subjects_of(plan), self.images(plan))

    def row(self, records: list[ShardRecord]) -> CohortRow:
        images = sum(record.images for record in records)
        return CohortRow(
            self.cohort_id, "tiny", "a" * 64, "b" * 64, '{"name":"tiny"}', "toy", "1.0", "adult-brain", "1",
            self.subjects, images, {"numpy": "2"}, None,
        )  # fmt: skip

    def build(self, home: Home) -> list[ShardRecord]:
        records = [self.write(home, plan) for plan in self.plans()]
        commit_cohort(home, self.row(records), records)
        return records

    def report(self, passed: bool = True, **changes) -> Report:
        reason = "" if passed else "snr holds in 0.5 of the images, 0.95 are needed"
        gates = (GateResult("adherence.snr", 1.0 if passed else 0.5, 0.95, passed, reason),)
        return replace(Report(self.cohort_id, "a" * 64, {"snr": 0.5, "odd": float("nan")}, gates), **changes)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return resolve_home(tmp_path / "home")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with the tiny cohort, to be copied (a moved home keeps working) and never changed."""
    home = resolve_home(tmp_path_factory.mktemp("template") / "home")
    Maker().build(home)
    return home


@pytest.fixture
def built_home(template: Home, tmp_path: Path) -> Home:
    """A home of its own with the tiny cohort registered."""
    return resolve_home(shutil.copytree(template.root, tmp_path / "built"))


@pytest.fixture
def maker() -> Callable[..., Maker]:
    return Maker
