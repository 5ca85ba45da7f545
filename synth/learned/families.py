"""The registry of families of learned models. A new family is one module and one line here."""

from __future__ import annotations

from typing import Protocol

from torch import Generator, Tensor, nn

from synth.errors import ModelError, suggest_nearest
from synth.learned.ddpm import DdpmFamily
from synth.learned.flow import FlowFamily
from synth.learned.gaussian import GaussianFamily
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.learned.vae import VaeFamily


class Family(Protocol):
    """How a network of one family is made, taught and sampled. Signals are (n, 1, *grid), about -1 to 1."""

    description: str
    closed: bool  # fitted at once, not in steps

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int) -> nn.Module:
        """Return the network for images of ``shape`` and codes of ``width``; its weights are not drawn yet."""

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the loss (n,) of each image; noise and times are drawn from ``generator`` on the CPU."""

    def fit(self, network: nn.Module, signal: Tensor, codes: Tensor) -> None:
        """Fit a network whose family is closed."""

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Return the signal that ``noise`` (n, 1, *grid) becomes; ``empty`` are the codes of nothing asked for."""


FAMILIES: dict[str, Family] = {
    "flow": FlowFamily(),
    "ddpm": DdpmFamily(),
    "vae": VaeFamily(),
    "gaussian": GaussianFamily(),
}


def find_family(name: str) -> Family:
    """Return the family ``name``; raises ModelError naming the known ones."""
    if name not in FAMILIES:
        raise ModelError(
            f"architecture.name: '{name}' does not exist; choose from {', '.join(FAMILIES)}."
            + suggest_nearest(name, FAMILIES)
        )
    return FAMILIES[name]
