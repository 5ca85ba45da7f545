"""The networks of learned engines: MONAI's U-Net on patches, told time and condition. Weights are drawn here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn
from torch.nn import functional

from synth.evaluation.images.networks import UNDRAWN
from synth.learned.shapes import fold_patches, unfold_patches

TIMES = 1000  # of MONAI's schedulers
NORM_GROUPS, HEAD_CHANNELS = 16, 32


class ConditionedUNet(nn.Module):
    """(n, channels, *grid) noisy images, (n,) times from 0 to 1 and (n, width) codes -> (n, channels, *grid).

    The code enters where MONAI's network adds the embedding of a class to that of the time. If the network knows
    ``labels``, a label map follows in the code (see maps), on a grid that is ``zoom`` times as fine; each label is a
    channel beside the image's. ``shift`` is of the times that a flow walks through (see flow.bend_time).
    """

    def __init__(
        self, dimensions: int, widths: Sequence[int], blocks: int, attention: int, patch: int, width: int,
        channels: int = 1, labels: int = 0, zoom: int = 1, shift: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.width, self.labels, self.zoom, self.shift = patch, width, labels, zoom, shift
        places = patch**dimensions
        drawn = (labels + 1) * (patch * zoom) ** dimensions if labels else 0
        levels = len(widths)
        with torch.device(UNDRAWN):
            self.unet = DiffusionModelUNet(
                spatial_dims=dimensions,
                in_channels=channels * places + drawn,
                out_channels=channels * places,
                num_res_blocks=(blocks,) * levels,
                channels=tuple(widths),
                attention_levels=tuple(level >= levels - attention for level in range(levels)),
                norm_num_groups=NORM_GROUPS,
                num_head_channels=HEAD_CHANNELS if all(w % HEAD_CHANNELS == 0 for w in widths) else 16,
                num_class_embeds=1,
                use_flash_attention=dimensions == 3,  # pictures have few places, for which it is slower
            )
            inner = 4 * widths[0]
            told = nn.Sequential(nn.Linear(max(1, width), inner), nn.SiLU(), nn.Linear(inner, inner))
            self.unet.add_module("class_embedding", told)

    def forward(self, images: Tensor, times: Tensor, codes: Tensor) -> Tensor:
        """Return the network's answer on the grid of the images."""
        folded, told = fold_patches(images, self.patch), codes[:, : max(1, self.width)]
        if self.labels:
            grid = [self.zoom * side for side in images.shape[2:]]
            labels = codes[:, self.width :].reshape(len(codes), *grid).round().long()
            shown = functional.one_hot(labels, self.labels + 2).movedim(-1, 1)[:, 1:].to(folded)
            folded = torch.cat([folded, fold_patches(shown, self.patch * self.zoom)], dim=1)
        return unfold_patches(self.unet(folded, TIMES * times, class_labels=told), self.patch)


def draw_weights(model: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights on the generator's device; layers that MONAI begins at 0 do, so that each block adds nothing.

    Deviations are 1 / sqrt(inputs) (LeCun et al., 1998), which keeps the scale where activations are SiLU.
    Buffers become 0.
    """
    model.to_empty(device=generator.device)
    for values in model.buffers():
        values.zero_()
    silent = {name for name, _ in model.named_modules() if name.endswith(("conv2", "proj_out", "out.2"))}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear | nn.ConvTranspose2d | nn.ConvTranspose3d):
            zero = any(name == each or name.startswith(f"{each}.") for each in silent)
            spread = 0.0 if zero else 1 / math.sqrt(module.weight[0].numel())
            with torch.no_grad():
                module.weight.normal_(0.0, spread, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.reset_parameters()


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers a network has."""
    return sum(parameter.numel() for parameter in cast(Any, model).parameters())
