"""Utility of synthetic masks: how well a small U-Net trained on synthetic images and masks finds real structures.

The arms are those of utility.measure: same design and steps, other data. A score is the Dice overlap 2 |A and B| /
(|A| + |B|) per label (Dice, Ecology 1945), the mean over seeds and over the test images that have the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from synth.errors import PermanentError
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import (
    CONVOLUTIONS,
    UNDRAWN,
    ConvolutionBlock,
    initialise_parameters,
    make_generator,
)
from synth.evaluation.images.utility.arms import plan_arms, train_arms
from synth.evaluation.images.utility.intervals import draw_patient_weights, draw_seeds, resample_mean
from synth.evaluation.images.utility.plan import join_reasons
from synth.evaluation.images.utility.scores import CONTROLS
from synth.evaluation.images.utility.settings import TrainingSettings, UtilitySettings
from synth.evaluation.images.utility.training import (
    Phase,
    Pool,
    augment_masked,
    choose_batch,
    choose_grid,
    predict,
    train_network,
)
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Floats, Ints
from synth.seeds import stream

SETTINGS = UtilitySettings(TrainingSettings(steps=300, batch=16, batch_3d=4))
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class MaskedImages:
    """Images (n, *grid) from 0 to 1, their masks (n, *grid) of whole labels, 0 for background, and patients (n,).

    Raises PermanentError if they do not fit each other.
    """

    name: str
    images: Floats32
    masks: Labels
    patient: Ints

    def __post_init__(self) -> None:
        if self.images.ndim not in (3, 4) or self.images.shape != self.masks.shape:
            raise PermanentError(
                f"{self.name}: images are {self.images.shape} and masks {self.masks.shape}; "
                "give both as (n, y, x) or (n, x, y, z)."
            )
        if self.patient.shape != (len(self.images),):
            raise PermanentError(
                f"{self.name}: {self.patient.shape} patients of {len(self.images)} images; give one each."
            )
        if not np.issubdtype(self.masks.dtype, np.integer) or (self.masks.size and self.masks.min() < 0):
            raise PermanentError(f"{self.name}: masks must be whole numbers from 0 (background).")
        if not np.isfinite(self.images).all():
            raise PermanentError(
                f"{self.name}: images have pixels that are not numbers (NaN or infinite); leave them out."
            )


class SegmentationNetwork(nn.Module):
    """(n, 1, *grid) images -> (n, classes, *grid) logits: a U-Net (Ronneberger et al., MICCAI 2015) of few channels."""

    def __init__(self, dimensions: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        pairs = list(zip((1, *widths[:-1]), widths, strict=True))
        self.down = nn.ModuleList(
            [ConvolutionBlock(dimensions, a, b, 1 if place == 0 else 2) for place, (a, b) in enumerate(pairs)]
        )
        self.up = nn.ModuleList([ConvolutionBlock(dimensions, b + a, a) for a, b in reversed(pairs[1:])])
        self.head = CONVOLUTIONS[dimensions](widths[0], classes, 1, device=UNDRAWN)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        values, seen = images, []
        for stage in self.down:
            values = stage(values)
            seen.append(values)
        for stage, skip in zip(self.up, reversed(seen[:-1]), strict=True):
            values = stage(torch.cat([functional.interpolate(values, size=skip.shape[2:]), skip], dim=1))
        return torch.as_tensor(self.head(values))


def measure_segmentation(
    synthetic: MaskedImages,
    real_train: MaskedImages,
    real_test: MaskedImages,
    *,
    seed: int,
    settings: UtilitySettings = SETTINGS,
    names: Mapping[int, str] | None = None,
    tell: Tell = tell_nobody,
) -> list[Score]:
    """Return segmentation_ARM.LABEL of each label of the real training masks, which ``names`` may name.

    Masks are judged on the grid of the networks. What cannot be measured has a score with the reason, and every arm
    that can be trained is trained. The patients of the test images must not be among those trained on.
    """
    labels = {int(label): (names or {}).get(int(label), str(label)) for label in np.unique(real_train.masks) if label}
    reason = _explain_nothing(synthetic, real_train, real_test, labels)
    if reason:
        return [Score.missing(f"segmentation_{arm}", reason) for arm in settings.arms]
    grid = choose_grid(real_train.images.shape[1:], settings.training)
    train, other, test = (_load(side, list(labels), grid) for side in (real_train, synthetic, real_test))
    untested = _explain_labels(test, real_test, labels, settings.least_holdout, "test")
    few = _explain_labels(train, real_train, labels, settings.least_patients, "training")
    untaught = _explain_labels(other, synthetic, labels, settings.least_patients, "synthetic")
    phases = plan_arms(
        settings.arms, train, None if len(untaught) == len(labels) else other, choose_batch(grid, settings.training)
    )
    found = train_arms(phases, test.pixels, seed, settings, tell, _Teacher(len(labels) + 1))
    reasons = {
        arm: join_reasons(few, untested, {} if arm in found and arm in ("real", "duplicated") else untaught)
        for arm in settings.arms
    }
    return list(_score_labels(found, test, real_test.patient, labels, reasons, seed))


def _explain_nothing(
    synthetic: MaskedImages, train: MaskedImages, test: MaskedImages, labels: Mapping[int, str]
) -> str:
    for images, side in ((train, "training"), (test, "test"), (synthetic, "synthetic")):
        if not len(images.images):
            return f"there are no {side} images"
        if images.images.shape[1:] != train.images.shape[1:]:
            return f"{side} images are {images.images.shape[1:]} and training images {train.images.shape[1:]}"
    return "" if labels else "no real training mask has a label"


def _load(side: MaskedImages, labels: Sequence[int], grid: tuple[int, ...]) -> Pool:
    """Return the images on ``grid`` with masks numbered by the place of their label from 1; other labels are 0."""
    places = np.zeros(max(int(side.masks.max()), *labels) + 1, np.uint8)
    places[list(labels)] = np.arange(1, len(labels) + 1)
    masks = torch.from_numpy(places[side.masks]).unsqueeze(1)
    images = torch.from_numpy(np.asarray(side.images, np.float32)).unsqueeze(1)
    pixels = (functional.interpolate(images, size=grid, mode="area").clamp(0, 1) * 255).round().to(torch.uint8)
    return Pool(pixels, functional.interpolate(masks, size=grid, mode="nearest-exact").squeeze(1))


def _explain_labels(pool: Pool, side: MaskedImages, labels: Mapping[int, str], least: int, what: str) -> dict[str, str]:
    """Return, of labels that too few patients have, why they cannot be taught or tested."""
    found = {}
    for place, name in enumerate(labels.values(), 1):
        number = len(np.unique(side.patient[(pool.answers == place).flatten(1).any(dim=1).numpy()]))
        if number < least:
            few = f"too few {what} patients with" if number else f"no {what} mask with"
            found[name] = f"{few} label {name} on the grid of the networks: {number}, and {least} are needed"
    return found


@dataclass(frozen=True, slots=True)
class _Teacher:
    """Trains one network and returns its label of each pixel of the test images."""

    classes: int

    def __call__(
        self, phases: tuple[Phase, ...], test: Tensor, seed: int, stage: str, settings: TrainingSettings
    ) -> NDArray[np.uint8]:
        model = SegmentationNetwork(test.ndim - 2, settings.widths, self.classes)
        generator = make_generator(seed, f"segmentation/{stage}")
        initialise_parameters(model, generator)
        model.to(settings.device)
        for _ in train_network(model, phases, measure_overlap_loss, settings, generator, augment_masked):
            pass
        return predict(model, test, settings).argmax(dim=1).numpy().astype(np.uint8)


def measure_overlap_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the cross-entropy plus 1 - soft Dice of the labels over the batch (Milletari et al., 3DV 2016)."""
    shares = logits.softmax(dim=1)
    true = functional.one_hot(masks, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, *range(2, logits.ndim))
    overlap = (2 * (shares * true).sum(axes) + 1) / (shares.sum(axes) + true.sum(axes) + 1)
    return functional.cross_entropy(logits, masks) + 1 - overlap[1:].mean()


def measure_dice(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> Floats:
    """Return 2 |A and B| / (|A| + |B|) of each image of (..., n, *grid) and (n, *grid); NaN where both are empty."""
    axes = tuple(range(-true.ndim + 1, 0))
    total = said.sum(axis=axes) + true.sum(axis=axes)
    return np.asarray(2 * (said & true).sum(axis=axes) / np.where(total > 0, total, np.nan))


def _score_labels(
    found: Mapping[str, NDArray[np.uint8]],
    test: Pool,
    patient: Ints,
    labels: Mapping[int, str],
    reasons: Mapping[str, Mapping[str, str]],
    seed: int,
) -> Iterator[Score]:
    """Yield the score of each label and arm."""
    rng = stream(seed, -1, -1, "segmentation/resamples")
    weights, masks = draw_patient_weights(patient, rng), test.answers.numpy()
    drawn = {arm: draw_seeds(len(said), rng) for arm, said in found.items()}
    for place, name in enumerate(labels.values(), 1):
        has = (masks == place).any(axis=tuple(range(1, masks.ndim)))
        dice = {
            arm: resample_mean(measure_dice(said[:, has] == place, masks[has] == place), weights[:, has], drawn[arm])
            for arm, said in found.items()
            if name not in reasons[arm]
        }
        for arm, why in reasons.items():
            score = f"segmentation_{arm}.{name}"
            if arm not in dice:
                yield Score.missing(score, why[name])
                continue
            control = dice.get(CONTROLS.get(arm, ""))
            detail = {
                "seeds": [round(part, 4) for part in dice[arm].parts],
                "found_where_absent": _share_of_images(found[arm][:, ~has] == place),
            }
            yield Score.of(score, dice[arm].interval(), control=control.value if control else None,
                           images=int(has.sum()), detail=detail)  # fmt: skip


def _share_of_images(said: NDArray[np.bool_]) -> float | None:
    if not said.shape[1]:
        return None
    return float(said.any(axis=tuple(range(2, said.ndim))).mean())
