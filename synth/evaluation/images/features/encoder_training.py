"""How an encoder learns from training patients: to tell their attributes, and to know a changed image again.

The second, VICReg (Bardes et al., ICLR 2022), needs no attributes, so that any reference can have an encoder.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from synth.evaluation.images.features.augmentation import augment_images
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.features.encoder import Encoder, EncoderForm, EncoderNetwork, embed_images
from synth.evaluation.images.features.encoder_lessons import EncoderSettings, Lesson, prepare_lessons
from synth.evaluation.images.features.fitting import check_enough
from synth.evaluation.images.networks import initialise_parameters, make_generator, make_linear
from synth.evaluation.images.sets import RealImages
from synth.evaluation.images.tasks import Task, find_tasks
from synth.seeds import stream

LEAST_IMAGES = 30
LEAST_VALIDATION = 8  # below it, nothing says when to stop
EMBEDDED_AT_ONCE = 1024
WARM_UP = 0.1  # share of the steps in which the learning rate rises
STEADY, SPREAD, APART = 1.0, 1.0, 0.2  # VICReg has 25, 25 and 1; few images need more of the last, measured


BATCHES, STEP_SHARES = {2: 64, 3: 16}, {2: 1.0, 3: 0.5}


class _Learner(nn.Module):
    """The network with what is thrown away after training: heads of the tasks, and the projector of VICReg."""

    def __init__(self, form: EncoderForm, tasks: Sequence[Task], baseline: Tensor) -> None:
        super().__init__()
        self.network = EncoderNetwork(form)
        self.heads = make_linear(form.embedding, len(tasks)) if tasks else None
        self.projector = nn.Sequential(make_linear(form.embedding, 128), nn.ReLU(), make_linear(128, 128))
        self.binary = torch.tensor([task.kind == "binary" for task in tasks])
        self.baseline = baseline  # loss (tasks,) of one who knows only how frequent each answer is

    def forward(self, first: Tensor, second: Tensor, answers: Tensor) -> Tensor:
        """Return the loss of two changed copies (n, 1, *grid) of the same images; 2 is what knows nothing."""
        embedded = self.network(first), self.network(second)
        loss = measure_sameness(*(self.projector(each) for each in embedded))
        if self.heads is not None:
            loss = loss + sum(self._miss(self.heads(each), answers) for each in embedded) / 2
        return loss

    def _miss(self, guesses: Tensor, answers: Tensor) -> Tensor:
        """Return the loss over its baseline, averaged over the tasks that have an answer here."""
        known = ~answers.isnan()
        truth = torch.where(known, answers, 0.5)
        unsure = functional.binary_cross_entropy_with_logits(guesses, truth.clamp(0, 1), reduction="none")
        loss = torch.where(self.binary.to(guesses.device), unsure, (guesses - truth) ** 2)
        number = known.sum(dim=0)
        each = (loss * known).sum(dim=0) / number.clamp(min=1) / self.baseline.to(guesses.device)
        return each[number > 0].sum() / (number > 0).sum().clamp(min=1)


def measure_sameness(first: Tensor, second: Tensor) -> Tensor:
    """Return VICReg's loss of two (n, d) projections: copies agree, dimensions vary and do not repeat each other."""
    total = STEADY * functional.mse_loss(first, second)
    for each in (first, second):
        away = each - each.mean(dim=0)
        covariance = away.T @ away / max(1, len(each) - 1)
        spread = (covariance.diagonal() + 1e-4).sqrt()
        apart = (covariance**2).sum() - (covariance.diagonal() ** 2).sum()
        total = total + SPREAD * functional.relu(1 - spread).mean() / 2 + APART * apart / each.shape[1] / 2
    return total


def fit_encoder(
    real: RealImages, settings: EncoderSettings | None = None, device: str = "cpu", tell: Tell = tell_nobody
) -> Encoder:
    """Return an encoder that learned from the training images and stopped by the validation images.

    Raises TooFewImagesError below 30 training images.
    """
    settings = settings or EncoderSettings()
    check_enough(real.train, LEAST_IMAGES, "an encoder's training")
    tasks = find_tasks(real.train)
    form, lesson, exam = prepare_lessons(real, settings, tasks)
    learner = _Learner(form, tasks, _measure_baseline(lesson.answers, tasks))
    initialise_parameters(learner, make_generator(settings.seed, "encoder/weights"))
    learner.to(device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        learned = _train(learner, lesson, exam, settings, device, tell)
    network = learner.network.eval()
    parts = torch.split(lesson.images[:, 0], EMBEDDED_AT_ONCE)
    features = np.concatenate([embed_images(network, part.float().numpy()) for part in parts])
    weights = {name: values.detach().cpu() for name, values in network.state_dict().items()}
    spread = np.maximum(features.std(axis=0), 1e-6)
    learned |= {"tasks": [task.name for task in tasks], "images": len(lesson), "seed": settings.seed}
    return Encoder(form, weights, features.mean(axis=0), spread, learned, device)


def _measure_baseline(answers: Tensor, tasks: Sequence[Task]) -> Tensor:
    """Return the loss of each task if its mean is all that is known: entropy of a frequency, 1 of a scaled number."""
    found = torch.ones(len(tasks))
    for place, task in enumerate(tasks):
        if task.kind == "binary":
            share = answers[:, place].nanmean().clamp(0.01, 0.99)
            found[place] = -(share * share.log() + (1 - share) * (1 - share).log())
    return found


def _deal(count: int, batch: int, steps: int, order: np.random.Generator) -> Iterator[Tensor]:
    """Yield the places of each batch; every image is seen once before any is seen again."""
    waiting = np.empty(0, np.int64)
    for _ in range(steps):
        if len(waiting) < batch:
            waiting = np.concatenate([waiting, order.permutation(count)])
        yield torch.from_numpy(waiting[:batch].copy())
        waiting = waiting[batch:]


def _train(
    learner: _Learner, lesson: Lesson, exam: Lesson, settings: EncoderSettings, device: str, tell: Tell
) -> dict[str, Any]:
    """Train in place, end at the best weights, and tell how it went."""
    dimensions = lesson.images.ndim - 2
    batch, steps = settings.batch or BATCHES[dimensions], round(settings.steps * STEP_SHARES[dimensions])
    optimiser = torch.optim.AdamW(learner.parameters(), settings.rate, weight_decay=settings.decay)
    changes = make_generator(settings.seed, "encoder/changes")
    order = stream(settings.seed, -1, -1, "encoder/order")
    best, best_step, history = math.inf, 0, {}
    state = copy.deepcopy(learner.state_dict())
    for step, places in enumerate(_deal(len(lesson), min(batch, len(lesson)), steps, order), start=1):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * _scale_rate(step / steps)
        images, answers = lesson.take(places, device)
        loss = learner(augment_images(images, changes), augment_images(images, changes), answers)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tell("training the encoder", step, steps)
        if step % settings.check and step < steps:
            continue
        history[step] = _examine(learner, exam, settings, device) if len(exam) >= LEAST_VALIDATION else -float(step)
        if history[step] < best:
            best, best_step, state = history[step], step, copy.deepcopy(learner.state_dict())
        elif step - best_step >= settings.patience * settings.check:
            break
    learner.load_state_dict(state)
    return {"steps": best_step, "validation_loss": {str(step): round(loss, 4) for step, loss in history.items()}}


def _scale_rate(done: float) -> float:
    """Return the share of the learning rate: it rises, then falls as a cosine (Loshchilov and Hutter, ICLR 2017)."""
    return min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * done)))


def _examine(learner: _Learner, exam: Lesson, settings: EncoderSettings, device: str) -> float:
    """Return the loss on validation images, changed in the same way each time."""
    changes = make_generator(settings.seed, "encoder/exam")
    images, answers = exam.take(slice(None), device)
    with torch.no_grad():
        return float(learner(augment_images(images, changes), augment_images(images, changes), answers))
