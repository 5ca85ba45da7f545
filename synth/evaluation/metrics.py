"""The one registry of metrics, of records and of images. See docs/evaluation/."""

from __future__ import annotations

from synth.errors import PermanentError, suggest_nearest
from synth.evaluation.images.metrics import IMAGE_METRICS
from synth.evaluation.metric import Metric
from synth.evaluation.records.metrics import RECORD_METRICS

METRICS = {metric.name: metric for metric in (*IMAGE_METRICS, *RECORD_METRICS)}


def find_metric(score: str) -> Metric:
    """Return the metric of a score such as ``set_variation.findings``; raises PermanentError with the nearest name."""
    name = score.partition(".")[0]
    if name not in METRICS:
        raise PermanentError(f"score '{score}' has no metric.{suggest_nearest(name, METRICS)} See METRICS.")
    return METRICS[name]
