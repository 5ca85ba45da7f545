"""Counterfactual twins: what they share with their originals bit for bit, and what the change makes of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.errors import PopulationError, SpecError
from synth.nouns import Image, Subject
from synth.physics.grid import LABELS
from synth.population import find_population
from synth.population.volumes import INTRACRANIAL_ML
from synth.spec import CohortSpec, parse_spec

ENGINE = MriEngine()
MS = {"where": {"diagnosis": ["multiple-sclerosis"]}}


def spec_of(population: dict[str, Any], twins: dict[str, Any] | None = None, **imaging: Any) -> CohortSpec:
    asked = {"contrasts": ["T1w"], "resolution_mm": 3.0, **imaging}
    who = population if twins is None else {**population, "twins": twins}
    return CohortSpec.model_validate({"name": "t", "subjects": 6, "seed": 9, "population": who, "imaging": asked})


def draw(spec: CohortSpec) -> list[Subject]:
    population = find_population("adult-brain")
    population.check(spec)
    return population.draw_subjects(spec, "t-0", 0, spec.subjects)


def both(population: dict[str, Any], twins: dict[str, Any]) -> list[tuple[Subject, Subject]]:
    return list(zip(draw(spec_of(population)), draw(spec_of(population, twins)), strict=True))


def render(population: dict[str, Any], twins: dict[str, Any] | None, **imaging: Any) -> list[Image]:
    spec = spec_of(population, twins, **imaging)
    return ENGINE.render(ENGINE.draw_scans(spec, draw(spec)[0]))


def test_without_lesions_all_but_lesions_is_the_same_to_the_bit_noise_included() -> None:
    clean = {"pairs": ["noise-free"]}
    originals, twins = (render(MS, change, **clean) for change in (None, {"diagnosis": "none"}))
    lesions, tissue = originals[0].masks["lesion"] > 0, originals[0].masks["tissue"]
    assert lesions.sum() > 50
    for original, twin in zip(originals, twins, strict=True):
        assert not twin.masks["lesion"].any()
        np.testing.assert_array_equal(twin.masks["tissue"], tissue)
        rows = original.scan.parameters, twin.scan.parameters
        assert [row["solution"] for row in rows] == [rows[0]["solution"]] * 2
        assert "diseases" not in rows[1]
        differs = original.pixels != twin.pixels
        assert differs[lesions].mean() > 0.9
        near = ndimage.binary_dilation(lesions, iterations=2)
        white = ndimage.binary_dilation(tissue == LABELS["white_matter"], iterations=3)
        assert not differs[~white].any()  # lesions replace white matter, blades too thin for a label included
        assert differs[~near].sum() < 0.1 * differs.sum()  # lesions too small for the mask
    same = originals[1].pixels == twins[1].pixels  # without noise; where the anatomy is the same, so is the noise
    assert same.mean() > 0.9
    changed = originals[0].pixels[same].astype(int) - twins[0].pixels[same]
    assert np.abs(changed).max() <= 1  # a signal that differs by less than is stored


def test_who_has_no_disease_is_their_own_twin() -> None:
    healthy = {"where": {"diagnosis": ["none"]}}
    for original, twin in both(healthy, {"diagnosis": "none"}):
        assert twin == original


def test_another_scanner_sees_the_same_head() -> None:
    at_3t = {**MS, "where": {**MS["where"], "field_strength_t": [3.0]}}
    [original], [twin] = (render(at_3t, change) for change in (None, {"field_strength_t": 1.5}))
    for name in original.masks:
        np.testing.assert_array_equal(twin.masks[name], original.masks[name])
    assert (original.scan.field_strength_t, twin.scan.field_strength_t) == (3.0, 1.5)
    own = {"relaxation", "protocol", "snr"}
    same = [{k: v for k, v in one.scan.parameters.items() if k not in own} for one in (original, twin)]
    assert same[0] == same[1]
    inside = original.masks["tissue"] > 0
    assert (original.pixels != twin.pixels)[inside].mean() > 0.7
    [(person, other), *_] = both(at_3t, {"field_strength_t": 1.5})
    assert other.attributes["original_field_strength_t"] == 3.0
    assert other.visits == person.visits


def test_another_sex_is_as_unusual_as_its_original() -> None:
    for original, twin in both(MS, {"sex": "other"}):
        assert {original.sex, twin.sex} == {"F", "M"}
        assert twin.attributes["original_sex"] == original.sex
        assert (twin.age_years, twin.diagnosis, twin.design_weight) == (
            original.age_years, original.diagnosis, original.design_weight,
        )  # fmt: skip
        unusual = []
        for person in (original, twin):
            mean, spread = INTRACRANIAL_ML[person.sex or ""]
            unusual.append(((person.intracranial_ml or 0) - mean) / spread)
        assert unusual[0] == pytest.approx(unusual[1])


def test_without_dementia_the_same_brain_has_not_shrunk() -> None:
    ill = {"where": {"diagnosis": ["alzheimer-disease"], "age_years": [66, 88]}}
    for original, twin in both(ill, {"diagnosis": "none"}):
        assert (twin.diagnosis, twin.attributes["original_diagnosis"]) == ("none", "alzheimer-disease")
        assert twin.intracranial_ml == original.intracranial_ml
        before, now = original.visits[0], twin.visits[0]
        assert (now.brain_ml or 0) > (before.brain_ml or 0)
        assert (now.ventricle_ml or 0) < (before.ventricle_ml or 0)


def test_expected_shares_are_those_of_the_twins() -> None:
    population = find_population("adult-brain")
    targets = {"targets": {"sex": {"F": 0.7}, "diagnosis": {"multiple-sclerosis": 0.5}}}
    shares = population.expected_shares(spec_of(targets, {"sex": "other", "diagnosis": "none"}))
    assert shares["sex"]["M"] == pytest.approx(population.expected_shares(spec_of(targets))["sex"]["F"])
    assert shares["diagnosis"]["none"] == 1.0
    assert sum(shares["diagnosis"].values()) == 1.0


def test_impossible_twins_are_refused() -> None:
    with pytest.raises(
        PopulationError, match=r"population\.twins\.manufacturer: 'Siemans' is not known. Did you mean 'Siemens'"
    ):
        draw(spec_of({}, {"manufacturer": "Siemans"}))
    with pytest.raises(PopulationError, match=r"population\.twins\.field_strength_t: no scanner .* has 12 T"):
        draw(spec_of({}, {"field_strength_t": 12.0}))
    with pytest.raises(PopulationError, match=r"1\.5 T would change nothing, as imaging\.field_strength_t .* at 3 T"):
        draw(spec_of({}, {"field_strength_t": 1.5}, field_strength_t=3.0))
    head = 'name = "t"\nsubjects = 1\n[population]\n'
    with pytest.raises(SpecError, match="twins differ in something: give one of diagnosis, sex"):
        parse_spec(head + "twins = {}")
    with pytest.raises(SpecError, match="only 'adult-brain' has them here"):
        parse_spec(head + 'source = "chest-radiographs"\ntwins = { sex = "other" }')
