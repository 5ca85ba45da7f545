"""Chains of trees: codes round-trip, dependence is learned, and any slice is the same whatever the batch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.population.encoding import fit_coding
from synth.population.families import FAMILIES
from synth.population.fitting import encode_records
from synth.population.sampler import decode, draw_codes, sample_records
from synth.population.schema import Column, Schema
from synth.population.trees import grow_tree
from tests.synth.population.people import fit_people, read_people


@pytest.fixture(scope="module")
def model():
    return fit_people(patients=3000)


@pytest.fixture(scope="module")
def drawn(model):
    return sample_records(model, 6000, 5)


def has(table: pa.Table, label: str) -> np.ndarray:
    return np.array([label in found for found in table["findings"].to_pylist()])


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.5]), min_size=2, max_size=600), st.booleans())
@settings(max_examples=60, deadline=None)
def test_numbers_fall_into_the_interval_that_their_code_stands_for(numbers, whole):
    values = np.round(numbers) if whole else np.array(numbers)
    column = Column("x", "integer" if whole else "continuous", low=values.min(), high=values.max())
    coding = fit_coding(column, pa.array(values))
    codes = coding.encode(pa.array(values))
    assert coding.size <= 256
    assert (coding.low[codes] <= values).all()
    assert (values <= coding.high[codes]).all()
    assert (coding.low[1:] > coding.high[:-1]).all()
    if len(np.unique(values)) <= 128:
        assert (coding.low == coding.high).all()


def test_frequent_values_keep_an_interval_of_their_own():
    rng = np.random.Generator(np.random.Philox(2))
    values = np.where(rng.random(5000) < 0.3, 0.143, rng.normal(0.2, 0.02, 5000))
    coding = fit_coding(Column("x", "continuous", low=0, high=1), pa.array(values))
    alone = coding.low == coding.high
    assert 0.143 in coding.low[alone]


def test_a_tree_finds_what_a_code_depends_on():
    rng = np.random.Generator(np.random.Philox(4))
    features = rng.integers(0, 5, (3, 4000)).astype(np.uint8)
    target = ((features[1] >= 3) ^ (rng.random(4000) < 0.1)).astype(np.uint8)
    tree = grow_tree(features, np.array([7, 8, 9], np.int16), np.ones(3, bool), target, 2, True)
    assert tree.feature[0] == 8
    assert tree.threshold[0] == 2
    assert sorted(tree.probability[:, 1].round(1).tolist())[0] == 0.1
    nothing = grow_tree(features, np.array([7, 8, 9], np.int16), np.ones(3, bool), features[0] * 0, 2, True)
    assert len(nothing.feature) == 1


def test_probabilities_are_distributions(model):
    for tree in model.trees:
        assert np.allclose(tree.probability.sum(axis=1), 1.0)
        assert (tree.probability >= 0).all()


def test_rows_as_states_say_what_came_before():
    records = read_people()
    rows = encode_records(records)
    people, visit = records.table["patient"].to_numpy(), records.table["visit"].to_numpy()
    slot = {name: n for n, name in enumerate(rows.layout.slots)}
    effusion = has(records.table, "effusion")
    seen = rows.slots[slot["findings:effusion seen"]]
    for row in np.flatnonzero(visit > 0)[:200]:
        mine = (people == people[row]) & (visit < visit[row])
        assert rows.slots[slot["findings:effusion before"]][row] == effusion[row - 1]
        assert seen[row] == effusion[mine].sum()
    assert rows.layout.clocks == ("age_years",)


def test_marginals_and_dependence_come_back(model, drawn):
    real = read_people(3000).table
    assert abs(pc.mean(drawn["age_years"]).as_py() - pc.mean(real["age_years"]).as_py()) < 1.0
    assert abs(drawn["weight_kg"].null_count / len(drawn) - real["weight_kg"].null_count / len(real)) < 0.03
    for table in (real, drawn):
        oedema, effusion = has(table, "oedema"), has(table, "effusion")
        assert effusion[oedema].mean() > 2 * effusion[~oedema].mean()
    old, young = (
        has(drawn, "oedema")[test(drawn["age_years"].to_numpy())].mean()
        for test in (lambda a: a > 62, lambda a: a < 58)
    )
    assert old - young > 0.3
    for name in ("oedema", "effusion", "hernia"):
        assert abs(has(drawn, name).mean() - has(real, name).mean()) < 0.03


def test_visits_of_a_patient_belong_together(drawn):
    people, visit = drawn["patient"].to_numpy(), drawn["visit"].to_numpy()
    age, sex = drawn["age_years"].to_numpy(), np.array(drawn["sex"].to_pylist())
    later = visit > 0
    assert (people[later] == people[np.flatnonzero(later) - 1]).all()
    assert (np.diff(age)[later[1:]] >= 0).all()
    assert (sex[later] == sex[np.flatnonzero(later) - 1]).all()
    effusion = has(drawn, "effusion")
    before = effusion[np.flatnonzero(later) - 1]
    assert effusion[later][before].mean() > 0.6 > 0.45 > effusion[later][~before].mean()
    assert abs(len(drawn) / 6000 - 1.8) < 0.1


def test_independent_marginals_lose_dependence():
    drawn = sample_records(fit_people("independent", 3000), 6000, 5)
    oedema, effusion = has(drawn, "oedema"), has(drawn, "effusion")
    assert abs(effusion[oedema].mean() - effusion[~oedema].mean()) < 0.05


@given(st.integers(0, 500), st.integers(1, 300), st.integers(0, 2**62))
@settings(max_examples=25, deadline=None)
def test_any_slice_is_the_same_whatever_the_batch(model, start, size, seed):
    whole = draw_codes(model, seed, np.arange(start, start + size))
    cut = size // 2
    parts = [
        draw_codes(model, seed, np.arange(start, start + cut)),
        draw_codes(model, seed, np.arange(start + cut, start + size)),
    ]
    assert np.array_equal(whole.states, np.concatenate([part.states for part in parts]))
    assert np.array_equal(whole.values, np.concatenate([part.values for part in parts]), equal_nan=True)


def test_far_subjects_are_drawn_without_the_near_ones(model):
    far = draw_codes(model, 3, np.array([10**14, 5, 10**14 + 1]))
    assert np.array_equal(far.states[far.starts[1] : far.starts[2]], draw_codes(model, 3, np.array([5])).states)


def test_seeds_differ(model):
    assert not np.array_equal(draw_codes(model, 1, np.arange(50), later=False).states,
                              draw_codes(model, 2, np.arange(50), later=False).states)  # fmt: skip


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"private"}))
def test_fitting_is_deterministic_and_complete(family):
    first, second = fit_people(family), fit_people(family)
    assert first.family == family
    assert first.about["patients"] == 600
    assert all(np.array_equal(a.probability, b.probability) for a, b in zip(first.trees, second.trees, strict=True))
    columns = decode(first, draw_codes(first, 1, np.arange(20)))
    assert set(columns) == set(first.schema.names)


def test_schema_survives_json():
    schema = read_people().schema
    assert Schema.from_json(schema.to_json()) == schema
