"""The loss attack on a real rectified flow: it fires on the images that were learned by heart, and on no others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synth.errors import PermanentError
from synth.evaluation.images.networks import initialise_parameters, make_generator, make_linear
from synth.evaluation.images.privacy.attack_scores import judge_area, score_attack
from synth.evaluation.images.privacy.losses import attack_losses, describe_detail
from synth.evaluation.images.privacy.targets import Targets, choose_targets
from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.evaluation.ranks import area_under_curve
from synth.seeds import stream
from tests.synth.evaluation.images.phantoms import draw_phantoms

SIZE, STEPS, BATCH = 16, 500, 64
TIMES = (0.3, 0.5, 0.7, 0.8)  # fixed noise levels; 0 is noise, 1 the image


class Flow(nn.Module):
    """Velocity of a rectified flow (Liu et al., ICLR 2023) on flat images."""

    def __init__(self) -> None:
        super().__init__()
        pixels = SIZE * SIZE
        self.layers = nn.ModuleList([make_linear(pixels + 16, 256), make_linear(256, 256), make_linear(256, pixels)])

    def forward(self, values: Tensor, times: Tensor) -> Tensor:
        angles = 2.0 ** torch.arange(8) * times[:, None]
        found = torch.cat([values, angles.sin(), angles.cos()], dim=1)
        for layer in self.layers[:-1]:
            found = nn.functional.silu(layer(found))
        return self.layers[-1](found)


def train_flow(images: ImageSet, steps: int, seed: int) -> Flow:
    generator = make_generator(seed, "test/flow")
    model = Flow()
    initialise_parameters(model, generator)
    values = _flatten(images.images(slice(None)))
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(steps):
        chosen = values[torch.randint(len(values), (BATCH,), generator=generator)]
        noise = torch.randn(chosen.shape, generator=generator)
        times = torch.rand(BATCH, generator=generator)
        mixed = (1 - times[:, None]) * noise + times[:, None] * chosen
        loss = nn.functional.mse_loss(model(mixed, times), chosen - noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def losses_of(model: Flow) -> Callable[[np.ndarray, int], np.ndarray]:
    def measure(images: np.ndarray, seed: int) -> np.ndarray:
        generator, values = make_generator(seed, "test/losses"), _flatten(images)
        total = torch.zeros(len(values))
        with torch.no_grad():
            for time in TIMES:
                noise = torch.randn(values.shape, generator=generator)
                found = model((1 - time) * noise + time * values, torch.full((len(values),), time))
                total += ((found - values + noise) ** 2).mean(dim=1) / len(TIMES)
        return total.numpy()

    return measure


def _flatten(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.reshape(len(images), -1) * 2 - 1)


def _halve(images: ImageSet, patients: int) -> ImageSet:
    """Return one image a patient, at half the size."""
    first = np.unique(images.patient, return_index=True)[1][:patients]
    pixels = images.images(first).reshape(patients, SIZE, 2, SIZE, 2).mean(axis=(2, 4))
    return make_image_set(images.name, pixels)


@pytest.fixture(scope="module")
def sides() -> tuple[ImageSet, ImageSet, Targets]:
    train, unseen = _halve(draw_phantoms(48, seed=21), 48), _halve(draw_phantoms(90, seed=22), 90)
    return train, unseen, choose_targets(train.patient, unseen.patient, np.arange(90) < 40, 1)


@pytest.fixture(scope="module")
def overfitted(sides: tuple[ImageSet, ImageSet, Targets]) -> Flow:
    return train_flow(sides[0], STEPS, 1)


@pytest.fixture(scope="module")
def of_others() -> Flow:
    return train_flow(_halve(draw_phantoms(48, seed=23), 48), STEPS, 1)


def test_an_overfitted_flow_gives_its_training_patients_away(
    sides: tuple[ImageSet, ImageSet, Targets], overfitted: Flow, of_others: Flow
) -> None:
    attack = attack_losses(losses_of(overfitted), *sides, seed=1)
    score = score_attack(attack)[0]
    assert score.name == "membership_loss_auc"
    assert score.low is not None
    assert score.low > 0.6
    assert score.detail["calibrated_by"] == "unseen images of as much detail"
    compared = attack_losses(losses_of(overfitted), *sides, seed=1, reference_losses=losses_of(of_others))
    assert judge_area(compared)[0] > 0.8
    assert compared.detail["calibrated_by"] == "a model of other patients"


def test_flows_that_never_saw_them_tell_nothing(sides: tuple[ImageSet, ImageSet, Targets], of_others: Flow) -> None:
    untrained = Flow()
    initialise_parameters(untrained, make_generator(3, "test/flow"))
    for model in (of_others, untrained):
        assert judge_area(attack_losses(losses_of(model), *sides, seed=1))[1] > 0.01


def test_calibration_takes_away_what_is_hard_for_every_model(sides: tuple[ImageSet, ImageSet, Targets]) -> None:
    """A loss that is nothing but detail: members with less of it are not suspect."""
    train, unseen, targets = sides
    smooth = make_image_set("smooth", 0.1 + 0.8 * train.images(slice(None)))

    def roughness(images: np.ndarray, seed: int) -> np.ndarray:
        return np.log(np.abs(np.diff(images, axis=1)).mean(axis=(1, 2)))

    losses = (roughness(side.images(rows), 0) for side, rows in ((smooth, targets.members), (unseen, targets.others)))
    raw = area_under_curve(-np.concatenate([*losses]), np.repeat([True, False], [24, 50]))
    assert raw > 0.85
    assert judge_area(attack_losses(roughness, smooth, unseen, targets))[0] < raw - 0.15


def test_the_noise_of_an_image_does_not_tell_its_part(sides: tuple[ImageSet, ImageSet, Targets]) -> None:
    """Losses that depend on the place in a block alone, as noise does, tell nothing."""

    def by_place(images: np.ndarray, seed: int) -> np.ndarray:
        return np.arange(len(images)) + 0.01 * stream(seed, -1, -1, "test").random(len(images))

    train, unseen, targets = sides
    even = Targets(targets.members, targets.others[: len(targets.members)], targets.reference, targets.bystanders)
    assert judge_area(attack_losses(by_place, train, unseen, even))[1] > 0.01


def test_without_a_generator_it_says_so(sides: tuple[ImageSet, ImageSet, Targets]) -> None:
    attack = attack_losses(None, *sides)
    assert "no generator was given" in attack.reason
    assert [score.name for score in score_attack(attack)] == ["membership_loss_auc", "membership_loss_tpr_01pct"]
    broken = attack_losses(lambda images, seed: np.full(len(images), np.nan), *sides)
    assert "not a number" in broken.reason
    with pytest.raises(PermanentError, match="return one an image"):
        attack_losses(lambda images, seed: np.zeros((len(images), 2)), *sides)


def test_detail_is_described_by_scale() -> None:
    rng = stream(4, -1, -1, "test")
    fine = 0.5 + 0.1 * (np.indices((16, 16)).sum(axis=0) % 2 - 0.5)
    coarse = 0.5 + 0.1 * np.cos(np.arange(16) * np.pi / 8)[:, None] * np.ones(16) + 1e-3 * rng.random((16, 16))
    images = make_image_set("two", np.stack([fine, coarse]))
    found = describe_detail(((images, np.arange(2)),))
    assert found[:, 0] == pytest.approx(images.images(slice(None)).mean(axis=(1, 2)), abs=1e-6)
    assert found[0, 1] > found[0, 3]
    assert found[1, 1] < found[1, 3]
