from __future__ import annotations

import pytest

from synth.errors import PermanentError
from synth.evaluation.images.metrics import IMAGE_METRICS
from synth.evaluation.metrics import METRICS, find_metric
from synth.evaluation.records.metrics import RECORD_METRICS

FAMILIES = {"fidelity", "diversity", "adherence", "utility", "privacy", "fairness"}


def test_names_are_unique_across_records_and_images() -> None:
    assert len(METRICS) == len(IMAGE_METRICS) + len(RECORD_METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_metric_says_what_it_is(metric) -> None:
    assert metric.low < metric.high
    assert metric.description[0].isupper() or metric.description.startswith(
        ("row_", "patient_", "sequence_", "utility_")
    )
    assert metric.description.endswith(".")
    assert metric.cost
    assert metric.source


def test_every_family_and_all_measurable_cs_are_covered() -> None:
    assert {metric.family for metric in METRICS.values()} == FAMILIES
    measured = {"congruence", "coverage", "constraint", "completeness", "compliance", "consistency"}
    assert {metric.seven_c for metric in METRICS.values()} == measured, "comprehension is what the document is for"


def test_unknown_score_names_the_nearest() -> None:
    assert find_metric("attribute_auc.view").family == "adherence"
    with pytest.raises(PermanentError, match="coverage"):
        find_metric("coverag")
