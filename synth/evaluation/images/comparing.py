"""Fidelity and diversity of images against unseen real patients, for all and by subgroup, each beside its control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from synth.evaluation.images.bench import Bench, sample_indices
from synth.evaluation.images.quality.diversity import measure_diversity, measure_ms_ssim
from synth.evaluation.images.quality.fidelity import measure_fidelity
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.images.subgroups import LEAST_IMAGES, Subgroup
from synth.evaluation.images.tasks import find_tasks
from synth.evaluation.metric import Family, Score
from synth.evaluation.ranks import Interval, Ints

MOST_OF_SUBGROUP = 2_000  # images of a subgroup that are compared, to bound the time
MEASURES: dict[Family, tuple[Callable[..., list[Score]], tuple[str, ...]]] = {
    "fidelity": (measure_fidelity, ("frechet_distance", "kernel_distance", "mmd_rbf", "sliced_wasserstein")),
    "diversity": (measure_diversity, ("precision", "recall", "density", "coverage", "vendi_score")),
}


def compare_sides(bench: Bench, family: Family, subgroups: Sequence[Subgroup]) -> list[Score]:
    """Return the scores of a family in every kind of features, for all images and for each subgroup."""
    found: list[Score] = []
    everybody = (np.arange(len(bench.images)), np.arange(len(bench.real.train)), np.arange(len(bench.unseen)))
    for number, features in enumerate(bench.features):
        found += _compare(bench, family, features, "", everybody)
        for step, group in enumerate(subgroups):
            bench.tell(f"{family} in {features}", number * len(subgroups) + step, len(bench.features) * len(subgroups))
            sides = (bench.images, bench.real.train, bench.unseen)
            members = tuple(np.flatnonzero(group.mask(side)) for side in sides)
            found += _compare(bench, family, features, group.name, members)
    return found


def _compare(bench: Bench, family: Family, features: str, subgroup: str, members: tuple[Ints, ...]) -> list[Score]:
    """Return the scores of some images, with those of as many real training images of the same kind as control."""
    measure, names = MEASURES[family]
    images, train, unseen = members
    more = {"features": features, "subgroup": subgroup}
    reason = explain_few(len(images), len(unseen), subgroup)
    if reason:
        return [Score.missing(name, reason, images=len(images), **more) for name in names]
    limit = MOST_OF_SUBGROUP if subgroup else max(len(images), len(train))
    chosen = images[sample_indices(len(images), limit, bench.seed, f"images/{family}/{subgroup}")]
    real = bench.side("unseen", features, unseen)
    scores = measure(bench.side("images", features, chosen), real, seed=bench.seed, **more)
    if explain_few(len(train), len(unseen), subgroup):
        return scores
    matched = train[sample_indices(len(train), len(chosen), bench.seed, f"images/{family}/{subgroup}/control")]
    floor = measure(bench.side("train", features, matched), real, seed=bench.seed, **more)
    return attach_controls(scores, floor)


def attach_controls(scores: Iterable[Score], controls: Iterable[Score]) -> list[Score]:
    """Return the scores with the values of those of the same name, features and subgroup as control."""
    values = {(score.name, score.features, score.subgroup): score for score in controls}
    found = []
    for score in scores:
        control = values.get((score.name, score.features, score.subgroup))
        if control is None:
            found.append(score)
            continue
        detail = {**score.detail, "control_low": control.low, "control_high": control.high}
        found.append(replace(score, control=control.value, detail=detail))
    return found


def explain_few(images: int, real: int, subgroup: str) -> str:
    """Return why a subgroup cannot be scored, or an empty text if it can."""
    if not subgroup or min(images, real) >= LEAST_IMAGES:
        return ""
    return f"{images} images and {real} real ones of unseen patients are in it; {LEAST_IMAGES} of each are needed"


def measure_sameness(bench: Bench) -> Score:
    """Return the structural similarity of random pairs of images, with that of real pairs as control."""
    score = measure_ms_ssim(bench.images, seed=bench.seed)
    return attach_controls([score], [measure_ms_ssim(bench.real.train, seed=bench.seed)])[0]


def measure_attribute_coverage(images: ImageSet, reference: ImageSet) -> Score:
    """Return the share of the reference's pairs of answers to two tasks that occur among the images.

    A pair of answers, such as women with effusion, counts if the reference has it in at least one image. The control
    is 1 by definition. Not measurable if no task is shared.
    """
    tasks = [task for task in find_tasks(reference) if task.kind == "binary"]
    shared = [task for task in tasks if task.attribute in images.records.column_names]
    if not shared:
        return Score.missing("attribute_coverage", "the images state no attribute of the reference", images=len(images))
    wanted = have = 0
    real, made = ([task.targets(side) for task in shared] for side in (reference, images))
    for i in range(len(shared)):
        for j in range(i, len(shared)):
            for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
                if ((real[i] == a) & (real[j] == b)).any():
                    wanted += 1
                    have += bool(((made[i] == a) & (made[j] == b)).any())
    share = have / wanted
    return Score.of("attribute_coverage", Interval(share, share, share), control=1.0, images=len(images),
                    detail={"combinations": wanted})  # fmt: skip
