"""Label maps: they drive images, may be absent, move with the images, and are refused where they mean nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synth.errors import ModelError, PermanentError, SpecError
from synth.evaluation.images.networks import make_generator
from synth.evaluation.images.sets import make_image_set
from synth.learned.changes import change_images, change_maps
from synth.learned.conditions import list_rows
from synth.learned.distillation import distil_model, encode_requests
from synth.learned.generator import Generator
from synth.learned.maps import MapCode
from synth.learned.model_files import load_model, read_description, save_model
from synth.learned.recipe import FewStepsSpec, TrainSpec, parse_train_spec
from synth.learned.training import identify_training, train_model
from tests.synth.learned.labelled import RECIPE, draw_labelled, draw_maps, make_spec, measure_dice

ROWS = [{"tone": "bright"}, {}, {"tone": "dark"}]


def with_training(spec: TrainSpec, **changed: object) -> TrainSpec:
    return spec.model_copy(update={"training": spec.training.model_copy(update=changed)})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    spec = with_training(make_spec("flow", 100), warm_up=10)
    return train_model(spec, draw_labelled(96), tmp_path_factory.mktemp("checkpoints")).generator


def test_labels_drive_the_image(model: Generator) -> None:
    maps, rows, keys = draw_maps(24, seed=9), [{}] * 24, list(range(24))
    assert model.description.map == MapCode("shapes", ("disc", "ellipse"))
    asked, free = model.sample(rows, keys, maps), model.sample(rows, keys)
    assert measure_dice(asked, maps) > 0.45 > 2 * measure_dice(free, maps)
    moved = np.roll(maps, 3, axis=1)
    followed = model.sample(rows, keys, moved)
    assert measure_dice(followed, moved) > 2 * measure_dice(followed, maps[:, :, ::-1])


def test_latent_places_follow_labels_too(tmp_path: Path) -> None:
    spec = with_training(make_spec("latent-flow", 70, first=40), warm_up=10)
    latent = train_model(spec, draw_labelled(96), tmp_path).generator
    maps, rows, keys = draw_maps(24, seed=9), [{}] * 24, list(range(24))
    assert measure_dice(latent.sample(rows, keys, maps), maps) > 2 * measure_dice(latent.sample(rows, keys), maps)


def test_a_loaded_model_follows_maps_and_each_image_its_own(model: Generator, tmp_path: Path) -> None:
    maps = draw_maps(3, seed=5)
    images = model.sample(ROWS, [1, 2, 3], maps)
    save_model(tmp_path / "model", model.description, model.network.state_dict())
    loaded = load_model(tmp_path / "model")
    assert read_description(tmp_path / "model").map == model.description.map
    assert np.array_equal(loaded.sample(ROWS, [1, 2, 3], maps), images)
    for number in range(3):
        alone = loaded.sample(ROWS[number : number + 1], [number + 1], maps[number : number + 1])
        assert np.array_equal(alone[0], images[number])
    empty = np.zeros_like(maps)
    assert not np.array_equal(loaded.sample(ROWS, [1, 2, 3], empty), loaded.sample(ROWS, [1, 2, 3]))


def test_a_map_moves_as_its_image_does() -> None:
    maps = torch.from_numpy(draw_maps(40, (32, 32)))
    images = (maps[:, None] == 1).float() * 0.98 + 0.01
    changed, told = change_images(images, 1.0, make_generator(0, "test"))
    moved = change_maps(maps, told)
    assert set(moved.unique().tolist()) == {0.0, 1.0, 2.0}
    assert not torch.equal(moved, maps.float())
    half = (0.495 ** torch.exp(0.25 * told[:, -1])).reshape(-1, 1, 1)  # where gamma puts the middle
    wrong = (changed[:, 0] > half) != (moved == 1)
    assert wrong.float().mean() < 0.01
    assert wrong.float().mean() < 0.2 * ((changed[:, 0] > half) != (maps == 1)).float().mean()


def test_the_student_is_asked_with_maps_and_now_and_then_without(model: Generator) -> None:
    images = draw_labelled(48, seed=3)
    rows, spec = list_rows(images, model.description.code), FewStepsSpec(steps=1, images=200, updates=2, batch=8)
    codes = encode_requests(model, rows, images.maps, spec, 0)
    assert codes.shape == (200, model.description.told)
    given = codes[:, model.description.width :].any(dim=1)
    assert 0.75 < given.float().mean() < 0.95
    assert codes[given, model.description.width :].min() == 1
    small = FewStepsSpec(steps=1, images=16, updates=1, batch=8)
    student = distil_model(model, rows, small, 0, maps=images.maps)
    assert student.description.map == model.description.map


def test_a_model_that_knows_labels_learns_on_without_them(model: Generator, tmp_path: Path) -> None:
    plain = replace(draw_labelled(24), maps=None)
    spec = with_training(make_spec("flow", 2)).model_copy(update={"labels": None})
    tuned = train_model(spec, plain, tmp_path, start=model).generator
    assert tuned.description.map == model.description.map
    assert tuned.sample(ROWS, [1, 2, 3], draw_maps(3)).shape == (3, 16, 16)
    nameless = make_image_set("nameless", plain.images(slice(None)))  # no image says what the model may be asked for
    tuned = train_model(spec.model_copy(update={"attributes": ()}), nameless, tmp_path / "n", start=model).generator
    assert tuned.description.attributes == model.description.attributes
    other = train_model(spec, plain, tmp_path / "plain").generator
    with pytest.raises(ModelError, match=r"labels: 'shapes' was taught no label map, the recipe names 0 to 2"):
        train_model(make_spec("flow", 2), draw_labelled(24), tmp_path / "other", start=other)


def test_checkpoints_belong_to_their_maps() -> None:
    spec, images = make_spec("flow", 2), draw_labelled(24)
    assert images.maps is not None
    turned = replace(images, maps=images.maps[:, ::-1])
    assert identify_training(spec, images) != identify_training(spec, turned)
    chosen = images.select(np.asarray([3, 1]))
    assert chosen.maps is not None
    assert np.array_equal(chosen.maps, images.maps[[3, 1]])


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"maps are uint8 \(3, 8, 8\); give whole numbers of the shape \(3, 16, 16\)"),
        (np.zeros((3, 16, 16)), "maps are float64"),
        (np.full((3, 16, 16), 3), "maps hold 3 to 3; the model was taught 0 to 2 of 'shapes' .disc, ellipse."),
        (np.full((3, 16, 16), -1), "maps hold -1"),
    ],
)
def test_maps_that_mean_nothing_are_refused(model: Generator, maps: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ModelError, match=message):
        model.sample(ROWS, [1, 2, 3], maps)


def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    images, spec = draw_labelled(24), make_spec("flow", 2)
    assert images.maps is not None
    with pytest.raises(ModelError, match="the training images have no mask 'shapes'"):
        train_model(spec, replace(images, maps=None), tmp_path)
    with pytest.raises(ModelError, match=r"labels up to 5 of 'shapes'; 2 are named"):
        train_model(spec, replace(images, maps=(images.maps + 3).astype(np.uint8)), tmp_path)
    with pytest.raises(SpecError, match="labels: family 'vae' cannot be given a label map; choose from flow"):
        parse_train_spec(RECIPE.format(family="vae", shape=[16, 16], channels=[16], patch=1, own="", steps=1, first=""))
    plain = train_model(spec.model_copy(update={"labels": None}), images, tmp_path / "plain").generator
    with pytest.raises(ModelError, match="was not taught to follow labels"):
        plain.sample([{}], [1], images.maps[:1])
    with pytest.raises(PermanentError, match=r"label maps are \(2, 16, 16\) and images \(24, 16, 16\)"):
        make_image_set("wrong", images.images(slice(None)), maps=images.maps[:2])
