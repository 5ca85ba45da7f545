"""A trained model that draws images: what it is, and how a row of attributes and a key become one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from synth.errors import ModelError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import make_generator
from synth.evaluation.ranks import Floats
from synth.learned.changes import count_changes
from synth.learned.conditions import ConditionCode
from synth.learned.families import find_family
from synth.learned.maps import Labels, MapCode, count_pixels
from synth.learned.measurers import Measurer
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.shapes import to_images, to_signal
from synth.nouns import Attribute, AttributeValue
from synth.seeds import stream_from_key

BATCH_PIXELS = 64 * 64 * 64  # of one call of the network
Pixels = Literal["uint8", "uint16"]


@dataclass(frozen=True)
class ModelDescription:
    """What a model is: all but its weights. ``about`` holds plain facts of its training for readers.

    ``pixels`` is the type that images are stored in: uint8 if those it learned from are, so that 255 is white in both.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    architecture: ArchitectureSpec
    sampler: SamplerSpec
    code: ConditionCode
    seed: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)
    map: MapCode | None = None
    pixels: Pixels = "uint16"

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """What can be asked for."""
        return tuple(condition.attribute for condition in self.code.conditions)

    @property
    def width(self) -> int:
        """The length of the code, and of what was changed about a training image."""
        return self.code.width + count_changes(len(self.shape))

    @property
    def told(self) -> int:
        """The length of all that the network is told; 0 everywhere asks for nothing."""
        return self.width + count_pixels(self.map, self.shape)

    @property
    def batch(self) -> int:
        """Images of one call of the network, which is always full: an image does not depend on its neighbours."""
        return max(1, min(64, BATCH_PIXELS // math.prod(self.shape)))


def make_network(description: ModelDescription) -> nn.Module:
    """Return the network of a model, its weights not drawn yet."""
    family = find_family(description.architecture.name)
    labels = len(description.map.names) if description.map else 0
    return family.make_network(description.architecture, description.shape, description.width, labels)


class Generator:
    """A loaded model. ``hash`` is the SHA-256 of its weights and description, which pins it.

    ``measurer`` reads back what images show, if the model has one.
    """

    def __init__(
        self,
        description: ModelDescription,
        network: nn.Module,
        hash: str = "",
        device: str = "cpu",
        measurer: Measurer | None = None,
    ) -> None:
        self.description, self.hash, self.device, self.measurer = description, hash, device, measurer
        self.network = network.to(device).eval()
        self._family = find_family(description.architecture.name)
        self.place = self._family.find_place(description.architecture, description.shape)  # of an image's noise

    def with_sampler(self, **changed: Any) -> Generator:
        """Return the same model with other steps, solver or guidance."""
        sampler = SamplerSpec.model_validate({**self.description.sampler.model_dump(), **changed})
        return Generator(
            replace(self.description, sampler=sampler), self.network, self.hash, self.device, self.measurer
        )

    def sample(
        self, rows: Sequence[Mapping[str, AttributeValue]], keys: Sequence[int], maps: Labels | None = None
    ) -> Floats32:
        """Return (n, *shape) images from 0 to 1, one for each row and 128-bit key of its noise.

        ``maps`` (n, *shape) says where each label of ``description.map`` is, if it is to drive the images. An image
        depends on its own row, key and map alone. Raises ModelError for what the model was not taught.
        """
        codes = self.encode(rows, maps)
        size, shape = self.description.batch, self.description.shape
        images = np.empty((len(rows), *shape), np.float32)
        for start in range(0, len(rows), size):
            part = slice(start, min(start + size, len(rows)))
            count = part.stop - part.start
            noise = np.zeros((size, *self.place), np.float32)
            for place, key in enumerate(keys[part]):
                noise[place] = stream_from_key(key).standard_normal(self.place, np.float32)
            asked = torch.zeros(size, codes.shape[1])
            asked[:count] = codes[part]
            signal = self.draw(torch.from_numpy(noise), asked)
            images[part] = to_images(signal)[:count, 0].cpu().numpy()
        return images

    def encode(self, rows: Sequence[Mapping[str, AttributeValue]], maps: Labels | None = None) -> Tensor:
        """Return (n, told) of what the network is told; images are drawn as if nothing had been changed."""
        known, shape = self.description.map, self.description.shape
        parts = [
            torch.from_numpy(self.description.code.encode(rows)),
            torch.zeros(len(rows), count_changes(len(shape))),
        ]
        if known is not None:
            parts.append(torch.from_numpy(known.encode(maps, len(rows), shape)).flatten(1).float())
        elif maps is not None:
            raise ModelError(f"maps: model '{self.description.name}' was not taught to follow labels; leave them out.")
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def draw(self, noise: Tensor, codes: Tensor) -> Tensor:
        """Return the signal (n, 1, *grid) that noise (n, *place) becomes."""
        noise, codes = noise.to(self.device), codes.to(self.device)
        sampler, kind = self.description.sampler, self.device.split(":")[0]
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
            torch.autocast(kind, torch.bfloat16, sampler.precision == "bfloat16"),
        ):
            return self._family.sample(self.network, noise, codes, torch.zeros_like(codes), sampler).float()

    @torch.no_grad()
    def measure_losses(self, images: Floats32, seed: int) -> Floats:
        """Return the loss (n,) of each image, nothing asked for; noise and times are the same for every image.

        That is what an attack on the members of the training set looks at (see evaluation.images.losses).
        """
        found = []
        for image in images:
            signal = to_signal(torch.from_numpy(np.asarray(image, np.float32))[None, None].to(self.device))
            codes = torch.zeros(1, self.description.told, device=self.device)
            generator = make_generator(seed, "learned/losses")
            found.append(float(self._family.measure_loss(self.network, signal, codes, generator)[0]))
        return np.asarray(found)
