"""Whether images show what they are said to show, as judged by predictors that were trained on real patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.images.tasks import Task
from synth.evaluation.metric import Score
from synth.evaluation.ranks import RESAMPLES, Floats, Interval, Ints, auc_interval
from synth.seeds import stream

LEAST_CASES = 5  # images with and without, or with a number, on a side
RIDGE = 10.0  # strength of the regressions' penalty, in standardised features
LOGISTIC = 0.1  # inverse of the same for yes-no questions


class Judges:
    """One predictor a task, trained on the features of real training patients."""

    def __init__(self, tasks: tuple[Task, ...], train: ImageSet, features: Floats32) -> None:
        self._models = {}
        for task in tasks:
            answers = task.targets(train)
            known = ~np.isnan(answers)
            model = (
                Ridge(RIDGE)
                if task.kind == "number"
                else LogisticRegression(C=LOGISTIC, class_weight="balanced", max_iter=500)
            )
            with threadpool_limits(1):
                self._models[task] = make_pipeline(StandardScaler(), model).fit(features[known], answers[known])

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that are judged."""
        return tuple(self._models)

    def judge(self, task: Task, features: Floats32) -> Floats:
        """Return the log odds of yes, or the number, of each image."""
        model = self._models[task]
        found = model.predict(features) if task.kind == "number" else model.decision_function(features)
        return np.asarray(found, np.float64)


def measure_adherence(
    judges: Judges, images: ImageSet, features: Floats32, *, kind: str, seed: int, subgroup: str = ""
) -> list[Score]:
    """Return how well stated attributes are found in the images: AUC of yes-no questions, correlation of numbers.

    ``features`` are (n, d), of the kind called ``kind``. Intervals resample subjects. Not measurable where the images
    do not state the attribute, or too few say yes or no.
    """
    found = []
    for task in judges.tasks:
        name = f"attribute_{'correlation' if task.kind == 'number' else 'auc'}.{task.name}"
        more = {"features": kind, "subgroup": subgroup}
        answers = task.targets(images)
        known = ~np.isnan(answers)
        reason = _explain_missing(task, answers[known], images)
        if reason:
            found.append(Score.missing(name, reason, **more))
            continue
        predicted = judges.judge(task, features[known])
        rng = stream(seed, -1, -1, f"images/adherence/{kind}/{task.name}/{subgroup}")
        patient = images.patient[known]
        if task.kind == "number":
            interval = correlation_interval(predicted, answers[known].astype(np.float64), patient, rng)
        else:
            interval = auc_interval(predicted, answers[known] > 0, patient, rng)
        found.append(Score.of(name, interval, images=int(known.sum()), **more))
    return found


def correlation_interval(predicted: Floats, stated: Floats, patient: Ints, rng: np.random.Generator) -> Interval:
    """Return Pearson's correlation and its 95 % percentile interval, resampling patients 200 times."""
    _, codes = np.unique(patient, return_inverse=True)
    count = int(codes.max()) + 1
    found = []
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(count, size=count), minlength=count)[codes].astype(np.float64)
        found.append(_correlate(predicted, stated, weights))
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return Interval(_correlate(predicted, stated, np.ones(len(stated))), float(low), float(high))


def _correlate(first: Floats, second: Floats, weights: Floats) -> float:
    a, b = first - np.average(first, weights=weights), second - np.average(second, weights=weights)
    spread = np.sqrt((weights * a * a).sum() * (weights * b * b).sum())
    return float((weights * a * b).sum() / spread) if spread > 0 else float("nan")


def _explain_missing(task: Task, answers: NDArray[np.float32], images: ImageSet) -> str:
    if task.attribute not in images.records.column_names:
        return f"the images do not state '{task.attribute}'"
    if task.kind == "number":
        if len(answers) < LEAST_CASES or len(np.unique(answers)) < 2:
            return (
                f"'{task.attribute}' is stated of {len(answers)} images with {len(np.unique(answers))} different values"
            )
        return ""
    yes, no = int((answers == 1).sum()), int((answers == 0).sum())
    if min(yes, no) < LEAST_CASES:
        return f"{yes} images say yes to {task.name} and {no} say no; {LEAST_CASES} of each are needed"
    return ""
