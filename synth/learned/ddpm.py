"""Denoising diffusion as MONAI's own recipe has it: the noise is predicted, DDIM draws (Song et al., ICLR 2021)."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.schedulers.ddim import DDIMScheduler
from monai.networks.schedulers.ddpm import DDPMScheduler
from torch import Generator, Tensor, nn

from synth.learned.guidance import guide
from synth.learned.networks import TIMES, ConditionedUNet
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.stages import PixelFamily

_SCHEDULE: dict[str, Any] = {
    "schedule": "scaled_linear_beta",
    "beta_start": 0.0005,
    "beta_end": 0.0195,
}  # of MONAI's tutorials


class DdpmFamily(PixelFamily):
    """Diffusion with 1000 noise levels."""

    description = "denoising diffusion with MONAI's U-Net, drawn by DDIM: the usual baseline"

    def __init__(self) -> None:
        self._noiser = DDPMScheduler(num_train_timesteps=TIMES, **_SCHEDULE)

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int = 0) -> nn.Module:
        """Return a U-Net that predicts the noise."""
        parts = (len(shape), spec.channels, spec.blocks, spec.attention, spec.patch, width)
        return ConditionedUNet(*parts, labels=labels)

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the mean squared error of the noise."""
        levels = torch.randint(0, TIMES, (len(signal),), generator=generator)
        noise = torch.randn(signal.shape, generator=generator)
        noisy = self._noiser.add_noise(signal.cpu(), noise, levels).to(signal)
        missed = network(noisy, levels.to(signal) / TIMES, codes).float() - noise.to(signal)
        return torch.as_tensor(missed.square().flatten(1).mean(dim=1))

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Draw by DDIM without new noise."""
        scheduler = DDIMScheduler(num_train_timesteps=TIMES, clip_sample=False, **_SCHEDULE)
        scheduler.set_timesteps(sampler.steps)
        signal = noise
        for level in scheduler.timesteps:
            times = torch.full((len(noise),), float(level) / TIMES, device=noise.device)
            guess = guide(network, signal, times, codes, empty, sampler.guidance).float()
            signal, _ = scheduler.step(guess, int(level), signal)
        return signal
