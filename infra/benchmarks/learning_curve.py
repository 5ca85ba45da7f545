"""The learning curve: models of 100, 300 and all training patients, from nothing and fine-tuned from another model.

    python infra/benchmarks/learning_curve.py RECIPE.toml --folder FOLDER --tasks view sex findings=Pneumonia
        [--patients 100 300 0] [--start FOLDER] [--minutes 15]

Each point trains the recipe on random patients, each set within the next (0: all), for the same steps or minutes; with
``--start`` also from the weights of that model, whose grid, network and attributes are then the recipe's. It should
have learned from other patients, or such points say nothing. Trainings go on at their checkpoints in ``--folder``. Each
model draws as many images as there are training images in all, asked for what its own training images show. Judged are

- distances to unseen patients as a ratio to those of all real training images (see learned_floor.py);
- classifiers taught on its images alone, and with the same patients' real images (see train_on_synthetic.py): at each
  point neither saw anybody else.

Figures go to curve.json, the chart to curve.png.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from learned_data import (
    add_recipe_options,
    choose_rows,
    draw_images,
    join_reference,
    load_recipe,
    make_teller,
    read_reference,
    write_interval,
)
from learned_floor import Yardstick, make_yardsticks, measure_ratios
from train_on_synthetic import Test, add_test_options, choose_test, make_test, print_result, run_test

from flows.settings import load_settings
from synth.evaluation.images.scorecard import FEATURES
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.learned.generator import Generator
from synth.learned.model_files import load_model
from synth.learned.recipe import TrainSpec
from synth.learned.training import train_model
from synth.seeds import stream

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SCRATCH, TUNED = "from nothing", "fine-tuned"
SHOWN = ("real", "synthetic", "mixed")
COLOURS = {SCRATCH: "#0072b2", TUNED: "#d55e00"}
Three = list[float]


@dataclass
class Point:
    """One model: what it learned from, its ratios to the floor, and AUCs, each as value, low and high."""

    way: str
    patients: int
    images: int
    steps: int
    finished: bool
    ratios: dict[str, Three] = field(default_factory=dict)
    utility: dict[str, Three] = field(default_factory=dict)


def choose_patients(train: ImageSet, number: int, seed: int) -> ImageSet:
    """Return the images of the first ``number`` patients in random order; all for 0."""
    order = stream(seed, -1, -1, "benchmark/patients").permutation(int(train.patient.max()) + 1)
    return train if not number else train.select(np.isin(train.patient, order[:number]))


def adopt_start(spec: TrainSpec, start: Generator | None) -> TrainSpec:
    """Return the recipe with the network, the grid and the attributes of the model to start from."""
    if start is None:
        return spec
    described = start.description
    changed = {"architecture": described.architecture, "shape": described.shape}
    names = tuple(attribute.name for attribute in described.attributes)
    return spec.model_copy(update={**changed, "attributes": names})


def measure_point(
    point: Point, images: ImageSet, part: ImageSet, real: RealImages, sticks: Sequence[Yardstick], test: Test
) -> None:
    """Fill in and print what is measured of a model's images."""
    for stick in sticks:
        found = measure_ratios(stick.measure(images), stick.train, stick.unseen, test.seed)
        for name, ratio in found.items():
            point.ratios[f"{name} {stick.name}"] = list(ratio)
            print(f"{name} in {stick.name}: {write_interval(ratio)} of the floor", flush=True)
    result = run_test(images, replace(real, train=part), test)
    print_result(result)
    for score in result.scores:
        arm, _, task = score.name.removeprefix("utility_").partition(".")
        if arm in SHOWN and score.value is not None and score.low is not None and score.high is not None:
            point.utility[f"{arm} {task}"] = [score.value, score.low, score.high]


def draw_curves(points: Sequence[Point], path: Path) -> None:
    """Draw ratios to the floor, and the AUCs of each task, against the number of patients."""
    tasks = sorted({name.partition(" ")[2] for point in points for name in point.utility})
    ratios = sorted({name for point in points for name in point.ratios if point.ratios})
    panels = [("ratio to the floor", ratios)] + [(f"AUC, {t}", [f"{arm} {t}" for arm in SHOWN]) for t in tasks]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.8), layout="constrained", squeeze=False)
    ways = list(dict.fromkeys(point.way for point in points))
    for axis, (title, names) in zip(axes[0], panels, strict=True):
        for place, way in enumerate(ways):
            for number, name in enumerate(names):
                if place and name.startswith("real "):
                    continue  # the same for every way
                own = [point for point in points if point.way == way]
                _draw_line(axis, own, name, way, len(names) * place + number, title)
        axis.set_xscale("log")
        axis.set_xticks([point.patients for point in points], [str(point.patients) for point in points])
        axis.minorticks_off()
        axis.set_xlabel("training patients")
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7)
    axes[0][0].set_yscale("log")
    axes[0][0].axhline(1, color="#999999", linewidth=1)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_line(axis: Any, points: Sequence[Point], name: str, way: str, number: int, title: str) -> None:
    """Draw one score of one way of training, with intervals."""
    values: Sequence[Mapping[str, Three]] = [p.ratios if title.startswith("ratio") else p.utility for p in points]
    known = [(point.patients, found[name]) for point, found in zip(points, values, strict=True) if name in found]
    if not known:
        return
    x, y = (
        [patients * 1.025**number for patients, _ in known],
        np.array([three for _, three in known]).T,
    )  # side by side
    reach = np.maximum([y[0] - y[1], y[2] - y[0]], 0)
    style = {"linestyle": ("-", "--", ":", "-.")[number % 4], "marker": "osD^vx"[number % 6]}
    colour, label = (COLOURS[way], f"{name} ({way})") if not name.startswith("real ") else ("#555555", name)
    axis.errorbar(x, y[0], yerr=reach, color=colour, label=label, capsize=2, markersize=4, **style)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    add_test_options(parser)
    parser.add_argument("--folder", type=Path, required=True, help="of checkpoints and figures")
    parser.add_argument("--patients", type=int, nargs="+", default=[100, 300, 0], help="of each point; 0: all")
    parser.add_argument("--start", type=Path, help="folder of a model to fine-tune besides")
    parser.add_argument("--steps", type=int, help="of each training (default: the recipe's)")
    parser.add_argument("--tune-steps", type=int, help="of each fine-tuning (default: as many)")
    parser.add_argument("--minutes", type=float, help="of each training at most; it can go on later. 0: as it is")
    parser.add_argument("--images", type=int, help="that each model draws (default: as many as train)")
    parser.add_argument("--features", nargs="+", default=list(FEATURES))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    start = load_model(options.start) if options.start else None
    spec = adopt_start(load_recipe(options.recipe, options.set), start)
    test = make_test(options.tasks, options.classifiers, options.classifier_steps, options.classifier_size,
                     (), options.workers, options.seed)  # fmt: skip
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as place:
        data = read_reference(spec, options.home, Path(place))
        real = join_reference(data)
        sticks = make_yardsticks(real, options.features, load_settings(options.home).encoder_folder, make_teller())
        for number in options.patients:
            part = choose_patients(data.train, number, options.seed)
            for way, first in ((SCRATCH, None), *(((TUNED, start),) if start else ())):
                steps = (options.tune_steps if first else None) or options.steps or spec.training.steps
                asked = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": steps})})
                folder = options.folder / f"{way.replace(' ', '-')}-{number or 'all'}"
                trained = train_model(asked, part, folder, start=first, minutes=options.minutes, tell=make_teller())
                patients = len(np.unique(part.patient))
                point = Point(way, patients, len(part), trained.steps, trained.finished)
                print(f"\n## {patients} patients, {len(part)} images, {way}: {trained.steps} of {steps} steps")
                rows = choose_rows(trained.generator, part, options.images or len(data.train), options.seed)
                images = draw_images(trained.generator, rows, options.seed, "drawn")
                measure_point(point, images, part, choose_test(real, options.test), sticks, test)
                points.append(point)
                (options.folder / "curve.json").write_text(json.dumps([asdict(one) for one in points], indent=1))
    draw_curves(points, options.folder / "curve.png")


if __name__ == "__main__":
    main()
