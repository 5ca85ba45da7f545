"""Conditioned samples and study designs: exact counts, weights that lead back, slices, twins, controls, arms, sites."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import PopulationError
from synth.population.conditions import parse_conditions, parse_cuts, parse_target
from synth.population.designs import (
    Site,
    assign_arms,
    draw_controls,
    draw_sites,
    draw_twins,
    plan_controls,
    plan_sites,
)
from synth.population.sampler import sample_records
from synth.population.sampling import draw_slice, plan_sample, stream_sample
from tests.synth.population.people import fit_people


@pytest.fixture(scope="module")
def model():
    return fit_people(patients=3000)


def plan(model, subjects, *, where="", targets=(), cuts="", seed=3):
    schema = model.schema
    return plan_sample(
        model, subjects, seed, parse_conditions(where, schema) if where else (),
        [parse_target(text, schema) for text in targets], parse_cuts(cuts, schema) if cuts else (),
    )  # fmt: skip


def first_visits(table: pa.Table) -> pa.Table:
    return table.filter(pa.array(table["visit"].to_numpy() == 0))


def has(table: pa.Table, label: str) -> np.ndarray:
    return np.array([label in found for found in table["findings"].to_pylist()])


def test_everybody_meets_where(model):
    drawn = first_visits(draw_slice(plan(model, 800, where="age_years=40:65;sex=F;findings!=hernia"), 0, 800))
    ages = drawn["age_years"].to_numpy()
    assert len(drawn) == 800
    assert 40 <= ages.min() <= ages.max() <= 65
    assert set(drawn["sex"].to_pylist()) == {"F"}
    assert not has(drawn, "hernia").any()


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("findings=none", lambda t: all(not found for found in t["findings"].to_pylist())),
        ("findings=hernia", lambda t: has(t, "hernia").all()),
        ("weight_kg=missing", lambda t: t["weight_kg"].null_count == len(t)),
        ("weight_kg=70.25:80.5", lambda t: t["weight_kg"].null_count == 0 and min(t["weight_kg"].to_pylist()) >= 70.25),
        ("sex!=F", lambda t: set(t["sex"].to_pylist()) == {"M"}),
        ("age_years=80:", lambda t: min(t["age_years"].to_pylist()) >= 80),
    ],
)
def test_kinds_of_conditions(model, where, holds):
    assert holds(first_visits(draw_slice(plan(model, 300, where=where), 0, 300)))


def test_visits_can_be_asked_for(model):
    drawn = draw_slice(plan(model, 200, where="visits=3:4"), 0, 200)
    assert set(Counter(drawn["subject_index"].to_pylist()).values()) == {3, 4}


def test_conditioned_subjects_are_those_of_the_population(model):
    everybody = first_visits(sample_records(model, 60_000, 9))
    ages, women = everybody["age_years"].to_numpy(), np.array(everybody["sex"].to_pylist()) == "F"
    chosen = has(everybody, "hernia") & women
    drawn = first_visits(draw_slice(plan(model, 3000, where="findings=hernia;sex=F"), 0, 3000))
    spread = ages[chosen].std() / np.sqrt(chosen.sum())
    assert abs(drawn["age_years"].to_numpy().mean() - ages[chosen].mean()) < 4 * spread
    assert abs(has(drawn, "effusion").mean() - has(everybody, "effusion")[chosen].mean()) < 0.06
    found = plan(model, 10, where="findings=hernia;sex=F").admitted
    assert abs(found - chosen.mean()) < 0.1 * chosen.mean()


@given(st.integers(50, 3000), st.floats(0.05, 0.95), st.floats(0.01, 0.6))
@settings(max_examples=15, deadline=None)
def test_counts_are_exact(model, subjects, women, hernia):
    made = plan(model, subjects, targets=(f"sex=F@{women}", f"findings=hernia@{hernia}|sex=F"))
    drawn = first_visits(pa.concat_tables(stream_sample(made, batch=512)))
    female = np.array(drawn["sex"].to_pylist()) == "F"
    assert abs(female.sum() - women * subjects) <= 0.5 + 1e-9
    assert abs((has(drawn, "hernia") & female).sum() - hernia * female.sum()) <= 0.5 + 1e-6


def test_weights_lead_back_to_the_population(model):
    made = plan(model, 20_000, targets=("findings=hernia@0.4", "sex=F@0.7"))
    drawn = first_visits(pa.concat_tables(stream_sample(made)))
    weights = drawn["design_weight"].to_numpy()
    everybody = first_visits(sample_records(model, 200_000, 11))
    for label in ("hernia", "oedema", "effusion"):
        weighted, natural = np.average(has(drawn, label), weights=weights), has(everybody, label).mean()
        interval = 4 * np.sqrt(natural * (1 - natural) / made.effective_subjects)
        assert abs(weighted - natural) < interval
    assert abs(weights.mean() - 1) < 1e-9
    assert made.effective_subjects < 20_000
    assert abs(weights.sum() ** 2 / (weights**2).sum() - made.effective_subjects) < 1e-6 * len(drawn)


@given(st.integers(1, 200), st.integers(1, 64))
@settings(max_examples=15, deadline=None)
def test_batches_do_not_matter(model, size, batch):
    made = plan(model, 300, where="age_years=30:", targets=("sex=F@0.5",))
    whole = pa.concat_tables(stream_sample(made, batch=300))
    assert whole.equals(pa.concat_tables(stream_sample(made, batch=batch)).combine_chunks()) or (
        whole.to_pydict() == pa.concat_tables(stream_sample(made, batch=batch)).to_pydict()
    )
    part = draw_slice(made, 100, 100 + size)
    inside = whole.filter(
        pa.array((whole["subject_index"].to_numpy() >= 100) & (whole["subject_index"].to_numpy() < 100 + size))
    )
    assert part.to_pydict() == inside.to_pydict()


def test_a_slice_of_a_billion(model):
    made = plan(model, 10**9, targets=("sex=F@0.5",))
    assert len(set(draw_slice(made, 10**9 - 100, 10**9)["subject_index"].to_pylist())) == 100


@pytest.mark.parametrize(
    ("where", "targets", "message"),
    [
        ("colour=red", (), "attribute 'colour' is not known"),
        ("sex=f", (), "'f' is not known. Did you mean 'F'"),
        ("sex", (), "cannot be read"),
        ("age_years=old", (), "is no range"),
        ("age_years=200:", (), "nobody is between"),
        ("sex=F;sex=M", (), "contradict"),
        ("visits=1000:", (), "the population has 1 to"),
        ("", ("sex=F@0.6", "sex=M@0.6"), "sum to 1.2"),
        ("", ("sex=F@-0.1",), "share from 0 to 1"),
        ("sex=M", ("sex=F@0.5",), "nobody with it"),
        ("", ("sex=F@0.6", "sex=F@0.2|age_years=18:90", "view=PA@0.5"), "sex=F@0.6; sex=F@0.2"),
    ],
)
def test_what_cannot_be_is_refused(model, where, targets, message):
    with pytest.raises(PopulationError, match=message):
        plan(model, 100, where=where, targets=targets)


def test_twins_differ_by_the_change_and_what_follows(model):
    made = plan(model, 500, where="findings=oedema")
    original, twin = (
        first_visits(t) for t in draw_twins(made, 0, 500, parse_conditions("findings!=oedema", model.schema))
    )
    assert has(original, "oedema").all()
    assert not has(twin, "oedema").any()
    for name in ("sex", "age_years", "weight_kg", "subject_index"):
        assert original[name].to_pylist() == twin[name].to_pylist()
    assert has(twin, "effusion").sum() < 0.6 * has(original, "effusion").sum()
    same = draw_twins(made, 0, 500, parse_conditions("findings=oedema", model.schema))
    assert same[0].to_pydict() == same[1].to_pydict()
    other = first_visits(draw_twins(made, 0, 50, parse_conditions("sex=F", model.schema))[1])
    assert set(other["sex"].to_pylist()) == {"F"}
    with pytest.raises(PopulationError, match="leaves several"):
        draw_twins(made, 0, 5, parse_conditions("age_years=40:50", model.schema))


def test_controls_match_their_cases(model):
    cases = plan(model, 200, where="findings=hernia")
    made = plan_controls(cases, parse_conditions("findings!=hernia", model.schema), "sex,age_years/5", ratio=3)
    controls = first_visits(draw_controls(made, 0, 200))
    case = first_visits(draw_slice(cases, 0, 200))
    index = controls["case_index"].to_numpy()
    assert Counter(index.tolist()) == dict.fromkeys(range(200), 3)
    assert np.array_equal(controls["age_years"].to_numpy() // 5, case["age_years"].to_numpy()[index] // 5)
    assert controls["sex"].to_pylist() == [case["sex"][int(n)].as_py() for n in index]
    assert not has(controls, "hernia").any()
    part = draw_controls(made, 50, 60)
    assert set(part["case_index"].to_pylist()) == set(range(50, 60))
    with pytest.raises(PopulationError, match="cannot be matched and asked"):
        plan_controls(cases, parse_conditions("sex=F", model.schema), "sex")


def test_arms_are_balanced_within_strata(model):
    made = plan(model, 901, cuts="sex,age_years/20")
    arms = np.array(assign_arms(made, {"drug": 2, "placebo": 1}, 0, 901).to_pylist())
    cells = made.find_cells(np.arange(901))
    for cell in np.unique(cells):
        inside = arms[cells == cell]
        assert abs((inside == "drug").sum() - 2 * len(inside) / 3) <= 2
    assert assign_arms(made, {"drug": 2, "placebo": 1}, 400, 450).to_pylist() == arms[400:450].tolist()
    with pytest.raises(PopulationError, match="two or more"):
        assign_arms(made, {"drug": 1}, 0, 10)


def test_sites_have_their_own_mix(model):
    schema = model.schema
    sites = [
        Site("north", 0.6, (), (parse_target("sex=F@0.75", schema),)),
        Site("south", 0.4, parse_conditions("age_years=60:", schema)),
    ]
    made = plan_sites(model, 500, 3, sites)
    drawn = first_visits(draw_sites(made, 0, 500))
    place = np.array(drawn["site"].to_pylist())
    assert Counter(place.tolist()) == {"north": 300, "south": 200}
    assert (np.array(drawn["sex"].to_pylist())[place == "north"] == "F").sum() == 225
    assert drawn["age_years"].to_numpy()[place == "south"].min() >= 60
    assert first_visits(draw_sites(made, 290, 310)).to_pydict() == drawn.slice(290, 20).to_pydict()
    with pytest.raises(PopulationError, match="sum to 1"):
        plan_sites(model, 10, 1, [Site("north", 0.6)])
