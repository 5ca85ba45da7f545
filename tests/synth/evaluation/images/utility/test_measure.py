"""Utility scores on made-up pictures of bars: which way a bar lies is the question, and its answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from synth.errors import PermanentError
from synth.evaluation.images.layout import Layout
from synth.evaluation.images.networks import make_generator
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.evaluation.images.tasks import Task
from synth.evaluation.images.utility.arms import fold_cells, make_loss, split_batch, weigh_answers
from synth.evaluation.images.utility.intervals import draw_patient_weights, draw_seeds, weigh_auc
from synth.evaluation.images.utility.measure import measure_utility
from synth.evaluation.images.utility.plan import Taught, choose_subsets
from synth.evaluation.images.utility.scores import UtilityResult, measure_utility_gaps, score_arms
from synth.evaluation.images.utility.settings import TrainingSettings, UtilitySettings
from synth.evaluation.images.utility.training import (
    Phase,
    Pool,
    augment_masked,
    choose_grid,
    draw_batches,
    draw_warp,
    load_pixels,
)
from synth.evaluation.metric import Score
from synth.evaluation.metrics import find_metric
from synth.nouns import Attribute
from synth.seeds import stream

SIZE = 12
SCHEMA = (Attribute("bar", "categorical"), Attribute("marks", "set"), Attribute("age_years", "continuous", "years"))
UP = "bar=up"
TRAINING = TrainingSettings(steps=50, batch=32, size=SIZE, widths=(8, 16), learning_rate=1e-2)
SETTINGS = UtilitySettings(TRAINING, seeds=2, real_patients=())
QUICK = replace(SETTINGS, training=replace(TRAINING, steps=2), seeds=1)


def draw_bars(name: str, patients: int, seed: int, noise: float = 0.3, volumes: bool = False) -> ImageSet:
    """Draw a bar in noise for each patient: ``up`` (the rarer answer) or ``flat``, some with a bright corner."""
    rng = stream(seed, -1, -1, "test/bars")
    up, marked = rng.random(patients) < 0.4, rng.random(patients) < 0.5
    pixels = rng.random((patients, SIZE, SIZE)) * noise
    for image, lies, bright in zip(pixels, up, marked, strict=True):
        high, wide = (6, 2) if lies else (2, 6)
        y, x = rng.integers(1, SIZE - 7, 2)
        image[y : y + high, x : x + wide] += 0.5
        image[-2:, -2:] += 0.5 * bright
    if volumes:
        pixels = np.repeat(pixels[..., None], 6, axis=3)
    values = {
        "bar": ["up" if lies else "flat" for lies in up],
        "marks": [("corner",) if bright else () for bright in marked],
        "age_years": list(rng.uniform(20, 90, patients)),
    }
    return make_image_set(name, pixels, values, SCHEMA)


def draw_reference(patients: int = 90, holdout: int = 80, **more: object) -> RealImages:
    sides = [
        draw_bars(name, n, s, **more) for name, n, s in (("train", patients, 1), ("v", 10, 2), ("held", holdout, 3))
    ]
    return RealImages("bars", "0" * 64, *sides, Layout(sides[0].shape, "absolute"))


def change(images: ImageSet, column: str, values: list[object] | None) -> ImageSet:
    """Return the set with other values of an attribute, or without it."""
    place = images.records.column_names.index(column)
    if values is None:
        schema = tuple(attribute for attribute in images.schema if attribute.name != column)
        return replace(images, records=images.records.remove_column(place), schema=schema)
    kind = images.records.schema.field(column)
    return replace(images, records=images.records.set_column(place, kind, pa.array(values, kind.type)))


def find(result: UtilityResult, name: str) -> Score:
    [score] = [score for score in result.scores if score.name == name]
    return score


@pytest.fixture(scope="module")
def reference() -> RealImages:
    return draw_reference()


@pytest.fixture(scope="module")
def fair(reference: RealImages) -> UtilityResult:
    settings = replace(SETTINGS, real_patients=(40, 80, 300))
    return measure_utility(draw_bars("others", 120, 4), reference, seed=1, settings=settings)


def test_other_patients_are_as_useful_as_the_training_patients(fair: UtilityResult) -> None:
    assert find(fair, f"utility_real.{UP}").value > 0.9
    ratio = find(fair, f"utility_ratio.{UP}")
    assert 0.93 < ratio.value < 1.07
    assert ratio.low < 1 < ratio.high or ratio.low > 0.97
    assert abs(find(fair, f"utility_gain.{UP}").value) < 0.07


def test_every_score_has_a_metric_bounds_and_an_interval(fair: UtilityResult) -> None:
    for score in fair.scores:
        metric = find_metric(score.name)
        assert not score.reason, score
        assert metric.low <= score.low <= score.value + 1e-9 <= score.high + 1e-9 <= metric.high + 1e-9, score
        assert score.images == 80
    assert len({score.name for score in fair.scores}) == len(fair.scores)


def test_controls_are_the_arms_they_should_be(fair: UtilityResult) -> None:
    def value(arm: str) -> float | None:
        return find(fair, f"utility_{arm}.{UP}").value

    controls = {arm: find(fair, f"utility_{arm}.{UP}").control for arm in SETTINGS.arms}
    assert controls == {
        "real": None,
        "synthetic": value("real"),
        "mixed": value("duplicated"),
        "pretrained": value("real"),
        "duplicated": value("real"),
    }
    gain = find(fair, f"utility_gain.{UP}")
    assert math.isclose(gain.value, value("mixed") - value("duplicated"))
    assert math.isclose(gain.control, value("duplicated") - value("real"))


def test_curves_have_a_point_for_each_number_of_patients_that_is_clearly_smaller(fair: UtilityResult) -> None:
    points = [score.name.partition("@")[2] for score in fair.scores if score.name.startswith(f"utility_augmented.{UP}")]
    assert points == ["40", "all"], "80 of 90 is nearly all, 300 is more than there are"
    point = find(fair, f"utility_augmented.{UP}@40")
    assert point.detail["real_patients"] == point.detail["real_images"] == 40
    assert math.isclose(point.detail["gain"][0], point.value - point.control, abs_tol=1e-4)
    assert find(fair, f"utility_augmented.{UP}@all").value == find(fair, f"utility_mixed.{UP}").value


def test_shuffled_labels_teach_nothing(reference: RealImages) -> None:
    images = draw_bars("shuffled", 200, 5)
    order = stream(7, -1, -1, "test/shuffle").permutation(len(images))
    shuffled = change(images, "bar", [images.values("bar")[i] for i in order])
    found = measure_utility(shuffled, reference, seed=1, settings=replace(SETTINGS, arms=("real", "synthetic")))
    assert 0.3 < find(found, f"utility_synthetic.{UP}").value < 0.7
    assert find(found, f"utility_ratio.{UP}").high < 0.9
    assert find(found, "utility_synthetic.marks=corner").value > 0.9, "only the bars were shuffled"


def test_images_that_add_information_help_more_than_repeating_real_ones() -> None:
    few = draw_reference(patients=24, holdout=150, noise=1.5)
    training = replace(TRAINING, steps=80)
    settings = replace(SETTINGS, training=training, arms=("real", "mixed", "duplicated"), least_patients=4)
    found = measure_utility(draw_bars("many", 400, 6, noise=1.5), few, seed=1, settings=settings)
    gain = find(found, f"utility_gain.{UP}")
    assert gain.value > 0.04
    assert abs(gain.control) < gain.value, "repeating real images adds nothing"


def test_scores_are_the_same_twice_and_with_any_number_of_workers(reference: RealImages) -> None:
    images, settings = draw_bars("others", 40, 4), replace(QUICK, seeds=2)
    once, twice = (
        measure_utility(images, reference, seed=1, settings=replace(settings, workers=workers)) for workers in (2, 1)
    )
    assert once.scores == twice.scores
    other = measure_utility(images, reference, seed=2, settings=settings)
    assert once.scores != other.scores


TAUGHT_BY_IMAGES = ("synthetic", "mixed", "pretrained", "ratio", "gain")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (None, "do not record 'bar'"),
        ([None] * 40, "'bar' is missing in all synthetic images"),
        (["flat"] * 40, "no synthetic image has bar=up"),
        (["up"] * 40, "all synthetic images have bar=up"),
        (["up"] * 4 + ["flat"] * 36, "too few synthetic patients with bar=up: 4, and 10 are needed"),
        (["up"] * 33 + ["flat"] * 7, "too few synthetic patients without bar=up: 7, and 10 are needed"),
    ],
)
def test_what_synthetic_images_cannot_teach_is_missing(
    reference: RealImages, values: list[object] | None, reason: str
) -> None:
    found = measure_utility(change(draw_bars("s", 40, 4), "bar", values), reference, seed=1, settings=QUICK)
    for name in TAUGHT_BY_IMAGES:
        score = find(found, f"utility_{name}.{UP}")
        assert score.value is None
        assert reason in score.reason
    for name in ("utility_real." + UP, "utility_duplicated." + UP, "utility_mixed.marks=corner"):
        assert find(found, name).value is not None, name


def test_without_a_shared_task_the_real_arm_is_still_measured(reference: RealImages) -> None:
    images = change(change(draw_bars("s", 40, 4), "bar", None), "marks", None)
    found = measure_utility(images, reference, seed=1, settings=replace(QUICK, real_patients=(40,)))
    assert {score.name for score in found.scores if score.value is not None} == {
        f"utility_real.{UP}",
        "utility_real.marks=corner",
    }
    assert all("do not record" in score.reason for score in found.scores if score.value is None)


def test_a_holdout_with_too_few_patients_says_so(reference: RealImages) -> None:
    held = change(reference.holdout, "bar", ["up"] * 4 + ["flat"] * 76)
    found = measure_utility(draw_bars("s", 40, 4), replace(reference, holdout=held), seed=1, settings=QUICK)
    for score in found.scores:
        if score.name.endswith(UP):
            assert score.value is None
            assert score.reason == "too few holdout patients with bar=up: 4, and 5 are needed"


@pytest.mark.parametrize(
    ("train", "synthetic", "reason"),
    [
        (12, draw_bars("s", 40, 4), "no attribute that splits its training patients"),
        (0, draw_bars("s", 40, 4), "there are no training images"),
        (90, draw_bars("s", 40, 4).select(np.zeros(40, bool)), "there are no synthetic images"),
        (90, draw_bars("s", 40, 4, volumes=True), "bring both to one layout"),
    ],
)
def test_what_cannot_be_compared_at_all_is_missing(
    reference: RealImages, train: int, synthetic: ImageSet, reason: str
) -> None:
    small = replace(reference, train=reference.train.select(np.arange(train)))
    found = measure_utility(synthetic, small, seed=1, settings=QUICK)
    assert len(found.scores) == len(QUICK.arms) + 2
    assert all(score.value is None and reason in score.reason for score in found.scores)
    assert all(find_metric(score.name).family == "utility" for score in found.scores)
    assert measure_utility_gaps(found, {"sex=F": np.ones(80, bool)}) == []


def test_volumes_are_judged_too_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    found = measure_utility(
        draw_bars("s", 40, 4, volumes=True), draw_reference(40, 40, volumes=True), seed=1, settings=QUICK,
        tell=lambda *what: told.append(what),
    )  # fmt: skip
    assert find(found, f"utility_mixed.{UP}").value is not None
    assert [done for _, done, _ in told] == [1, 2, 3, 4, 5]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(PermanentError, match="mixed"):
        UtilitySettings(arms=("mixd",))
    with pytest.raises(PermanentError, match="quick"):
        UtilitySettings.preset("fast")
    assert UtilitySettings.preset("quick").training.steps < UtilitySettings.preset("full").training.steps


# ------------------------------------------------------------------------------------------------------------- gaps


def make_result(reasons: dict[str, dict[str, str]] | None = None) -> tuple[UtilityResult, dict[str, np.ndarray]]:
    """Return a result in which the synthetic arm is right for women only, and the real arm for all."""
    answers = np.tile([0.0, 1.0], 40).astype(np.float32)[:, None]
    women = np.arange(80) < 40
    rng = stream(1, -1, -1, "test/gaps")
    guessed = np.where(women, answers[:, 0], rng.random(80))
    predictions = {"synthetic": np.tile(guessed[None, :, None], (3, 1, 1)), "real": np.tile(answers, (3, 1, 1))}
    tasks = (Task("ill=yes", "ill", "binary", "yes"),)
    result = UtilityResult([], tasks, answers, np.arange(80), predictions, reasons or {}, 5)
    return result, {"sex=F": women, "sex=M": ~women, "sex=F,ill=yes": women, "age_years=0-20": np.arange(80) < 3}


def test_gap_is_the_difference_between_subgroups_with_the_real_one_as_control() -> None:
    result, masks = make_result()
    men = result.predictions["synthetic"][0, 40:, 0]
    expected = 1 - roc_auc_score(result.answers[40:, 0], men)
    by_attribute = {score.subgroup: score for score in measure_utility_gaps(result, masks)}
    gap = by_attribute["sex"]
    assert gap.name == "utility_gap.ill=yes"
    assert math.isclose(gap.value, expected)
    assert 0 < gap.low < expected < gap.high
    assert gap.control == 0
    assert gap.detail["patients"] == {"sex=F": 20, "sex=M": 20}
    assert by_attribute["age_years"].value is None
    assert "age_years=0-20" in by_attribute["age_years"].reason
    assert "sex,ill" not in by_attribute, "a task is not compared between its own answers"


def test_ratio_to_useless_real_networks_is_no_number() -> None:
    result, _ = make_result()
    useless = replace(result, predictions={**result.predictions, "real": np.zeros((3, 80, 1), np.float32)})
    ratios = [next(s for s in score_arms(r, ("real", "synthetic")) if "ratio" in s.name) for r in (result, useless)]
    assert ratios[0].low <= ratios[0].value < 1
    assert ratios[1].value is None
    assert "trained on real images do not answer ill=yes either (AUC 0.50" in ratios[1].reason


def test_gap_of_an_arm_that_was_not_trained_says_why() -> None:
    result, masks = make_result({"synthetic": {"ill=yes": "no synthetic image has ill=yes"}})
    assert measure_utility_gaps(result, masks)[0].reason == "no synthetic image has ill=yes"


# ------------------------------------------------------------------------------------------------- resampled AUCs


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_weighted_auc_agrees_with_scikit_learn(seed: int) -> None:
    rng = stream(seed, -1, -1, "test/auc")
    scores = rng.integers(0, 5, 30).astype(np.float32)
    positive = np.arange(30) % 3 == 0
    weights = rng.integers(0, 3, (4, 30)).astype(float)
    weights[:, :2] = 1
    expected = [roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weigh_auc(scores, positive, weights), expected, atol=1e-12)


def test_a_resample_of_one_class_has_no_auc() -> None:
    weights = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    found = weigh_auc(np.array([1, 2, 3], np.float32), np.array([True, False, True]), weights)
    assert np.isnan(found[0])
    assert found[1] == 0


def test_patients_are_drawn_whole() -> None:
    weights = draw_patient_weights(np.array([5, 5, 9, 7]), stream(1, -1, -1, "test"))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_drawn_seeds_spread_as_much_as_the_mean_of_all() -> None:
    values = np.array([0.1, 0.5, 0.9])
    rng = stream(1, -1, -1, "test")
    means = np.concatenate([values[draw_seeds(3, rng)].mean(axis=1) for _ in range(200)])
    assert math.isclose(means.var(), values.var(ddof=1) / 3, rel_tol=0.03)


# ------------------------------------------------------------------------------------------------------- training


def test_loss_is_the_weighted_cross_entropy_of_known_answers() -> None:
    logits = torch.tensor([[0.3, -2.0], [1.5, 0.7], [-0.4, 4.0]], requires_grad=True)
    answers = torch.tensor([[1.0, float("nan")], [0.0, 1.0], [float("nan"), float("nan")]])
    weights = torch.tensor([[2.0, 3.0], [5.0, 7.0]])
    loss = make_loss(weights)(logits, answers)
    parts = [5 * math.log1p(math.exp(-0.3)), 2 * math.log1p(math.exp(1.5)), 7 * math.log1p(math.exp(-0.7))]
    assert math.isclose(loss.item(), sum(parts) / 3, rel_tol=1e-6)
    loss.backward()
    assert ((logits.grad == 0) == answers.isnan()).all()


def test_answers_weigh_alike_and_rare_ones_up_to_a_limit() -> None:
    answers = torch.tensor(
        [[1.0, 1.0, float("nan")]] * 2 + [[0.0, 0.0, float("nan")]] * 6 + [[0.0, float("nan"), 0]] * 192
    )
    pool = Pool(torch.zeros((200, 1, 2, 2), dtype=torch.uint8), answers)
    weights = weigh_answers([Phase((pool,), (64,))])
    torch.testing.assert_close(weights[:, 1], torch.tensor([0.5 / 0.75, 0.5 / 0.25]))
    torch.testing.assert_close(weights[:, 0], torch.tensor([0.5 / 0.95, 0.5 / 0.05]))


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(2, 256))
def test_real_images_are_never_outnumbered(real: int, synthetic: int, batch: int) -> None:
    first, second = split_batch(real, synthetic, batch)
    assert first + second == batch
    assert 1 <= second <= max(1, round(batch / 2))


def test_each_image_comes_once_a_round() -> None:
    pools = [
        Pool(torch.full((n, 1, 2, 2), 7, dtype=torch.uint8), torch.arange(n).float()[:, None] + 100 * n) for n in (6, 9)
    ]
    batches = list(draw_batches(Phase(tuple(pools), (2, 3)), 3, make_generator(1, "test")))
    seen = torch.cat([answers for _, answers in batches]).flatten().tolist()
    assert sorted(seen) == [*range(600, 606), *range(900, 909)]


@pytest.mark.parametrize("shape", [(3, 1, 4, 6), (3, 1, 5, 6), (2, 1, 4, 3, 2)])
def test_folding_loses_no_pixel(shape: tuple[int, ...]) -> None:
    images = torch.arange(1, 1 + math.prod(shape)).float().reshape(shape)
    folded = fold_cells(images)
    assert folded.shape[2:] == tuple((size + 1) // 2 for size in shape[2:])
    assert sorted(folded[folded > 0].tolist()) == images.flatten().tolist()
    corner = (slice(0, 2),) * (len(shape) - 2)
    cell = folded.flatten(2)[0, :, 0]
    assert sorted(cell.tolist()) == sorted(images[(0, 0, *corner)].flatten().tolist())


@pytest.mark.parametrize("dimensions", [2, 3])
def test_images_that_are_not_to_be_changed_stay_and_mirrors_swap_left_and_right(dimensions: int) -> None:
    still = TrainingSettings(shift=0, degrees=0, gamma=0, zoom=0)
    matrix = draw_warp(8, dimensions, still, make_generator(1, "test"))
    torch.testing.assert_close(matrix, torch.eye(dimensions, dimensions + 1).repeat(8, 1, 1))
    matrix = draw_warp(8, dimensions, replace(still, flip=True), make_generator(1, "test"))
    image = torch.arange(4.0**dimensions).reshape(1, 1, *[4] * dimensions).repeat(8, 1, *[1] * dimensions)
    moved = functional.grid_sample(
        image, functional.affine_grid(matrix, list(image.shape), align_corners=False), align_corners=False
    )
    across = 3 if dimensions == 2 else 2  # x of (y, x), and of (x, y, z)
    kinds = {
        torch.allclose(new, old): torch.allclose(new, old.flip(across - 1), atol=1e-4)
        for new, old in zip(moved, image, strict=True)
    }
    assert kinds == {True: False, False: True}


def test_masks_move_with_their_images() -> None:
    masks = torch.zeros((6, 24, 24), dtype=torch.uint8)
    masks[:, 6:14, 9:19] = 2
    pixels = (masks > 0).to(torch.uint8).unsqueeze(1) * 200
    settings = TrainingSettings(shift=0.15, degrees=20)
    images, moved = augment_masked(pixels, masks, settings, make_generator(1, "test"))
    assert ((images[:, 0] > 0) == (moved == 2)).float().mean() > 0.97
    assert (moved != masks).flatten(1).any(dim=1).all()
    torch.testing.assert_close(images.mean((1, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)


def test_pixels_are_averaged_down_and_never_made_larger() -> None:
    images = make_image_set("x", stream(1, -1, -1, "test").random((5, 8, 8)))
    settings = TrainingSettings(size=4)
    kept = np.array([True, False, True, True, False])
    pixels = load_pixels(images, choose_grid((8, 8), settings), kept)
    expected = images.images(np.flatnonzero(kept)).reshape(3, 1, 4, 2, 4, 2).mean(axis=(3, 5)) * 255
    np.testing.assert_allclose(pixels.numpy(), expected, atol=0.51)
    assert choose_grid((28, 20), TrainingSettings(size=64)) == (28, 20)
    assert choose_grid((64, 48, 32), TrainingSettings(size_3d=32)) == (32, 24, 16)


def test_subsets_hold_each_other_and_as_many_rare_patients() -> None:
    patient = np.repeat(np.arange(100), 2)
    answers = torch.from_numpy(np.stack([patient < 20, patient % 2 == 0], axis=1).astype(np.float32))
    taught = Taught(Pool(torch.zeros((200, 1, 2, 2), dtype=torch.uint8), answers), patient)
    subsets = choose_subsets(taught, (50, 10, 90), seed=3)
    assert list(subsets) == [10, 50]
    assert set(subsets[10]) < set(subsets[50])
    assert [int((found < 20).sum()) for found in subsets.values()] == [2, 10]
    assert taught.among(subsets[10]).count(1).tolist()[0] == 2
