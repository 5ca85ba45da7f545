"""Plans of the adult-brain population: bands, prevalences and weights together, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synth.errors import PopulationError
from synth.population import find_population
from synth.population.conditioning import effective_sample_size
from synth.population.prevalence import AGES_YEARS, source_table
from synth.population.recipe import make_plan
from synth.spec import CohortSpec


def make_spec(subjects: int, **population: Any) -> CohortSpec:
    return CohortSpec.model_validate({"name": "t", "subjects": subjects, "seed": 3, "population": population})


YOUNG_WOMEN = {
    "diagnosis": "multiple-sclerosis",
    "share": 0.12,
    "where": {"sex": ["F"], "age_years": [20, 40]},
}
ASKED = {
    "targets": {"sex": {"F": 0.6}, "diagnosis": {"multiple-sclerosis": 0.2}, "age_years": {"20-40": 0.5}},
    "prevalence": [YOUNG_WOMEN],
}


def test_age_bands_and_conditional_prevalences_are_met_together() -> None:
    spec = make_spec(500, **ASKED)
    adult = find_population("adult-brain")
    adult.check(spec)
    drawn = adult.draw_subjects(spec, "c", 0, 500)
    women = [s for s in drawn if s.sex == "F"]
    young = [s for s in women if 20 <= s.age_years < 40]
    assert abs(len(women) - 300) <= 0.5
    assert abs(sum(20 <= s.age_years < 40 for s in drawn) - 250) <= 0.5
    assert abs(sum(s.diagnosis == "multiple-sclerosis" for s in drawn) - 100) <= 0.5
    assert abs(sum(s.diagnosis == "multiple-sclerosis" for s in young) - 0.12 * len(young)) <= 0.5
    shares = adult.expected_shares(spec)
    assert shares["age_years"] == {"20-40": 0.5}
    assert shares["prevalence"] == {"multiple-sclerosis where sex F, age_years 20-40": 0.12}
    assert sum(shares["sex"].values()) == pytest.approx(1, abs=1e-9)


def test_weighted_prevalence_of_a_plan_is_that_of_the_source() -> None:
    """MS among young women, asked for some 40 times its natural share, comes back within its 95 % interval."""
    drawn = find_population("adult-brain").draw_subjects(make_spec(2000, **ASKED), "c", 0, 2000)
    weights = np.array([s.design_weight for s in drawn])
    ill = np.array([s.diagnosis == "multiple-sclerosis" for s in drawn])
    source, young = source_table(), (AGES_YEARS >= 20) & (AGES_YEARS < 40)
    inside = np.array([s.sex == "F" and 20 <= s.age_years < 40 for s in drawn])
    for mask, truth in (
        (np.ones(2000, bool), source[:, 1].sum()),
        (inside, source[0, 1, young].sum() / source[0][:, young].sum()),
    ):
        found = weights[mask] @ ill[mask] / weights[mask].sum()
        size = effective_sample_size(weights[mask], np.ones(int(mask.sum())))
        assert abs(found - truth) <= 1.96 * np.sqrt(truth * (1 - truth) / size)
        assert found == pytest.approx(truth, rel=1e-3)  # the counts themselves are balanced, so far nearer than that
        assert ill[mask].mean() > 10 * truth


def test_the_plan_says_how_much_the_weights_cost() -> None:
    plan, natural = make_plan(make_spec(1000, **ASKED)), make_plan(make_spec(1000))
    assert plan.design_weight @ plan.counts == pytest.approx(1000, abs=1e-6)
    assert effective_sample_size(natural.design_weight, natural.counts) == pytest.approx(1000)
    assert 300 < effective_sample_size(plan.design_weight, plan.counts) < 900


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"targets": {"age_years": {"10-20": 0.5}}}, "targets.age_years: [10, 20] is outside the modelled ages"),
    ({"prevalence": [{"diagnosis": "MS", "share": 0.1}]}, "prevalence.diagnosis: 'MS' is not known. Did you mean"),
    ({"prevalence": [{**YOUNG_WOMEN, "where": {"sex": ["female"]}}]}, "Did you mean 'F'?"),
    ({"where": {"sex": ["M"]}, "prevalence": [YOUNG_WOMEN]},
     "prevalence multiple-sclerosis = 0.12 where sex F, age_years 20-40: the population has nobody in that stratum"),
    ({"targets": {"diagnosis": {"multiple-sclerosis": 0.01}},
      "prevalence": [{"diagnosis": "multiple-sclerosis", "share": 0.2}]},
     "targets.diagnosis.multiple-sclerosis = 0.01; prevalence multiple-sclerosis = 0.2"),
    ({"targets": {"sex": {"F": 0.5}, "age_years": {"20-40": 0.9}, "diagnosis": {"alzheimer-disease": 0.3}}},
     "leaves: targets.diagnosis.alzheimer-disease = 0.3; targets.age_years.20-40 = 0.9. Relax or drop"),
    ({"where": {"age_years": [18, 22]}, "prevalence": [YOUNG_WOMEN]}, ""),
    ({"targets": {"age_years": {"85-95": 0.001}}}, "targets.age_years.85-95 = 0.001: a share of 0.001 of 40 subjects"),
    ({"prevalence": [{**YOUNG_WOMEN, "share": 0.02}]}, "subjects in its stratum is no subject. Ask for a larger share"),
]  # fmt: skip


@pytest.mark.parametrize(("population", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_impossible_recipes_are_refused_with_a_reason(population: dict[str, Any], words: str) -> None:
    spec = make_spec(40, **population)
    if not words:
        find_population("adult-brain").check(spec)
        return
    with pytest.raises(PopulationError) as caught:
        find_population("adult-brain").check(spec)
    assert words in str(caught.value)
