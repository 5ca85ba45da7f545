"""A tiny model of images with drawn weights, untrained: what it draws is noise, but exactly reproducible."""

from __future__ import annotations

from pathlib import Path

import torch

from synth.evaluation.images.networks import make_generator
from synth.learned.conditions import Condition, ConditionCode
from synth.learned.generator import ModelDescription, Pixels, make_network
from synth.learned.maps import MapCode
from synth.learned.model_files import save_model
from synth.learned.networks import draw_weights
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.nouns import Attribute

KIND = "chest radiograph"
TISSUES = MapCode("tissue", ("fluid", "grey", "white", "ventricles"))
CONDITIONS = (
    Condition(Attribute("age_years", "integer", "years"), (), 18.0, 90.0),
    Condition(Attribute("sex", "categorical"), ("F", "M")),
    Condition(Attribute("view", "categorical"), ("AP", "PA")),
    Condition(Attribute("findings", "set"), ("Effusion", "Mass")),
)


def make_tiny_model(
    folder: Path,
    seed: int = 0,
    shape: tuple[int, ...] = (8, 8),
    labels: MapCode | None = None,
    pixels: Pixels = "uint16",
) -> str:
    """Save a flow of 8 x 8 pictures (or of ``shape``, driven by ``labels``) to ``folder`` and return its hash."""
    description = ModelDescription(
        "tiny", KIND, shape, ArchitectureSpec(channels=(16,), attention=0, patch=2), SamplerSpec(steps=2),
        ConditionCode(CONDITIONS), seed, map=labels, pixels=pixels,
    )  # fmt: skip
    network = make_network(description)
    generator = make_generator(seed, "tests/weights")
    draw_weights(network, generator)
    moved = {name: v + 0.1 * torch.randn(v.shape, generator=generator) for name, v in network.state_dict().items()}
    return save_model(folder, description, moved)  # untouched, the last layer is 0, and nothing would be heard
