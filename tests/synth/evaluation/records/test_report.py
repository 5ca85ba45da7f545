"""The report: every score is described and finite, JSON goes round, and the controls come out as controls should."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pyarrow as pa
import pytest

from synth.evaluation.metrics import find_metric
from synth.evaluation.records.coverage import conditional_prevalence_coverage
from synth.evaluation.records.fidelity import classifier_two_sample_auc, correlation_error, set_variation
from synth.evaluation.records.metrics import RECORD_METRICS
from synth.evaluation.records.report import RecordReport, evaluate_records
from synth.evaluation.records.sequences import compare_sequences
from synth.evaluation.records.tables import fit_bands, read_records, shuffle_columns
from synth.population.schema import Schema
from synth.seeds import stream

Make = Callable[[int, int], pa.Table]


@pytest.fixture(scope="module")
def report(table: Make, schema: Schema) -> RecordReport:
    planted = table(5, 9)
    return evaluate_records(table(300, 3), table(300, 1), table(150, 2), schema, 1, planted)


def test_every_score_is_described_and_within_its_range(report: RecordReport) -> None:
    seen = set()
    for arm in (report.synthetic, report.floor, report.shuffled, report.copied):
        for score, value in arm.values.items():
            metric = find_metric(score)
            seen.add(metric.name)
            assert metric.low - 1e-9 <= value <= metric.high + 1e-9, score
            assert math.isfinite(value)
        assert set(arm.intervals) <= set(arm.values)
        assert all(found.low <= found.high for found in arm.intervals.values())
    assert seen == {metric.name for metric in RECORD_METRICS}, "a metric that no report holds"


def test_the_report_is_json_and_names_its_sizes(report: RecordReport) -> None:
    again = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert again["patients"] == {"train": 300, "holdout": 150, "synthetic": 300}
    assert again["synthetic"]["values"] == dict(report.synthetic.values)
    assert len(again["synthetic"]["pair_variations"]) == len(again["synthetic"]["pair_names"])
    assert report.ratio("set_variation.findings") > 0


def test_the_controls_differ_from_the_floor(report: RecordReport) -> None:
    for score in ("correlation_error", "persistence_error_mean.findings", "association_error"):
        assert report.shuffled.values[score] > 1.3 * report.floor.values[score]
    assert report.copied.values["sequence_exact_gap"] > report.floor.values["sequence_exact_gap"] + 0.1


@pytest.mark.slow
def test_on_real_records_the_floor_passes_and_shuffled_columns_fail(
    real_records: tuple[pa.Table, pa.Table, Schema],
) -> None:
    train_table, holdout_table, schema = real_records
    shuffled = read_records(shuffle_columns(train_table, schema, stream(0, -1, -1, "test")), schema)
    train, holdout = read_records(train_table, schema), read_records(holdout_table, schema)
    bands = fit_bands(train)
    floor, useless = (
        {
            "auc": classifier_two_sample_auc(holdout, side, bands, 0).value,
            "auc_by_patient": classifier_two_sample_auc(holdout, side, bands, 0, by_patient=True).value,
            "sets": set_variation(holdout, side, "findings"),
            "correlation": correlation_error(holdout, side, bands).worst,
            "coverage": conditional_prevalence_coverage(holdout, side, bands).share,
            "persistence": compare_sequences(holdout, side)["persistence_error_mean.findings"],
        }
        for side in (train, shuffled)
    )
    assert 0.52 < floor["auc"] < 0.57
    assert 0.47 < floor["auc_by_patient"] < 0.53
    assert 0.66 < useless["auc"] < 0.71
    assert useless["auc_by_patient"] > 0.63
    assert floor["sets"] < 0.05
    assert 0.11 < useless["sets"] < 0.15
    assert floor["correlation"] < 0.12
    assert 0.3 < useless["correlation"] < 0.5
    assert floor["coverage"] > 0.92
    assert useless["coverage"] < 0.82
    assert useless["persistence"] > 5 * floor["persistence"]
