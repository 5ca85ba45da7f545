"""The arms of a utility score: on what each is trained, and the networks that answer all questions of it at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from synth.evaluation.images.features.base import Tell
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import ConvolutionBlock, initialise_parameters, make_generator, make_linear
from synth.evaluation.images.utility.settings import TrainingSettings, UtilitySettings
from synth.evaluation.images.utility.training import Phase, Pool, predict, train_network

MOST_SYNTHETIC = 0.5  # of a batch of the mixed arm: real images are never outnumbered, however many are made
RAREST = 0.05  # a rarer answer gets no more weight than this share would

Loss = Callable[[Tensor, Tensor], Tensor]
Arms = Mapping[str, tuple[Phase, ...]]
Teach = Callable[[tuple[Phase, ...], Tensor, int, str, TrainingSettings], NDArray[Any]]


class Classifier(nn.Module):
    """(n, 1, *grid) images -> (n, answers) logits.

    Cells of 2 x 2 (x 2) pixels are folded into channels first: all detail for the price of half the grid.
    """

    def __init__(self, dimensions: int, widths: Sequence[int], answers: int) -> None:
        super().__init__()
        pairs = zip((2**dimensions, *widths[:-1]), widths, strict=True)
        self.stages = nn.ModuleList(
            [ConvolutionBlock(dimensions, a, b, 1 if place == 0 else 2) for place, (a, b) in enumerate(pairs)]
        )
        self.head = make_linear(widths[-1], answers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        values = fold_cells(images)
        for stage in self.stages:
            values = stage(values)
        return torch.as_tensor(self.head(values.flatten(2).mean(dim=2)))


def fold_cells(images: Tensor) -> Tensor:
    """Return (n, c * 2**d, *half the grid): cells of 2 pixels along every axis as channels; odd grids are padded."""
    missing = [size % 2 for size in images.shape[2:]]
    values = functional.pad(images, [pad for odd in reversed(missing) for pad in (0, odd)])
    for axis in range(2, images.ndim):
        values = torch.cat([values.unfold(axis, 2, 2)[..., part] for part in (0, 1)], dim=1)
    return values


def weigh_answers(phases: Sequence[Phase]) -> Tensor:
    """Return (2, answers) weights of no and yes, so that both count alike in a training; rare ones up to a limit."""
    parts = [(phase.share * n, pool) for phase in phases for pool, n in zip(phase.pools, phase.counts, strict=True)]
    yes, no = (sum(w * (pool.answers == value).float().mean(0) for w, pool in parts) for value in (1, 0))
    share = torch.nan_to_num(torch.as_tensor(yes / (yes + no)), 0.5).clamp(RAREST, 1 - RAREST)
    return torch.stack([0.5 / (1 - share), 0.5 / share])


def make_loss(weights: Tensor) -> Loss:
    """Return the mean weighted cross-entropy of logits over the answers that are known (missing ones are NaN)."""

    def measure(logits: Tensor, answers: Tensor) -> Tensor:
        known = ~answers.isnan()
        said = torch.where(known, answers, 0.0)
        weight = torch.where(said > 0.5, weights[1], weights[0]) * known
        losses = functional.binary_cross_entropy_with_logits(logits, said, reduction="none")
        return (weight * losses).sum() / known.sum().clamp_min(1)

    return measure


def plan_arms(names: Sequence[str], real: Pool, synthetic: Pool | None, batch: int) -> dict[str, tuple[Phase, ...]]:
    """Return the phases of the arms called ``names``; those that need synthetic images are left out without them.

    In the mixed arm a batch is half synthetic at most; in the duplicated arm real images take those places.
    """
    phases: dict[str, tuple[Phase, ...]] = {"real": (Phase((real,), (batch,)),)}
    if synthetic is not None:
        counts = split_batch(len(real), len(synthetic), batch)
        alone = Phase((synthetic,), (batch,))
        phases["synthetic"] = (alone,)
        phases["mixed"] = (Phase((real, synthetic), counts),)
        phases["pretrained"] = (replace(alone, share=0.5), Phase((real,), (batch,), 0.5))
        phases["duplicated"] = (Phase((real, real), counts),)
    return {name: phases[name] for name in names if name in phases}


def split_batch(real: int, synthetic: int, batch: int) -> tuple[int, int]:
    """Return how many real and synthetic images are in a batch of the mixed arm, at least one of each."""
    share = min(MOST_SYNTHETIC, synthetic / (real + synthetic))
    count = min(max(1, round(share * batch)), batch - 1)
    return batch - count, count


def teach_classifier(
    phases: tuple[Phase, ...], holdout: Tensor, seed: int, stage: str, settings: TrainingSettings
) -> Floats32:
    """Train one network and return (n, answers) probabilities of the holdout images."""
    pool = phases[0].pools[0]
    model = Classifier(pool.pixels.ndim - 2, settings.widths, pool.answers.shape[1])
    generator = make_generator(seed, stage)
    initialise_parameters(model, generator)
    model.to(settings.device)
    loss = make_loss(weigh_answers(phases).to(settings.device))
    for _ in train_network(model, phases, loss, settings, generator):
        pass
    return np.asarray(torch.sigmoid(predict(model, holdout, settings)), np.float32)


def train_arms(
    arms: Arms,
    holdout: Tensor,
    seed: int,
    settings: UtilitySettings,
    tell: Tell,
    teach: Teach = teach_classifier,
) -> dict[str, NDArray[Any]]:
    """Return, for each arm, what networks of ``teach`` say of the holdout: (seeds, holdout images, answers).

    Each network is trained in one thread, ``settings.workers`` at a time: the scores do not depend on how many there
    are, and on a busy machine threads of one network would wait for each other.
    """
    jobs = list(product(arms, range(settings.seeds)))
    found: dict[str, list[NDArray[Any]]] = {name: [np.empty(0)] * settings.seeds for name in arms}
    limit = {"initializer": threadpool_limits, "initargs": (1,)}
    with threadpool_limits(1), ThreadPoolExecutor(settings.workers, **limit) as threads:
        running = {
            threads.submit(teach, arms[name], holdout, seed, f"utility/{name}/{number}", settings.training): (
                name,
                number,
            )
            for name, number in jobs
        }
        try:
            for done, finished in enumerate(as_completed(running), 1):
                name, number = running[finished]
                found[name][number] = finished.result()
                tell("utility networks", done, len(jobs))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)  # if one fails or the user stops, no other is begun
    return {name: np.stack(rows) for name, rows in found.items()}
