"""Learned models side by side: distances as a ratio to the real-versus-real floor, use for training, and speed.

    python infra/benchmarks/learned_models.py RECIPE.toml --models FOLDER [FOLDER ...] [--baselines gaussian vae ddpm]
    python infra/benchmarks/learned_models.py RECIPE.toml --models FOLDER [FOLDER ...] --ddpm FOLDER --speed

Each model draws as many images as there are training images, asked for what these show. Baselines are trained on the
spot, on the recipe's data, batch, rate and steps or for ``--baseline-minutes``; with ``--folder`` they are kept, and go
on where they stopped (0 minutes: as they are). ``ddpm`` has the recipe's own network and is drawn by DDIM in 50 steps
with the recipe's guidance. See learned_floor.py about ratios, 1 being as near to unseen patients as real images.

``--speed`` draws the same requests with MONAI's own DDIM inferer (50 steps, its guidance, float32) from the network of
``--ddpm`` or of the baseline, and with each of the models as they are saved, in turns of one batch, after one batch of
each to warm up. The networks must be the same but for their weights. Printed are images a second, ratios, and the
paired difference of kernel distances to unseen patients (below 0: nearer than DDIM's).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from learned_data import (
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
from learned_floor import Yardstick, make_yardsticks, match_sizes, measure_ratios
from learned_speed import compare_speed

from flows.settings import load_settings
from flows.training_data import TrainingData
from synth.evaluation.images.adherence import Judges, measure_adherence
from synth.evaluation.images.quality.diversity import measure_diversity
from synth.evaluation.images.quality.fidelity import measure_fidelity
from synth.evaluation.images.scorecard import FEATURES
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.evaluation.images.tasks import find_tasks
from synth.evaluation.images.utility.measure import measure_utility
from synth.evaluation.images.utility.settings import UtilitySettings
from synth.evaluation.metric import Score
from synth.learned.generator import Generator
from synth.learned.model_files import load_model
from synth.learned.recipe import TrainSpec
from synth.learned.training import train_model

BASELINES = ("gaussian", "vae", "ddpm")
DDIM_STEPS = 50
SHORT = 16  # letters of a name, which may be a hash
PLAIN: dict[str, Any] = {"channels": (32, 64, 128), "latent": 128, "autoencoder": None}  # of gaussian and vae
VAE: dict[str, Any] = {"steps": 3000, "batch": 64, "rate": 1e-3, "precision": "float32"}


def train_baseline(
    family: str, spec: TrainSpec, data: TrainingData, folder: Path, minutes: float | None = None
) -> Generator:
    """Return a baseline of the recipe's data and attributes; it goes on at a checkpoint in ``folder``."""
    changed: dict[str, Any] = {"few_steps": None, "privacy": None, "start": None}
    if family == "ddpm":
        changed["architecture"] = spec.architecture.model_copy(update={"name": family, "autoencoder": None})
        changed["sampler"] = spec.sampler.model_copy(update={"steps": DDIM_STEPS})
    else:
        changed["architecture"] = spec.architecture.model_copy(update={"name": family, **PLAIN})
        changed["training"] = spec.training.model_copy(update=VAE)
        changed["sampler"] = spec.sampler.model_copy(update={"guidance": 1.0})
    asked = TrainSpec.model_validate({**spec.model_dump(), **{k: _dump(v) for k, v in changed.items()}})
    trained = train_model(asked, data.train, folder / family, minutes=minutes, tell=make_teller())
    if trained.losses:
        print(f"baseline {family}: {trained.steps} of {asked.training.steps} steps")
    return trained.generator


def _dump(part: Any) -> Any:
    return part.model_dump() if part is not None else None


def compare(
    name: str, images: ImageSet, real: RealImages, sticks: Sequence[Yardstick], seed: int, utility: str
) -> None:
    """Print the scores of one model's images."""
    for stick in sticks:
        drawn = stick.measure(images)
        ratios = measure_ratios(drawn, stick.train, stick.unseen, seed)
        print(f"{stick.name}: " + "; ".join(f"{what} {write_interval(r)} of the floor" for what, r in ratios.items()))
        own, known = match_sizes(drawn, stick.train, seed)
        for measure in (measure_fidelity, measure_diversity):
            found = [measure(side, stick.unseen, features=stick.name, seed=seed) for side in (own, known)]
            for score, floor in zip(*found, strict=True):
                print_score(score, floor.value)
    leading = sticks[0]
    judges = Judges(find_tasks(real.train), real.train, leading.train.features)
    for score in measure_adherence(judges, images, leading.measure(images).features, kind=leading.name, seed=seed):
        print_score(score, None)
    if utility != "off":
        found_utility = measure_utility(images, real, seed=seed, settings=UtilitySettings.preset(utility))
        for score in found_utility.scores:
            print_score(score, score.control)


def print_score(score: Score, control: float | None) -> None:
    """Print a score that could be measured, with its interval and its control."""
    if score.value is None:
        return
    interval = f"({score.low:.3g} to {score.high:.3g})" if score.low is not None else ""
    text = "" if control is None else f"control {control:.4g}"
    print(f"   {score.name:34} {score.features:10} {score.value:9.4g} {interval:24} {text}", flush=True)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="folders of models")
    parser.add_argument("--baselines", nargs="*", default=[], choices=BASELINES, help="families to train besides")
    parser.add_argument("--baseline-minutes", type=float, help="of each baseline; 0: as it is (default: to its end)")
    parser.add_argument("--folder", type=Path, help="where baselines and their checkpoints are kept")
    parser.add_argument("--ddpm", type=Path, help="folder of a trained model of family ddpm, for --speed and the table")
    parser.add_argument("--sampler", action="append", default=[], help="the models also with STEPS:SOLVER:GUIDANCE")
    parser.add_argument("--images", type=int, help="of each model (default: as many as train)")
    parser.add_argument("--features", nargs="+", default=list(FEATURES))
    parser.add_argument("--utility", default="quick", choices=("off", "quick", "full"))
    parser.add_argument("--speed", action="store_true", help="the speed of sampling, and nothing else")
    return parser.parse_args(arguments)


def name_model(path: Path, among: Sequence[Path]) -> str:
    """Return a short name of a model's folder, with the folder above it where others are called the same."""
    name = path.name[:SHORT]
    return name if [other.name for other in among].count(path.name) == 1 else f"{path.resolve().parent.name}/{name}"


def gather_models(options: argparse.Namespace, spec: TrainSpec, data: TrainingData, folder: Path) -> dict[str, Any]:
    """Return all models by name; the one of family ddpm is called ddpm."""
    models = {name_model(path, options.models): load_model(path) for path in options.models}
    models |= {
        f"{name} {text}": change_sampler(model, text) for text in options.sampler for name, model in models.items()
    }
    if options.ddpm:
        models["ddpm"] = load_model(options.ddpm).with_sampler(steps=DDIM_STEPS)
    wanted = [family for family in options.baselines if family not in models]
    if options.speed:
        wanted = [] if "ddpm" in models else ["ddpm"]
    return models | {f: train_baseline(f, spec, data, folder, options.baseline_minutes) for f in wanted}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    spec = load_recipe(options.recipe, options.set)
    with tempfile.TemporaryDirectory() as place:
        data = read_reference(spec, options.home, Path(place))
        real, kept = join_reference(data), options.folder or Path(place)
        models = gather_models(options, spec, data, kept)
        encoders = load_settings(options.home).encoder_folder
        sticks = make_yardsticks(real, options.features, encoders, make_teller())
        count = options.images or len(data.train)
        if options.speed:
            compare_speed(models, data, sticks, count, options.seed)
            return
        print(f"{len(data.train)} training images, {len(sticks[0].unseen)} of unseen patients, {count} drawn")
        for name, model in models.items():
            began = time.perf_counter()
            images = draw_images(model, choose_rows(model, data.train, count, options.seed), options.seed, name)
            seconds = time.perf_counter() - began
            print(f"\n## {name}: {count} images in {seconds:.1f} s ({count / seconds:.2f} a second)", flush=True)
            compare(name, images, real, sticks, options.seed, options.utility)


if __name__ == "__main__":
    main()
