"""Rectified flow: straight lines from noise to images (Liu et al., ICLR 2023), in MONAI's convention of times.

Time 1 is noise, 0 an image; noisy = (1 - t) image + t noise, and the network learns the velocity image - noise.
"""

from __future__ import annotations

import itertools
from typing import Any, TypeVar, cast

import torch
from monai.networks.schedulers.rectified_flow import RFlowScheduler
from torch import Generator, Tensor, nn

from synth.learned.guidance import guide
from synth.learned.networks import TIMES, ConditionedUNet
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.stages import PixelFamily

Time = TypeVar("Time", float, Tensor)
_SCHEDULER = RFlowScheduler(num_train_timesteps=TIMES, use_discrete_timesteps=False)


def bend_time(time: Time, shift: float) -> Time:
    """Return a time from 0 to 1 with its odds times ``shift``: the shift of Esser et al. (ICML 2024, section 5.3.2).

    They shift towards noise, as large photographs hide it; images of few pixels and a steep spectrum, whose detail is
    as faint as little noise, want the contrary.
    """
    return shift * time / (1 + (shift - 1) * time)


def list_times(steps: int, shift: float) -> list[float]:
    """Return the times from 1 (noise) to 0 (an image) between which ``steps`` steps lead."""
    return [1.0, *(bend_time(1 - step / steps, shift) for step in range(1, steps)), 0.0]


def _read_shift(network: nn.Module) -> float:
    own = cast(Any, getattr(network, "_module", network))  # Opacus wraps networks, and hides what it does not know
    return float(own.shift)


class FlowFamily(PixelFamily):
    """Rectified flow on pixels."""

    description = "rectified flow with MONAI's U-Net: best images, any subset of attributes"

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int = 0) -> nn.Module:
        """Return a U-Net that predicts velocities."""
        parts = (len(shape), spec.channels, spec.blocks, spec.attention, spec.patch, width)
        return ConditionedUNet(*parts, labels=labels, shift=spec.shift)

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the mean squared error of the velocity; times are logit-normal, and bent (Esser et al., ICML 2024)."""
        drawn = torch.sigmoid(torch.randn(len(signal), generator=generator)).to(signal)
        times = bend_time(drawn, _read_shift(network))
        noise = torch.randn(signal.shape, generator=generator).to(signal)
        noisy = _SCHEDULER.add_noise(signal, noise, TIMES * times)
        missed = network(noisy, times, codes).float() - (signal - noise)
        return torch.as_tensor(missed.square().flatten(1).mean(dim=1))

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Follow the velocity in steps that are equal before times are bent, by Heun's method (order 2) or Euler's."""
        signal = noise
        edges = list_times(sampler.steps, _read_shift(network))

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
