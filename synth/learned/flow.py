"""Rectified flow: straight lines from noise to images (Liu et al., ICLR 2023), in MONAI's convention of times.

Time 1 is noise, 0 an image; noisy = (1 - t) image + t noise, and the network learns the velocity image - noise.
"""

from __future__ import annotations

import itertools

import torch
from monai.networks.schedulers.rectified_flow import RFlowScheduler
from torch import Generator, Tensor, nn

from synth.learned.guidance import guide
from synth.learned.networks import TIMES, ConditionedUNet
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.stages import PixelFamily

_SCHEDULER = RFlowScheduler(num_train_timesteps=TIMES, use_discrete_timesteps=False)


class FlowFamily(PixelFamily):
    """Rectified flow on pixels."""

    description = "rectified flow with MONAI's U-Net: best images, any subset of attributes"
    closed = False

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int = 0) -> nn.Module:
        """Return a U-Net that predicts velocities."""
        parts = (len(shape), spec.channels, spec.blocks, spec.attention, spec.patch, width)
        return ConditionedUNet(*parts, labels=labels)

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the mean squared error of the velocity; times are logit-normal (Esser et al., ICML 2024)."""
        times = torch.sigmoid(torch.randn(len(signal), generator=generator)).to(signal)
        noise = torch.randn(signal.shape, generator=generator).to(signal)
        noisy = _SCHEDULER.add_noise(signal, noise, TIMES * times)
        missed = network(noisy, times, codes).float() - (signal - noise)
        return torch.as_tensor(missed.square().flatten(1).mean(dim=1))

    def fit(self, network: nn.Module, signal: Tensor, codes: Tensor) -> None:
        """Not for this family, which learns in steps."""
        raise NotImplementedError

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Follow the velocity in equal steps of time, by Heun's method (order 2) or Euler's."""
        signal = noise
        edges = [1 - step / sampler.steps for step in range(sampler.steps + 1)]

        def look(place: Tensor, time: float) -> Tensor:
            times = torch.full((len(noise),), time, device=noise.device)
            return guide(network, place, times, codes, empty, sampler.guidance).float()

        for now, later in itertools.pairwise(edges):
            velocity = look(signal, now)
            if sampler.solver == "heun" and later > 0:
                ahead = look(signal + (now - later) * velocity, later)
                velocity = (velocity + ahead) / 2
            signal = signal + (now - later) * velocity
        return signal
