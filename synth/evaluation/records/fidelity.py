"""Row-level fidelity: how far one column, two columns and all columns of synthetic rows are from real ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from synth.evaluation.ranks import Floats, Interval, Ints, auc_interval
from synth.evaluation.records.tables import Bands, RecordArrays, discrete_columns, row_features
from synth.population.schema import VISIT
from synth.seeds import stream

ROWS = 10_000  # of each side; the AUC of real against real grows with it, because patients repeat
FOLDS = 5


@dataclass(frozen=True)
class PairErrors:
    """One square, symmetric matrix of errors between two tables; ``names`` are its rows and columns."""

    names: tuple[str, ...]
    values: Floats

    @property
    def worst(self) -> float:
        """The largest error of two different columns."""
        return float(self._pairs().max(initial=0.0))

    @property
    def mean(self) -> float:
        """The mean error of two different columns."""
        pairs = self._pairs()
        return float(pairs.mean()) if len(pairs) else 0.0

    def _pairs(self) -> Floats:
        return self.values[np.triu_indices(len(self.names), 1)]


def classifier_two_sample_auc(
    real: RecordArrays, synthetic: RecordArrays, bands: Bands, seed: int, *, by_patient: bool = False, rows: int = ROWS
) -> Interval:
    """Return the AUC, with its interval, of a classifier that tells synthetic from real rows; 0.5 is best.

    Recipe: the same number of rows is drawn from both sides without repetition (10,000, or all of the smaller side);
    features are the age decade (or band of another number), the raw visit number, one 0/1 column for a category of
    two, one for each value of a larger one, and one for each label; scikit-learn's HistGradientBoostingClassifier with
    its defaults is fitted in 5 stratified, shuffled folds; the AUC is that of all out-of-fold probabilities at once.

    Folds split rows, so a patient's rows fall on both sides: this is the usual recipe, and it gives about 0.55 for real
    against real on ChestX-ray14, where patients have up to 184 rows. ``by_patient`` keeps patients together, which
    gives 0.5 there. The interval is a bootstrap over patients of the out-of-fold probabilities.
    """
    count = min(rows, real.rows, synthetic.rows)
    rng = stream(seed, -1, -1, "records/classifier-rows")
    features, groups = [], []
    for offset, side in ((0, real), (real.patients, synthetic)):
        chosen = rng.choice(side.rows, count, replace=False)
        features.append(row_features(side, bands)[0][chosen])
        groups.append(side.patient[chosen] + offset)
    matrix, group = np.concatenate(features), np.concatenate(groups)
    truth = np.repeat([0, 1], count)
    state = int(rng.integers(2**31))
    splitter = (GroupKFold if by_patient else StratifiedKFold)(FOLDS, shuffle=True, random_state=state)
    scores = np.zeros(len(truth))
    with threadpool_limits(1):  # on a busy machine two threads wait for each other ten times longer than one works
        for fit, judge in splitter.split(matrix, truth, group if by_patient else None):
            model = HistGradientBoostingClassifier(random_state=state, early_stopping=False)
            scores[judge] = model.fit(matrix[fit], truth[fit]).predict_proba(matrix[judge])[:, 1]
    return auc_interval(scores, truth == 1, group, rng)


def set_variation(real: RecordArrays, synthetic: RecordArrays, name: str) -> float:
    """Return the total variation distance of whole label sets, 1/2 sum |p - q| over all sets seen on either side."""
    both = np.concatenate([real.labels[name], synthetic.labels[name]])
    _, codes = np.unique(np.packbits(both, axis=1), axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    return total_variation(codes[: real.rows], codes[real.rows :])


def marginal_variations(real: RecordArrays, synthetic: RecordArrays, bands: Bands) -> dict[str, float]:
    """Return the total variation distance of each column and each label."""
    first, second = discrete_columns(real, bands), discrete_columns(synthetic, bands)
    return {name: total_variation(first[name], second[name]) for name in first}


def correlation_error(real: RecordArrays, synthetic: RecordArrays, bands: Bands) -> PairErrors:
    """Return |difference| of the Pearson correlation matrices of the row features, with log(1 + visit) for the visit.

    The logarithm keeps the few patients of over a hundred visits from deciding every entry. A missing value stands at
    the mean of its column; a column that is constant on one side has correlation 0 there.
    """
    matrices = []
    for side in (real, synthetic):
        features, names = row_features(side, bands)
        features[:, names.index(VISIT)] = np.log1p(features[:, names.index(VISIT)])
        matrices.append(_correlations(features))
    return PairErrors(tuple(names), np.abs(matrices[0] - matrices[1]))


def pairwise_variation(real: RecordArrays, synthetic: RecordArrays, bands: Bands) -> tuple[PairErrors, PairErrors]:
    """Return two matrices over pairs of columns: total variation of the joint distributions, and of the associations.

    The association of columns a and b is p(a, b) - p(a) p(b); the second matrix is 1/2 sum |real - synthetic| of it,
    which is blind to errors of the single columns. Labels count as columns of their own. The diagonals are the
    marginal variations, and 0.
    """
    first, second = discrete_columns(real, bands), discrete_columns(synthetic, bands)
    names = tuple(first)
    joint, association = np.zeros((2, len(names), len(names)))
    sizes = {name: int(max(first[name].max(), second[name].max())) + 1 for name in names}
    for i, name in enumerate(names):
        joint[i, i] = total_variation(first[name], second[name])
    for (i, a), (j, b) in combinations(enumerate(names), 2):
        tables = [_joint(side[a], side[b], sizes[a], sizes[b]) for side in (first, second)]
        joint[i, j] = joint[j, i] = 0.5 * np.abs(tables[0] - tables[1]).sum()
        excess = [table - np.outer(table.sum(1), table.sum(0)) for table in tables]
        association[i, j] = association[j, i] = 0.5 * np.abs(excess[0] - excess[1]).sum()
    return PairErrors(names, joint), PairErrors(names, association)


def total_variation(first: Ints, second: Ints) -> float:
    """Return 1/2 sum |p - q| of two samples of whole numbers from 0."""
    size = int(max(first.max(initial=0), second.max(initial=0))) + 1
    shares = [np.bincount(side, minlength=size) / max(len(side), 1) for side in (first, second)]
    return float(0.5 * np.abs(shares[0] - shares[1]).sum())


def _joint(a: Ints, b: Ints, size_a: int, size_b: int) -> Floats:
    counts = np.bincount(a * size_b + b, minlength=size_a * size_b)
    return np.asarray(counts.reshape(size_a, size_b) / len(a))


def _correlations(features: NDArray[np.float64]) -> Floats:
    known = ~np.isnan(features)
    means = np.where(known, features, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    centred = np.where(known, features - means, 0.0)
    norms = np.sqrt((centred**2).sum(0))
    scaled = centred / np.where(norms > 1e-12, norms, np.inf)
    return np.asarray(scaled.T @ scaled)
