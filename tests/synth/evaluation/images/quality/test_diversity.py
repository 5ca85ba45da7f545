"""Diversity scores: they fall when a generator makes few kinds of images, and say why they cannot be measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synth.evaluation.images.layout import NotComparableError
from synth.evaluation.images.metrics import IMAGE_METRICS
from synth.evaluation.images.quality.diversity import (
    LEAST_PATIENTS,
    NAMES,
    draw_pairs,
    measure_diversity,
    measure_ms_ssim,
    spread_of_pairs,
)
from synth.evaluation.images.quality.neighbourhoods import compute_prdc
from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.evaluation.images.sides import Side
from synth.evaluation.metric import Score
from synth.evaluation.metrics import METRICS
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import draw_side


def measure(synthetic: Side, real: Side, seed: int = 0) -> dict[str, Score]:
    return {score.name: score for score in measure_diversity(synthetic, real, features="encoder", seed=seed)}


def draw_images(shape: tuple[int, ...], patients: list[int], seed: int = 1) -> ImageSet:
    """Return smooth images; a patient's differ by noise."""
    rng = stream(seed, -1, -1, "test/diversity/images")
    anatomy = rng.standard_normal((max(patients) + 1, *shape))
    anatomy = ndimage.gaussian_filter(anatomy, (0, *(2,) * len(shape)))
    anatomy = 0.5 + 0.2 * anatomy / anatomy.std()
    pixels = anatomy[patients] + 0.02 * rng.standard_normal((len(patients), *shape))
    return make_image_set("images", pixels, patient_ids=[f"p{number}" for number in patients])


# ------------------------------------------------------------------------------------------------------ neighbourhoods


def test_every_registered_score_is_measured() -> None:
    names = {metric.name for metric in IMAGE_METRICS if metric.family == "diversity"}
    assert names == {*NAMES, "ms_ssim_pairs", "attribute_coverage"}
    synthetic, real = draw_side(70, 1, several=0.4), draw_side(60, 2, several=0.4)
    found = measure(synthetic, real)
    assert list(found) == list(NAMES)
    plain = compute_prdc(synthetic.features, real.features)._asdict()
    for name, score in found.items():
        assert METRICS[name].low <= score.low <= score.value <= score.high <= METRICS[name].high
        assert score.low < score.high
        assert (score.features, score.images, score.detail["n_real"]) == ("encoder", len(synthetic), len(real))
        assert score.value == plain.get(name, score.value)


def test_intervals_hold_what_other_people_would_have_scored() -> None:
    """Real against real: intervals hold the mean over many draws about as often as they say."""
    rows = [measure(draw_side(80, 10 + draw), draw_side(80, 500 + draw), seed=draw) for draw in range(100)]
    for name in NAMES:
        mean = np.mean([row[name].value for row in rows])
        assert sum(row[name].low <= mean <= row[name].high for row in rows) >= 86, name


def test_a_generator_of_few_images_is_found_out() -> None:
    real, made = draw_side(150, 3), draw_side(150, 4)
    usual = measure(made, real)
    few = measure(Side(made.features[np.resize(np.arange(8), 150)], made.patient), real)
    for name in ("recall", "coverage", "vendi_score"):
        assert few[name].high < usual[name].low, name
    assert usual["vendi_score"].detail["real"] == pytest.approx(measure(real, made)["vendi_score"].value)


def test_precision_and_recall_fall_on_their_own_side() -> None:
    real, made = draw_side(200, 5), draw_side(200, 6)
    wide = measure(Side(2 * made.features, made.patient), real)
    narrow = measure(Side((0.3 * made.features + 0.7 * made.features.mean(axis=0)), made.patient), real)
    assert wide["precision"].value < 0.5 < wide["recall"].value
    assert narrow["recall"].value < 0.5 < narrow["precision"].value


def test_scores_are_drawn_anew_with_another_seed_only() -> None:
    synthetic, real = draw_side(50, 7), draw_side(50, 8)
    assert measure(synthetic, real, 1) == measure(synthetic, real, 1)
    assert measure(synthetic, real, 2)["density"].low != measure(synthetic, real, 1)["density"].low


def test_not_measurable() -> None:
    many, few = draw_side(60, 9), draw_side(LEAST_PATIENTS - 1, 10, several=1.0)
    broken, constant, empty = (many.features.copy() for _ in range(3))
    broken[:2], constant[:], empty[:4] = np.nan, 1.0, 0.0
    for synthetic, real, reason in (
        (few, many, "19 synthetic patients only"),
        (many, few, "19 real patients only"),
        (Side(broken, many.patient), many, "2 synthetic images are not numbers"),
        (many, Side(constant, many.patient), "all real images have the same features"),
    ):
        for score in measure(synthetic, real).values():
            assert score.value is None
            assert reason in score.reason
    found = measure(Side(empty, many.patient), many)
    assert "4 images are all 0" in found.pop("vendi_score").reason
    assert all(score.value is not None for score in found.values())
    with pytest.raises(NotComparableError):
        measure(Side(many.features[:, 1:], many.patient), many)


# --------------------------------------------------------------------------------------------------------- pairs (SSIM)


@settings(deadline=None, max_examples=40)
@given(
    patient=st.lists(st.integers(0, 20), min_size=2, max_size=60).filter(lambda drawn: len(set(drawn)) > 1),
    pairs=st.integers(1, 80),
    seed=st.integers(0, 99),
)
def test_pairs_are_of_two_patients_who_all_come_as_often(patient: list[int], pairs: int, seed: int) -> None:
    codes = np.unique(patient, return_inverse=True)[1]
    drawn = draw_pairs(codes, pairs, stream(seed, -1, -1, "test/diversity"))
    assert drawn.shape == (pairs, 2)
    assert (codes[drawn[:, 0]] != codes[drawn[:, 1]]).all()
    counts = np.bincount(codes[drawn].ravel(), minlength=codes.max() + 1)
    rounds = -(-pairs // (len(counts) // 2))
    assert counts.max() <= rounds
    if len(counts) % 2 == 0:
        assert counts.min() >= rounds - 1


def test_pairs_that_share_a_patient_widen_the_interval() -> None:
    rng = stream(11, -1, -1, "test/diversity")
    patients = np.array([[i, j] for i in range(30) for j in range(i)])
    own = rng.standard_normal(30)
    shared = own[patients].sum(axis=1)
    assert spread_of_pairs(shared, patients) > 3 * shared.std() / np.sqrt(len(shared))
    alone = rng.standard_normal(500)
    apart = np.arange(1000).reshape(500, 2)
    assert spread_of_pairs(alone, apart) == pytest.approx(alone.std() / np.sqrt(500))


def test_interval_of_similarity_holds_the_mean_of_endless_pairs() -> None:
    truth = measure_ms_ssim(draw_images((24, 24), list(range(600))), seed=0, pairs=3000).value
    hits = []
    for draw in range(30):
        score = measure_ms_ssim(draw_images((24, 24), list(range(40)), seed=2 + draw), seed=draw, pairs=100)
        hits.append(score.low <= truth <= score.high)
    assert np.mean(hits) >= 0.85


@pytest.mark.parametrize("shape", [(32, 32), (14, 13, 15)])
def test_pictures_and_volumes_that_are_the_same(shape: tuple[int, ...]) -> None:
    images = draw_images(shape, [*range(40), *range(10)])
    score = measure_ms_ssim(images, seed=0, pairs=60, subgroup="sex=F")
    assert 0 <= score.low < score.value < score.high < 0.9
    assert (score.images, score.subgroup, score.detail["pairs"]) == (50, "sex=F", 60)
    same = measure_ms_ssim(replace(images, stored=np.repeat(images.stored[:1], 50, axis=0)), seed=0, pairs=60)
    assert same.value == pytest.approx(1, abs=1e-6)


def test_similarity_is_not_measurable() -> None:
    assert "19 patients only; 20" in measure_ms_ssim(draw_images((16, 16), [*range(19), 0, 1]), seed=0).reason
    assert "10 x 16" in measure_ms_ssim(draw_images((10, 16), list(range(30))), seed=0).reason
    images = draw_images((16, 16), list(range(30)))
    assert "0 patients" in measure_ms_ssim(images.select(np.arange(0)), seed=0).reason
