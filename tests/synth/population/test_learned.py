"""Learned populations in recipes: what is asked comes out, any slice by itself; what is not known is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.shelf import FolderShelf
from synth.errors import PopulationError
from synth.population import SHIPPED, find_population
from synth.population.model_files import fingerprint_model, load_model
from synth.spec import CohortSpec

CHEST = find_population("chest-radiographs")


def recipe(visits: int = 1, **population: Any) -> CohortSpec:
    people = {"source": "chest-radiographs", **population}
    return CohortSpec.model_validate(
        {"name": "t", "subjects": 400, "seed": 3, "population": people, "imaging": {"visits": {"count": visits}}}
    )


def test_conditions_and_shares_hold_on_the_first_visit() -> None:
    spec = recipe(
        visits=3,
        where={"view": ["PA"], "age_years": [20, 60], "findings": {"without": ["Hernia"]}},
        targets={"findings": {"Effusion": 0.5, "Mass": 0.2}, "sex": {"F": 0.8}, "age_years": {"40-60": 0.5}},
    )
    CHEST.check(spec)
    people = CHEST.draw_subjects(spec, "c", 0, 400)
    first = [{**one.attributes, **one.visits[0].attributes} for one in people]
    for name, share in (("Effusion", 0.5), ("Mass", 0.2)):
        assert np.mean([name in one["findings"] for one in first]) == pytest.approx(share, abs=1 / 400)
    assert np.mean([one["sex"] == "F" for one in first]) == pytest.approx(0.8, abs=1 / 400)
    assert np.mean([40 <= one["age_years"] < 60 for one in first]) == pytest.approx(0.5, abs=1 / 400)
    assert {one["view"] for one in first} == {"PA"}
    assert all(20 <= one["age_years"] <= 60 and "Hernia" not in one["findings"] for one in first)
    assert CHEST.expected_shares(spec)["findings"] == {"Effusion": 0.5, "Mass": 0.2}
    assert sum(one.design_weight for one in people) == pytest.approx(400)
    assert CHEST.count_visits(spec) == sum(len(one.visits) for one in people) > 400
    assert max(len(one.visits) for one in people) == 3
    for one in people:
        assert [visit.age_years for visit in one.visits] == sorted(visit.age_years or 0 for visit in one.visits)
        assert (one.sex, one.age_years) == (one.attributes["sex"], one.visits[0].attributes["age_years"])
        assert one.intracranial_ml is one.manufacturer is one.diagnosis is None
    assert CHEST.draw_subjects(spec, "c", 130, 150) == people[130:150]


@pytest.mark.parametrize(
    ("population", "words"),
    [
        ({"where": {"vew": ["PA"]}}, "no 'vew'. Did you mean 'view'"),
        ({"where": {"view": ["LL"]}}, "where.view: 'LL' is not known. Known: AP, PA"),
        ({"where": {"view": [1, 2]}}, "are no names; choose from AP, PA"),
        ({"where": {"view": {"all": ["PA"]}}}, "holds one value, not labels"),
        ({"where": {"findings": ["Efusion"]}}, "Did you mean 'Effusion'"),
        ({"where": {"age_years": [96, 99]}}, "nobody is between 96 and 99; the population has 0 to 95"),
        ({"where": {"diagnosis": ["none"]}}, "no 'diagnosis'.* It knows: age_years, sex, view, findings"),
        ({"targets": {"view": {"LL": 0.5}}}, "targets.view: 'LL' is not known"),
        ({"where": {"sex": ["F"]}, "targets": {"sex": {"M": 0.5}}}, "leaves nobody with it"),
        ({"prevalence": [{"diagnosis": "x", "share": 0.1}]}, "prevalence is for adult-brain"),
    ],
)
def test_what_cannot_be_had_is_named(population: dict[str, Any], words: str) -> None:
    with pytest.raises(PopulationError, match=words):
        CHEST.check(recipe(**population))


def test_follow_up_is_not_the_recipes_to_say() -> None:
    spec = CohortSpec.model_validate(
        {**recipe().model_dump(), "imaging": {"visits": {"count": 2, "interval_years": 2.0, "share": 0.5}}}
    )
    with pytest.raises(PopulationError, match="has learned who comes back and when"):
        CHEST.check(spec)


def test_a_pinned_model_is_found_by_its_hash_alone(tmp_path: Path) -> None:
    sha256 = fingerprint_model(load_model(SHIPPED / "chest-radiographs"))
    shutil.copytree(SHIPPED / "chest-radiographs", tmp_path / sha256)
    pinned = find_population(f"mine@sha256:{sha256}", FolderShelf(tmp_path))
    assert (pinned.name, pinned.version) == ("mine", sha256[:12])
    spec = recipe(source=f"mine@sha256:{sha256}", where={"view": ["AP"]})
    assert pinned.draw_subjects(spec, "c", 0, 5) == CHEST.draw_subjects(recipe(where={"view": ["AP"]}), "c", 0, 5)
    with pytest.raises(PopulationError, match="is not in"):
        find_population(f"mine@sha256:{'0' * 64}", FolderShelf(tmp_path)).check(spec)
    shutil.copytree(SHIPPED / "chest-radiographs", tmp_path / ("1" * 64))
    with pytest.raises(PopulationError, match="another model than its name says"):
        find_population(f"mine@sha256:{'1' * 64}", FolderShelf(tmp_path)).check(spec)
