"""The quality-against-steps curve of a model: how near to real images a few steps bring it, and what they cost.

The distance is the scorecard's kernel distance of coarse pixels, against validation patients: cheap, and beside it
stands that of real training patients, which is as good as can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synth.evaluation.images.features.base import Tell, compute_features, tell_nobody
from synth.evaluation.images.features.pixels import fit_pixels
from synth.evaluation.images.quality.fidelity import LEAST_PATIENTS
from synth.evaluation.images.quality.kernels import measure_kernels
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.evaluation.images.sides import Side, explain_unmeasurable
from synth.learned.conditions import list_rows
from synth.learned.generator import Generator
from synth.learned.recipe import FLOWS, SamplerSpec, TrainSpec
from synth.seeds import stream, stream_key

SCORE = "kernel_distance"
STEPS, THOROUGH = (1, 2, 4, 8, 16), 50
WALKERS = (*FLOWS, "ddpm")  # families that walk from noise to an image
LEAST, MOST = 24, 300  # images of a point
SHARE = 0.1  # of the training's work that the curve may cost
WORK_OF_UPDATE = 3  # forward passes that a forward and a backward one cost


@dataclass(frozen=True)
class Point:
    """One way of drawing: ``looks`` are the network's evaluations for an image. ``value`` is the distance."""

    sampler: str
    steps: int
    looks: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StepsCurve:
    """The points of a model and of its few-step student, of ``images`` images each; ``floor`` is of real images."""

    points: tuple[Point, ...]
    floor: Point
    images: int
    reason: str = ""  # why there are no points

    def to_json(self) -> dict[str, Any]:
        """Return the curve as plain JSON values."""
        return {"score": SCORE, "features": "pixels", **asdict(self)}


def count_looks(sampler: SamplerSpec, family: str) -> int:
    """Return how often the network is evaluated for an image; Heun's last step is Euler's."""
    if family not in WALKERS:
        return 1
    looks = 2 * sampler.steps - 1 if family in FLOWS and sampler.solver == "heun" else sampler.steps
    return looks * (1 if sampler.guidance == 1.0 else 2)


def plan_curve(spec: TrainSpec, steps: int, thorough: bool) -> tuple[tuple[int, ...], int]:
    """Return the steps that are tried, and how many images for each, so that all costs a tenth of ``steps`` updates.

    50 steps are tried if asked for, or if they fit with the most images. A trial has the least images, whatever that
    costs. A family that does not walk in steps has one point.
    """
    budget = SHARE * WORK_OF_UPDATE * steps * spec.training.batch

    def count(tried: Sequence[int]) -> int:
        samplers = [spec.sampler.model_copy(update={"steps": number}) for number in tried]
        return int(budget / sum(count_looks(sampler, family) for sampler in samplers))

    family = spec.architecture.name
    if family not in WALKERS:
        return (spec.sampler.steps,), int(np.clip(count([1]), LEAST, MOST))
    full = (*STEPS, THOROUGH)
    tried = full if thorough or count(full) >= MOST else STEPS
    return tried, int(np.clip(count(tried), LEAST, MOST))


def measure_curve(
    teacher: Generator,
    student: Generator | None,
    real: RealImages,
    tried: Sequence[int],
    count: int,
    seed: int,
    tell: Tell = tell_nobody,
) -> StepsCurve:
    """Return the curve of ``teacher`` at the steps ``tried``, with ``student`` as it is, ``count`` images each.

    All draw the same requests, those of random training images, from the same noise. Without enough validation patients
    there are no points, and ``reason`` says so.
    """
    order = stream(seed, -1, -1, "steps-curve/requests").permutation(len(real.train))[:count]
    shown = list_rows(real.train, teacher.description.code)
    rows = [shown[place] for place in order]
    keys = [stream_key(seed, number, -1, "steps-curve/noise") for number in range(len(rows))]
    pixels = fit_pixels(real)
    unseen = Side(compute_features(pixels, real.validation), real.validation.patient)
    known = real.train.select(order)
    floor = Side(compute_features(pixels, known), known.patient)
    if reason := explain_unmeasurable(floor, unseen, LEAST_PATIENTS):
        return StepsCurve((), Point("real", 0, 0, np.nan, np.nan, np.nan), len(rows), reason)
    drawers = [("model", teacher.with_sampler(steps=number)) for number in tried]
    drawers += [("few-step student", student)] if student is not None else []
    points = []
    for number, (name, drawer) in enumerate(drawers):
        tell("drawing with more and more steps", number, len(drawers))
        made: ImageSet = make_image_set(name, drawer.sample(rows, keys))
        side = Side(compute_features(pixels, made), np.arange(len(made)))
        points.append(_measure(name, drawer, side, unseen, seed))
    tell("drawing with more and more steps", len(drawers), len(drawers))
    return StepsCurve(tuple(points), _measure("real", None, floor, unseen, seed), len(rows))


def _measure(name: str, drawer: Generator | None, side: Side, unseen: Side, seed: int) -> Point:
    value, low, high = measure_kernels(side, unseen, seed)[SCORE][0]
    steps = looks = 0
    if drawer is not None:
        sampler = drawer.description.sampler
        steps, looks = sampler.steps, count_looks(sampler, drawer.description.architecture.name)
    return Point(name, steps, looks, float(value), float(low), float(high))


def write_table(curve: StepsCurve) -> list[str]:
    """Return the curve as lines of Markdown, for a model's card."""
    if not curve.points:
        return [f"Quality against steps: not measured ({curve.reason}).", ""]
    lines = [
        f"Quality against steps: kernel distance of coarse pixels to unseen patients, {curve.images} images each "
        "(95 % interval).",
        "",
        "| drawn by | steps | looks of the network | distance |",
        "|---|---|---|---|",
    ]
    for point in (*curve.points, curve.floor):
        steps = f"{point.steps} | {point.looks}" if point.steps else " | "
        name = point.sampler if point.steps else "real training patients"
        lines.append(f"| {name} | {steps} | {point.value:.3g} ({point.low:.3g} to {point.high:.3g}) |")
    return [*lines, ""]


def describe_metrics(curve: StepsCurve) -> Mapping[str, float]:
    """Return the distances by a short name, for a tracker."""
    found = {f"steps_{'student' if p.sampler != 'model' else 'model'}_{p.steps}": p.value for p in curve.points}
    return {**found, "steps_floor": curve.floor.value} if found else {}
