"""Sets of images in one common form, on disk: every score streams them in blocks, so memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synth.errors import PermanentError
from synth.evaluation.images.layout import Floats32, Form, Layout, UnusableImageError, bring_labels, bring_to_layout
from synth.evaluation.ranks import Ints
from synth.nouns import Attribute, AttributeValue

BLOCK_BYTES = 32 << 20  # of float32 pixels that are in memory at once
WHITE = 65535  # stored value of intensity 1
_ARROW: Mapping[str, Any] = {
    "categorical": pa.string(), "integer": pa.int64(), "continuous": pa.float64(), "set": pa.list_(pa.string()),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unusable:
    """An image that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Images of one side, or of one split, in one form.

    ``stored`` is (n, y, x) or (n, x, y, z) uint16, 65535 is white; on disk if it was written by an ImageWriter.
    ``records`` has a row an image: image_id, patient_id, and the attributes of ``schema`` (null where missing).
    ``patient`` counts patients from 0. ``maps`` are the labels of a mask of each image, (n, *grid) uint8, if known.
    """

    name: str
    stored: NDArray[np.uint16]
    records: pa.Table
    schema: tuple[Attribute, ...]
    unusable: tuple[Unusable, ...] = ()
    maps: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid of one image."""
        return tuple(self.stored.shape[1:])

    @property
    def image_ids(self) -> list[str]:
        """The id of each image."""
        return [str(value) for value in self.records.column("image_id").to_pylist()]

    @property
    def patient(self) -> Ints:
        """The number of the patient of each image, from 0."""
        return np.unique(np.asarray(self.records.column("patient_id").to_pylist(), dtype=str), return_inverse=True)[1]

    def images(self, indices: Sequence[int] | NDArray[np.integer] | slice) -> Floats32:
        """Return some images as float32 from 0 (black) to 1 (white)."""
        return np.asarray(self.stored[indices], np.float32) / np.float32(WHITE)

    def blocks(self) -> Iterator[tuple[slice, Floats32]]:
        """Yield (place, images) until all were seen; a block is 32 MB at most."""
        step = max(1, BLOCK_BYTES // (4 * max(1, int(np.prod(self.shape)))))
        for start in range(0, len(self), step):
            place = slice(start, min(start + step, len(self)))
            yield place, self.images(place)

    def select(self, indices: NDArray[np.integer] | NDArray[np.bool_], name: str | None = None) -> ImageSet:
        """Return the images at ``indices`` (copied into memory)."""
        places = np.flatnonzero(indices) if indices.dtype == np.bool_ else np.asarray(indices)
        rows = self.records.take(pa.array(places, pa.int64()))
        maps = None if self.maps is None else self.maps[places]
        return replace(self, name=name or self.name, stored=self.stored[places], records=rows, unusable=(), maps=maps)

    def values(self, attribute: str) -> list[AttributeValue]:
        """Return an attribute's value of each image; raises KeyError if the set does not have it."""
        return list(self.records.column(attribute).to_pylist())


@dataclass(frozen=True)
class RealImages:
    """The images of a reference in one form, by split; a patient is in one split only."""

    name: str
    fingerprint: str
    train: ImageSet
    validation: ImageSet
    holdout: ImageSet
    layout: Layout


def join_sets(name: str, sets: Sequence[ImageSet]) -> ImageSet:
    """Return the images of several sets of one form as one, copied into memory."""
    stored = np.concatenate([part.stored for part in sets])
    records = pa.concat_tables([part.records for part in sets])
    maps = [part.maps for part in sets if part.maps is not None]
    joined = np.concatenate(maps) if len(maps) == len(sets) else None
    unusable = tuple(item for part in sets for item in part.unusable)
    return ImageSet(name, stored, records, sets[0].schema, unusable, joined)


class ImageWriter:
    """Writes a set of images in one form to ``path``. Use as a context manager; ``finish`` returns the set.

    With ``mask``, each image's label map of that name is written beside it; an image without one cannot be used.
    """

    def __init__(
        self, path: Path, name: str, layout: Layout, schema: Sequence[Attribute], mask: str | None = None
    ) -> None:
        self._mask, self._maps = mask, path.with_suffix(".maps").open("wb") if mask is not None else None
        self._path, self._name, self._layout, self._schema = path, name, layout, tuple(schema)
        self._file = path.open("wb")
        self._rows: list[dict[str, Any]] = []
        self._unusable: list[Unusable] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._file.close()
        if self._maps is not None:
            self._maps.close()

    def add(
        self,
        image_id: str,
        patient_id: str,
        attributes: Mapping[str, AttributeValue],
        pixels: NDArray[Any],
        form: Form,
        affine: NDArray[np.float64] | None = None,
        labels: NDArray[Any] | None = None,
    ) -> None:
        """Add one image; one that cannot be used is noted with its reason and left out."""
        try:
            values = bring_to_layout(pixels, form, affine, self._layout)
            if self._maps is not None:
                self._maps.write(bring_labels(self._mask, labels, form, affine, self._layout).tobytes())
        except UnusableImageError as error:
            self._unusable.append(Unusable(image_id, str(error)))
            return
        self._file.write(np.round(values * WHITE).astype("<u2").tobytes())
        kept = {attribute.name: attributes.get(attribute.name) for attribute in self._schema}
        self._rows.append({"image_id": image_id, "patient_id": patient_id, **kept})

    def refuse(self, name: str, reason: str) -> None:
        """Note an image that could not even be read."""
        self._unusable.append(Unusable(name, reason))

    def finish(self) -> ImageSet:
        """Return the set; its pixels stay on disk."""
        self._close()
        shape = (len(self._rows), *self._layout.shape)
        if not self._rows:
            stored: NDArray[np.uint16] = np.empty(shape, np.uint16)
        else:
            stored = np.memmap(self._path, np.uint16, "r", shape=shape)
        records, maps = _make_table(self._rows, self._schema), None
        if self._mask is not None:
            place = self._path.with_suffix(".maps")
            maps = np.memmap(place, np.uint8, "r", shape=shape) if self._rows else np.empty(shape, np.uint8)
        return ImageSet(self._name, stored, records, self._schema, tuple(self._unusable), maps)


def make_image_set(
    name: str,
    pixels: NDArray[Any],
    attributes: Mapping[str, Sequence[Any]] | None = None,
    schema: Sequence[Attribute] = (),
    patient_ids: Sequence[str] | None = None,
    maps: NDArray[np.uint8] | None = None,
) -> ImageSet:
    """Return a set in memory from float images in 0..1, (n, y, x) or (n, x, y, z); each its own patient by default.

    Raises PermanentError if attributes or patients are not one an image, or label maps are not on the images' grid.
    """
    if maps is not None and maps.shape != pixels.shape:
        raise PermanentError(f"label maps are {maps.shape} and images {pixels.shape}; give one an image, on its grid.")
    names = [f"{name}-{index}" for index in range(len(pixels))]
    columns = {"patient_id": list(patient_ids) if patient_ids is not None else names, **(attributes or {})}
    for column, values in columns.items():
        if len(values) != len(pixels):
            raise PermanentError(f"'{column}' has {len(values)} values for {len(pixels)} images; give one an image.")
    rows = [{"image_id": own, **{c: v[i] for c, v in columns.items()}} for i, own in enumerate(names)]
    stored = np.round(np.clip(pixels, 0, 1) * WHITE).astype(np.uint16)
    return ImageSet(name, stored, _make_table(rows, tuple(schema)), tuple(schema), maps=maps)


def _make_table(rows: list[dict[str, Any]], schema: tuple[Attribute, ...]) -> pa.Table:
    fields = [("image_id", pa.string()), ("patient_id", pa.string())]
    fields += [(attribute.name, _ARROW[attribute.kind]) for attribute in schema]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))
