"""The linear Gaussian model that every other one must beat: a regression on the codes, and principal components."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.stages import PixelFamily

RIDGE = 1.0  # images' worth of evidence that codes mean nothing


class GaussianNetwork(nn.Module):
    """signal = mean + codes @ effects + latent @ components + pixel noise; ``spread`` is the noise's deviation."""

    mean: Tensor
    effects: Tensor
    components: Tensor
    spread: Tensor

    def __init__(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        pixels = math.prod(shape)
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("effects", torch.zeros(max(1, width), pixels))
        self.register_buffer("components", torch.zeros(min(spec.latent, pixels), pixels))
        self.register_buffer("spread", torch.zeros(1))


class GaussianFamily(PixelFamily):
    """Probabilistic principal components given the codes (Tipping and Bishop, J R Stat Soc B 1999;61:611)."""

    description = "linear Gaussian model (principal components): what any other must beat"

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int = 0) -> nn.Module:
        """Return the model, all 0."""
        return GaussianNetwork(spec, shape, width)

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the squared error (n,) of the components' best answer, over the pixels."""
        model = cast(GaussianNetwork, network)
        away = signal.flatten(1) - model.mean - codes @ model.effects
        axes = torch.nn.functional.normalize(model.components, dim=1)
        return (away - away @ axes.T @ axes).square().mean(dim=1)

    def fit(self, network: nn.Module, signal: Tensor, codes: Tensor) -> None:
        """Fit effects by ridge regression and components by a singular value decomposition of the residuals."""
        model = cast(GaussianNetwork, network)
        pixels = signal.flatten(1)
        mean = pixels.mean(dim=0)
        gram = codes.T @ codes + RIDGE * torch.eye(codes.shape[1])
        effects = torch.linalg.solve(gram, codes.T @ (pixels - mean))
        residual = pixels - mean - codes @ effects
        _, values, axes = torch.linalg.svd(residual, full_matrices=False)
        variance = values.square() / max(1, len(signal) - 1)
        count = min(len(model.components), max(1, len(values) - 1))
        rest = variance[count:].sum() / max(1, pixels.shape[1] - count)
        model.mean.copy_(mean)
        model.effects.copy_(effects)
        model.components[:count].copy_((variance[:count] - rest).clamp(min=0).sqrt()[:, None] * axes[:count])
        model.spread.fill_(float(rest.sqrt()))

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Return the image of what is asked for, with drawn components and pixel noise."""
        model = cast(GaussianNetwork, network)
        flat = noise.flatten(1)
        latent = flat[:, : len(model.components)]
        asked = (empty + sampler.guidance * (codes - empty)) @ model.effects
        return (model.mean + asked + latent @ model.components + model.spread * flat.roll(1, dims=1)).reshape(
            noise.shape
        )
