"""The copy search where there is too little, nothing, or twice the same to go by; and in volumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from synth.errors import PermanentError
from synth.evaluation.images.copies import threshold as copies_threshold
from synth.evaluation.images.copies.planted import ALTERATIONS, HARDER, plant_copies
from synth.evaluation.images.copies.scores import find_copies
from synth.evaluation.images.copies.search import CopySearch, make_copy_search
from synth.evaluation.images.copies.threshold import TooFewPatientsError, calibrate_threshold, find_planted
from synth.evaluation.images.layout import NotComparableError
from synth.evaluation.images.sets import ImageSet, join_sets, make_image_set
from synth.seeds import stream
from tests.synth.evaluation.images.phantoms import draw_phantoms

SIDE = 20


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return draw_phantoms(40, seed=1)


@pytest.fixture(scope="module")
def search(train: ImageSet) -> CopySearch:
    return make_copy_search(train)


@pytest.fixture
def few_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_threshold, "PLANTED", 4)  # faster


# ------------------------------------------------------------------------------------------------------- too little


def test_a_threshold_needs_unseen_patients(search: CopySearch) -> None:
    few = draw_phantoms(19, seed=2)
    with pytest.raises(TooFewPatientsError, match=f"{len(few)} images of 19 unseen patients; 20 patients"):
        calibrate_threshold(search, few)
    assert issubclass(TooFewPatientsError, PermanentError)


def test_a_search_needs_training_patients() -> None:
    with pytest.raises(PermanentError, match=r"among 9 training patients.*fewer than 10"):
        make_copy_search(draw_phantoms(9, seed=1))


def test_a_search_needs_pixels() -> None:
    tiny = make_image_set("tiny", stream(0, -1, -1, "tests/copies").random((12, 40, 11)))
    with pytest.raises(PermanentError, match="40 x 11 pixels; each side needs 12"):
        make_copy_search(tiny)


def test_another_shape_is_refused(search: CopySearch) -> None:
    with pytest.raises(NotComparableError, match="16 x 16 and the training images 32 x 32"):
        search.search(make_image_set("small", np.zeros((2, 16, 16))))


def test_no_images_have_no_matches(search: CopySearch, train: ImageSet) -> None:
    found = search.search(train.select(np.arange(0)))
    assert all(len(column) == 0 for column in found.columns)


# ---------------------------------------------------------------------------------------------------------- nothing


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_blank_images_are_nobodys_copy(value: float, search: CopySearch) -> None:
    found = search.search(make_image_set("blank", np.full((3, 32, 32), value)))
    assert not found.score.any()
    assert not found.similarity.any()


def test_blank_training_images_accuse_nobody(train: ImageSet, few_planted: None) -> None:
    blank = _bare(make_image_set("blank", np.zeros((12, 32, 32))))
    search = make_copy_search(join_sets("train", [_bare(train), blank]))
    images = join_sets("images", [_bare(draw_phantoms(12, seed=3)), blank.select(np.arange(2))])
    found = search.search(images)
    assert all(np.isfinite(column).all() for column in found.columns)
    assert not found.score[-2:].any()
    assert (found.score < 0.6).all()


def test_training_images_that_are_all_blank_accuse_nobody() -> None:
    search = make_copy_search(make_image_set("blank", np.full((12, 32, 32), 0.3)))
    found = search.search(draw_phantoms(5, seed=3))
    assert not found.score.any()


def test_training_images_that_are_all_alike_accuse_nobody(train: ImageSet) -> None:
    one = train.images([0])
    noise = stream(0, -1, -1, "tests/copies").normal(0, 0.002, (15, 32, 32))
    search = make_copy_search(make_image_set("alike", one + noise))
    found = search.search(
        make_image_set("again", one + stream(1, -1, -1, "tests/copies").normal(0, 0.002, (5, 32, 32)))
    )
    assert (found.similarity > 0.9).all()
    assert (found.score < 0.5).all()


def _bare(images: ImageSet) -> ImageSet:
    return replace(images, records=images.records.select(["image_id", "patient_id"]), schema=())


# ------------------------------------------------------------------------------------------------- twice the same


def test_unseen_images_that_are_training_images_are_left_out(
    train: ImageSet, search: CopySearch, few_planted: None
) -> None:
    unseen = _bare(draw_phantoms(60, seed=2))
    clean = calibrate_threshold(search, unseen)
    again = _bare(plant_copies(train, 1, seed=9, alterations={"exact": ALTERATIONS["exact"]}))
    double = calibrate_threshold(search, join_sets("unseen", [unseen, again]))
    assert not clean.duplicates
    assert [(pair.image_id, pair.reference_image_id) for pair in double.duplicates] == [
        (again.image_ids[0], again.image_ids[0].removeprefix("exact-copy-of-"))
    ]
    assert double.images == clean.images == len(unseen)
    assert double.value == pytest.approx(clean.value, abs=1e-4)
    assert "holds them twice" in double.note


def test_one_patient_under_two_names_in_training_is_found(train: ImageSet) -> None:
    names = [*train.records.column("patient_id").to_pylist(), "again"]
    twice = make_image_set("train", np.concatenate([train.images(slice(None)), train.images([4])]), {}, (), names)
    search = make_copy_search(twice)
    copies = plant_copies(twice, len(twice), seed=0, alterations={"flipped": ALTERATIONS["flipped"]})
    matches = search.search(copies)
    copied = np.array([twice.image_ids.index(str(name)) for name in copies.values("copied_image_id")])
    both = np.isin(copied, (4, len(train)))
    assert both.sum() == 2
    assert (find_planted(search, copies, matches)[both] > 0.9).all(), "either name will do"


# ---------------------------------------------------------------------------------------------------------- volumes


def draw_heads(patients: int, seed: int, background: float) -> ImageSet:
    grid = (np.indices((SIDE,) * 3) - (SIDE - 1) / 2) / (SIDE / 2)
    found = []
    for number in range(patients):
        rng = stream(seed, number, -1, "tests/heads")
        away = np.sqrt(sum((axis / radius) ** 2 for axis, radius in zip(grid, rng.uniform(0.7, 0.95, 3), strict=True)))
        folds = ndimage.gaussian_filter(rng.normal(size=away.shape), 1.2)
        head = (away < 1) * (0.5 + 0.12 * folds / folds.std())
        found.append(np.abs(head + background * rng.normal(size=away.shape)))
    return make_image_set("heads", np.clip(np.stack(found), 0, 1))


def test_copies_of_volumes_are_found_and_other_volumes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_threshold, "PLANTED", 1)  # faster
    train, unseen, others = (draw_heads(count, seed, 0.02) for seed, count in enumerate((14, 20, 3)))
    search = make_copy_search(train)
    threshold = calibrate_threshold(search, unseen)
    copies = plant_copies(train, 1, seed=0, alterations={**ALTERATIONS, **HARDER})
    scores = find_planted(search, copies, search.search(copies))
    assert (scores[: len(ALTERATIONS)] >= threshold.value).all()
    assert (scores > 0.7).all(), dict(zip(copies.values("alteration"), scores.round(2), strict=True))
    assert not find_copies(search, threshold, others).flags.any()


def test_volumes_before_nothing_are_found_in_another_grey() -> None:
    train = draw_heads(12, 0, 0.0)  # what is around the head becomes grey too, and is still no part of it
    wanted = {name: ALTERATIONS[name] for name in ("flipped", "intensity")}
    copies = plant_copies(train, 2, seed=0, alterations=wanted)
    search = make_copy_search(train)
    assert (find_planted(search, copies, search.search(copies)) > 0.9).all()
