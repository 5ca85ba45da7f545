"""The encoder trained on a reference: what it learns, that it repeats, and that its files are checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from synth.errors import PermanentError
from synth.evaluation.images.features.augmentation import augment_images
from synth.evaluation.images.features.encoder import Encoder
from synth.evaluation.images.features.encoder_files import (
    FORM_FILE,
    WEIGHTS_FILE,
    EncoderFileError,
    encoder_key,
    load_encoder,
    save_encoder,
)
from synth.evaluation.images.features.encoder_lessons import EncoderSettings, prepare_lessons
from synth.evaluation.images.features.encoder_training import fit_encoder, measure_sameness
from synth.evaluation.images.features.fitting import TooFewImagesError
from synth.evaluation.images.layout import Floats32, Layout
from synth.evaluation.images.networks import make_generator
from synth.evaluation.images.sets import RealImages, make_image_set
from synth.evaluation.images.tasks import find_tasks
from synth.nouns import Attribute
from synth.seeds import stream

QUICK = EncoderSettings(size=16, widths=(4, 8, 16), embedding=12, steps=40, batch=16, check=10)
SCHEMA = (Attribute("shape", "categorical"), Attribute("age_years", "continuous"), Attribute("site", "categorical"))


def draw_side(name: str, count: int, dimensions: int = 2, seed: int = 1) -> tuple[Floats32, dict[str, list[object]]]:
    """Bars or blobs; brightness follows age, and a third of the ages is missing."""
    rng = stream(seed, -1, -1, f"test/encoder/{name}")
    bars, age = rng.random(count) < 0.5, rng.uniform(20, 80, count)
    axes = np.indices((20,) * dimensions)
    images = []
    for bar, years in zip(bars, age, strict=True):
        middle = rng.uniform(7, 13, dimensions).reshape(-1, *[1] * dimensions)
        away = np.abs(axes - middle)
        inside = away[0] < 3 if bar else (away**2).sum(axis=0) < 36
        images.append(0.1 + years / 110 * inside + rng.normal(0, 0.02, inside.shape))
    known = rng.random(count) < 0.67
    attributes: dict[str, list[object]] = {
        "shape": ["bar" if bar else "blob" for bar in bars],
        "age_years": [float(years) if k else None for years, k in zip(age, known, strict=True)],
        "site": ["one"] * count,
    }
    return np.clip(np.asarray(images, np.float32), 0, 1), attributes


def make_real(train: int = 60, validation: int = 24, dimensions: int = 2, asked: bool = True) -> RealImages:
    parts = []
    for name, count in (("train", train), ("validation", validation), ("holdout", 40)):
        images, attributes = draw_side(name, count, dimensions)
        parts.append(make_image_set(name, images, attributes if asked else None, SCHEMA if asked else ()))
    return RealImages("made", "0" * 64, *parts, Layout((20,) * dimensions, "absolute"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower with several threads, most of all where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def real() -> RealImages:
    return make_real()


@pytest.fixture(scope="module")
def encoder(real: RealImages) -> Encoder:
    return fit_encoder(real, QUICK)


def test_learns_to_tell_attributes_of_unseen_patients(real: RealImages, encoder: Encoder) -> None:
    train, holdout = (encoder.extract(side.images(slice(None))).astype(float) for side in (real.train, real.holdout))
    for name, least in (("shape=bar", 0.8), ("age_years", 0.8)):
        task = next(t for t in find_tasks(real.train) if t.name.startswith(name.partition("=")[0]))
        known, target = task.targets(real.train), task.targets(real.holdout)
        asked, judged = ~np.isnan(known), ~np.isnan(target)
        design = np.column_stack([train, np.ones(len(train))])[asked]
        weights = np.linalg.solve(design.T @ design + 3 * np.eye(design.shape[1]), design.T @ known[asked])
        guess = np.column_stack([holdout, np.ones(len(holdout))])[judged] @ weights
        assert np.corrcoef(guess, target[judged])[0, 1] > least, name
    assert [task.partition("=")[0] for task in encoder.learned["tasks"]] == ["shape", "age_years"]


def test_features_are_scaled_to_training_images(real: RealImages, encoder: Encoder) -> None:
    found = encoder.extract(real.train.images(slice(None)))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.02)  # training images were held with 11 bits
    np.testing.assert_allclose(found.std(axis=0), 1, atol=0.02)


def test_same_reference_and_seed_give_the_same_encoder(real: RealImages, encoder: Encoder) -> None:
    again = fit_encoder(real, QUICK)
    assert again.fingerprint == encoder.fingerprint
    assert again.learned == encoder.learned
    assert fit_encoder(real, replace(QUICK, seed=1, steps=10)).fingerprint != encoder.fingerprint


def test_features_of_an_image_do_not_depend_on_its_block(real: RealImages, encoder: Encoder) -> None:
    images = np.concatenate([real.holdout.images(slice(None))] * 2)
    alone = np.concatenate([encoder.extract(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_allclose(alone, encoder.extract(images), atol=1e-5)
    assert encoder.extract(images[:0]).shape == (0, encoder.dimensions)


def test_learns_without_attributes_and_in_3d() -> None:
    real = make_real(30, 8, dimensions=3, asked=False)
    encoder = fit_encoder(real, replace(QUICK, size=10, steps=30))
    images = real.holdout.images(slice(None))
    changed = augment_images(torch.from_numpy(images).unsqueeze(1), make_generator(0, "test")).squeeze(1).numpy()
    first, second = encoder.extract(images), encoder.extract(changed)
    away = np.linalg.norm(first[:, None] - second[None], axis=2)
    assert np.diag(away).mean() < 0.8 * away.mean()  # an image is nearer to its changed self than to others
    assert encoder.learned["tasks"] == []


def test_progress_is_told(real: RealImages) -> None:
    told: list[tuple[str, int, int]] = []
    fit_encoder(real, replace(QUICK, steps=6), tell=lambda *record: told.append(record))
    assert told == [("training the encoder", step, 6) for step in range(1, 7)]


def test_best_weights_on_validation_patients_are_kept(encoder: Encoder) -> None:
    losses = encoder.learned["validation_loss"]
    assert min(losses, key=losses.get) == str(encoder.learned["steps"])
    few = fit_encoder(make_real(30, 4), replace(QUICK, steps=4, check=2))  # too few patients to stop by
    assert few.learned["steps"] == 4


def test_refuses_too_few_images() -> None:
    with pytest.raises(TooFewImagesError, match="at least 30 train images of the reference; it has 29"):
        fit_encoder(make_real(29), QUICK)


def test_refuses_volumes_if_trained_on_pictures(encoder: Encoder) -> None:
    with pytest.raises(PermanentError, match="trained on images with 2 axes; these have 3"):
        encoder.extract(np.zeros((1, 8, 8, 8), np.float32))


def test_answers_are_scaled_by_training_patients(real: RealImages) -> None:
    tasks = find_tasks(real.train)
    form, lesson, exam = prepare_lessons(real, QUICK, tasks)
    numbers = lesson.answers[:, [task.kind == "number" for task in tasks].index(True)]
    assert form.grid == (16, 16)
    assert 0.1 < numbers.isnan().float().mean() < 0.6
    assert abs(float(numbers.nanmean())) < 1e-5
    assert len(exam) == len(real.validation)


def test_sameness_is_least_for_equal_varied_projections() -> None:
    draw = torch.from_numpy(stream(1, -1, -1, "test/sameness").normal(size=(400, 6)).astype(np.float32))
    same = float(measure_sameness(draw, draw))
    assert same < 0.05
    assert float(measure_sameness(draw, draw.flip(0))) > 1.5  # other images
    assert float(measure_sameness(0 * draw, 0 * draw)) == pytest.approx(0.99, abs=0.01)  # collapsed
    assert float(measure_sameness(draw[:, :1].repeat(1, 6), draw[:, :1].repeat(1, 6))) > same + 0.1  # repeated


@pytest.mark.parametrize("dimensions", [2, 3])
def test_changed_images_stay_like_themselves(dimensions: int) -> None:
    images = torch.from_numpy(draw_side("train", 30, dimensions)[0]).unsqueeze(1)
    changed = augment_images(images, make_generator(3, "test"))
    assert changed.shape == images.shape
    assert torch.equal(changed, augment_images(images, make_generator(3, "test")))
    flat, other = images.flatten(1), changed.flatten(1)
    alike = torch.corrcoef(torch.cat([flat, other]))[:30, 30:]
    assert alike.diagonal().min() > 0.75
    assert (alike.diagonal() < 0.9999).all()


def test_saved_encoder_is_the_same(encoder: Encoder, real: RealImages, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path / "kept")
    again = load_encoder(tmp_path / "kept")
    images = real.holdout.images(slice(None))
    np.testing.assert_array_equal(again.extract(images), encoder.extract(images))
    assert again.fingerprint == encoder.fingerprint
    assert again.learned == dict(encoder.learned)


def test_key_follows_reference_split_and_settings(real: RealImages) -> None:
    key = encoder_key(real, QUICK)
    assert key == encoder_key(make_real(), QUICK)
    others = {
        encoder_key(replace(real, fingerprint="1" * 64), QUICK), encoder_key(real, replace(QUICK, seed=1)),
        encoder_key(replace(real, train=real.train.select(np.arange(40))), QUICK),
        encoder_key(replace(real, layout=Layout((20, 20), "relative")), QUICK), encoder_key(real),
    }  # fmt: skip
    assert len(others | {key}) == 6


def test_changed_files_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    save_encoder(encoder, folder)
    weights, form = (folder / WEIGHTS_FILE).read_bytes(), json.loads((folder / FORM_FILE).read_text())

    def refuse(reason: str, new_weights: bytes = weights, **changed: object) -> None:
        (folder / WEIGHTS_FILE).write_bytes(new_weights)
        (folder / FORM_FILE).write_text(json.dumps(form | changed))
        with pytest.raises(EncoderFileError, match=reason):
            load_encoder(folder)

    flipped = weights[:-3] + bytes([weights[-3] ^ 1]) + weights[-2:]
    refuse("is not what encoder.json was written for", flipped)
    refuse("other arrays than its form needs", embedding=13)
    refuse("other arrays than its form needs", widths=[4, 8, 32])
    refuse("this is encoder-1", version="encoder-0")
    refuse("does not describe an encoder", grid=[10**6, 10**6])
    refuse("does not describe an encoder", surprise=1)
    doubled = save({name: values.double() for name, values in load(weights).items()})
    refuse("float32", doubled, weights_sha256=hashlib.sha256(doubled).hexdigest())
    refuse("not a safetensors file", b"\x00" * 40, weights_sha256=hashlib.sha256(b"\x00" * 40).hexdigest())
    with pytest.raises(EncoderFileError, match="no encoder can be read"):
        load_encoder(tmp_path / "nowhere")
