"""What reading a source yields, item by item: that one is begun, that it was found, or that it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from synth.nouns import RefusedItem
from synth.references.plan import Budget, Options, ReferencePlan


@dataclass(frozen=True, slots=True)
class BegunItem:
    """An item is about to be decoded; if the process dies now, it was this one."""

    item: int
    name: str


@dataclass(frozen=True, slots=True)
class FoundItem:
    """One item of a source, with its pixels unless it is a record only."""

    item: int
    name: str
    patient: str | None = None
    order: float | None = None
    given_split: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    pixels: NDArray[Any] | None = None
    axes: str = ""
    spacing_mm: tuple[float, ...] | None = None
    affine: tuple[float, ...] | None = None
    intensity_scale: float = 1.0


Step = BegunItem | FoundItem | RefusedItem


class Adapter(Protocol):
    """One kind of source. All of it runs in a process whose memory and time are limited."""

    name: str
    description: str

    def detect(self, path: Path, budget: Budget) -> str | None:
        """Return why ``path`` is a source of this kind, or None if it is not; cheap."""
        ...

    def describe(self, path: Path, options: Options, budget: Budget) -> ReferencePlan:
        """Return how ``path`` will be read, without decoding an image; raises ReferenceError if it cannot be."""
        ...

    def read(self, path: Path, plan: ReferencePlan, budget: Budget, first: int = 0) -> Iterator[Step]:
        """Yield every item from ``first`` on, in order: BegunItem before each image, then FoundItem or RefusedItem."""
        ...


def source_folder(path: Path) -> Path:
    """Return the folder that the files of a plan are relative to."""
    return path if path.is_dir() else path.parent
