"""Rectified flow in the latent space of MONAI's AutoencoderKL (Rombach et al., CVPR 2022; Pinaya et al., 2022).

The autoencoder learns first; then the scale of its latent places is measured, and the flow learns on places of mean 0
and deviation 1. There is no perceptual loss: its network would have to be fetched, and knows photographs.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Generator, Tensor, nn

from synth.evaluation.images.networks import UNDRAWN
from synth.learned.flow import FlowFamily
from synth.learned.networks import NORM_GROUPS, ConditionedUNet
from synth.learned.recipe import ArchitectureSpec, AutoencoderTrainingSpec, SamplerSpec, TrainingSpec
from synth.learned.stages import Stage

MEASURED = 32  # images whose places are in memory at once while their scale is measured


class LatentNetwork(nn.Module):
    """An autoencoder, and a flow between noise and its places. ``centre`` and ``log_spread`` are of each channel."""

    centre: Tensor
    log_spread: Tensor

    def __init__(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int) -> None:
        super().__init__()
        own, dimensions = spec.coding, len(shape)
        with torch.device(UNDRAWN):
            self.autoencoder = AutoencoderKL(
                spatial_dims=dimensions,
                channels=own.channels,
                num_res_blocks=own.blocks,
                attention_levels=(False,) * len(own.channels),
                latent_channels=own.latent,
                norm_num_groups=NORM_GROUPS,
                with_encoder_nonlocal_attn=False,  # places see their neighbourhood; the flow sees the whole
                with_decoder_nonlocal_attn=False,
            )
        self.flow = ConditionedUNet(
            dimensions, spec.channels, spec.blocks, spec.attention, spec.patch, width, own.latent, labels, own.zoom,
            spec.shift,
        )  # fmt: skip
        self.register_buffer("centre", torch.zeros(own.latent))
        self.register_buffer("log_spread", torch.zeros(own.latent))

    @property
    def shift(self) -> float:
        """Of the times that the flow walks through."""
        return self.flow.shift

    def forward(self, places: Tensor, times: Tensor, codes: Tensor) -> Tensor:
        """Return the velocity of standardised places (n, latent, *grid)."""
        return cast(Tensor, self.flow(places, times, codes))

    def draw_places(self, signal: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return places as the encoder gives them, with their mean and deviation."""
        mean, deviation = (values.float() for values in self.autoencoder.encode(signal))
        drawn = mean + deviation * torch.randn(mean.shape, generator=generator).to(mean)
        return drawn, mean, deviation

    def enter(self, signal: Tensor, generator: Generator) -> Tensor:
        """Return the standardised places of images, drawn as the decoder learned to read them."""
        drawn, _, _ = self.draw_places(signal, generator)
        return (drawn - self._widen(self.centre, drawn)) * torch.exp(-self._widen(self.log_spread, drawn))

    def leave(self, places: Tensor) -> Tensor:
        """Return the images (n, 1, *grid) of standardised places."""
        raw = places * torch.exp(self._widen(self.log_spread, places)) + self._widen(self.centre, places)
        return self.autoencoder.decode(raw)

    def _widen(self, values: Tensor, like: Tensor) -> Tensor:
        return values.reshape(1, -1, *[1] * (like.ndim - 2))


class LatentFlowFamily(FlowFamily):
    """Rectified flow on latent places: for grids that are too fine for a flow of pixels."""

    description = "rectified flow in the latent space of MONAI's AutoencoderKL: for fine grids and volumes"

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int = 0) -> nn.Module:
        """Return the autoencoder and the U-Net that predicts velocities."""
        return LatentNetwork(spec, shape, width, labels)

    def find_place(self, spec: ArchitectureSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of latent places."""
        return (spec.coding.latent, *(side // spec.coding.zoom for side in shape))

    def plan_stages(self, spec: TrainingSpec) -> tuple[Stage, ...]:
        """Return the autoencoder's stage, unless it has no steps, and the flow's."""
        own, flow = spec.coding, Stage("", spec.steps, spec.rate, self.measure_loss, measure_scale)
        first = Stage("autoencoder", own.steps, own.rate, partial(measure_reconstruction, own))
        return (first, flow) if own.steps else (flow,)

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the mean squared error of the velocity of places."""
        with torch.no_grad():
            places = cast(LatentNetwork, network).enter(signal, generator)
        return super().measure_loss(network, places, codes, generator)

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Follow the velocity from noise to places, and decode them in full precision."""
        places = super().sample(network, noise, codes, empty, sampler)
        with torch.autocast(noise.device.type, enabled=False):
            return cast(LatentNetwork, network).leave(places.float())


def measure_reconstruction(
    spec: AutoencoderTrainingSpec, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator
) -> Tensor:
    """Return how far each image is from what is brought back, and its places' divergence from a standard normal."""
    latent = cast(LatentNetwork, network)
    drawn, mean, deviation = latent.draw_places(signal, generator)
    missed = latent.autoencoder.decode(drawn).float() - signal
    missed = missed.abs() if spec.error == "absolute" else missed.square()
    divergence = 0.5 * (mean.square() + deviation.square() - 1) - torch.log(deviation)
    return missed.flatten(1).mean(dim=1) + spec.divergence * divergence.flatten(1).mean(dim=1)


@torch.no_grad()
def measure_scale(network: nn.Module, signals: Tensor, generator: Generator) -> None:
    """Set the scale so that places of ``signals`` have mean 0 and deviation 1 in every channel."""
    latent = cast(LatentNetwork, network)
    sums, squares, count = torch.zeros_like(latent.centre), torch.zeros_like(latent.centre), 0
    for part in torch.split(signals, MEASURED):
        drawn = latent.draw_places(part.to(latent.centre.device), generator)[0].transpose(0, 1).flatten(1)
        sums, squares, count = sums + drawn.sum(dim=1), squares + drawn.square().sum(dim=1), count + drawn.shape[1]
    mean = sums / count
    latent.centre.copy_(mean)
    latent.log_spread.copy_(0.5 * torch.log((squares / count - mean.square()).clamp(min=1e-8)))
