"""Fidelity, prevalences and sequences on tables whose answers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from synth.evaluation.ranks import area_under_curve, auc_interval, true_positive_rate
from synth.evaluation.records.coverage import cell_columns, conditional_prevalence_coverage
from synth.evaluation.records.fidelity import (
    classifier_two_sample_auc,
    correlation_error,
    marginal_variations,
    pairwise_variation,
    set_variation,
    total_variation,
)
from synth.evaluation.records.sequences import compare_sequences, find_steps, label_rates
from synth.evaluation.records.tables import RecordArrays, fit_bands, read_records, shuffle_columns
from synth.population.schema import Column, Schema
from synth.seeds import stream

Make = Callable[[int, int], pa.Table]
Trio = tuple[RecordArrays, RecordArrays, RecordArrays]


@pytest.fixture(scope="module")
def trio(table: Make, schema: Schema) -> Trio:
    """Two tables of the same law, and the second one shuffled."""
    second = table(1500, 2)
    shuffled = shuffle_columns(second, schema, stream(1, -1, -1, "test"))
    first, same, useless = (read_records(side, schema) for side in (table(1500, 1), second, shuffled))
    return first, same, useless


def sets_table(sets: list[list[str]], patients: list[int] | None = None, schema_labels: str = "ab") -> RecordArrays:
    patient = np.array(patients or range(len(sets)))
    visit = np.arange(len(patient)) - np.searchsorted(patient, patient)
    schema = Schema((Column("s", "set", tuple(schema_labels)),), repeated=True)
    return read_records(
        pa.table({"patient": patient, "visit": visit, "s": pa.array(sets, pa.list_(pa.string()))}), schema
    )


def test_the_classifier_finds_shuffled_rows_and_no_others(trio: Trio) -> None:
    first, same, shuffled = trio
    bands = fit_bands(first)
    fair = classifier_two_sample_auc(first, same, bands, 1, by_patient=True, rows=1500)
    assert fair.low < 0.5 < fair.high
    useless = classifier_two_sample_auc(first, shuffled, bands, 1, by_patient=True, rows=1500)
    assert useless.low > 0.6
    assert classifier_two_sample_auc(first, same, bands, 1, rows=500) == classifier_two_sample_auc(
        first, same, bands, 1, rows=500
    )


def test_distances_of_a_table_from_itself_are_zero(trio: Trio) -> None:
    first, bands = trio[0], fit_bands(trio[0])
    assert set_variation(first, first, "findings") == 0.0
    assert correlation_error(first, first, bands).worst == 0.0
    assert all(pairs.worst == 0.0 for pairs in pairwise_variation(first, first, bands))
    assert set(marginal_variations(first, first, bands).values()) == {0.0}
    assert set(compare_sequences(first, first).values()) == {0.0}
    coverage = conditional_prevalence_coverage(first, first, bands)
    assert (coverage.share, coverage.root_mean_square_z, coverage.misses) == (1.0, 0.0, ())


def test_shuffling_raises_every_joint_distance(trio: Trio) -> None:
    first, same, shuffled = trio
    bands = fit_bands(first)
    assert set_variation(first, shuffled, "findings") > 2 * set_variation(first, same, "findings")
    assert correlation_error(first, shuffled, bands).worst > 3 * correlation_error(first, same, bands).worst
    floor, useless = pairwise_variation(first, same, bands), pairwise_variation(first, shuffled, bands)
    assert useless[0].mean > floor[0].mean
    assert useless[1].mean > 2 * floor[1].mean


def test_total_variation_of_known_shares() -> None:
    assert total_variation(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])) == pytest.approx(0.25)
    first = sets_table([["a"], ["a", "b"], [], []])
    second = sets_table([["a"], ["a"], [], ["b"]])
    assert set_variation(first, second, "s") == pytest.approx(0.5)


def test_correlations_are_numpys(trio: Trio) -> None:
    same = sets_table([["a", "b"], [], ["a", "b"], []] * 5)
    apart = sets_table([["a"], ["b"], ["a"], ["b"]] * 5)
    assert correlation_error(same, apart, {}).worst == pytest.approx(2.0)


def test_prevalences_of_the_same_law_are_covered_and_others_are_not(trio: Trio, schema: Schema) -> None:
    first, same, shuffled = trio
    bands = fit_bands(first)
    assert cell_columns(schema) == ("age_years", "sex", "view")
    fair = conditional_prevalence_coverage(first, same, bands)
    useless = conditional_prevalence_coverage(first, shuffled, bands)
    assert fair.informative_cells > 30
    assert fair.share > 0.88
    assert fair.root_mean_square_z < 1.25
    assert useless.share < 0.8
    assert useless.root_mean_square_z > 1.5
    assert useless.misses[0].z == max((miss.z for miss in useless.misses), key=abs)
    assert "age_years" in useless.misses[0].cell


def test_the_interval_knows_that_rows_of_a_patient_are_alike() -> None:
    """20 patients of 10 equal rows carry the evidence of 20 rows: 10 of 20 against 14 of 20 is nothing."""
    patients = [patient for patient in range(20) for _ in range(10)]
    repeated = [sets_table([["a"] if patient < count else [] for patient in patients], patients) for count in (10, 14)]
    assert conditional_prevalence_coverage(*repeated, {}).misses == ()
    singles = [sets_table([["a"] if row < count else [] for row in range(200)]) for count in (100, 140)]
    (miss,) = conditional_prevalence_coverage(*singles, {}).misses
    assert (miss.label, miss.real, miss.synthetic, miss.real_rows) == ("a", 0.5, 0.7, 200)
    # sum of squared residuals over n^2 with K / (K - 1): 0.25 / 199 and 0.21 / 199, at least 0.24 / 200
    assert miss.z == pytest.approx(0.2 / np.sqrt(0.25 / 199 + 0.24 / 200))


def test_rates_from_one_visit_to_the_next() -> None:
    records = sets_table([["a"], ["a"], [], [], ["a"], ["b"], ["b"]], [0, 0, 0, 0, 0, 1, 1])
    steps = find_steps(records)
    assert steps.tolist() == [0, 1, 2, 3, 5]
    stay, come, weight = label_rates(records.labels["s"], steps)
    np.testing.assert_allclose(stay, [1 / 2, 1.0])
    np.testing.assert_allclose(come, [1 / 3, 0.0])
    assert weight.tolist() == [2, 1]


def test_sequences_of_shuffled_rows_are_far_off(trio: Trio) -> None:
    first, same, shuffled = trio
    floor, useless = compare_sequences(first, same), compare_sequences(first, shuffled)
    assert useless["static_violation.sex"] > 0.4
    assert floor["static_violation.sex"] == 0.0
    for name in ("persistence_error_mean.findings", "transition_error.view", "span_ks.age_years"):
        assert useless[name] > 3 * floor[name]
    assert useless["visits_ks"] == floor["visits_ks"]


def test_nothing_is_said_of_sequences_where_nobody_came_twice() -> None:
    singles = sets_table([["a"], []])
    assert compare_sequences(singles, singles) == {}


def test_areas_are_those_of_scikit_learn() -> None:
    rng = stream(1, -1, -1, "test/areas")
    scores, positive = rng.integers(0, 20, 400).astype(float), rng.random(400) < 0.3
    scores += 3 * positive
    found = auc_interval(scores, positive, np.arange(400), rng)
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    assert area_under_curve(scores, positive) == found.value
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(4 * 0.028, rel=0.4)  # Hanley and McNeil's standard error


def test_true_positives_at_few_false_ones() -> None:
    scores = np.concatenate([np.arange(1000.0), [998.5, 989.5, 5.0, 2000.0]])
    positive = np.arange(1004) >= 1000
    assert true_positive_rate(scores, positive, 0.001) == 0.5
    assert true_positive_rate(scores, positive, 0.01) == 0.75
    assert true_positive_rate(np.zeros(1004), positive, 0.01) == 0.0
