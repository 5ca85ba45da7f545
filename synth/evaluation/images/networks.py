"""Small convolutional networks for judging images, in 2D and 3D. Nothing here draws from torch's global generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synth.seeds import stream_key

GROUPS = 8
UNDRAWN = "meta"  # layers made there take no memory and no random numbers
CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
POOLINGS = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def make_generator(seed: int, stage: str, device: str = "cpu") -> torch.Generator:
    """Return a torch generator of one named stream."""
    generator = torch.Generator(device)
    generator.manual_seed(stream_key(seed, -1, -1, stage) & (2**63 - 1))
    return generator


class ConvolutionBlock(nn.Module):
    """Convolution, group norm, ReLU, twice, with a skip; ``stride`` 2 halves the grid by averaging first."""

    def __init__(self, dimensions: int, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dimensions]
        self.pool = POOLINGS[dimensions](2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.first = convolution(inside, outside, 3, padding=1, bias=False, device=UNDRAWN)
        self.second = convolution(outside, outside, 3, padding=1, bias=False, device=UNDRAWN)
        self.skip = convolution(inside, outside, 1, bias=False, device=UNDRAWN) if inside != outside else nn.Identity()
        self.norms = nn.ModuleList([nn.GroupNorm(min(GROUPS, outside), outside) for _ in range(2)])

    def forward(self, values: Tensor) -> Tensor:
        """Return the block's output."""
        values = self.pool(values)
        inner = torch.relu(self.norms[0](self.first(values)))
        return torch.relu(self.skip(values) + self.norms[1](self.second(inner)))


class Trunk(nn.Module):
    """(n, 1, *grid) images -> (n, width of the last stage) features; each stage is a block on half the grid."""

    def __init__(self, dimensions: int, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = zip((1, *widths[:-1]), widths, strict=True)
        self.stages = nn.ModuleList(
            [ConvolutionBlock(dimensions, a, b, 1 if place == 0 else 2) for place, (a, b) in enumerate(pairs)]
        )
        self.features = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of the last stage over the grid."""
        values = images
        for stage in self.stages:
            values = stage(values)
        return values.flatten(2).mean(dim=2)


def make_linear(inside: int, outside: int) -> nn.Linear:
    """Return a linear layer whose weights are drawn by initialise_parameters."""
    return nn.Linear(inside, outside, device=UNDRAWN)


def initialise_parameters(model: nn.Module, generator: torch.Generator) -> None:
    """Bring the model to the generator's device and draw all weights (He et al., ICCV 2015); biases 0, norms 1."""
    model.to_empty(device=generator.device)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            spread = math.sqrt(2.0 / module.weight[0].numel())
            with torch.no_grad():
                module.weight.normal_(0.0, spread, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        elif isinstance(module, nn.GroupNorm):
            module.reset_parameters()
