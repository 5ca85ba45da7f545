"""Patient-level fidelity: how often patients come back, and how their records change from one visit to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from synth.evaluation.ranks import Floats, Ints
from synth.evaluation.records.fidelity import total_variation
from synth.evaluation.records.tables import RecordArrays
from synth.population.schema import Column

MANY_VISITS = 30  # this many and more are counted together


def compare_sequences(real: RecordArrays, synthetic: RecordArrays) -> dict[str, float]:
    """Return the sequence scores of ``synthetic`` against ``real`` (see METRICS), none if nobody came twice.

    A step is a pair of consecutive rows of one patient. Where one side has no step of a kind, its rate counts as 0.
    """
    if real.visits.max() < 2:
        return {}
    visits = [np.minimum(side.visits, MANY_VISITS) for side in (real, synthetic)]
    scores = {"visits_ks": _ks(real.visits, synthetic.visits), "visits_variation": total_variation(*visits)}
    steps = (find_steps(real), find_steps(synthetic))
    for column in real.schema.columns:
        if column.static:
            scores[f"static_violation.{column.name}"] = _static_violation(synthetic, column)
        elif column.is_number:
            scores |= _compare_number(real, synthetic, column.name, steps)
        elif column.kind == "categorical":
            scores[f"transition_error.{column.name}"] = _transition_error(real, synthetic, column, steps)
    for column in real.schema.columns:
        if column.kind == "set" and not column.static:
            scores |= _compare_labels(real, synthetic, column, steps)
    return scores


def find_steps(records: RecordArrays) -> Ints:
    """Return the rows after which the same patient has another row."""
    return np.flatnonzero(records.patient[1:] == records.patient[:-1])


def label_rates(bits: NDArray[np.uint8], steps: Ints) -> tuple[Floats, Floats, Floats]:
    """Return of each label P(next visit has it | this has it), P(next has it | this has not) and the first's steps."""
    now, following = bits[steps].astype(bool), bits[steps + 1].astype(bool)
    with_label = now.sum(0).astype(np.float64)
    without = len(steps) - with_label
    stay = (now & following).sum(0) / np.maximum(with_label, 1)
    come = (~now & following).sum(0) / np.maximum(without, 1)
    return stay, come, with_label


def _compare_labels(
    real: RecordArrays, synthetic: RecordArrays, column: Column, steps: tuple[Ints, Ints]
) -> dict[str, float]:
    stay, come, weight = label_rates(real.labels[column.name], steps[0])
    synthetic_stay, synthetic_come, _ = label_rates(synthetic.labels[column.name], steps[1])
    stay_error, come_error = np.abs(stay - synthetic_stay), np.abs(come - synthetic_come)
    scores = {f"persistence_error.{label}": float(stay_error[i]) for i, label in enumerate(column.categories)}
    scores |= {f"onset_error.{label}": float(come_error[i]) for i, label in enumerate(column.categories)}
    scores[f"persistence_error_mean.{column.name}"] = float((stay_error * weight).sum() / max(weight.sum(), 1.0))
    scores[f"onset_error_mean.{column.name}"] = float(come_error.mean())
    return scores


def _compare_number(
    real: RecordArrays, synthetic: RecordArrays, name: str, steps: tuple[Ints, Ints]
) -> dict[str, float]:
    spans, falls = [], []
    for side, step in zip((real, synthetic), steps, strict=True):
        values, several = side.numbers[name], side.visits > 1
        span = (values[side.starts[1:] - 1] - values[side.starts[:-1]])[several]
        spans.append(span[~np.isnan(span)])
        falls.append(float((values[step + 1] < values[step]).sum() / max(len(step), 1)))
    return {f"span_ks.{name}": _ks(*spans), f"decrease_error.{name}": abs(falls[0] - falls[1])}


def _transition_error(real: RecordArrays, synthetic: RecordArrays, column: Column, steps: tuple[Ints, Ints]) -> float:
    size = len(column.categories) + 1  # missing comes first
    counts = []
    for side, step in zip((real, synthetic), steps, strict=True):
        codes = side.codes[column.name] + 1
        pairs = codes[step] * size + codes[step + 1]
        counts.append(np.bincount(pairs, minlength=size * size).reshape(size, size))
    first, second = (count / np.maximum(count.sum(1, keepdims=True), 1) for count in counts)
    weight = counts[0].sum(1) / max(int(counts[0].sum()), 1)
    return float((weight * 0.5 * np.abs(first - second).sum(1)).sum())


def _static_violation(records: RecordArrays, column: Column) -> float:
    several = records.visits > 1
    if not several.any():
        return 0.0
    if column.is_number:
        values = np.nan_to_num(records.numbers[column.name], nan=-np.inf)[:, None]
    elif column.kind == "categorical":
        values = records.codes[column.name][:, None].astype(np.float64)
    else:
        values = records.labels[column.name].astype(np.float64)
    differs = (values != values[records.starts[records.patient]]).any(axis=1)
    changed = np.bincount(records.patient, differs, minlength=records.patients) > 0
    return float(changed[several].mean())


def _ks(first: Ints | Floats, second: Ints | Floats) -> float:
    if not len(first) or not len(second):
        return float(len(first) != len(second))
    return float(ks_2samp(first, second, method="asymp").statistic)
