"""Distances between records: the share of attributes that differ, with part shares for numbers and label sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.ranks import Floats, Ints
from synth.evaluation.records.tables import Bits, RecordArrays

BLOCK = 4_000_000  # pairs at a time

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Things:
    """What is compared: numbers scaled so that a distance of 1 is their whole range, codes, and 0/1 label sets."""

    numbers: Singles  # things x numbers, NaN where missing
    codes: Ints  # things x categorical columns
    sets: tuple[Bits, ...]  # of each set: things x labels

    def take(self, chosen: Ints) -> Things:
        """Return the things ``chosen``."""
        return Things(self.numbers[chosen], self.codes[chosen], tuple(bits[chosen] for bits in self.sets))

    @property
    def attributes(self) -> int:
        """How many attributes a distance is averaged over."""
        return max(int(self.numbers.shape[1]) + int(self.codes.shape[1]) + len(self.sets), 1)


def number_ranges(records: RecordArrays) -> dict[str, float]:
    """Return the range of each number without its outer half percents, which may hold recording errors."""
    ranges = {}
    for name, values in records.numbers.items():
        low, high = np.nanpercentile(values, [0.5, 99.5]) if not np.isnan(values).all() else (0.0, 1.0)
        ranges[name] = max(float(high - low), 1e-9)
    return ranges


def row_things(records: RecordArrays, ranges: dict[str, float]) -> Things:
    """Return the attributes of each row."""
    numbers = [records.numbers[name] / ranges[name] for name in records.numbers]
    return Things(
        _stack(numbers, records.rows).astype(np.float32),
        _stack(list(records.codes.values()), records.rows).astype(np.int64),
        tuple(records.labels.values()),
    )


def patient_things(records: RecordArrays, ranges: dict[str, float]) -> Things:
    """Return a summary of each patient: the first record, log2(visits) / 8, and all labels ever seen."""
    first = row_things(records, ranges).take(records.starts[:-1])
    visits = (np.log2(records.visits) / 8).astype(np.float32)[:, None]
    ever = tuple(np.maximum.reduceat(bits, records.starts[:-1], axis=0) for bits in records.labels.values())
    return Things(np.hstack([first.numbers, visits]), first.codes, (*first.sets, *ever))


def distance_blocks(first: Things, second: Things) -> Iterator[tuple[slice, Singles]]:
    """Yield blocks of the Gower distances between ``first`` (rows of a block) and ``second`` (columns), from 0 to 1.

    A number differs by |a - b| / range (1 at most), a category by 0 or 1, a set by 1 - |a and b| / |a or b|; missing
    differs from a value by 1 and from missing by 0.
    """
    count = len(first.codes)
    step = max(BLOCK // max(len(second.codes), 1), 1)
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        yield part, _distances(first.take(np.arange(part.start, part.stop)), second)


def closest_and_density(things: Things, among: Things, weights: Floats, width: float) -> tuple[Floats, Floats]:
    """Return the distance of each thing to the closest ``among``, and the kernel density there.

    The density is the weighted mean of exp(-distance / width) over ``among``.
    """
    closest, density = np.ones(len(things.codes)), np.zeros(len(things.codes))
    shares = (weights / weights.sum()).astype(np.float32)
    for part, block in distance_blocks(things, among):
        closest[part] = block.min(axis=1)
        density[part] = np.exp(block / np.float32(-width)) @ shares
    return closest, density


def distinct_things(things: Things) -> tuple[Things, Ints]:
    """Return the things that differ from each other, and which of them each thing is."""
    parts: list[NDArray[Any]] = [np.nan_to_num(things.numbers, nan=-1e9), things.codes, *things.sets]
    table = np.hstack([part.astype(np.float64) for part in parts])
    _, first, which = np.unique(hash_rows(table), return_index=True, return_inverse=True)
    return things.take(first), which.astype(np.int64)


def hash_rows(table: Floats) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row; equal rows have equal hashes, others differ but for one chance in 2**64."""
    words = np.ascontiguousarray(table + 0.0).view(np.uint64)  # adding 0 turns -0 into 0
    found = np.full(len(table), 0x9E3779B97F4A7C15, np.uint64)
    for column in words.T:
        found = mix_bits(found ^ mix_bits(column))
    return found


def mix_bits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the SplitMix64 finaliser of each value (Steele et al., OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _distances(first: Things, second: Things) -> Singles:
    total = np.zeros((len(first.codes), len(second.codes)), np.float32)
    for a, b in zip(first.numbers.T, second.numbers.T, strict=True):
        difference = np.abs(a[:, None] - b[None, :])
        np.minimum(difference, 1.0, out=difference)
        missing_a, missing_b = np.isnan(a), np.isnan(b)
        if missing_a.any() or missing_b.any():
            difference = np.where(missing_a[:, None] & missing_b[None, :], 0.0, np.nan_to_num(difference, nan=1.0))
        total += difference
    for a, b in zip(first.codes.T, second.codes.T, strict=True):
        total += a[:, None] != b[None, :]
    for left, right in zip(first.sets, second.sets, strict=True):
        inside = left.astype(np.float32) @ right.astype(np.float32).T
        union = left.sum(1, dtype=np.float32)[:, None] + right.sum(1, dtype=np.float32)[None, :] - inside
        np.divide(inside, np.maximum(union, 1.0), out=inside)
        inside[union == 0] = 1.0
        total += 1.0 - inside
    total /= first.attributes
    return total


def _stack(columns: list[Floats] | list[Ints], rows: int) -> NDArray[Any]:
    return np.column_stack(columns) if columns else np.empty((rows, 0))
