"""Was this patient trained on? Three attacks that see the released images and some other real patients, no model.

All compare what the released images say of a patient with what the reference says: without that, patients with
unusual images look innocent and those with usual ones guilty, and features that members had a part in give all away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.ensemble import ExtraTreesClassifier
from threadpoolctl import threadpool_limits

from synth.evaluation.images.privacy.attack_scores import AttackScores, gather_targets
from synth.evaluation.images.privacy.targets import Targets
from synth.evaluation.images.quality.neighbours import nearest_neighbours
from synth.evaluation.images.sides import Side, explain_unmeasurable
from synth.evaluation.ranks import Floats
from synth.seeds import stream, stream_key

ATTACKS = ("membership_nearest", "membership_domias", "membership_classifier")
REFERENCE_NEIGHBOURS = 5  # whose mean distance says how unusual a target is
CLOSEST = 1e-3  # of the usual distance between real images: closer is as close as can be
COMPONENTS = 16  # of the space densities are estimated in
WIDTHS = np.geomspace(0.05, 2.0, 14)  # tried for a kernel, in median distances
MOST_FOR_WIDTH = 1_000  # images by which a width is chosen
TREES = 200
MOST_CLASSIFIED = 5_000  # synthetic images a classifier learns from
MOST_CLASSIFIED_FEATURES = 64
BLOCK = 4_000_000  # pairs at a time


class Knowledge(NamedTuple):
    """What the attacker has: features of the ``targets``' images, of all synthetic images, and of the reference."""

    targets: Floats
    synthetic: Floats
    reference: Floats


def attack_membership(
    synthetic: Side, train: Side, unseen: Side, targets: Targets, features: str = "", seed: int = 0
) -> list[AttackScores]:
    """Return three attacks on the ``targets`` by ``synthetic`` images, all in the same features.

    - nearest: log distance to the 5 nearest reference images (mean) minus that to the nearest synthetic image;
    - domias: log of synthetic over reference kernel density (van Breugel et al., AISTATS 2023);
    - classifier: votes for synthetic of randomised trees trained on synthetic against reference images, as the
      discriminator of LOGAN (Hayes et al., PoPETs 2019). No target is in what it learns from.

    ``features`` should be learned without the members: see hide_members. Raises NotComparableError if the sides'
    features are not of one length.
    """
    reason = explain_attack(synthetic, train, unseen, targets)
    if reason:
        return [AttackScores.missing(name, features, reason) for name in ATTACKS]
    known = gather_knowledge(synthetic, train, unseen, targets)
    values = (suspect_nearest(known), suspect_density(known, seed), suspect_classifier(known, seed))
    return [
        gather_targets(name, features, found, targets, train.patient, unseen.patient, len(synthetic))
        for name, found in zip(ATTACKS, values, strict=True)
    ]


def explain_attack(synthetic: Side, train: Side, unseen: Side, targets: Targets) -> str:
    """Return why the targets cannot be attacked, or an empty text."""
    return targets.reason or explain_unmeasurable(synthetic, train, 1) or explain_unmeasurable(synthetic, unseen, 1)


def gather_knowledge(synthetic: Side, train: Side, unseen: Side, targets: Targets) -> Knowledge:
    """Return the features of the targets (members first), of the synthetic images and of the reference."""
    attacked = np.concatenate([train.features[targets.members], unseen.features[targets.others]])
    sides = attacked, synthetic.features, unseen.features[targets.reference]
    return Knowledge(*(np.asarray(side, np.float64) for side in sides))


def suspect_nearest(known: Knowledge) -> Floats:
    """Return, for each target image, how much nearer the nearest synthetic image is than reference images are."""
    to_reference = measure_nearest(known.targets, known.reference, REFERENCE_NEIGHBOURS)
    to_synthetic = measure_nearest(known.targets, known.synthetic, 1)
    least = CLOSEST * float(np.median(to_reference)) or 1.0
    logs = [np.log(np.maximum(found, least)).mean(axis=1) for found in (to_reference, to_synthetic)]
    return np.asarray(logs[0] - logs[1])


def measure_nearest(points: Floats, among: Floats, count: int) -> Floats:
    """Return (n, count) distances to the nearest ``among``, or to all of them if they are fewer."""
    first, second = np.asarray(points, np.float32), np.asarray(among, np.float32)
    return nearest_neighbours(first, second, min(count, len(among)))[1].astype(np.float64)


def suspect_density(known: Knowledge, seed: int) -> Floats:
    """Return log p_synthetic - log p_reference of each target image, by Gaussian kernels on whitened components.

    Each density has the width at which its own images, left out one at a time, are most likely.
    """
    rng = stream(seed, -1, -1, "images/privacy/domias")
    components = min(COMPONENTS, known.targets.shape[1], max(1, len(known.reference) // 3))
    known = reduce_knowledge(known, components, rng, whiten=True)
    found = []
    for side in (known.synthetic, known.reference):
        width = choose_width(side[rng.permutation(len(side))[:MOST_FOR_WIDTH]])
        found.append(log_density(known.targets, side, width))
    return np.asarray(found[0] - found[1])


def suspect_classifier(known: Knowledge, seed: int) -> Floats:
    """Return the share of trees that take each target image for synthetic (Geurts et al., Mach Learn 2006)."""
    rng = stream(seed, -1, -1, "images/privacy/classifier")
    if known.targets.shape[1] > MOST_CLASSIFIED_FEATURES:
        known = reduce_knowledge(known, MOST_CLASSIFIED_FEATURES, rng)
    learned = known.synthetic[rng.permutation(len(known.synthetic))[:MOST_CLASSIFIED]]
    truth = np.repeat([1, 0], [len(learned), len(known.reference)])
    state = stream_key(seed, -1, -1, "images/privacy/trees") % 2**32
    model = ExtraTreesClassifier(TREES, class_weight="balanced", random_state=state)
    with threadpool_limits(1):
        model.fit(np.concatenate([learned, known.reference]), truth)
        return np.asarray(model.predict_proba(known.targets)[:, 1], np.float64)


def reduce_knowledge(known: Knowledge, components: int, rng: np.random.Generator, whiten: bool = False) -> Knowledge:
    """Return all sides along the principal components of what the attacker may learn from: released and reference."""
    few = known.synthetic[rng.permutation(len(known.synthetic))[: max(MOST_FOR_WIDTH, len(known.reference))]]
    pooled = np.concatenate([few, known.reference])
    mean = pooled.mean(axis=0)
    _, sizes, directions = np.linalg.svd(pooled - mean, full_matrices=False)
    kept = sizes[:components] > 1e-6 * max(sizes[0], 1e-300)
    basis = directions[:components][kept].T
    if whiten:
        basis = basis * (np.sqrt(len(pooled)) / sizes[:components][kept])
    return Knowledge(*((side - mean) @ basis for side in known))


def choose_width(points: Floats) -> float:
    """Return the width of a Gaussian kernel that makes each point most likely by the others, of 14 that are tried."""
    squares = square_distances(points, points)
    usual = float(np.sqrt(np.median(squares))) or 1.0
    np.fill_diagonal(squares, np.inf)
    likely = []
    for width in WIDTHS * usual:
        likely.append(logsumexp(-squares / (2 * width**2), axis=1).mean() - points.shape[1] * np.log(width))
    return float(WIDTHS[int(np.argmax(likely))] * usual)


def log_density(points: Floats, among: Floats, width: float) -> Floats:
    """Return log of the mean Gaussian kernel of each point over ``among``; its constant factor is left out."""
    found = np.empty(len(points))
    step = max(1, BLOCK // max(1, len(among)))
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        found[part] = logsumexp(square_distances(points[part], among) / (-2 * width**2), axis=1)
    return np.asarray(found - np.log(len(among)) - points.shape[1] * np.log(width))


def square_distances(first: Floats, second: Floats) -> Floats:
    """Return (n, m) squared Euclidean distances."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None] - 2 * (first @ second.T)
    return np.asarray(np.maximum(squares, 0.0))
