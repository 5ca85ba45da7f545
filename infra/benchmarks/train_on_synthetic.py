"""Classifiers trained on drawn images, tested on real patients: alone, mixed with real images, and beside few of them.

    python infra/benchmarks/train_on_synthetic.py RECIPE.toml --tasks view sex findings=Pneumonia --models FOLDER ...
    python infra/benchmarks/train_on_synthetic.py RECIPE.toml --tasks label --real 100 300 1000 --models FOLDER ...

Networks, arms and intervals are those of the scorecard's utility (docs/evaluation/utility.md): every arm trains the
same network for the same steps, ``--seeds`` times, and intervals resample real patients (images, where nobody knows
whose they are) and seeds, paired between arms. The test images are those of all patients that neither a model nor a
classifier learned from: validation and holdout, which for MedMNIST is the validation part as published.

``--requests balanced`` asks for every combination of answers to the tasks equally often, and not for what training
images show. ``--redraws`` draws an image again whose readers do not find what was asked for, as cohorts do. A model
that learned from all training patients also stands beside ``--real`` few of them in the curve; see learning_curve.py
for models that know no more patients than that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from learned_data import (
    Row,
    add_recipe_options,
    change_sampler,
    choose_rows,
    draw_images,
    join_reference,
    load_recipe,
    make_teller,
    read_reference,
    write_interval,
)

from synth.evaluation.images.sets import ImageSet, RealImages, join_sets
from synth.evaluation.images.utility.measure import measure_utility
from synth.evaluation.images.utility.scores import Judge, UtilityResult
from synth.evaluation.images.utility.settings import TrainingSettings, UtilitySettings
from synth.evaluation.metric import Score
from synth.learned.conditions import list_rows
from synth.learned.generator import Generator
from synth.learned.model_files import load_model
from synth.nouns import AttributeValue
from synth.seeds import stream

DIFFERENCES = (("mixed", "real"), ("mixed", "duplicated"), ("synthetic", "real"))
Tasks = Mapping[str, tuple[str, ...]]  # attribute -> labels that are asked about; none: all


@dataclass(frozen=True)
class Test:
    """How a classifier is taught and tested."""

    tasks: Tasks
    settings: UtilitySettings
    seed: int


def read_tasks(names: Sequence[str]) -> Tasks:
    """Return the labels of each attribute that tasks such as ``view`` or ``findings=Pneumonia`` ask about."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        attribute, _, label = name.partition("=")
        found[attribute] = found.get(attribute, ()) + ((label,) if label else ())
    return found


def keep_tasks(images: ImageSet, tasks: Tasks) -> ImageSet:
    """Return the images with no attributes and no labels but those of the tasks."""
    records = images.records.select(["image_id", "patient_id", *tasks])
    for name, labels in tasks.items():
        if labels:
            values = [_keep_labels(value, labels) for value in images.values(name)]
            place = records.column_names.index(name)
            column = records.schema.field(place)
            records = records.set_column(place, column, pa.array(values, column.type))
    return replace(images, records=records, schema=tuple(a for a in images.schema if a.name in tasks))


def _keep_labels(value: AttributeValue, labels: Sequence[str]) -> AttributeValue:
    if isinstance(value, list | tuple):
        return [label for label in value if label in labels]  # type: ignore[return-value]
    return value


def choose_test(real: RealImages, test: str) -> RealImages:
    """Return the reference whose holdout are the patients that are tested on: of holdout, validation or both."""
    sides = {"holdout": real.holdout, "validation": real.validation}
    return replace(real, holdout=sides[test] if test in sides else join_sets("unseen", list(sides.values())))


def balance_rows(model: Generator, train: ImageSet, tasks: Tasks, count: int, seed: int) -> Sequence[Row]:
    """Return requests in which every combination of answers that training images give is equally frequent."""
    rows = list_rows(train, model.description.code)
    shown = keep_tasks(train, tasks).records.select(list(tasks)).to_pylist()
    _, kinds = np.unique([repr(sorted(row.items())) for row in shown], return_inverse=True)
    rng = stream(seed, -1, -1, "benchmark/balanced")
    places = [np.flatnonzero(kinds == kind) for kind in range(int(kinds.max()) + 1)]
    chosen = [rng.choice(places[number % len(places)]) for number in range(count)]
    return [rows[place] for place in chosen]


def make_test(
    tasks: Sequence[str], seeds: int, steps: int, size: int, points: Sequence[int], workers: int, seed: int
) -> Test:
    """Return how classifiers are taught."""
    training = TrainingSettings(steps=steps, size=size)
    settings = UtilitySettings(training, seeds=seeds, real_patients=tuple(points), workers=workers)
    return Test(read_tasks(tasks), settings, seed)


def run_test(images: ImageSet, real: RealImages, test: Test) -> UtilityResult:
    """Return the utility of drawn images, for the tasks alone."""
    only = replace(real, train=keep_tasks(real.train, test.tasks), holdout=keep_tasks(real.holdout, test.tasks))
    return measure_utility(
        keep_tasks(images, test.tasks), only, seed=test.seed, settings=test.settings, tell=make_teller()
    )


def print_result(found: UtilityResult) -> None:
    """Print AUCs, ratios, the points of curves, and paired differences of arms."""
    for score in found.scores:
        _print_score(score)
    if not found.tasks:
        return
    judge = Judge(found)
    for task in found.tasks:
        for arm, other in DIFFERENCES:
            one, two = judge.resample(arm, task.name), judge.resample(other, task.name)
            if one is not None and two is not None:
                print(f"{arm} minus {other}.{task.name}: {write_interval((one - two).interval())}")


def _print_score(score: Score) -> None:
    if score.value is None:
        print(f"{score.name:44} {score.reason}")
        return
    text = f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
    control = f"control {score.control:.3f}" if score.control is not None else ""
    above = f"above chance {score.detail['above_chance']:.3f}" if "above_chance" in score.detail else ""
    print(f"{score.name:44} {text:26} {control:15} {above}", flush=True)


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Let the user say how classifiers are taught and tested."""
    parser.add_argument("--tasks", nargs="+", required=True, help="attributes, or ATTRIBUTE=LABEL of a set")
    parser.add_argument("--classifiers", type=int, default=5, help="networks of an arm, with other seeds")
    parser.add_argument("--classifier-steps", type=int, default=600, help="of each network")
    parser.add_argument("--classifier-size", type=int, default=64, help="largest side of what it sees, in pixels")
    parser.add_argument("--test", default="unseen", choices=("unseen", "holdout", "validation"))
    parser.add_argument("--workers", type=int, default=2, help="networks taught at a time")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    add_test_options(parser)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="folders of models")
    parser.add_argument("--images", type=int, default=2000, help="that each model draws")
    parser.add_argument("--sampler", help="STEPS:SOLVER:GUIDANCE (default: the models' own)")
    parser.add_argument("--requests", default="shown", choices=("shown", "balanced"))
    parser.add_argument("--redraws", type=int, default=0, help="of an image that does not show what was asked for")
    parser.add_argument("--real", type=int, nargs="*", default=[100, 300], help="patients, for points of the curve")
    options = parser.parse_args(arguments)
    spec = load_recipe(options.recipe, options.set)
    test = make_test(options.tasks, options.classifiers, options.classifier_steps, options.classifier_size,
                     options.real, options.workers, options.seed)  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        data = read_reference(spec, options.home, Path(place))
        real = choose_test(join_reference(data), options.test)
        print(f"{len(real.train)} real training images, {len(real.holdout)} to test on "
              f"({len(np.unique(real.holdout.patient))} patients), {options.classifiers} networks an arm")  # fmt: skip
        for path in options.models:
            model, began = change_sampler(load_model(path), options.sampler), time.perf_counter()
            if options.requests == "balanced":
                rows: Sequence[Row] = balance_rows(model, data.train, test.tasks, options.images, options.seed)
            else:
                rows = choose_rows(model, data.train, options.images, options.seed)
            images = draw_images(model, rows, options.seed, "drawn", options.redraws)
            print(f"\n## {path.name}: {len(images)} images ({options.requests}, {options.redraws} redraws) in "
                  f"{time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
            print_result(run_test(images, real, test))


if __name__ == "__main__":
    main()
