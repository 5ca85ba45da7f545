"""Images a second of few-step models beside MONAI's own DDIM inferer on the same network, and the quality of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from learned_data import Row, choose_rows, write_interval
from learned_floor import Yardstick
from monai.inferers.inferer import DiffusionInferer
from monai.networks.schedulers.ddim import DDIMScheduler

from flows.training_data import TrainingData
from synth.errors import ModelError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.quality.fidelity import measure_fidelity
from synth.evaluation.images.quality.kernels import compare_kernels
from synth.evaluation.images.sets import make_image_set
from synth.evaluation.images.sides import Side
from synth.learned.ddpm import _SCHEDULE
from synth.learned.generator import Generator
from synth.learned.networks import TIMES
from synth.learned.shapes import to_images
from synth.seeds import stream_from_key, stream_key

DDIM, STEPS, MOST_BATCH = "MONAI DDIM-50", 50, 64
SCORE = "kernel_distance"
Draw = Callable[[Sequence[Row], Sequence[int]], Floats32]


def make_ddim(model: Generator) -> Draw:
    """Return what draws by MONAI's inferer and its own guidance, in float32, from a network of family ddpm."""
    scheduler = DDIMScheduler(num_train_timesteps=TIMES, clip_sample=False, **_SCHEDULE)
    scheduler.set_timesteps(STEPS)
    inferer: Any = DiffusionInferer(scheduler)  # its types ask for a class, not for what can be called
    guidance = model.description.sampler.guidance

    def look(x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor | None = None) -> Any:
        return model.network(x, timesteps.expand(len(x)).float() / TIMES, context)

    def draw(rows: Sequence[Row], keys: Sequence[int]) -> Floats32:
        shape = model.description.shape
        noise = np.stack([stream_from_key(key).standard_normal(shape, np.float32) for key in keys])[:, None]
        signal = inferer.sample(
            torch.from_numpy(noise), look, scheduler, conditioning=model.encode(rows), verbose=False,
            cfg=guidance, cfg_fill_value=0.0,
        )  # fmt: skip
        return to_images(signal)[:, 0].numpy()

    return draw


def check_networks(models: Mapping[str, Generator]) -> None:
    """Raise ModelError unless all networks are the same but for their weights."""
    ddpm = models["ddpm"].description
    if ddpm.architecture.name != "ddpm":
        raise ModelError(f"--ddpm: '{ddpm.name}' is of family {ddpm.architecture.name}, not ddpm.")
    for name, model in models.items():
        own = model.description
        if (own.architecture.model_copy(update={"name": "ddpm"}), own.shape) != (ddpm.architecture, ddpm.shape):
            raise ModelError(f"'{name}' has another network than ddpm, so that speeds would say nothing of samplers.")


def compare_speed(
    models: Mapping[str, Generator], data: TrainingData, sticks: Sequence[Yardstick], count: int, seed: int
) -> None:
    """Print images a second and kernel distances of every model and of MONAI's inferer on the network of ``ddpm``."""
    check_networks(models)
    drawers: dict[str, Draw] = {DDIM: make_ddim(models["ddpm"])}
    drawers |= {name: model.sample for name, model in models.items() if name != "ddpm"}
    size = min(models["ddpm"].description.batch, MOST_BATCH)
    count = max(size, count - count % size)  # whole batches, as one that is not full costs as much
    rows = choose_rows(models["ddpm"], data.train, count, seed)
    keys = [stream_key(seed, place, 0, "benchmark/speed") for place in range(count)]
    seconds: dict[str, list[float]] = {name: [] for name in drawers}
    images: dict[str, list[Floats32]] = {name: [] for name in drawers}
    for draw in drawers.values():
        draw(rows[:size], keys[:size])  # the first call is slower
    for start in range(0, count, size):
        for name, draw in drawers.items():
            began = time.perf_counter()
            images[name].append(draw(rows[start : start + size], keys[start : start + size]))
            seconds[name].append(time.perf_counter() - began)
    print(f"{count} images of {' x '.join(map(str, data.train.shape))} in batches of {size}, by turns; "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    for name, model in sorted(models.items(), key=lambda item: item[0] != "ddpm"):
        print_speed(DDIM if name == "ddpm" else name, model, seconds, size)
    compare_distances({name: np.concatenate(parts) for name, parts in images.items()}, sticks, seed)


def print_speed(name: str, model: Generator, seconds: Mapping[str, Sequence[float]], size: int) -> None:
    """Print images a second, and the ratio to MONAI's, with the lowest and highest of single batches."""
    sampler, own, theirs = model.description.sampler, np.asarray(seconds[name]), np.asarray(seconds[DDIM])
    how = "float32" if name == DDIM else f"{sampler.steps} {sampler.solver} steps, {sampler.precision}"
    text = f"{name}: {size * len(own) / own.sum():.2f} images a second ({how}, guidance {sampler.guidance:g})"
    if name != DDIM:
        ratios = theirs / own
        text += f"; ratio {theirs.sum() / own.sum():.1f} (batches {ratios.min():.1f} to {ratios.max():.1f})"
    print(text, flush=True)


def compare_distances(images: Mapping[str, Floats32], sticks: Sequence[Yardstick], seed: int) -> None:
    """Print KID of each sampler, and its paired difference from MONAI's, in every kind of features."""
    for stick in sticks:
        sides = {name: stick.measure(make_image_set(name, drawn)) for name, drawn in images.items()}
        sides = {name: Side(side.features, np.arange(len(side))) for name, side in sides.items()}
        for name, side in sides.items():
            found = measure_fidelity(side, stick.unseen, features=stick.name, seed=seed)
            score = next(one for one in found if one.name == SCORE)
            if score.value is None:
                print(f"{stick.name}: KID of {name} not measurable: {score.reason}")
                continue
            text = f"{stick.name}: KID of {name} {score.value:.3g} ({score.low:.3g} to {score.high:.3g})"
            if name != DDIM:
                difference = compare_kernels(side, sides[DDIM], stick.unseen, seed)[SCORE]
                text += f"; minus that of {DDIM} {write_interval(difference)}"
            print(text, flush=True)
