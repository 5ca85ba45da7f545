"""Values as small codes and back: every attribute becomes one column of bytes, or one for each label of a set.

Numbers are cut into intervals: frequent values keep one of their own, the rest share intervals of equal frequency,
within which values are drawn evenly. A missing value is a code like any other, the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.schema import Column, Schema

MAX_EXACT = 128  # different values that are all kept
BINS = 64
Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Coding:
    """How one attribute is coded. Numbers: code ``k`` stands for the values ``low[k]`` to ``high[k]``."""

    column: Column
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def size(self) -> int:
        """The number of codes, the one for a missing value included."""
        values = len(self.low) if self.column.is_number else len(self.column.categories)
        return values + self.column.missing

    @property
    def missing_code(self) -> int:
        """The code of a missing value; -1 if there is none."""
        return self.size - 1 if self.column.missing else -1

    def encode(self, values: Any) -> Codes:
        """Return the codes of an Arrow array of the attribute (not a set)."""
        if self.column.is_number:
            numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
            missing = np.isnan(numbers)
            codes = self.encode_numbers(np.where(missing, self.low[0], numbers))
        else:
            lookup = {name: code for code, name in enumerate(self.column.categories)}
            encoded = values.dictionary_encode()
            words = [lookup.get(word, -1) for word in encoded.dictionary.to_pylist()]
            if -1 in words:
                unknown = encoded.dictionary[words.index(-1)].as_py()
                raise PopulationError(
                    f"column '{self.column.name}' holds '{unknown}', which the model does not know. "
                    f"Known: {', '.join(self.column.categories[:20])}."
                )
            indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            missing = indices < 0
            codes = np.array([*words, 0], dtype=np.int64)[indices]
        if missing.any():
            if not self.column.missing:
                raise PopulationError(f"column '{self.column.name}' has missing values, which the model does not know.")
            codes = np.where(missing, self.missing_code, codes)
        return codes.astype(np.uint8)

    def encode_numbers(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the code of each number; numbers outside the bounds get the nearest code."""
        codes: NDArray[np.int64] = np.clip(np.searchsorted(self.low, numbers, side="right") - 1, 0, len(self.low) - 1)
        return codes


def fit_coding(column: Column, values: Any) -> Coding:
    """Return the coding of an attribute, with intervals of equal frequency if it is a number of many values."""
    empty = np.empty(0)
    if not column.is_number:
        return Coding(column, empty, empty)
    numbers = values.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
    distinct, counts = np.unique(numbers, return_counts=True)
    if len(distinct) <= MAX_EXACT:
        return Coding(column, distinct, distinct)
    low, high = _cut_intervals(distinct, counts)
    return Coding(column, low, high)


def _cut_intervals(
    distinct: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the borders of at most about ``2 * BINS`` intervals; values that fill one alone get it alone."""
    share = counts.sum() / BINS
    low, high, gathered, first = [], [], 0, 0
    for place, count in enumerate(counts.tolist()):
        if count >= share and place > first:
            low.append(distinct[first])
            high.append(distinct[place - 1])
            first, gathered = place, 0
        gathered += count
        if gathered >= share or place == len(distinct) - 1:
            low.append(distinct[first])
            high.append(distinct[place])
            first, gathered = place + 1, 0
    return np.array(low), np.array(high)


def encode_set(column: Column, values: Any) -> Codes:
    """Return 0 or 1 for each row and label, shape (rows, labels); a missing set has no label."""
    bits = np.zeros((len(values), len(column.categories)), dtype=np.uint8)
    lookup = {name: place for place, name in enumerate(column.categories)}
    labels = values.flatten().dictionary_encode()
    places = np.array([lookup.get(label, -1) for label in labels.dictionary.to_pylist()], dtype=np.int64)
    if (places < 0).any():
        unknown = labels.dictionary[int(np.flatnonzero(places < 0)[0])].as_py()
        raise PopulationError(
            f"column '{column.name}' holds the label '{unknown}', which the model does not know. "
            f"Known: {', '.join(column.categories)}."
        )
    if len(places):
        bits[values.value_parent_indices().to_numpy(), places[labels.indices.to_numpy()]] = 1
    return bits


def fit_codings(schema: Schema, columns: Mapping[str, Any]) -> dict[str, Coding]:
    """Return the coding of each attribute that is not a set."""
    return {c.name: fit_coding(c, columns[c.name]) for c in schema.columns if c.kind != "set"}
