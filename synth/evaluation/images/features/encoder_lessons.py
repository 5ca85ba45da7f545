"""What an encoder learns from: training and validation images on its grid, and the answers to what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.evaluation.images.features.encoder import EncoderForm
from synth.evaluation.images.features.fitting import average_grid, spread_indices
from synth.evaluation.images.sets import BLOCK_BYTES, ImageSet, RealImages
from synth.evaluation.images.tasks import Task

SIZES = {2: 64, 3: 32}  # longest side that an encoder sees
MOST_TRAINED = 8192
MOST_VALIDATED = {2: 256, 3: 64}
MOST_BYTES = 128 << 20  # of training images that are held in memory


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How an encoder is trained. ``size`` is the longest side it sees; None chooses by 2D and 3D, as for ``batch``.

    Every ``check`` steps the loss on validation patients is taken; the best weights are kept, and training ends after
    ``patience`` checks without a better one. All is counted in steps, never in seconds, so that results repeat.
    """

    size: int | None = None
    widths: tuple[int, ...] = (8, 16, 32, 64, 128)
    embedding: int = 64
    steps: int = 600
    batch: int | None = None
    rate: float = 2e-3
    decay: float = 0.05
    check: int = 40
    patience: int = 5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """Images (n, 1, *grid) as float16 and the answers (n, tasks) to what is asked of them, NaN where unknown."""

    images: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, places: Tensor | slice, device: str) -> tuple[Tensor, Tensor]:
        """Return some images as float32, and their answers."""
        return self.images[places].to(device, torch.float32), self.answers[places].to(device)


def prepare_lessons(
    real: RealImages, settings: EncoderSettings, tasks: Sequence[Task]
) -> tuple[EncoderForm, Lesson, Lesson]:
    """Return the network's form, and training and validation images on its grid."""
    dimensions = len(real.train.shape)
    scale = min(1.0, (settings.size or SIZES[dimensions]) / max(real.train.shape))
    grid = tuple(max(1, round(side * scale)) for side in real.train.shape)
    most = min(MOST_TRAINED, max(1, MOST_BYTES // (2 * int(np.prod(grid)))))
    answers = _list_answers(real.train, tasks)
    centre, width = np.zeros(len(tasks)), np.ones(len(tasks))
    for place, task in enumerate(tasks):
        if task.kind == "number":
            centre[place] = np.nanmean(answers[:, place])
            width[place] = np.maximum(np.nanstd(answers[:, place]), 1e-6)
    sides = []
    for images, count in ((real.train, most), (real.validation, MOST_VALIDATED[dimensions])):
        places = spread_indices(len(images), count)
        scaled = (_list_answers(images, tasks)[places] - centre) / width
        sides.append(Lesson(_load_images(images, places, grid), torch.from_numpy(scaled.astype(np.float32))))
    seen = sides[0].images[spread_indices(len(sides[0]), 256)].float()
    form = EncoderForm(grid, settings.widths, settings.embedding, float(seen.mean()), float(seen.std()))
    return form, sides[0], sides[1]


def _list_answers(images: ImageSet, tasks: Sequence[Task]) -> NDArray[np.float32]:
    return (
        np.stack([task.targets(images) for task in tasks], axis=1) if tasks else np.empty((len(images), 0), np.float32)
    )


def _load_images(images: ImageSet, places: NDArray[np.int64], grid: tuple[int, ...]) -> Tensor:
    """Return some images on the network's grid, as float16 to save memory."""
    found = np.empty((len(places), 1, *grid), np.float16)
    step = max(1, BLOCK_BYTES // (4 * int(np.prod(images.shape))))
    for start in range(0, len(places), step):
        found[start : start + step, 0] = average_grid(images.images(places[start : start + step]), grid)
    return torch.from_numpy(found)
