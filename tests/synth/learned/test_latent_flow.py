"""A flow in latent space: what the pixel flow does, after an autoencoder whose training is part of the same one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from synth.errors import ModelError, SpecError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import make_generator
from synth.learned.conditions import list_rows
from synth.learned.distillation import distil_model
from synth.learned.generator import Generator
from synth.learned.latent_flow import LatentNetwork, measure_scale
from synth.learned.model_files import load_model, save_model
from synth.learned.recipe import FewStepsSpec, TrainSpec, parse_train_spec
from synth.learned.training import Trained, train_model
from tests.synth.learned.faces import RECIPE, draw_faces

LATENT = """
[architecture.autoencoder]
channels = [16, 32]
latent = 2
[training.autoencoder]
steps = {first}
rate = 3e-3
"""
ROWS = [{"sex": "F", "age_years": 40}, {"findings": ("dot",)}, {}]


def make_spec(first: int = 4, steps: int = 4, **changed: object) -> TrainSpec:
    text = RECIPE.format(family="latent-flow", steps=steps).replace("latent = 8", "patch = 1")
    text = text if first else text.replace("[architecture]", 'start = "models:/faces@champion"\n[architecture]')
    spec = parse_train_spec(text + LATENT.format(first=first))
    return spec.model_copy(update={"training": spec.training.model_copy(update=changed)})


def find_network(model: Generator) -> LatentNetwork:
    assert isinstance(model.network, LatentNetwork)
    return model.network


def bring_back(model: Generator, images: Floats32) -> Floats32:
    """Return images after a way to latent places and back."""
    network = find_network(model)
    with torch.no_grad():
        places = network.enter(2 * torch.from_numpy(images)[:, None] - 1, make_generator(0, "test"))
        return ((network.leave(places)[:, 0] + 1) / 2).numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    spec = make_spec(70, 80, checkpoint_minutes=9.0, leave_out_all=0.1, warm_up=10)
    return train_model(spec, draw_faces(96), tmp_path_factory.mktemp("checkpoints"))


def test_a_training_stopped_in_either_stage_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    images, spec = draw_faces(24), make_spec()
    state = torch.get_rng_state()
    whole = train_model(spec, images, tmp_path / "whole")
    assert torch.equal(torch.get_rng_state(), state)
    made = []
    for seconds in (6, 14, 99):
        clock = itertools.count()
        part = train_model(
            spec, images, tmp_path / "part", minutes=seconds / 60, clock=lambda clock=clock: float(next(clock))
        )
        made.append(part.steps)
    assert 0 < made[0] < 4 < made[1] < made[2] == 8
    assert part.finished
    assert part.losses == whole.losses
    ends = zip(part.generator.network.state_dict().items(), whole.generator.network.state_dict().values(), strict=True)
    assert [name for (name, a), b in ends if not torch.equal(a, b)] == []


def test_the_flow_leaves_the_autoencoder_as_it_is(tmp_path: Path) -> None:
    images = draw_faces(24)
    models = [train_model(make_spec(3, steps), images, tmp_path / str(steps)).generator for steps in (1, 5)]
    one, five = (find_network(model) for model in models)
    before, after = one.autoencoder.state_dict(), five.autoencoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(one.centre, five.centre)
    assert any(not torch.equal(a, b) for a, b in zip(one.flow.parameters(), five.flow.parameters(), strict=True))


def test_images_come_back_and_places_are_of_one_scale(trained: Trained) -> None:
    images = draw_faces(64, seed=3).images(slice(None))
    spread = np.abs(images - images.mean(axis=0)).mean()
    assert np.abs(bring_back(trained.generator, images) - images).mean() < 0.5 * spread
    network = find_network(trained.generator)
    measure_scale(network, 2 * torch.from_numpy(images)[:, None] - 1, make_generator(5, "test"))
    with torch.no_grad():
        places = network.enter(2 * torch.from_numpy(images)[:, None] - 1, make_generator(6, "test"))
    assert places.shape == (64, 2, 8, 8)
    assert places.mean(dim=(0, 2, 3)).abs().max() < 0.1
    assert places.std(dim=(0, 2, 3)).numpy() == pytest.approx([1, 1], abs=0.1)


def test_images_show_what_was_asked_for(trained: Trained) -> None:
    assert np.mean(trained.losses[-20:]) < 0.75 * np.mean(trained.losses[70:75])
    model, keys = trained.generator.with_sampler(guidance=1.5), list(range(24))
    women, men = ([{"sex": sex, "age_years": 50, "findings": ()}] * 24 for sex in "FM")
    assert model.sample(men, keys).mean() > 1.3 * model.sample(women, keys).mean()


def test_the_loss_tells_strange_images_from_those_learned(trained: Trained) -> None:
    known = draw_faces(96).images(slice(0, 6))
    losses = [trained.generator.measure_losses(images, 0) for images in (known, known[:, ::-1].copy(), known)]
    assert losses[0].mean() < losses[1].mean()
    assert np.array_equal(losses[0], losses[2])


def test_a_saved_model_draws_the_same_and_each_image_by_itself(trained: Trained, tmp_path: Path) -> None:
    model = trained.generator
    images = model.sample(ROWS, [1, 2, 3])
    for name, half in (("full", False), ("half", True)):
        save_model(tmp_path / name, model.description, model.network.state_dict(), half=half)
    assert np.array_equal(load_model(tmp_path / "full").sample(ROWS, [1, 2, 3]), images)
    half = load_model(tmp_path / "half")
    assert np.abs(half.sample(ROWS, [1, 2, 3]) - images).mean() < 0.02
    assert np.array_equal(half.sample(ROWS[1:2], [2])[0], half.sample(ROWS, [1, 2, 3])[1])
    weights = bytearray((tmp_path / "full/weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "full/weights.safetensors").write_bytes(bytes(weights))
    with pytest.raises(ModelError, match="damaged or was changed"):
        load_model(tmp_path / "full")


def test_the_few_step_student_ends_nearer_to_the_teacher(trained: Trained) -> None:
    teacher = trained.generator.with_sampler(steps=4, guidance=2.0)
    rows = list_rows(draw_faces(96), teacher.description.code)
    student = distil_model(teacher, rows, FewStepsSpec(steps=1, images=32, updates=40, batch=16, rate=1e-3), seed=5)
    keys = [10_000 + number for number in range(16)]
    wanted = teacher.sample(rows[:16], keys)
    hurried = teacher.with_sampler(steps=1, solver="euler").sample(rows[:16], keys)
    assert np.abs(student.sample(rows[:16], keys) - wanted).mean() < 0.85 * np.abs(hurried - wanted).mean()
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            find_network(student).autoencoder.parameters(), find_network(teacher).autoencoder.parameters(), strict=True
        )
    )


def test_a_model_may_be_trained_further_with_the_autoencoder_it_has(trained: Trained, tmp_path: Path) -> None:
    tuned = train_model(make_spec(0, 2), draw_faces(24, seed=8), tmp_path, start=trained.generator).generator
    assert torch.equal(find_network(tuned).log_spread, find_network(trained.generator).log_spread)
    pairs = zip(find_network(tuned).autoencoder.parameters(), find_network(trained.generator).autoencoder.parameters())  # noqa: B905
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 4\nrate = 3e-3", "steps = 0\nrate = 3e-3"), "0 needs a model to start from"),
        (("[16, 16]", "[18, 18]"), "must be a multiple of 4 .patch 1 and 2 levels of channels, 2 pixels of a latent"),
        (("latent-flow", "flow"), "autoencoder: 'flow' has none"),
        (("channels = [16, 32]\nlatent", "channels = [16, 30]\nlatent"), "multiple of 16 from 16 to 1024"),
        (("[sampler]", "[privacy]\nepsilon = 1\ndelta = 1e-3\n[sampler]"), "privacy: the scale of latent places"),
    ],
)
def test_recipes_that_cannot_be_learned_are_refused(change: tuple[str, str], message: str) -> None:
    text = RECIPE.format(family="latent-flow", steps=4).replace("latent = 8", "patch = 1") + LATENT.format(first=4)
    with pytest.raises(SpecError, match=message):
        parse_train_spec(text.replace(*change))
