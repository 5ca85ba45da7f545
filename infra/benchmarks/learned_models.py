"""Learned models side by side: fidelity as a ratio to the real-versus-real floor, use for training, and speed.

    python infra/benchmarks/learned_models.py RECIPE.toml --models FOLDER [FOLDER ...] [--baselines] [--images 600]
    python infra/benchmarks/learned_models.py RECIPE.toml --models FOLDER --speed

The recipe names the reference, in the home (COHORTIUM_HOME) it was trained from. Each model draws images that are asked
for what the training images show. ``--baselines`` trains the linear Gaussian model and the VAE of the recipe on the
spot. A ratio is that of the usual (biased) distance of as many images to unseen patients, over that of real training
images: 1 is as near as real ones. ``--speed`` compares with MONAI's own DDIM inferer: 50 steps, guidance, float32, the
same network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.inferers.inferer import DiffusionInferer
from monai.networks.schedulers.ddim import DDIMScheduler

from catalog import open_catalog
from flows.settings import Settings
from flows.training_data import TrainingData, read_training_data
from synth.evaluation.images.features.base import tell_nobody
from synth.evaluation.images.layout import Layout
from synth.evaluation.images.scorecard import ScorecardSettings, evaluate_images
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.learned.conditions import list_rows
from synth.learned.generator import Generator
from synth.learned.model_files import load_model
from synth.learned.networks import TIMES
from synth.learned.recipe import TrainSpec, load_train_spec
from synth.learned.training import train_model
from synth.seeds import stream, stream_key

DISTANCES = ("frechet_distance", "kernel_distance", "mmd_rbf", "sliced_wasserstein")
BASELINES = ("gaussian", "vae")
VAE_STEPS = 3000


def draw_cohort(model: Generator, data: TrainingData, count: int, seed: int) -> ImageSet:
    """Return ``count`` images that show what random training images show."""
    rows = list_rows(data.train, model.description.code)
    chosen = stream(seed, -1, -1, "benchmark/rows").integers(len(rows), size=count)
    asked = [rows[place] for place in chosen]
    images = model.sample(asked, [stream_key(seed, place, 0, "benchmark/noise") for place in range(count)])
    columns = {a.name: [row[a.name] for row in asked] for a in model.description.attributes}
    return make_image_set(model.description.name, images, columns, model.description.attributes)


def train_baseline(family: str, spec: TrainSpec, data: TrainingData, folder: Path) -> Generator:
    """Return a baseline of the recipe's data and attributes."""
    architecture = spec.architecture.model_copy(update={"name": family, "channels": (32, 64, 128), "latent": 128})
    training = spec.training.model_copy(update={"steps": VAE_STEPS, "batch": 64, "rate": 1e-3, "precision": "float32"})
    sampler = spec.sampler.model_copy(update={"guidance": 1.0})
    changed = {"architecture": architecture, "training": training, "sampler": sampler, "few_steps": None}
    return train_model(spec.model_copy(update=changed), data.train, folder / family).generator


def compare(name: str, model: Generator, data: TrainingData, count: int, seed: int, utility: str, folder: Path) -> None:
    """Print the scores of one model."""
    began = time.perf_counter()
    images = draw_cohort(model, data, count, seed)
    seconds = time.perf_counter() - began
    real = RealImages(
        data.reference,
        data.fingerprint,
        data.train,
        data.validation,
        data.holdout,
        Layout(data.train.shape, "absolute"),
    )
    families = ("fidelity", "diversity", "adherence") + (("utility",) if utility != "off" else ())
    settings = ScorecardSettings(families=families, utility=utility, seed=seed, folder=folder)  # type: ignore[arg-type]
    report = evaluate_images(images, real, settings)
    print(f"\n## {name}: {count} images in {seconds:.1f} s ({count / seconds:.1f} a second)")
    for score in report.scores:
        if score.subgroup or score.value is None:
            continue
        interval = f"({score.low:.3g} to {score.high:.3g})" if score.low is not None else ""
        control = "" if score.control is None else f"control {score.control:.4g}"
        print(f"{score.name:34} {score.features:10} {score.value:8.4g} {interval:22} {control}")


def compare_speed(model: Generator, data: TrainingData, count: int, seed: int) -> None:
    """Print images a second of the model and of MONAI's DDIM inferer on the same network."""
    rows = [list_rows(data.train, model.description.code)[place % len(data.train)] for place in range(count)]
    codes = model.encode(rows)
    empty = torch.zeros_like(codes)
    scheduler = DDIMScheduler(num_train_timesteps=TIMES, clip_sample=False)
    scheduler.set_timesteps(50)
    network = model.network

    def guided(x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        times = timesteps.expand(2 * len(x)).float() / TIMES
        both = network(torch.cat([x, x]), times, torch.cat([codes[: len(x)], empty[: len(x)]]))
        asked, free = both.chunk(2)
        return free + 1.5 * (asked - free)

    noise = torch.from_numpy(
        stream(seed, -1, -1, "benchmark/speed").standard_normal((count, 1, *model.description.shape), np.float32)
    )
    with torch.no_grad():
        began = time.perf_counter()
        DiffusionInferer(scheduler).sample(noise, guided, scheduler, verbose=False)
        theirs = count / (time.perf_counter() - began)
    model.sample(rows[:1], [0])
    began = time.perf_counter()
    model.sample(rows, list(range(count)))
    ours = count / (time.perf_counter() - began)
    sampler = model.description.sampler
    print(f"{model.description.name}: {sampler.steps} {sampler.solver} steps, guidance {sampler.guidance:g}")
    print(f"MONAI DDIM-50 with guidance {theirs:.2f} images a second; ours {ours:.2f}; ratio {ours / theirs:.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="recipe of training; names reference, grid and attributes")
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="folders of models")
    parser.add_argument("--baselines", action="store_true", help="train the linear Gaussian model and the VAE too")
    parser.add_argument("--sampler", action="append", default=[], help="also with STEPS:SOLVER:GUIDANCE")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--utility", default="quick", choices=("off", "quick", "full"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true", help="only the speed of sampling")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    spec = load_train_spec(options.recipe)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with open_catalog(Settings().home) as catalog:
            data = read_training_data(catalog, spec, folder, tell_nobody)
        models = [(path.name, load_model(path)) for path in options.models]
        if options.speed:
            for _, model in models:
                compare_speed(model, data, min(options.images, 64), options.seed)
            return
        for text in options.sampler:
            steps, solver, guidance = text.split(":")
            changed = {"steps": int(steps), "solver": solver, "guidance": float(guidance)}
            models += [
                (f"{name} {text}", model.with_sampler(**changed)) for name, model in models[: len(options.models)]
            ]
        models += [(family, train_baseline(family, spec, data, folder)) for family in BASELINES if options.baselines]
        for name, model in models:
            compare(name, model, data, options.images, options.seed, options.utility, folder)


if __name__ == "__main__":
    main()
