"""Images to be judged or learned from, before they are brought to the common form, and which of them are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.layout import Form
from synth.nouns import Attribute, AttributeValue, RefusedItem
from synth.seeds import COHORT_LEVEL, stream

CONTRASTS = ("contrast", "kind")  # attributes of references and files that say what --kind says of cohorts


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image before it is brought to the common form."""

    image_id: str
    patient_id: str
    attributes: Mapping[str, AttributeValue]
    pixels: NDArray[Any]
    form: Form
    affine: NDArray[np.float64] | None = None
    masks: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which images of a source are judged: of one ``kind`` (contrast) only, ``limit`` of them drawn by ``seed``."""

    kind: str | None = None
    limit: int | None = None
    seed: int = 0

    def draw(self, count: int) -> set[int] | None:
        """Return the places that are judged of ``count``, or None for all."""
        if self.limit is None or self.limit >= count:
            return None
        order = stream(self.seed, COHORT_LEVEL, COHORT_LEVEL, "evaluate/limit").permutation(count)
        return {int(place) for place in order[: self.limit]}


class Source(Protocol):
    """Images to be judged."""

    name: str
    sha256: str
    kind: str | None
    count: int
    schema: tuple[Attribute, ...]
    notes: tuple[str, ...]

    def read(self) -> Iterator[SourceImage | RefusedItem]:
        """Yield every image that is judged, and what of the source cannot be read; one image is in memory."""
        ...


def peek(items: Iterator[SourceImage | RefusedItem]) -> tuple[Form | None, Iterable[SourceImage | RefusedItem]]:
    """Return the form of the first image, or None if no item can be read, and all items from the start."""
    seen: list[SourceImage | RefusedItem] = []
    for item in items:
        seen.append(item)
        if isinstance(item, SourceImage):
            return item.form, chain(seen, items)
    return None, seen


def read_form(row: Mapping[str, Any]) -> Form:
    """Return the form of an image of a reference from its row."""
    spacing = None if row["spacing_mm"] is None else tuple(row["spacing_mm"])
    return Form(row["axes"], tuple(row["shape"]), row["dtype"], spacing)


def read_affine(row: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the affine of an image of a reference from its row, (4, 4), or None if it is not known."""
    return None if row["affine"] is None else np.asarray(row["affine"], np.float64).reshape(4, 4)


def is_kind(values: Mapping[str, Any], kind: str | None) -> bool:
    """Return whether the attributes of an image allow that it is of ``kind``; without a statement any is."""
    stated = [values[name] for name in CONTRASTS if values.get(name) is not None]
    return kind is None or not stated or kind.lower() in [str(value).lower() for value in stated]
