"""Does a model remember training images? The same recipe twice: with patients as they are, and with planted repeats.

    python infra/benchmarks/memorisation.py RECIPE.toml --folder FOLDER [--minutes 20] [--images 600]

The second training set holds ``--repeated`` images ``--times`` times each, as if a register had entered them again and
again (``--strangers``: under other patients' names). Both models learn for the same number of steps and draw images
that are asked for what random training images show: of the second, mostly the repeated ones. Each is judged as any
other model: the scorecard's copy search and attacks on members, with its own training set as the reference, and the
gates of privacy. Printed besides, and drawn as histograms: how far the images are from the nearest of real images of
training patients and of as many unseen ones, and the share that is nearer to training (0.5: nothing is remembered).

Expected: no alarm for the patients as they are, an alarm for the repeats. What matters is how often an image is seen:
steps x batch x times / images; it is printed. Training images are changed at random (training.change), so that it takes
thousands of times: of 100 images of a small network (PneumoniaMNIST at 16 x 16) 7 were copies after 2,400 times, 44
after 5,300. Both trainings go on at their checkpoints in ``--folder``, where figures (results.json) and pictures are
written; pictures show real images and are not for release. Ends with 1 if an outcome is not the expected one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from learned_data import (
    add_recipe_options,
    join_reference,
    load_recipe,
    make_teller,
    read_reference,
    write_interval,
)

from flows.train_pictures import draw_pairs
from flows.training_data import TrainingData
from synth.evaluation.images.report import Pair
from synth.evaluation.images.scorecard import ScorecardSettings
from synth.evaluation.images.sets import ImageSet, join_sets
from synth.evaluation.policy import load_policy
from synth.evaluation.ranks import LEVEL, RESAMPLES, Floats, Interval, Ints
from synth.learned.promotion import Contender, Judged, choose_requests, judge_contender
from synth.learned.recipe import TrainSpec
from synth.learned.training import Trained, train_model
from synth.seeds import stream

matplotlib.use("Agg")
from matplotlib import pyplot as plt

AS_THEY_ARE, REPEATED = "as they are", "repeated"
FEATURES = ("pixels", "radiomics")
CONTROLS = "controls"  # the gate that is no alarm: it says that nothing is proven
PAIRS = 24
BINS = 40


@dataclass(frozen=True)
class Nearness:
    """Distances (images,) to the nearest training and unseen image of equal numbers, and the share nearer to one."""

    train: Floats
    unseen: Floats
    share: Interval


def repeat_images(train: ImageSet, number: int, times: int, seed: int, strangers: bool) -> tuple[ImageSet, list[str]]:
    """Return the set with ``number`` images of as many patients ``times`` times each, and the ids of these."""
    order = stream(seed, -1, -1, "benchmark/repeated").permutation(len(train))
    _, first = np.unique(train.patient[order], return_index=True)
    chosen = order[np.sort(first)[:number]]
    copies = []
    for again in range(1, times):
        part = train.select(chosen)
        columns = {"image_id": [f"{name}-again-{again}" for name in part.image_ids]}
        if strangers:
            columns["patient_id"] = columns["image_id"]
        records = part.records
        for name, values in columns.items():
            records = records.set_column(records.column_names.index(name), name, [values])
        copies.append(replace(part, records=records))
    return join_sets("train", [train, *copies]), [train.image_ids[place] for place in chosen]


def measure_nearness(images: ImageSet, train: ImageSet, unseen: ImageSet, seed: int) -> Nearness:
    """Return how near images are to training patients and to as many unseen ones, in root mean square intensity.

    Every resample draws as many patients of either side, with replacement, and images; the histogram's distances are
    those of one draw without.
    """
    rng = stream(seed, -1, -1, "benchmark/nearness")
    tables = [measure_distances(images, side) for side in (train, unseen)]
    patients = [side.patient for side in (train, unseen)]
    count = min(int(own.max()) + 1 for own in patients)

    def draw(again: bool) -> list[Floats]:
        found = []
        for table, own in zip(tables, patients, strict=True):
            taken = rng.choice(int(own.max()) + 1, count, replace=again)
            found.append(table[:, np.isin(own, taken)].min(axis=1))
        return found

    shares = []
    for _ in range(RESAMPLES):
        near, far = draw(True)
        weights = rng.multinomial(len(near), np.full(len(near), 1 / len(near)))
        shares.append(float(np.average((near < far) + 0.5 * (near == far), weights=weights)))
    low, high = np.percentile(shares, LEVEL)
    near, far = draw(False)
    return Nearness(near, far, Interval(float(np.mean(shares)), float(low), float(high)))


def measure_distances(images: ImageSet, among: ImageSet) -> Floats:
    """Return (images, among) root mean square differences of intensities."""
    first, second = (side.images(slice(None)).reshape(len(side), -1).astype(np.float64) for side in (images, among))
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) / first.shape[1]))


def train_run(spec: TrainSpec, train: ImageSet, folder: Path, minutes: float | None, times: int) -> Trained:
    """Return the trained model, and print how often it saw an image."""
    trained = train_model(spec, train, folder, minutes=minutes, tell=make_teller())
    seen = trained.steps * spec.training.batch / len(train)
    print(f"{len(train)} training images, {trained.steps} of {spec.training.steps} steps: each was seen {seen:.0f} "
          f"times" + (f", repeated ones {seen * times:.0f} times" if times > 1 else ""), flush=True)  # fmt: skip
    return trained


def judge_run(name: str, trained: Trained, data: TrainingData, train: ImageSet, count: int, seed: int) -> Judged:
    """Return what the scorecard and the gates of privacy say of images drawn by a model."""
    model = trained.generator
    settings = ScorecardSettings(features=FEATURES, utility="off", seed=seed)
    contender = Contender(name, model, model.description.code, model.measure_losses)
    requests = choose_requests(train, contender.code, count, seed)
    return judge_contender(
        contender, requests, join_reference(data, train), settings, load_policy("default"), make_teller()
    )


def print_run(judged: Judged, near: Nearness, repeated: Sequence[str]) -> dict[str, Any]:
    """Print the verdict on a model and return it as plain values."""
    report = judged.report
    alarms = [gate for gate in judged.gates if not gate.passed and gate.gate != CONTROLS]
    copied = {pair.reference_image_id.partition("-again-")[0] for pair in report.copies}
    among = f", {len(copied & set(repeated))} of them of the {len(repeated)} repeated ones" if repeated else ""
    print(f"copies: {len(report.copies)} of {len(judged.images)} images, of {len(copied)} training images{among}")
    scores = [s for s in report.scores if s.name == "copy_rate" or s.name.endswith("_auc")]
    for score in scores:
        if score.value is not None and score.low is not None and score.high is not None:
            shown = write_interval(Interval(score.value, score.low, score.high))
            print(f"   {score.name} {score.features}: {shown}")
    print(f"nearer to training patients than to as many unseen ones: {write_interval(near.share)} of the images; "
          f"median distance {np.median(near.train):.4f} and {np.median(near.unseen):.4f}")  # fmt: skip
    for control in report.controls:
        print(f"   control {control.name}: {'behaves' if control.behaves else 'MISBEHAVES: ' + control.reason}")
    print("ALARM: " + "; ".join(gate.reason for gate in alarms) if alarms else "no alarm", flush=True)
    return {
        "copies": len(report.copies),
        "copied": sorted(copied),
        "scores": {f"{s.name} {s.features}".strip(): [s.value, s.low, s.high] for s in scores},
        "nearer_to_training": list(near.share),
        "alarms": [gate.gate for gate in alarms],
        "controls_behave": report.controls_valid,
    }


def draw_histograms(runs: dict[str, Nearness], path: Path) -> None:
    """Draw distances to the nearest training and unseen image, a panel a model."""
    figure, axes = plt.subplots(1, len(runs), figsize=(11, 3.6), layout="constrained", sharex=True, sharey=True)
    largest = max(float(max(near.train.max(), near.unseen.max())) for near in runs.values())
    bins = np.linspace(0, largest, BINS + 1)
    for axis, (name, near) in zip(axes, runs.items(), strict=True):
        axis.hist(near.train, bins, alpha=0.6, color="#d55e00", label="nearest of training patients")
        axis.hist(near.unseen, bins, alpha=0.6, color="#0072b2", label="nearest of as many unseen ones")
        axis.set_title(f"training images {name}; {near.share.value:.0%} nearer to training", fontsize=10)
        axis.set_xlabel("root mean square difference of intensities")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("drawn images")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_closest(judged: Judged, train: ImageSet, path: Path) -> None:
    """Draw the pairs that the copy search finds most alike, real above drawn."""
    pairs: Sequence[Pair] = judged.report.closest[:PAIRS]
    rows = [
        _find(train, [pair.reference_image_id for pair in pairs]),
        _find(judged.images, [p.image_id for p in pairs]),
    ]
    captions = [f"{pair.score:.3f}\n{pair.reference_image_id[:20]}" for pair in pairs]
    draw_pairs(train.images(rows[0]), judged.images.images(rows[1]), captions, path)


def _find(images: ImageSet, names: Sequence[str]) -> Ints:
    places = {name: place for place, name in enumerate(images.image_ids)}
    return np.array([places[name] for name in names])


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    parser.add_argument("--folder", type=Path, required=True, help="of checkpoints, figures and pictures")
    parser.add_argument("--steps", type=int, help="of each training (default: the recipe's)")
    parser.add_argument("--minutes", type=float, help="of each training at most; it can go on later. 0: as it is")
    parser.add_argument("--images", type=int, default=600, help="that each model draws")
    parser.add_argument("--repeated", type=int, default=20, help="training images that are repeated")
    parser.add_argument("--times", type=int, default=50, help="how often each of them is in the training set")
    parser.add_argument("--strangers", action="store_true", help="each repetition as a patient of its own")
    parser.add_argument("--others", type=int, help="training images that are used at all (default: all)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return 1 if an outcome is not the expected one."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    spec = load_recipe(options.recipe, options.set + ([f"training.steps = {options.steps}"] if options.steps else []))
    found: dict[str, Any] = {}
    nearness: dict[str, Nearness] = {}
    with tempfile.TemporaryDirectory() as place:
        data = read_reference(spec, options.home, Path(place))
        order = stream(options.seed, -1, -1, "benchmark/used").permutation(len(data.train))
        plain = data.train.select(np.sort(order[: options.others]))
        many, chosen = repeat_images(plain, options.repeated, options.times, options.seed, options.strangers)
        unseen = join_sets("unseen", (data.validation, data.holdout))
        for name, train, times in ((AS_THEY_ARE, plain, 1), (REPEATED, many, options.times)):
            print(f"\n## training images {name}")
            trained = train_run(spec, train, options.folder / name.replace(" ", "-"), options.minutes, times)
            judged = judge_run(name, trained, data, train, options.images, options.seed)
            nearness[name] = measure_nearness(judged.images, plain, unseen, options.seed)
            found[name] = print_run(judged, nearness[name], chosen if times > 1 else [])
            found[name] |= {"steps": trained.steps, "finished": trained.finished}
            draw_closest(judged, train, options.folder / f"closest-{name.replace(' ', '-')}.png")
    draw_histograms(nearness, options.folder / "nearest.png")
    (options.folder / "results.json").write_text(json.dumps(found, indent=1))
    quiet, caught = not found[AS_THEY_ARE]["alarms"], "copies" in found[REPEATED]["alarms"]
    proven = all(one["controls_behave"] for one in found.values())
    print(f"\npatients as they are: {'no alarm, as expected' if quiet else 'AN ALARM, which is not expected'}")
    print(f"repeats: {'caught, as expected' if caught else 'NOT CAUGHT by the copy search'}")
    print("every control behaves" if proven else "A CONTROL MISBEHAVES, so nothing is proven")
    return 0 if quiet and caught and proven else 1


if __name__ == "__main__":
    sys.exit(main())
