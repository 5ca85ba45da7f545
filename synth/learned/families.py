"""The registry of families of learned models. A new family is one module and one line here."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from synth.errors import ModelError, suggest_nearest
from synth.learned.ddpm import DdpmFamily
from synth.learned.flow import FlowFamily
from synth.learned.gaussian import GaussianFamily
from synth.learned.latent_flow import LatentFlowFamily
from synth.learned.recipe import ArchitectureSpec, SamplerSpec, TrainingSpec
from synth.learned.stages import Stage
from synth.learned.vae import VaeFamily


class Family(Protocol):
    """How a network of one family is made, taught and sampled. Signals are (n, 1, *grid), about -1 to 1."""

    description: str

    def make_network(self, spec: ArchitectureSpec, shape: tuple[int, ...], width: int, labels: int = 0) -> nn.Module:
        """Return the network for images of ``shape`` and codes of ``width``, then a map of so many ``labels``, if any.

        Its weights are not drawn yet.
        """

    def find_place(self, spec: ArchitectureSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an image's noise: (channels, *grid) of the place that the model walks in."""

    def plan_stages(self, spec: TrainingSpec) -> tuple[Stage, ...]:
        """Return what is learned one after the other."""

    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the loss (n,) of each image; noise and times are drawn from ``generator`` on the CPU."""

    def sample(self, network: nn.Module, noise: Tensor, codes: Tensor, empty: Tensor, sampler: SamplerSpec) -> Tensor:
        """Return the signal that ``noise`` (n, *place) becomes; ``empty`` are the codes of nothing asked for."""


@runtime_checkable
class ClosedFamily(Family, Protocol):
    """A family whose networks are fitted at once, not in steps."""

    def fit(self, network: nn.Module, signal: Tensor, codes: Tensor) -> None:
        """Fit a network to all training images."""


FAMILIES: dict[str, Family] = {
    "flow": FlowFamily(),
    "latent-flow": LatentFlowFamily(),
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
