"""An encoder of the reference's own: what it is made of and what it extracts (encoder_training: how it learns)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synth.errors import PermanentError
from synth.evaluation.images.features.fitting import resize_images
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import Trunk, make_linear

VERSION = "encoder-1"
CHUNK = {2: 64, 3: 8}  # images at once: always as many, so that neighbours cannot change the last bit


@dataclass(frozen=True, slots=True)
class EncoderForm:
    """What a network needs to be built: the grid it sees, its widths, its embedding and the scale of its input."""

    grid: tuple[int, ...]
    widths: tuple[int, ...]
    embedding: int
    mean: float
    spread: float


class EncoderNetwork(nn.Module):
    """(n, 1, *grid) images from 0 to 1 -> (n, embedding): a trunk and a linear layer."""

    def __init__(self, form: EncoderForm) -> None:
        super().__init__()
        self.form = form
        self.trunk = Trunk(len(form.grid), form.widths)
        self.embed = make_linear(self.trunk.features, form.embedding)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding, unscaled."""
        found: Tensor = self.embed(self.trunk((images - self.form.mean) / self.form.spread))
        return found


@dataclass(frozen=True)
class Encoder:
    """A trained network and the scale of its features; ``learned`` tells how it was trained (JSON values).

    ``weights`` are those of EncoderNetwork; ``mean`` and ``spread`` (embedding,) those of training images' features.
    """

    form: EncoderForm
    weights: Mapping[str, Tensor]
    mean: Floats32
    spread: Floats32
    learned: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    name: str = "encoder"

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""
        return self.form.embedding

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the form, the weights and the scale."""
        digest = hashlib.sha256(f"{VERSION}/{json.dumps(asdict(self.form))}".encode())
        for name, values in sorted(self.weights.items()):
            digest.update(f"/{name}/{tuple(values.shape)}/".encode())
            digest.update(values.detach().cpu().numpy().tobytes())
        digest.update(self.mean.tobytes() + self.spread.tobytes())
        return digest.hexdigest()

    @cached_property
    def network(self) -> EncoderNetwork:
        """The network on its device, ready to be asked."""
        network = EncoderNetwork(self.form).to_empty(device=self.device)
        network.load_state_dict(dict(self.weights))
        return network.eval().requires_grad_(False)

    def extract(self, images: Floats32) -> Floats32:
        """Return (n, dimensions) features of (n, *grid) images, 0 on average over training images, deviation 1.

        Raises PermanentError if an encoder of pictures is given volumes, or the other way round.
        """
        if images.ndim - 1 != len(self.form.grid):
            raise PermanentError(
                f"{self.name} was trained on images with {len(self.form.grid)} axes; "
                f"these have {images.ndim - 1}. Train or choose an encoder for this kind of image."
            )
        return (embed_images(self.network, resize_images(images, self.form.grid)) - self.mean) / self.spread


def embed_images(network: EncoderNetwork, images: Floats32) -> Floats32:
    """Return (n, embedding) raw embeddings of images on the network's grid, in chunks of one size."""
    chunk = CHUNK[len(network.form.grid)]
    device = network.embed.weight.device
    found = np.empty((len(images), network.form.embedding), np.float32)
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for start in range(0, len(images), chunk):
            part = images[start : start + chunk]
            filled = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), np.float32)])
            embedded = network(torch.from_numpy(filled).unsqueeze(1).to(device))
            found[start : start + chunk] = embedded[: len(part)].cpu().numpy()
    return found
