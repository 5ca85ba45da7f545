"""Training: it learns, it goes on where it was killed with the same weights, and refuses what cannot be learned."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from synth.errors import ModelError, StorageError
from synth.learned.checkpoints import PREFIX, read_checkpoint
from synth.learned.loop import plan_rate
from synth.learned.recipe import TrainingSpec, TrainSpec, parse_train_spec
from synth.learned.training import Trained, identify_training, train_model
from tests.synth.learned.faces import RECIPE, draw_faces


def make_spec(family: str = "flow", steps: int = 6, **changed: object) -> TrainSpec:
    spec = parse_train_spec(RECIPE.format(family=family, steps=steps))
    return spec.model_copy(update={"training": spec.training.model_copy(update=changed)})


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.generator.network.state_dict()


def same(first: Trained, second: Trained) -> bool:
    pairs = zip(weights(first).values(), weights(second).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("family", ["flow", "ddpm", "vae"])
def test_a_training_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tmp_path: Path, family: str) -> None:
    images, spec = draw_faces(24), make_spec(family)
    whole = train_model(spec, images, tmp_path / "whole")
    seconds = itertools.count()
    part = train_model(spec, images, tmp_path / "part", minutes=5 / 60, clock=lambda: float(next(seconds)))
    assert 0 < part.steps < 6
    assert not part.finished
    assert not same(part, whole)
    rest = train_model(spec, images, tmp_path / "part")
    assert rest.finished
    assert rest.losses == whole.losses
    assert same(rest, whole)


def test_the_rate_rises_holds_and_falls_to_nothing() -> None:
    fading, steady = TrainingSpec(warm_up=10, fade=0.5), TrainingSpec(warm_up=0)
    assert [plan_rate(fading, step, 100) for step in (0, 9, 50, 75, 99)] == pytest.approx([0.1, 1, 1, 0.5, 0.02])
    assert {plan_rate(steady, step, 100) for step in range(100)} == {1.0}


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    images, spec = draw_faces(24), make_spec()
    whole = train_model(spec, images, tmp_path)
    newest = max(tmp_path.glob(f"{PREFIX}*"))
    newest.write_bytes(newest.read_bytes()[:100])
    found = read_checkpoint(tmp_path, identify_training(spec, images))
    assert found is not None
    assert found.step == 5
    assert same(train_model(spec, images, tmp_path), whole)


def test_checkpoints_of_other_data_are_refused(tmp_path: Path) -> None:
    spec = make_spec(steps=1)
    train_model(spec, draw_faces(24), tmp_path)
    with pytest.raises(ModelError, match="another version of Cohortium"):
        train_model(spec, draw_faces(24, seed=1), tmp_path)


def test_a_batch_may_be_cut_into_parts_to_save_memory(tmp_path: Path) -> None:
    images = draw_faces(64)
    losses = [
        np.mean(train_model(make_spec(steps=12, accumulate=parts), images, tmp_path / str(parts)).losses)
        for parts in (1, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


@pytest.mark.parametrize(("family", "steps", "ratio"), [("flow", 150, 1.3), ("vae", 200, 1.1)])
def test_the_loss_falls_and_images_show_what_was_asked_for(
    tmp_path: Path, family: str, steps: int, ratio: float
) -> None:
    spec = make_spec(family, steps, checkpoint_minutes=9.0, leave_out_all=0.1)
    trained = train_model(spec, draw_faces(96), tmp_path)
    assert np.mean(trained.losses[-20:]) < 0.7 * np.mean(trained.losses[:5])
    keys = list(range(24))
    women, men = ([{"sex": sex, "age_years": 50, "findings": ()}] * 24 for sex in "FM")
    model = trained.generator.with_sampler(guidance=1.5)
    small, large = (model.sample(rows, keys).mean() for rows in (women, men))
    assert large > ratio * small


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    images, spec = draw_faces(24), make_spec(steps=40, rate=1.0, warm_up=0, precision="float32")
    broken = images.select(np.arange(24))
    train_model(make_spec(steps=2), images, tmp_path / "other")
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"rate": 1e30})})
    with pytest.raises(ModelError, match=r"the loss is (nan|inf) at step \d+; lower training.rate"):
        train_model(TrainSpec.model_construct(**dict(spec)), broken, tmp_path / "broken")
    assert list((tmp_path / "broken").glob(f"{PREFIX}*"))


def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    images, spec = draw_faces(24), make_spec()
    with pytest.raises(ModelError, match=r"shape \(16, 16\); the recipe asks for \(32, 32\)"):
        train_model(spec.model_copy(update={"shape": (32, 32)}), images, tmp_path)
    with pytest.raises(ModelError, match="3 training images; 8 are the least"):
        train_model(spec, images.select(np.arange(3)), tmp_path)
    with pytest.raises(ModelError, match=r"has no 'sexx'.*Did you mean 'sex'"):
        train_model(spec.model_copy(update={"attributes": ("sexx",)}), images, tmp_path)
    women = np.flatnonzero(np.asarray(images.values("sex")) == "F")
    with pytest.raises(ModelError, match="'sex' has one class only"):
        train_model(spec, images.select(women), tmp_path)


def test_a_full_disk_at_a_checkpoint_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synth.learned.checkpoints.os.fsync", refuse)
    with pytest.raises(StorageError, match=r"cannot be written.*No space left.*goes on at the last checkpoint"):
        train_model(make_spec(), draw_faces(24), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_was_full_leaves_the_old_checkpoint_and_the_training_goes_on(tmp_path: Path) -> None:
    images, spec = draw_faces(24), make_spec(steps=4)
    whole = train_model(spec, images, tmp_path / "whole")
    seconds = itertools.count()
    train_model(spec, images, tmp_path / "part", minutes=4 / 60, clock=lambda: float(next(seconds)))
    before = {path.name: path.read_bytes() for path in (tmp_path / "part").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, hard)
    )  # the system then refuses longer files, as a full disk does
    try:
        with pytest.raises(StorageError, match=r"cannot be written.*File too large.*goes on at the last checkpoint"):
            train_model(spec, images, tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert before
    assert {path.name: path.read_bytes() for path in (tmp_path / "part").iterdir()} == before
    assert same(train_model(spec, images, tmp_path / "part"), whole)


def test_a_model_that_starts_from_another_has_its_weights_first(tmp_path: Path) -> None:
    images = draw_faces(24)
    first = train_model(make_spec(steps=5), images, tmp_path / "first").generator
    tuned = train_model(make_spec(steps=1, rate=1e-9), images, tmp_path / "tuned", start=first).generator
    pairs = zip(first.network.state_dict().values(), tuned.network.state_dict().values(), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-6
    with pytest.raises(ModelError, match="start: 'faces' is flow"):
        train_model(make_spec("ddpm"), images, tmp_path / "other", start=first)
