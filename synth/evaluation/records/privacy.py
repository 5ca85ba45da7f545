"""How much synthetic records say about the patients they were learned from, beside what they say about others.

Everything is compared with as many holdout patients: common records match anybody, so only a difference is a leak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from synth.evaluation.ranks import Z95, Floats, Interval, Ints, auc_interval, true_positive_rate
from synth.evaluation.records.gower import (
    Things,
    closest_and_density,
    distance_blocks,
    distinct_things,
    hash_rows,
    mix_bits,
    number_ranges,
    patient_things,
    row_things,
)
from synth.evaluation.records.tables import RecordArrays, join_records, read_records, sample_patients, select_patients
from synth.population.schema import Schema
from synth.seeds import stream

NEAR = 0.02  # Gower distance
KERNEL_WIDTH = 0.05
MATCHED_PATIENTS = 4_000  # synthetic patients looked up, at most
ATTACKED_PATIENTS = 3_000  # members, and as many others, at most
RESAMPLES = 100
FALSE_POSITIVES = {"1pct": 0.01, "01pct": 0.001}

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class _Matches:
    """Which distinct synthetic things match which distinct real things, and whose they are."""

    pairs: sparse.csr_array  # distinct synthetic x distinct real
    synthetic: Ints  # of each synthetic thing, which distinct one it is
    synthetic_patient: Ints
    real: Ints
    real_patient: Ints  # training patients first, then as many holdout patients

    def hits(self, chosen: NDArray[np.bool_]) -> Floats:
        """Return 1 for each synthetic thing that matches a thing of a ``chosen`` real patient, else 0."""
        present = np.zeros(self.pairs.shape[1])
        present[self.real[chosen[self.real_patient]]] = 1.0
        return np.asarray((self.pairs @ present > 0)[self.synthetic], np.float64)


def compare_matches(
    synthetic: RecordArrays, train: RecordArrays, holdout: RecordArrays, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return the match rates of synthetic records with training and with holdout patients, and the gaps' intervals.

    As many patients are drawn from training as there are in the holdout. Rows are compared attribute by attribute:
    equal, or within Gower distance 0.02; patients by their summary (first record, number of visits, all labels ever
    seen) within 0.02; and whole sequences of patients of several visits for equality. The interval of a gap is 1.96
    standard errors wide on both sides: those of a bootstrap over synthetic and real patients, and at least McNemar's
    sqrt(b + c) / n (b and c of n match one side only), as resamples hold too few patients to show rare matches.
    """
    rng = stream(seed, -1, -1, "records/matches")
    count = min(train.patients, holdout.patients)
    real = join_records(sample_patients(train, count, rng), sample_patients(holdout, count, rng))
    synthetic = sample_patients(synthetic, MATCHED_PATIENTS, rng)
    ranges = number_ranges(real)
    rows = (row_things(synthetic, ranges), row_things(real, ranges))
    people = (patient_things(synthetic, ranges), patient_things(real, ranges))
    own = (np.arange(synthetic.patients), np.arange(real.patients))
    cases = {
        "row_exact": _match_things(*rows, synthetic.patient, real.patient, 1e-6),
        "row_near": _match_things(*rows, synthetic.patient, real.patient, NEAR),
        "patient_near": _match_things(*people, *own, NEAR),
        "sequence_exact": _match_sequences(synthetic, real),
    }
    scores: dict[str, float] = {}
    gaps: dict[str, Interval] = {}
    for name, matches in cases.items():
        trained, held, gap = _gap(matches, synthetic.patients, count, rng)
        scores |= {f"{name}_train": trained, f"{name}_holdout": held, f"{name}_gap": gap.value}
        gaps[f"{name}_gap"] = gap
    return scores, gaps


def attack_membership(
    synthetic: RecordArrays, train: RecordArrays, holdout: RecordArrays, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return how well three attacks tell training patients from others, and the intervals of their AUCs.

    Half of the holdout patients are the others, half the reference that an attacker may have; as many members are drawn
    from training. The attacker sees a patient's real records and all synthetic ones:

    - distance: minus the Gower distance to the closest synthetic patient summary;
    - density: log of synthetic over reference kernel density at the summary (DOMIAS, van Breugel et al., AISTATS 2023);
    - sequence: the longest run of leading visits that a synthetic patient has exactly, as the sum over its rows of
      -log2 of the row's frequency in the reference; long or rare runs that come out are what memorising looks like.
    """
    rng = stream(seed, -1, -1, "records/membership")
    order = rng.permutation(holdout.patients)
    others = select_patients(holdout, np.sort(order[: holdout.patients // 2][:ATTACKED_PATIENTS]))
    reference = select_patients(holdout, np.sort(order[holdout.patients // 2 :]))
    members = sample_patients(train, others.patients, rng)
    ranges = number_ranges(reference)
    targets = join_records(members, others)
    queries, which = distinct_things(patient_things(targets, ranges))
    densities = []
    closest: Floats = np.empty(0)
    for side in (reference, synthetic):
        among, copies = distinct_things(patient_things(side, ranges))
        weights = np.bincount(copies).astype(np.float64)
        closest, density = closest_and_density(queries, among, weights, KERNEL_WIDTH)
        densities.append(density)
    attacks = {
        "distance": -closest[which],
        "density": np.log(densities[1] / densities[0])[which],
        "sequence": _sequence_surprise(targets, synthetic, reference),
    }
    is_member = np.arange(targets.patients) < members.patients
    scores: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for name, values in attacks.items():
        found = auc_interval(values, is_member, np.arange(targets.patients), rng)
        intervals[f"membership_{name}_auc"] = found
        scores[f"membership_{name}_auc"] = found.value
        for text, rate in FALSE_POSITIVES.items():
            scores[f"membership_{name}_tpr_{text}"] = true_positive_rate(values, is_member, rate)
    return scores, intervals


def planted_record_matches(synthetic: pa.Table, planted: pa.Table, schema: Schema) -> int:
    """Return how many of the ``planted`` rows came out: a synthetic row is equal to them in every attribute.

    Both are record tables; ``planted`` holds records that exist nowhere else, put into the training data on purpose.
    """
    out = _row_hashes(read_records(synthetic, schema))
    return int(np.isin(_row_hashes(read_records(planted, schema)), out).sum())


def _gap(matches: _Matches, synthetic: int, count: int, rng: np.random.Generator) -> tuple[float, float, Interval]:
    """Return the rates with training and holdout, and the gap with its interval. The first ``count`` are training."""
    things = len(matches.synthetic)
    if not things:
        return 0.0, 0.0, Interval(0.0, 0.0, 0.0)
    is_train = np.arange(2 * count) < count
    trained, held = matches.hits(is_train), matches.hits(~is_train)
    found = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        times = np.bincount(rng.integers(synthetic, size=synthetic), minlength=synthetic)
        weights = times[matches.synthetic_patient].astype(np.float64)
        drawn = np.bincount(rng.integers(count, size=count), minlength=2 * count) > 0
        drawn |= np.bincount(count + rng.integers(count, size=count), minlength=2 * count) > 0
        difference = matches.hits(drawn & is_train) - matches.hits(drawn & ~is_train)
        found[index] = (weights * difference).sum() / max(weights.sum(), 1.0)
    rate, other = float(trained.mean()), float(held.mean())
    error = max(float(found.std()), float(np.sqrt((trained != held).sum())) / things)
    return rate, other, Interval(rate - other, rate - other - Z95 * error, rate - other + Z95 * error)


def _match_things(
    synthetic: Things, real: Things, synthetic_patient: Ints, real_patient: Ints, threshold: float
) -> _Matches:
    left, which_left = distinct_things(synthetic)
    right, which_right = distinct_things(real)
    blocks = [sparse.csr_array(block <= threshold) for _, block in distance_blocks(left, right)]
    pairs = sparse.vstack(blocks, format="csr").astype(np.float64)
    return _Matches(pairs, which_left, synthetic_patient, which_right, real_patient)


def _match_sequences(synthetic: RecordArrays, real: RecordArrays) -> _Matches:
    """Match whole sequences; patients of one visit take no part, as that is what ``row_exact`` compares."""
    ends = [_prefix_hashes(side)[side.starts[1:] - 1] for side in (synthetic, real)]
    several = [np.flatnonzero(side.visits > 1) for side in (synthetic, real)]
    hashes, which = np.unique(np.concatenate([e[s] for e, s in zip(ends, several, strict=True)]), return_inverse=True)
    split = len(several[0])
    pairs = sparse.eye_array(len(hashes), format="csr")
    return _Matches(pairs, which[:split], several[0], which[split:], several[1])


def _sequence_surprise(targets: RecordArrays, synthetic: RecordArrays, reference: RecordArrays) -> Floats:
    """Return the surprise of each target's longest run of leading visits that ``synthetic`` has exactly.

    The surprise of a run is the sum over its rows of -log2 of the row's frequency in ``reference``.
    """
    came_out = np.isin(_prefix_hashes(targets), _prefix_hashes(synthetic))
    own = _row_hashes(targets)
    known, counts = np.unique(_row_hashes(reference), return_counts=True)
    place = np.minimum(np.searchsorted(known, own), len(known) - 1)
    times = np.where(known[place] == own, counts[place], 0)
    total = np.cumsum(-np.log2((times + 1) / (reference.rows + 1)))
    before = np.concatenate([[0.0], total])[targets.starts[:-1]]
    run = np.where(came_out, np.round(total - before[targets.patient], 6), 0.0)  # else ties break by position
    return np.asarray(np.maximum.reduceat(run, targets.starts[:-1]))


def _prefix_hashes(records: RecordArrays) -> Hashes:
    """Return a hash of each row together with all rows of the same patient before it."""
    found = _row_hashes(records)
    visits = records.visits
    for place in range(1, int(visits.max())):
        rows = records.starts[:-1][visits > place] + place
        found[rows] = mix_bits(found[rows - 1] * np.uint64(3) ^ found[rows])
    return found


def _row_hashes(records: RecordArrays) -> Hashes:
    numbers = [np.nan_to_num(values, nan=-np.inf)[:, None] for values in records.numbers.values()]
    codes = [values[:, None].astype(np.float64) for values in records.codes.values()]
    labels = [np.packbits(bits, axis=1).astype(np.float64) for bits in records.labels.values()]
    return hash_rows(np.hstack([*numbers, *codes, *labels]))
