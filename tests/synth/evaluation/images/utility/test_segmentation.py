"""Segmentation scores on made-up discs, whose masks are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from synth.errors import PermanentError
from synth.evaluation.images.networks import initialise_parameters, make_generator
from synth.evaluation.images.utility.segmentation import (
    MaskedImages,
    SegmentationNetwork,
    measure_dice,
    measure_overlap_loss,
    measure_segmentation,
)
from synth.evaluation.images.utility.settings import TrainingSettings, UtilitySettings
from synth.evaluation.metric import Score
from synth.evaluation.metrics import find_metric
from synth.seeds import stream

SIZE = 16
SETTINGS = UtilitySettings(
    TrainingSettings(steps=80, batch=16, size=SIZE, widths=(8, 16), learning_rate=1e-2), ("real", "synthetic"), seeds=2
)
QUICK = replace(SETTINGS, training=replace(SETTINGS.training, steps=2))
BRIGHT, DARK = 3, 7


def draw_discs(name: str, number: int, seed: int, labels: tuple[int, ...] = (BRIGHT, DARK)) -> MaskedImages:
    """Draw a bright and a dark disc in noise; their masks have the labels 3 and 7."""
    rng = stream(seed, -1, -1, "test/discs")
    images = rng.normal(0.5, 0.05, (number, SIZE, SIZE))
    masks = np.zeros(images.shape, np.int16)
    y, x = np.mgrid[:SIZE, :SIZE]
    for image, mask in zip(images, masks, strict=True):
        for label, shade, left in ((BRIGHT, 0.4, 1), (DARK, -0.4, SIZE // 2)):
            centre = rng.uniform(4, SIZE - 4), left + rng.uniform(3, SIZE // 2 - 3)
            disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < rng.uniform(2, 3) ** 2
            if label in labels:
                image[disc] += shade
                mask[disc] = label
    return MaskedImages(name, np.clip(images, 0, 1).astype(np.float32), masks, np.arange(number))


@pytest.fixture(scope="module")
def train() -> MaskedImages:
    return draw_discs("train", 30, 1)


@pytest.fixture(scope="module")
def test() -> MaskedImages:
    return draw_discs("test", 20, 2)


def by_name(scores: list[Score]) -> dict[str, Score]:
    assert all(find_metric(score.name).family == "utility" for score in scores)
    return {score.name: score for score in scores}


def test_synthetic_discs_teach_to_find_real_ones(train: MaskedImages, test: MaskedImages) -> None:
    scores = by_name(
        measure_segmentation(draw_discs("s", 60, 3), train, test, seed=1, settings=SETTINGS, names={BRIGHT: "bright"})
    )
    assert set(scores) == {f"segmentation_{arm}.{label}" for arm in ("real", "synthetic") for label in ("bright", "7")}
    for score in scores.values():
        assert score.value > 0.75, score
        assert score.low <= score.value <= score.high
    assert scores["segmentation_synthetic.bright"].control == scores["segmentation_real.bright"].value


def test_wrong_masks_teach_nothing(train: MaskedImages, test: MaskedImages) -> None:
    images = draw_discs("s", 60, 3)
    moved = replace(images, masks=np.roll(images.masks, SIZE // 2, axis=2))
    scores = by_name(measure_segmentation(moved, train, test, seed=1, settings=replace(SETTINGS, arms=("synthetic",))))
    assert scores["segmentation_synthetic.3"].high < 0.5


def test_a_label_that_is_absent_is_missing_and_all_else_is_measured(train: MaskedImages, test: MaskedImages) -> None:
    settings = replace(QUICK, arms=UtilitySettings().arms, seeds=1)
    scores = by_name(measure_segmentation(draw_discs("s", 20, 3, (BRIGHT,)), train, test, seed=1, settings=settings))
    assert len(scores) == 10
    missing = {name for name, score in scores.items() if score.value is None}
    assert missing == {f"segmentation_{arm}.7" for arm in ("synthetic", "mixed", "pretrained")}
    assert "no synthetic mask with label 7" in scores["segmentation_mixed.7"].reason
    assert scores["segmentation_mixed.3"].control == scores["segmentation_duplicated.3"].value


def test_too_few_patients_and_empty_masks_say_so(train: MaskedImages, test: MaskedImages) -> None:
    few = MaskedImages("few", test.images[:4], test.masks[:4], test.patient[:4])
    scores = measure_segmentation(train, train, few, seed=1, settings=replace(QUICK, seeds=1))
    assert all("too few test patients with label" in score.reason for score in scores)
    blank = replace(train, masks=np.zeros_like(train.masks))
    scores = measure_segmentation(train, blank, test, seed=1, settings=QUICK)
    assert all(score.value is None and score.reason == "no real training mask has a label" for score in scores)
    scores = measure_segmentation(blank, train, test, seed=1, settings=replace(QUICK, seeds=1))
    assert [score.value is None for score in scores] == [False, True] * 2


def test_scores_are_the_same_twice(train: MaskedImages, test: MaskedImages) -> None:
    first, second = (measure_segmentation(train, train, test, seed=1, settings=QUICK) for _ in range(2))
    assert first == second


def test_dice_of_known_masks() -> None:
    true = np.zeros((3, 4, 4), bool)
    true[0, :2], true[1, 0, 0] = True, True
    said = np.zeros((2, 3, 4, 4), bool)
    said[0, 0, 1:3], said[0, 1, 0, 0], said[1, 1, 3, 3] = True, True, True
    np.testing.assert_allclose(measure_dice(said, true), [[0.5, 1, np.nan], [0, 0, np.nan]])


def test_loss_of_a_sure_and_right_network_is_zero() -> None:
    masks = torch.tensor([[[0, 1], [2, 0]]])
    logits = 50 * torch.nn.functional.one_hot(masks, 3).movedim(-1, 1).float()
    assert math.isclose(measure_overlap_loss(logits, masks).item(), 0, abs_tol=1e-6)
    assert measure_overlap_loss(-logits, masks).item() > 1


@pytest.mark.parametrize("grid", [(16, 16), (9, 13), (8, 7, 6)])
def test_network_answers_every_pixel(grid: tuple[int, ...]) -> None:
    network = SegmentationNetwork(len(grid), (4, 8, 8), 3)
    initialise_parameters(network, make_generator(1, "test"))
    assert network(torch.zeros((2, 1, *grid))).shape == (2, 3, *grid)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"masks": np.zeros((30, 4, 4), int)}, "give both as"),
        ({"masks": np.zeros((30, SIZE, SIZE))}, "whole numbers"),
        ({"masks": np.full((30, SIZE, SIZE), -1)}, "whole numbers"),
        ({"patient": np.arange(3)}, "give one each"),
        ({"images": np.full((30, SIZE, SIZE), np.nan, np.float32)}, "not numbers"),
    ],
)
def test_images_and_masks_that_do_not_fit_are_refused(
    train: MaskedImages, change: dict[str, np.ndarray], reason: str
) -> None:
    with pytest.raises(PermanentError, match=reason):
        replace(train, **change)
