"""What an image shows, read back by networks that learned it from real training patients and were examined on others.

A request is met if the reading is no further from it than 95 % of the readings of real, unseen patients are from the
truth; a yes or no, also if it is read as the likelier one. So a weak reader allows much and says so: its tolerance, and
its AUC or mean error with intervals, stand beside every reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import Trunk, initialise_parameters, make_generator, make_linear
from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.evaluation.images.tasks import Task, find_tasks
from synth.evaluation.images.utility.settings import TrainingSettings
from synth.evaluation.images.utility.training import Phase, Pool, choose_grid, load_pixels, predict, train_network
from synth.evaluation.ranks import RESAMPLES, Floats, Interval, auc_interval
from synth.nouns import AttributeValue, Measurement
from synth.seeds import stream

READERS = 3  # networks whose answers are averaged
INSIDE = 0.95  # share of real, unseen images that lie within the tolerance
LEAST_EXAMINED = 5  # real, unseen images with and without; a reader that cannot be examined is not used
USELESS = 0.5  # lower end of an AUC's interval at or below which reading is guessing
RIGHT_SIDE = 0.5  # a yes that is read as likelier than no is met, however sure the reader is of real images
STEPS = 600


@dataclass(frozen=True)
class Reading:
    """One thing that is read, and how well, on ``images`` of real patients who were not learned from.

    ``quality`` is the AUC of a yes-no question or the mean error of a number; ``centre`` and ``spread`` scale a number.
    """

    task: Task
    quality: float
    low: float
    high: float
    images: int
    tolerance: float
    centre: float = 0.0
    spread: float = 1.0

    @property
    def unit(self) -> str:
        """The unit of a reading."""
        return "probability" if self.task.kind == "binary" else "years" if "years" in self.task.name else "1"


class ReaderNetwork(nn.Module):
    """READERS small networks; (n, 1, *grid) images -> (n, tasks) logits or scaled numbers, averaged."""

    def __init__(self, dimensions: int, tasks: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.trunks = nn.ModuleList([Trunk(dimensions, widths) for _ in range(READERS)])
        self.heads = nn.ModuleList([make_linear(widths[-1], tasks) for _ in range(READERS)])

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of the readers' answers."""
        found = [head(trunk(images)) for trunk, head in zip(self.trunks, self.heads, strict=True)]
        return torch.stack(found).mean(dim=0)


@dataclass(frozen=True)
class Measurer:
    """Reads attributes of images of ``shape``."""

    shape: tuple[int, ...]
    readings: tuple[Reading, ...]
    network: ReaderNetwork
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def read(self, images: Floats32) -> Floats:
        """Return (n, readings) probabilities of yes, or numbers in their unit."""
        stored = make_image_set("read", images)
        pixels = load_pixels(stored, choose_grid(self.shape, self.settings), np.ones(len(stored), bool))
        alone = [
            predict(self.network, pixel, self.settings) for pixel in torch.split(pixels, 1)
        ]  # the same in any company
        return scale_answers(torch.cat(alone), self.readings)

    def measure(self, row: Mapping[str, AttributeValue], read: Floats) -> tuple[Measurement, ...]:
        """Return what was asked for beside what was ``read`` (readings,), of all that the row names."""
        found = []
        for reading, value in zip(self.readings, read, strict=True):
            wanted = answer_request(reading.task, row.get(reading.task.attribute))
            if wanted is not None:
                name = f"shown {reading.task.name}"
                found.append(Measurement(name, reading.unit, wanted, float(value), reading.tolerance))
        return tuple(found)

    def describe(self) -> list[dict[str, Any]]:
        """Return what is read and how well, as plain facts."""
        return [asdict(reading) for reading in self.readings]


def answer_request(task: Task, value: AttributeValue) -> float | None:
    """Return what a reading should be if ``value`` was asked for; None if nothing was."""
    if value is None:
        return None
    if task.kind == "number":
        return float(value)  # type: ignore[arg-type]
    return float(task.label in value if isinstance(value, list | tuple) else value == task.label)


def scale_answers(answers: Tensor, readings: Sequence[Reading]) -> Floats:
    """Return probabilities and numbers of a network's answers (n, readings)."""
    found = answers.double().numpy()
    for place, reading in enumerate(readings):
        if reading.task.kind == "binary":
            found[:, place] = 1 / (1 + np.exp(-found[:, place]))
        else:
            found[:, place] = reading.centre + reading.spread * found[:, place]
    return np.asarray(found, np.float64)


def fit_measurer(
    train: ImageSet,
    unseen: ImageSet,
    attributes: Sequence[str],
    seed: int,
    *,
    steps: int = STEPS,
    tell: Tell = tell_nobody,
) -> Measurer | None:
    """Return a measurer of ``attributes`` that learned from ``train`` and was examined on the ``unseen`` patients.

    What cannot be told from real images (the interval of the AUC holds 0.5) is not read. None if nothing can be.
    """
    tasks = tuple(task for task in find_tasks(train) if task.attribute in attributes)
    if not tasks or not len(unseen):
        return None
    settings = TrainingSettings(steps=steps)
    grid, every = choose_grid(train.shape, settings), np.ones(len(train), bool)
    answers = np.stack([task.targets(train) for task in tasks], axis=1).astype(np.float32)
    scales = [_find_scale(task, answers[:, place]) for place, task in enumerate(tasks)]
    scaled = (answers - [c for c, _ in scales]) / [s for _, s in scales]
    pool = Pool(load_pixels(train, grid, every), torch.from_numpy(scaled.astype(np.float32)))
    network = ReaderNetwork(len(train.shape), len(tasks), settings.widths)
    generator = make_generator(seed, "measurer")
    initialise_parameters(network, generator)
    binary = torch.tensor([task.kind == "binary" for task in tasks])
    weight = _balance(scaled, binary)
    for number in range(READERS):
        reader = nn.Sequential(network.trunks[number], network.heads[number])
        phase = Phase((pool,), (min(settings.batch, len(pool)),))
        learn = train_network(reader, [phase], lambda a, b: _miss(a, b, binary, weight), settings, generator)
        for step in learn:
            tell("learning to read attributes", number * steps + step, READERS * steps)
    network.eval()
    examined = predict(network, load_pixels(unseen, grid, np.ones(len(unseen), bool)), settings)
    readings = [Reading(task, 0, 0, 0, 0, 0, *scale) for task, scale in zip(tasks, scales, strict=True)]
    read = scale_answers(examined, readings)
    found = [_examine(reading, read[:, i], unseen, seed) for i, reading in enumerate(readings)]
    kept = [place for place, reading in enumerate(found) if reading is not None]
    return Measurer(train.shape, tuple(r for r in found if r is not None), _keep(network, kept)) if kept else None


def _find_scale(task: Task, answers: Floats32) -> tuple[float, float]:
    if task.kind == "binary":
        return 0.0, 1.0
    return float(np.nanmean(answers)), max(float(np.nanstd(answers)), 1e-6)


def _balance(answers: np.ndarray[Any, Any], binary: Tensor) -> Tensor:
    """Return how much a yes counts: yes and no weigh alike, up to 10 to 1."""
    yes = np.nansum(answers == 1, axis=0)
    no = np.nansum(answers == 0, axis=0)
    ratio = torch.from_numpy(np.clip(no / np.maximum(yes, 1), 0.1, 10).astype(np.float32))
    return torch.where(binary, ratio, 1.0)


def _miss(guesses: Tensor, answers: Tensor, binary: Tensor, weight: Tensor) -> Tensor:
    known = ~answers.isnan()
    truth = torch.where(known, answers, 0.0)
    unsure = functional.binary_cross_entropy_with_logits(
        guesses, truth.clamp(0, 1), reduction="none", pos_weight=weight
    )
    loss = torch.where(binary, unsure, (guesses - truth) ** 2)
    return (loss * known).sum() / known.sum().clamp(min=1)


def _examine(reading: Reading, read: Floats, unseen: ImageSet, seed: int) -> Reading | None:
    """Return the reading with its quality on real, unseen patients; None if it is no better than guessing."""
    task, truth = reading.task, reading.task.targets(unseen).astype(np.float64)
    known = ~np.isnan(truth)
    rng = stream(seed, -1, -1, f"measurer/exam/{task.name}")
    if task.kind == "binary":
        if min((truth == 1).sum(), (truth == 0).sum()) < LEAST_EXAMINED:
            return None
        quality = auc_interval(read[known], truth[known] > 0, unseen.patient[known], rng)
        if quality.low <= USELESS:
            return None
    else:
        if known.sum() < 2 * LEAST_EXAMINED:
            return None
        quality = _error_interval(np.abs(read - truth)[known], unseen.patient[known], rng)
    tolerance = float(np.quantile(np.abs(read - truth)[known], INSIDE))
    if task.kind == "binary":
        tolerance = max(tolerance, RIGHT_SIDE)
    return Reading(
        task, quality.value, quality.low, quality.high, int(known.sum()), tolerance, reading.centre, reading.spread
    )


def _error_interval(errors: Floats, patient: np.ndarray[Any, Any], rng: np.random.Generator) -> Interval:
    _, codes = np.unique(patient, return_inverse=True)
    count = int(codes.max()) + 1
    weights = [np.bincount(rng.integers(count, size=count), minlength=count)[codes] for _ in range(RESAMPLES)]
    found = [float(np.average(errors, weights=w)) for w in weights if w.sum()]
    low, high = np.percentile(found, (2.5, 97.5))
    return Interval(float(errors.mean()), float(low), float(high))


def _keep(network: ReaderNetwork, kept: Sequence[int]) -> ReaderNetwork:
    """Return the network with some of its answers."""
    for number, head in enumerate(network.heads):
        old = head if isinstance(head, nn.Linear) else nn.Linear(1, 1)
        new = nn.Linear(old.in_features, len(kept), device="meta").to_empty(device="cpu")
        with torch.no_grad():
            new.weight.copy_(old.weight[list(kept)])
            new.bias.copy_(old.bias[list(kept)])
        network.heads[number] = new
    return network.eval()


def read_measurer(
    facts: Sequence[Mapping[str, Any]], shape: tuple[int, ...], weights: Mapping[str, Tensor]
) -> Measurer:
    """Return the measurer that ``describe`` and its weights make; raises RuntimeError if they do not fit."""
    readings = tuple(Reading(**{**fact, "task": Task(**fact["task"])}) for fact in facts)
    settings = TrainingSettings()
    network = ReaderNetwork(len(shape), len(readings), settings.widths)
    initialise_parameters(network, make_generator(0, "measurer/empty"))
    network.load_state_dict(dict(weights))
    return Measurer(shape, readings, network.eval(), settings)
