"""Controls whose outcome is known beforehand: real against real, and real images repeated to the same number."""

from __future__ import annotations

import numpy as np

from synth.evaluation.images.bench import Bench, sample_indices
from synth.evaluation.images.quality.diversity import measure_diversity
from synth.evaluation.images.quality.fidelity import measure_fidelity
from synth.evaluation.images.report import Control
from synth.evaluation.images.sides import Side
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Z95
from synth.seeds import stream

STRAY = 3.3  # standard errors
REPEATS = 10  # of each image in the duplicated arm
LEAST_DROP = 0.7  # of coverage and Vendi score, relative to distinct images, that repeating must cause at least


def check_floor(bench: Bench) -> Control:
    """Return whether real patients are like other real patients: two random halves of the unseen ones.

    They behave if their kernel distance is no more than 3.3 standard errors above zero in every kind of features (one
    in 2,000 by chance); the floor that scores are compared with (training against unseen patients) is given beside it.
    """
    patients = np.unique(bench.unseen.patient)
    order = stream(bench.seed, -1, -1, "images/controls/floor").permutation(len(patients))
    first = np.isin(bench.unseen.patient, patients[order[: len(patients) // 2]])
    texts, behaves = [], True
    for features in bench.features:
        halves = [bench.side("unseen", features, np.flatnonzero(mask)) for mask in (first, ~first)]
        own = _find(measure_fidelity(*halves, features=features, seed=bench.seed), "kernel_distance")
        sides = bench.side("train", features), bench.side("unseen", features)
        floor = _find(measure_fidelity(*sides, features=features, seed=bench.seed), "kernel_distance")
        if own.value is None or own.low is None or own.high is None:
            behaves = False
            texts.append(f"{features}: not measurable ({own.reason})")
            continue
        behaves &= own.value <= STRAY * (own.high - own.low) / (2 * Z95)
        texts.append(
            f"{features}: {own.value:.3g} ({own.low:.3g} to {own.high:.3g}); training patients {floor.value:.3g}"
        )
    return Control("real_floor", behaves, "kernel distance of two halves of unseen patients in " + "; ".join(texts))


def check_duplicates(bench: Bench) -> Control:
    """Return whether repeating a tenth of some real training images, to as many as there were, is noticed.

    It must lower coverage or the Vendi score to 0.7 of what distinct images have, in the leading features. No more are
    taken than there are unseen images: a tenth of a far larger number would cover all of those without a repetition.
    Each repetition counts as a patient of its own, as an image does of which nobody knows whom it repeats.
    """
    features, train = bench.leading, len(bench.real.train)
    drawn = sample_indices(train, len(bench.unseen), bench.seed, "images/controls/distinct")
    few = drawn[sample_indices(len(drawn), max(2, len(drawn) // REPEATS), bench.seed, "images/controls/duplicates")]
    rows = np.resize(few, len(drawn))
    repeated = Side(bench.features[features].train[rows], np.arange(len(rows)))
    distinct, unseen = bench.side("train", features, drawn), bench.side("unseen", features)
    before = measure_diversity(distinct, unseen, features=features, seed=bench.seed)
    after = measure_diversity(repeated, unseen, features=features, seed=bench.seed)
    texts, ratios = [], []
    for name in ("coverage", "vendi_score"):
        one, other = _find(before, name), _find(after, name)
        if one.value and other.value is not None:
            ratios.append(other.value / one.value)
            texts.append(f"{name} {one.value:.3g} -> {other.value:.3g}")
        else:
            texts.append(f"{name} not measurable ({one.reason or other.reason})")
    behaves = bool(ratios) and min(ratios) <= LEAST_DROP
    return Control("duplicated_real", behaves, f"{len(few)} real images repeated {REPEATS} times: {', '.join(texts)}")


def _find(scores: list[Score], name: str) -> Score:
    return next(score for score in scores if score.name == name)
