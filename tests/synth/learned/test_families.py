"""Families of models against MONAI's own samplers and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDIMScheduler, RFlowScheduler

from synth.errors import ModelError
from synth.evaluation.images.networks import make_generator
from synth.learned.ddpm import _SCHEDULE
from synth.learned.families import FAMILIES, find_family
from synth.learned.flow import bend_time, list_times
from synth.learned.generator import Generator
from synth.learned.networks import TIMES, draw_weights
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.shapes import fold_patches, unfold_patches
from synth.learned.training import train_model
from tests.synth.learned.faces import draw_faces
from tests.synth.learned.test_training import make_spec

SMALL = ArchitectureSpec(channels=(16, 32), latent=4)


def make_drawn(name: str, shape: tuple[int, ...] = (16, 16), width: int = 3) -> torch.nn.Module:
    """Return a network with random weights, also in the layers that begin at 0."""
    network = find_family(name).make_network(SMALL, shape, width)
    generator = make_generator(0, "test/weights")
    draw_weights(network, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def draw_inputs(shape: tuple[int, ...] = (16, 16), width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = make_generator(1, "test/inputs")
    return torch.randn(2, 1, *shape, generator=generator), torch.randn(2, width, generator=generator)


@torch.no_grad()
def test_euler_steps_of_a_flow_are_those_of_monai() -> None:
    network, (noise, codes) = make_drawn("flow"), draw_inputs()
    own = FAMILIES["flow"].sample(
        network, noise, codes, torch.zeros_like(codes), SamplerSpec(steps=8, solver="euler", guidance=1.0)
    )
    scheduler = RFlowScheduler(num_train_timesteps=TIMES, use_discrete_timesteps=False)
    scheduler.set_timesteps(8)
    theirs = noise
    for time in scheduler.timesteps:
        velocity = network(theirs, torch.full((2,), float(time) / TIMES), codes)
        theirs, _ = scheduler.step(velocity, float(time), theirs)
    assert torch.allclose(own, theirs, atol=1e-4)


class Faint(torch.nn.Module):
    """The exact velocity of images whose pixels are normal around 0 with a deviation of 0.05."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, images: torch.Tensor, times: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        time, power = times[0], 0.05**2
        return ((1 - time) * power - time) / ((1 - time) ** 2 * power + time**2) * images


def test_bent_times_keep_faint_detail_in_few_steps() -> None:
    noise, codes = torch.randn(1, 1, 64, 64, generator=make_generator(0, "test/faint")), torch.zeros(1, 1)
    sampler = SamplerSpec(steps=8, guidance=1.0)
    drawn = {
        shift: FAMILIES["flow"].sample(Faint(shift), noise, codes, codes, sampler).std().item() for shift in (1.0, 0.1)
    }
    assert drawn[1.0] < 0.03, "equal steps are too long for what comes about near the image"
    assert drawn[0.1] == pytest.approx(0.05, rel=0.1)


def test_bending_multiplies_odds_and_is_undone_by_its_inverse() -> None:
    assert bend_time(0.5, 0.25) == pytest.approx(0.2)
    times = list_times(5, 0.3)
    assert [bend_time(time, 1 / 0.3) for time in times] == pytest.approx(list_times(5, 1.0))
    assert (times[0], times[-1]) == (1.0, 0.0)


class Decay(torch.nn.Module):
    """Velocity -x, which brings x to x / e in one unit of time; code 1 doubles it."""

    shift = 1.0

    def forward(self, images: torch.Tensor, times: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return -images * (1 + codes[:, :1, None, None])


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_solvers_have_their_order_and_guidance_exaggerates(solver: str, order: int) -> None:
    noise, codes = torch.ones(2, 1, 4, 4, dtype=torch.float64), torch.tensor([[1.0], [0.0]])

    def miss(steps: int, guidance: float, rate: float) -> float:
        sampler = SamplerSpec(steps=steps, solver=solver, guidance=guidance)
        drawn = FAMILIES["flow"].sample(Decay(), noise, codes, torch.zeros_like(codes), sampler)
        return abs(float(drawn[0, 0, 0, 0]) - np.exp(-rate))

    for guidance, rate in ((1.0, 2.0), (1.5, 2.5), (0.0, 1.0)):
        assert miss(32, guidance, rate) / miss(64, guidance, rate) == pytest.approx(2**order, rel=0.1)


@torch.no_grad()
def test_ddim_is_that_of_monais_inferer() -> None:
    network, (noise, codes) = make_drawn("ddpm"), draw_inputs()
    own = FAMILIES["ddpm"].sample(network, noise, codes, torch.zeros_like(codes), SamplerSpec(steps=10, guidance=1.0))
    scheduler = DDIMScheduler(num_train_timesteps=TIMES, clip_sample=False, **_SCHEDULE)
    scheduler.set_timesteps(10)

    def answer(x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        return network(x, timesteps.expand(len(x)) / TIMES, codes)

    theirs = DiffusionInferer(scheduler).sample(noise, answer, scheduler, conditioning=None, verbose=False)
    assert torch.allclose(own, theirs, atol=1e-4)


@pytest.mark.parametrize("name", ["flow", "ddpm", "vae"])
def test_volumes_are_drawn_by_the_same_code(name: str) -> None:
    network = make_drawn(name, (16, 8, 8))
    noise, codes = draw_inputs((16, 8, 8))
    with torch.no_grad():
        drawn = FAMILIES[name].sample(network, noise, codes, torch.zeros_like(codes), SamplerSpec(steps=2))
        loss = FAMILIES[name].measure_loss(network, noise, codes, make_generator(0, "test"))
    assert drawn.shape == noise.shape
    assert loss.shape == (2,)
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("shape", [(8, 12), (4, 8, 12)])
def test_patches_fold_and_unfold(shape: tuple[int, ...]) -> None:
    images = torch.arange(2 * 3 * int(np.prod(shape)), dtype=torch.float32).reshape(2, 3, *shape)
    folded = fold_patches(images, 2)
    assert folded.shape == (2, 3 * 2 ** len(shape), *(side // 2 for side in shape))
    assert torch.equal(unfold_patches(folded, 2), images)
    corner = images[(0, 0, *(slice(2) for _ in shape))].flatten()
    assert torch.equal(folded[(0, slice(2 ** len(shape)), *(0 for _ in shape))], corner)


def test_the_linear_model_has_the_mean_and_covariance_of_its_training_images(tmp_path: Path) -> None:
    images = draw_faces(400)
    model: Generator = train_model(make_spec("gaussian"), images, tmp_path).generator.with_sampler(guidance=1.0)
    rows = [{"sex": s, "age_years": a, "findings": f} for s, a, f in zip(
        images.values("sex"), images.values("age_years"), images.values("findings"), strict=True)]  # fmt: skip
    codes = model.encode(rows)
    noise = torch.randn(400, 1, 16, 16, generator=make_generator(0, "test"))
    drawn = ((model.draw(noise, codes).flatten(1) + 1) / 2).numpy()
    real = images.images(slice(None)).reshape(400, -1)
    assert np.abs(drawn.mean(axis=0) - real.mean(axis=0)).max() < 0.06
    values = [np.linalg.eigvalsh(np.cov(side.T))[-3:] for side in (drawn, real)]
    assert values[0] == pytest.approx(values[1], rel=0.2)


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"choose from flow, latent-flow, ddpm, vae, gaussian.*Did you mean 'flow'"):
        find_family("flo")
