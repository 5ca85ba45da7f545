"""What a training learns one after the other: a family has one stage, or learns first where its flow will live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from synth.learned.recipe import ArchitectureSpec, TrainingSpec

Loss = Callable[[nn.Module, Tensor, Tensor, Generator], Tensor]  # network, signal, codes, draws -> loss of each image
Begin = Callable[[nn.Module, Tensor, Generator], None]  # network, some signals, draws


@dataclass(frozen=True)
class Stage:
    """``steps`` updates of those weights that ``measure_loss`` reaches; ``name`` is empty of the last one.

    ``begin`` is called before the first of them, if a stage came before, with weights that are the averages of that.
    """

    name: str
    steps: int
    rate: float
    measure_loss: Loss
    begin: Begin | None = None

    @property
    def rate_name(self) -> str:
        """What a recipe calls the learning rate."""
        return f"training.{self.name}.rate" if self.name else "training.rate"


class PixelFamily(ABC):
    """What families have in common that model the pixels themselves."""

    def find_place(self, spec: ArchitectureSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an image's noise: (channels, *grid)."""
        return (1, *shape)

    def plan_stages(self, spec: TrainingSpec) -> tuple[Stage, ...]:
        """Return the only stage."""
        return (Stage("", spec.steps, spec.rate, self.measure_loss),)

    @abstractmethod
    def measure_loss(self, network: nn.Module, signal: Tensor, codes: Tensor, generator: Generator) -> Tensor:
        """Return the loss (n,) of each image."""
