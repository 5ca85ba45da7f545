"""Plans: shards cut the subjects without gap or overlap, ids name what decides the images, counts are those drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import plan
from synth.engines import find_engine
from synth.engines.mri import MriEngine
from synth.errors import PopulationError, SpecError
from synth.plan import count_images, default_shard_subjects, name_cohort, plan_cohort
from synth.population import find_population
from synth.population.adult_brain import AdultBrain
from synth.recipe_part import MAX_NAME
from synth.spec import CohortSpec, load_spec

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "flows" / "specs").glob("*.toml"))
RECIPES = [path for path in SHIPPED if load_spec(path).imaging.model is None]  # others: tests/flows/test_learned_cohort


def spec_of(subjects: int = 50, **more: object) -> CohortSpec:
    return CohortSpec.model_validate({"name": "t", "subjects": subjects} | more)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 400))
def test_shards_partition_the_subjects(subjects: int, size: int) -> None:
    shards = plan_cohort(spec_of(subjects), size).shards
    covered = [n for shard in shards for n in range(shard.first_subject, shard.first_subject + shard.subjects)]
    assert covered == list(range(subjects))
    assert all(shard.subjects == size for shard in shards[:-1])
    assert len({shard.shard_id for shard in shards}) == len(shards)
    for shard in shards:
        assert shard.shard_id == f"{shard.cohort_id}-{shard.first_subject:07d}-{shard.subjects}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_number_of_images_is_that_of_the_drawn_visits(path: Path) -> None:
    spec = load_spec(path)
    cohort = plan_cohort(spec)
    subjects = find_population(spec.population.source).draw_subjects(spec, cohort.cohort_id, 0, spec.subjects)
    visits = sum(len(subject.visits) for subject in subjects)
    assert cohort.images == count_images(spec) == visits * len(spec.imaging.contrasts) * (1 + len(spec.imaging.pairs))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.5, 1.0])
@pytest.mark.parametrize("subjects", [1, 7, 40])
def test_every_share_of_follow_up_is_counted_right(share: float, subjects: int) -> None:
    spec = spec_of(subjects, imaging={"contrasts": ["T1w", "T2w"], "visits": {"count": 3, "share": share}})
    drawn = find_population("adult-brain").draw_subjects(spec, "t-0", 0, subjects)
    assert count_images(spec) == 2 * sum(len(subject.visits) for subject in drawn)


@pytest.mark.parametrize("name", ["a", "a" * MAX_NAME, "ms-rare"])
def test_cohort_ids_are_safe_file_names(name: str) -> None:
    cohort_id = name_cohort(CohortSpec(name=name, subjects=1))
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*-[0-9a-f]{10}", cohort_id)
    assert cohort_id.startswith(f"{name}-")
    assert len(cohort_id) <= MAX_NAME + 11


def test_the_id_follows_what_decides_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    before = name_cohort(spec)
    assert name_cohort(spec_of(gates={"adherence_min": 0.5}, description="x")) == before
    assert name_cohort(spec_of(seed=1)) != before
    with monkeypatch.context() as patch:
        patch.setattr(MriEngine, "version", "999")
        other_engine = name_cohort(spec)
        assert plan_cohort(spec).engine_version == "999"
    with monkeypatch.context() as patch:
        patch.setattr(AdultBrain, "version", "999")
        other_population = name_cohort(spec)
    assert len({before, other_engine, other_population}) == 3
    assert name_cohort(spec) == before


def test_the_shard_size_does_not_change_the_cohort() -> None:
    small, large = (plan_cohort(spec_of(), size) for size in (4, 32))
    assert small.cohort_id == large.cohort_id
    assert small.images == large.images


def test_the_default_shard_holds_about_its_bytes() -> None:
    for resolution_mm in (1.0, 2.0):
        for contrasts in (["T1w"], ["T1w", "T2w", "FLAIR"]):
            spec = spec_of(1000, imaging={"contrasts": contrasts, "resolution_mm": resolution_mm})
            size = default_shard_subjects(spec)
            each = find_engine("mri").image_bytes(spec) * len(contrasts)
            assert 1 <= size <= 64
            assert size == 1 or size * each <= plan.SHARD_BYTES < (size + 1) * each


def test_what_engine_or_population_cannot_give_is_refused() -> None:
    with pytest.raises(SpecError, match="engine 'xray' does not exist"):
        plan_cohort(spec_of(imaging={"engine": "xray"}))
    with pytest.raises(SpecError, match="Did you mean 'T1w'"):
        plan_cohort(spec_of(imaging={"contrasts": ["T1"]}))
    with pytest.raises(
        PopulationError, match=r"population\.source: .adult-brian. is not known\. Did you mean .adult-brain."
    ):
        plan_cohort(spec_of(population={"source": "adult-brian"}))
    with pytest.raises(PopulationError, match="multiple-sclerosis"):
        plan_cohort(spec_of(population={"where": {"diagnosis": ["multiple-sklerosis"]}}))
