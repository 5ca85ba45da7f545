"""The search for copies: sources are found whatever was done to them, others are left alone, and controls can fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from synth.evaluation.images.copies import search as copies_search
from synth.evaluation.images.copies import shortlist as copies_shortlist
from synth.evaluation.images.copies.planted import ALTERATIONS, HARDER, plant_copies
from synth.evaluation.images.copies.scores import check_planted, check_unseen, find_copies, score_copies
from synth.evaluation.images.copies.search import CopySearch, make_copy_search
from synth.evaluation.images.copies.threshold import Threshold, calibrate_threshold, find_planted
from synth.evaluation.images.sets import ImageSet, join_sets
from tests.synth.evaluation.images.phantoms import SIZE, draw_phantoms

ALL = {**ALTERATIONS, **HARDER}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return draw_phantoms(90, seed=1)


@pytest.fixture(scope="module")
def unseen() -> ImageSet:
    return draw_phantoms(60, seed=2)


@pytest.fixture(scope="module")
def search(train: ImageSet) -> CopySearch:
    return make_copy_search(train)


@pytest.fixture(scope="module")
def threshold(search: CopySearch, unseen: ImageSet) -> Threshold:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synth.evaluation.images.copies.threshold.PLANTED", 8)  # faster
        return calibrate_threshold(search, unseen)


# ------------------------------------------------------------------------------------------------ copies are found


def test_every_alteration_leads_to_its_source(search: CopySearch, threshold: Threshold, train: ImageSet) -> None:
    copies = plant_copies(train, 8, seed=3, alterations=ALL)
    matches = search.search(copies)
    names, patients = np.array(train.image_ids), np.array(train.records.column("patient_id").to_pylist())
    sources = np.array([names.tolist().index(str(name)) for name in copies.values("copied_image_id")])
    assert np.array_equal(patients[matches.index], patients[sources])
    assert (matches.score >= threshold.value).all(), np.array(copies.values("alteration"))[
        matches.score < threshold.value
    ]
    exact = np.isin(copies.values("alteration"), ("exact", "flipped"))
    assert np.array_equal(matches.index[exact], sources[exact])
    assert (matches.score[exact] > 0.99).all()
    assert np.allclose(find_planted(search, copies, matches), matches.score)
    shifted = replace(matches, index=np.roll(matches.index, len(ALL)))
    assert not find_planted(search, copies, shifted).any(), "another patient's image in its place is no recall"


def test_new_patients_raise_no_alarm(search: CopySearch, threshold: Threshold, unseen: ImageSet) -> None:
    others = draw_phantoms(60, seed=7)
    found = find_copies(search, threshold, others)
    assert not found.flags.any()
    assert not found.copies
    assert len(found.closest) == 24
    assert found.closest[0].score == found.matches.score.max() < threshold.value
    rate, people = found.scores
    assert (rate.name, rate.value, rate.low) == ("copy_rate", 0, 0)
    assert (people.name, people.value, people.low) == ("copied_patients", 0, 0)
    assert rate.high == pytest.approx(1 - 0.025 ** (1 / 60))  # the rule of three, at 95 %
    assert threshold.images == len(unseen)
    assert threshold.value > threshold.scores.max()
    assert check_unseen(search, unseen, seed=0, threshold=threshold).behaves


def test_copies_among_honest_images_are_listed(search: CopySearch, threshold: Threshold, train: ImageSet) -> None:
    copies = plant_copies(train, 2, seed=4)
    mixed = join_sets("mixed", [_bare(draw_phantoms(20, seed=8)), _bare(copies)])
    found = find_copies(search, threshold, mixed)
    flagged = {mixed.image_ids[row] for row in np.flatnonzero(found.flags)}
    assert flagged == set(copies.image_ids)
    assert [pair.score for pair in found.copies] == sorted((pair.score for pair in found.copies), reverse=True)
    of = dict(zip(train.image_ids, train.records.column("patient_id").to_pylist(), strict=True))
    wanted = dict(zip(copies.image_ids, copies.values("copied_image_id"), strict=True))
    assert all(of[str(wanted[pair.image_id])] == pair.reference_patient_id for pair in found.copies)
    rate, people = found.scores
    assert rate.value == len(copies) / len(mixed)
    assert people.value == pytest.approx(len({of[str(name)] for name in wanted.values()}) / 90)
    assert all(score.low <= score.value <= score.high for score in found.scores)
    honest, nobody = ~np.isin(mixed.image_ids, copies.image_ids), np.zeros(len(mixed), bool)
    assert [score.value for score in score_copies(found, honest, "F")] == [0, 0]
    assert [score.reason for score in score_copies(found, nobody, "F")] == ["no images"] * 2


def _bare(images: ImageSet) -> ImageSet:
    return replace(images, records=images.records.select(["image_id", "patient_id"]), schema=())


# --------------------------------------------------------------------------------------- controls, and how they fail


def test_the_control_finds_planted_copies(search: CopySearch, threshold: Threshold, train: ImageSet) -> None:
    control = check_planted(search, threshold, train, seed=0, count=4)
    assert (control.name, control.behaves) == ("planted_copies", True)
    assert "100.0% of 24 planted copies were found" in control.reason


def test_a_search_among_other_patients_fails_the_control(threshold: Threshold, train: ImageSet) -> None:
    others = replace(train, stored=draw_phantoms(120, seed=9).stored[: len(train)])
    control = check_planted(make_copy_search(others), threshold, train, seed=0, count=3)
    assert not control.behaves
    assert control.reason.startswith("0.0% of 18")


def test_a_search_blind_to_flips_fails_the_control(
    monkeypatch: pytest.MonkeyPatch, threshold: Threshold, train: ImageSet
) -> None:
    bank = copies_shortlist.make_bank
    monkeypatch.setattr(copies_shortlist, "make_bank", lambda grid: bank(grid)[:1])
    control = check_planted(make_copy_search(train), threshold, train, seed=0, count=3)
    assert not control.behaves
    assert "exact 100%, flipped 0%" in control.reason


def test_a_threshold_that_is_too_high_fails_the_control(
    search: CopySearch, threshold: Threshold, train: ImageSet
) -> None:
    control = check_planted(search, replace(threshold, value=0.999999), train, seed=0, count=2)
    assert not control.behaves


def test_copies_read_by_the_nearest_pixel_need_their_comparison(
    monkeypatch: pytest.MonkeyPatch, search: CopySearch, train: ImageSet
) -> None:
    small = draw_phantoms(90, seed=1)
    turned = plant_copies(small, 10, seed=5, alterations={"turned": _turn_nearest})
    found = search.search(turned)
    monkeypatch.setattr(
        CopySearch, "_compare_nearest", lambda self, view, valid, training, place, maps: np.zeros(place.shape, "f4")
    )
    without = search.search(turned)
    assert (found.score >= without.score - 1e-6).all()
    assert np.median(1 - found.score) < 0.7 * np.median(1 - without.score)


def _turn_nearest(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    middle = (SIZE - 1) / 2
    y, x = np.indices(image.shape) - middle
    angle = np.deg2rad(5)
    at = [np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x]
    return np.asarray(image[tuple(np.clip(np.rint(axis + middle).astype(int), 0, SIZE - 1) for axis in at)])


# -------------------------------------------------------------------------------- the same images, the same answer


def test_order_and_threads_do_not_matter(train: ImageSet, search: CopySearch) -> None:
    images = join_sets("both", [_bare(plant_copies(train, 4, seed=6)), _bare(draw_phantoms(70, seed=10))])
    assert len(images) > copies_search.BLOCK
    first = search.search(images)
    torch.set_num_threads(2)
    threads = search.search(images)
    torch.set_num_threads(1)
    assert all(np.array_equal(a, b) for a, b in zip(first.columns, threads.columns, strict=True))
    order = np.arange(len(images))[::-1]
    reverse = search.search(images.select(order)).select(order)
    assert np.array_equal(first.index, reverse.index)
    assert np.allclose(first.score, reverse.score, atol=1e-4)
    alone = search.search(images.select(np.array([3])))
    assert alone.index[0] == first.index[3]
    assert alone.score[0] == pytest.approx(first.score[3], abs=1e-4)


def test_order_of_training_images_does_not_matter(train: ImageSet, search: CopySearch) -> None:
    order = np.arange(len(train))[::-1]
    copies = plant_copies(train, 4, seed=6)
    first, second = search.search(copies), make_copy_search(train.select(order)).search(copies)
    assert np.array_equal(first.index, order[second.index])
    assert np.allclose(first.score, second.score, atol=0.02)


def test_copies_of_images_that_the_reference_holds_many_times_are_found(train: ImageSet, unseen: ImageSet) -> None:
    """Repetitions under other patients' names would be each other's neighbours, and hide every copy."""
    repeated = [
        replace(train.select(np.arange(3)), records=unseen.select(np.arange(3 * again, 3 * again + 3)).records)
        for again in range(12)
    ]
    copies = plant_copies(train.select(np.arange(3)), 3, seed=5, alterations={"intensity": ALTERATIONS["intensity"]})
    alone = make_copy_search(train).search(copies)
    among = make_copy_search(join_sets("train", [train, *repeated])).search(copies)
    assert np.array_equal(among.index, alone.index)
    assert among.score.min() > 0.9
