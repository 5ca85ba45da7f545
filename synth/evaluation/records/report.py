"""One report of synthetic records: every score, beside what real records and useless records score in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from synth.evaluation.ranks import Floats, Interval
from synth.evaluation.records.coverage import Miss, conditional_prevalence_coverage
from synth.evaluation.records.fidelity import (
    classifier_two_sample_auc,
    correlation_error,
    marginal_variations,
    pairwise_variation,
    set_variation,
)
from synth.evaluation.records.privacy import attack_membership, compare_matches, planted_record_matches
from synth.evaluation.records.sequences import compare_sequences
from synth.evaluation.records.tables import (
    Bands,
    RecordArrays,
    fit_bands,
    read_records,
    sample_patients,
    select_patients,
    shuffle_columns,
)
from synth.population.schema import Schema
from synth.seeds import stream


@dataclass(frozen=True)
class Scores:
    """What one table scores: values (see METRICS), 95 % intervals of some, errors of pairs, prevalences missed.

    ``pair_variations`` and ``pair_associations`` are the two matrices of ``pairwise_variation``.
    """

    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    pair_names: tuple[str, ...]
    pair_variations: Floats
    pair_associations: Floats
    misses: tuple[Miss, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain JSON values."""
        return {
            "values": dict(self.values),
            "intervals": {name: [found.low, found.high] for name, found in self.intervals.items()},
            "pair_names": list(self.pair_names),
            "pair_variations": self.pair_variations.tolist(),
            "pair_associations": self.pair_associations.tolist(),
            "misses": [asdict(miss) for miss in self.misses],
        }


@dataclass(frozen=True)
class RecordReport:
    """Scores of synthetic records and of their controls, all against the same holdout patients.

    ``floor`` is what the training patients score: nothing better can be expected. ``shuffled`` keeps marginals only.
    For privacy, ``floor`` releases other real patients instead, and ``copied`` the training patients themselves.
    """

    seed: int
    patients: Mapping[str, int]
    rows: Mapping[str, int]
    synthetic: Scores
    floor: Scores
    shuffled: Scores
    copied: Scores

    def ratio(self, score: str) -> float:
        """Return a score over its floor: 1 is as good as real."""
        floor = self.floor.values[score]
        return self.synthetic.values[score] / floor if floor else float("inf")

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        arms = ("synthetic", "floor", "shuffled", "copied")
        head = {"seed": self.seed, "patients": dict(self.patients), "rows": dict(self.rows)}
        return head | {arm: getattr(self, arm).to_json() for arm in arms}


def evaluate_records(
    synthetic: pa.Table,
    train: pa.Table,
    holdout: pa.Table,
    schema: Schema,
    seed: int,
    planted: pa.Table | None = None,
) -> RecordReport:
    """Return the report of ``synthetic`` records learned from ``train``; all are record tables of ``schema``.

    Distances depend on sample sizes, so the larger of training and synthetic table is cut to as many patients as the
    other for everything but the privacy attacks. ``planted`` are unique records that were put into ``train``.
    """
    return evaluate_several({"": synthetic}, train, holdout, schema, seed, planted)[""]


def evaluate_several(
    tables: Mapping[str, pa.Table],
    train: pa.Table,
    holdout: pa.Table,
    schema: Schema,
    seed: int,
    planted: pa.Table | None = None,
) -> dict[str, RecordReport]:
    """Return a report of each table of ``tables``; the controls are computed once. See ``evaluate_records``."""
    real, held = read_records(train, schema), read_records(holdout, schema)
    bands = fit_bands(real)
    shuffled = read_records(shuffle_columns(train, schema, stream(seed, -1, -1, "records/shuffle")), schema)
    order = stream(seed, -1, -1, "records/halves").permutation(real.patients)
    halves = [select_patients(real, np.sort(half)) for half in np.array_split(order, 2)]
    floor = _score_likeness(real, real, held, bands, seed, _score_privacy(halves[0], halves[1], held, seed))
    useless = _score_likeness(shuffled, real, held, bands, seed, _score_privacy(shuffled, real, held, seed))
    copied = Scores(*_score_privacy(real, real, held, seed), (), np.empty((0, 0)), np.empty((0, 0)), ())
    reports = {}
    for name, table in tables.items():
        found = read_records(table, schema)
        private = _score_privacy(found, real, held, seed)
        if planted is not None:
            private[0]["planted_found"] = float(planted_record_matches(table, planted, schema))
        arms = {"train": real, "holdout": held, "synthetic": found}
        reports[name] = RecordReport(
            seed=seed,
            patients={arm: records.patients for arm, records in arms.items()},
            rows={arm: records.rows for arm, records in arms.items()},
            synthetic=_score_likeness(found, real, held, bands, seed, private),
            floor=floor,
            shuffled=useless,
            copied=copied,
        )
    return reports


Found = tuple[dict[str, float], dict[str, Interval]]


def _score_privacy(released: RecordArrays, train: RecordArrays, holdout: RecordArrays, seed: int) -> Found:
    matches, gaps = compare_matches(released, train, holdout, seed)
    attacks, areas = attack_membership(released, train, holdout, seed)
    return matches | attacks, gaps | areas


def _score_likeness(
    found: RecordArrays, train: RecordArrays, holdout: RecordArrays, bands: Bands, seed: int, private: Found
) -> Scores:
    """Return all scores of ``found`` against the holdout, with those of ``private``."""
    sample = sample_patients(found, train.patients, stream(seed, -1, -1, "records/size"))
    values, intervals = {}, dict(private[1])
    for name, by_patient in (("classifier_auc", False), ("classifier_auc_by_patient", True)):
        intervals[name] = classifier_two_sample_auc(holdout, sample, bands, seed, by_patient=by_patient)
        values[name] = intervals[name].value
    for column in train.schema.columns:
        if column.kind == "set":
            values[f"set_variation.{column.name}"] = set_variation(holdout, sample, column.name)
    joint, association = pairwise_variation(holdout, sample, bands)
    marginal = marginal_variations(holdout, sample, bands)
    values |= {
        "correlation_error": correlation_error(holdout, sample, bands).worst,
        "pairwise_variation": joint.mean,
        "pairwise_variation_worst": joint.worst,
        "association_error": association.mean,
        "marginal_variation_mean": float(np.mean(list(marginal.values()))),
    }
    values |= {f"marginal_variation.{name}": value for name, value in marginal.items()}
    values |= compare_sequences(holdout, sample)
    misses: tuple[Miss, ...] = ()
    if train.labels:
        from_holdout = conditional_prevalence_coverage(holdout, sample, bands)
        # Training against itself would be perfect; its floor is the same two tables the other way round.
        from_train = conditional_prevalence_coverage(train, holdout if found is train else sample, bands)
        misses = from_train.misses
        for end, coverage in (("", from_holdout), ("_train", from_train)):
            values[f"prevalence_coverage{end}"] = coverage.share
            values[f"prevalence_coverage{end}_informative"] = coverage.informative_share
            values[f"prevalence_z{end}"] = coverage.root_mean_square_z
    return Scores(values | private[0], intervals, joint.names, joint.values, association.values, misses)
