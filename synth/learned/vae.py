"""The blurred baseline: a conditional variational autoencoder (Kingma and Welling, ICLR 2014; Sohn et al., 2015)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from synth.evaluation.images.networks import CONVOLUTIONS, UNDRAWN
from synth.learned.networks import NORM_GROUPS
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.stages import PixelFamily

MODES = {2: "bilinear", 3: "trilinear"}
LEAST_ERROR = 1e-4


class VaeNetwork(nn.Module):
    """Encoder and decoder; both are told the code."""

    def __init__(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        dimensions, levels = len(shape), len(spec.channels)
        self.latent, self.width = spec.latent, max(1, width)
        self.coarse = (spec.channels[-1], *(math.ceil(side / 2**levels) for side in shape))
        self.shape = shape
        convolution, size = CONVOLUTIONS[dimensions], math.prod(self.coarse)
        with torch.device(UNDRAWN):
            down: list[nn.Module] = []
            for inside, outside in zip((1, *spec.channels[:-1]), spec.channels, strict=True):
                down += [convolution(inside, outside, 3, 2, 1), nn.GroupNorm(NORM_GROUPS, outside), nn.SiLU()]
            self.encoder = nn.Sequential(*down, nn.Flatten())
            self.to_latent = nn.Linear(size + self.width, 2 * spec.latent)
            self.from_latent = nn.Linear(spec.latent + self.width, size)
            up: list[nn.Module] = []
            for inside, outside in zip(spec.channels[::-1], (*spec.channels[-2::-1], spec.channels[0]), strict=True):
                up += [nn.Upsample(scale_factor=2, mode=MODES[dimensions]), convolution(inside, outside, 3, 1, 1)]
                up += [nn.GroupNorm(NORM_GROUPS, outside), nn.SiLU()]
            self.decoder = nn.Sequential(*up, convolution(spec.channels[0], 1, 3, 1, 1))

    def encode(self, signal: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance (n, latent)."""
        mean, variance = self.to_latent(torch.cat([self.encoder(signal), codes], dim=1)).chunk(2, dim=1)
        return mean, variance.clamp(-10, 10)

    def decode(self, latent: Tensor, codes: Tensor) -> Tensor:
        """Return the signal (n, 1, *grid)."""
        places = self.from_latent(torch.cat([latent, codes], dim=1)).reshape(len(latent), *self.coarse)
        signal = self.decoder(places)
        return cast(Tensor, signal[(..., *(slice(side) for side in self.shape))])


class VaeFamily(PixelFamily):
    """Conditional VAE whose noise level is the one that fits best (Rybkin et al., ICML 2021)."""

    description = "conditional variational autoencoder: quick and blurred"

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int = 0) -> nn.Module:
        """Return encoder and decoder."""
        return VaeNetwork(spec, shape, width)

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return minus the evidence bound over the pixels, with the noise level that fits this batch best."""
        vae = cast(VaeNetwork, network)
        mean, log_variance = vae.encode(signal, codes)
        drawn = mean + torch.exp(log_variance / 2) * torch.randn(mean.shape, generator=generator).to(mean)
        error = (vae.decode(drawn, codes).float() - signal).square().flatten(1)
        level = error.mean().detach().clamp(min=LEAST_ERROR)
        surprise = 0.5 * (error.mean(dim=1) / level + torch.log(level))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / error.shape[1]
        return surprise + divergence.float()

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Decode the first numbers of the noise; guidance moves the image along what is asked for."""
        vae = cast(VaeNetwork, network)
        latent = noise.flatten(1)[:, : vae.latent]
        asked = vae.decode(latent, codes).float()
        if sampler.guidance == 1.0:
            return asked
        free = vae.decode(latent, empty).float()
        return free + sampler.guidance * (asked - free)
