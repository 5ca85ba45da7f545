"""Privacy: copied patients raise the alarm, other people's records do not, planted records are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from synth.evaluation.records.gower import (
    Things,
    distance_blocks,
    distinct_things,
    hash_rows,
    number_ranges,
    patient_things,
    row_things,
)
from synth.evaluation.records.privacy import attack_membership, compare_matches, planted_record_matches
from synth.evaluation.records.tables import RecordArrays, label_lists, read_records
from synth.population.schema import Schema

Make = Callable[[int, int], pa.Table]


@pytest.fixture(scope="module")
def arms(table: Make, schema: Schema) -> tuple[RecordArrays, RecordArrays, RecordArrays]:
    """Training patients, holdout patients, and other patients of the same law."""
    train, holdout, others = (read_records(table(800, seed), schema) for seed in (1, 2, 3))
    return train, holdout, others


def test_copied_patients_raise_every_alarm(arms: tuple[RecordArrays, ...]) -> None:
    train, holdout, _ = arms
    rates, gaps = compare_matches(train, train, holdout, 1)
    assert rates["row_exact_train"] == rates["patient_near_train"] == rates["sequence_exact_train"] == 1.0
    for name in ("row_exact_gap", "patient_near_gap", "sequence_exact_gap"):
        assert gaps[name].low > 0.02
    scores, areas = attack_membership(train, train, holdout, 1)
    assert all(area.low > 0.55 for area in areas.values())
    assert scores["membership_sequence_tpr_1pct"] > 0.1


def test_records_of_others_raise_none(table: Make, schema: Schema) -> None:
    """Of intervals that claim 95 %, about one in twenty misses; here at most 6 of 42 do, and 2 at one score."""
    missed: Counter[str] = Counter()
    for seed in range(6):
        train, holdout, others = (read_records(table(400, 10 + 3 * seed + arm), schema) for arm in range(3))
        _, gaps = compare_matches(others, train, holdout, seed)
        _, areas = attack_membership(others, train, holdout, seed)
        missed.update(name for name, gap in gaps.items() if not gap.low <= 0.0 <= gap.high)
        missed.update(name for name, area in areas.items() if not area.low <= 0.5 <= area.high)
    assert missed.total() <= 6
    assert all(times <= 2 for times in missed.values())


def test_the_same_seed_gives_the_same_scores(arms: tuple[RecordArrays, ...]) -> None:
    train, holdout, others = arms
    assert attack_membership(others, train, holdout, 4) == attack_membership(others, train, holdout, 4)
    assert compare_matches(others, train, holdout, 4) == compare_matches(others, train, holdout, 4)


def test_planted_records_are_counted(table: Make, schema: Schema) -> None:
    planted = pa.table(
        {
            "patient": pa.array([0, 1, 2], pa.int64()),
            "visit": pa.array([0, 0, 0], pa.int32()),
            "age_years": pa.array([3, 4, 5], pa.int64()),
            "sex": ["F", "M", "M"],
            "view": ["LL", "LL", "AP"],
            "findings": label_lists(np.eye(3, dtype=bool), schema.column("findings").categories),
        }
    )
    synthetic = table(200, 1)
    assert planted_record_matches(synthetic, planted, schema) == 0
    leaked = pa.concat_tables([synthetic, planted.slice(1).cast(synthetic.schema)])
    leaked = leaked.set_column(0, "patient", pa.array([*range(1000, 1000 + leaked.num_rows)]))
    assert planted_record_matches(leaked, planted, schema) == 2


def test_distances_of_known_records() -> None:
    def thing(age: float, sex: int, labels: list[int]) -> Things:
        numbers = np.array([[age / 80]], np.float32)
        return Things(numbers, np.array([[sex]]), (np.array([labels], np.uint8),))

    def distance(first: Things, second: Things) -> float:
        return float(next(block for _, block in distance_blocks(first, second))[0, 0])

    here = thing(40, 0, [1, 1, 0])
    assert distance(here, here) == pytest.approx(0.0, abs=1e-6)
    assert distance(here, thing(48, 0, [1, 1, 0])) == pytest.approx(0.1 / 3, abs=1e-6)
    assert distance(here, thing(40, 1, [1, 0, 1])) == pytest.approx((1 + 2 / 3) / 3, abs=1e-6)
    assert distance(here, thing(400, 1, [0, 0, 1])) == pytest.approx(1.0)
    assert distance(here, thing(np.nan, 0, [1, 1, 0])) == pytest.approx(1 / 3)
    assert distance(thing(np.nan, 0, [0, 0, 0]), thing(np.nan, 0, [0, 0, 0])) == 0.0


def test_distances_are_symmetric_and_distinct_things_apart(arms: tuple[RecordArrays, ...]) -> None:
    ranges = number_ranges(arms[0])
    for things in (row_things(arms[0], ranges), patient_things(arms[0], ranges)):
        distinct, which = distinct_things(things)
        block = np.concatenate([block for _, block in distance_blocks(distinct, distinct)])
        np.testing.assert_allclose(block, block.T, atol=1e-6)
        assert (block + np.eye(len(block)) > 1e-6).all()
        assert block.max() <= 1.0 + 1e-6
        np.testing.assert_array_equal(distinct.codes[which], things.codes)


def test_hashes_tell_rows_apart() -> None:
    table = np.array([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0], [0.0, 1.0 + 1e-15]])
    found = hash_rows(table)
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3
