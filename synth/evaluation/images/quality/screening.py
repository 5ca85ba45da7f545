"""Approximate squared distances with a bound on their error, in blocks: which pairs of images need an exact distance.

Let x be a feature vector less the middle of all, N = |x|^2, and g' a product x.y computed in bfloat16 or float32. Then

    | N_x + N_y - 2 g' - |x - y|^2 |  <=  E (N_x + N_y)

for |g' - x.y| <= E' |x| |y| <= E' (N_x + N_y) / 2. In float32 E' is d u / (1 - d u), u = 2^-24, whatever the order of
the sum (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). In bfloat16 the rounding error of
each vector is measured, r = max |x - x'| / |x|, and E' = r_x + r_y + r_x r_y, plus the sum's and the result's rounding.
What the bound leaves open is decided by the exact distance, so results do not depend on the precision.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from synth.evaluation.images.layout import Floats32

UNIT = 2.0**-24  # rounding of float32
UNIT_16 = 2.0**-8  # of bfloat16
SLACK = 16 * UNIT  # rounding of the centred vectors, of their squared lengths and of comparisons
ROWS, COLUMNS = 1024, 2048  # of a block of products
SQUARE = 1024  # rows and columns of a block of products of a side with itself
CHUNK = 64  # products that are looked at together
WIDEST = 40  # powers of two that the largest feature may be away from 1
LEAST_ROWS = 8  # for a thread of their own


@dataclass(frozen=True)
class Screen:
    """Vectors of one side, ready for products: ``halves`` is N / 2 of each, ``error`` the largest rounding error."""

    vectors: Tensor  # (n, d) bfloat16 or float32
    halves: Floats32
    error: float

    def __len__(self) -> int:
        return len(self.vectors)


class Products(NamedTuple):
    """Products of some vectors as bits: shifted to the left by ``shift``, they are those of float32."""

    bits: NDArray[Any]  # (rows, columns) int16 or int32
    shift: np.int32


def find_middle(features: Floats32) -> Floats32:
    """Return the mean feature vector."""
    return np.asarray(features.mean(axis=0, dtype=np.float64), np.float32)


def share_unit(*sides: Floats32) -> tuple[list[Floats32], np.float32]:
    """Return the sides divided by a power of two, and that number: 1 unless squares could leave float32's range."""
    largest = max((max(float(side.max()), -float(side.min())) for side in sides if side.size), default=0.0)
    if not 0 < largest < np.inf or -WIDEST < np.log2(largest) < WIDEST:
        return list(sides), np.float32(1)
    unit = np.float32(2.0 ** np.floor(np.log2(largest)))
    return [side / unit for side in sides], unit


def choose_precision() -> torch.dtype:
    """Return bfloat16 where the processor multiplies it, else float32."""
    return torch.bfloat16 if llvm.get_host_cpu_features().get("avx512bf16", False) else torch.float32


def make_screen(features: Floats32, middle: Floats32, precision: torch.dtype) -> Screen:
    """Return the screen of (n, d) features."""
    n = len(features)
    vectors = torch.empty(features.shape, dtype=precision)
    squares, lost = np.empty(n), np.zeros(n)

    def prepare(start: int, stop: int, _: int) -> None:
        for begin in range(start, stop, ROWS):
            part = slice(begin, min(begin + ROWS, stop))
            centred = torch.from_numpy(features[part] - middle)
            vectors[part] = centred
            _measure_rows(centred.numpy(), vectors[part].float().numpy(), squares[part], lost[part])

    run_rows(n, prepare)
    error = float(np.sqrt(lost / np.maximum(squares, 1e-300)).max(initial=0.0))
    return Screen(vectors, (squares / 2).astype(np.float32), error * (1 + SLACK))


def bound_error(first: Screen, second: Screen) -> float:
    """Return E: squared distances found from products of two screens are wrong by E (N_x + N_y) at most."""
    terms = (first.vectors.shape[1] + 2) * UNIT
    summing = terms / (1 - terms)
    if first.vectors.dtype == torch.float32:
        return summing + SLACK
    rounding = first.error + second.error + first.error * second.error
    length = (1 + first.error) * (1 + second.error)
    return rounding + length * (2 * summing + UNIT_16 * (1 + 2 * summing)) + SLACK


def run_blocks(first: Screen, second: Screen, work: Callable[[slice, slice, Products, int], None]) -> None:
    """Call work(rows, columns, products, thread) for all vectors of the first with all of the second, in blocks.

    Several threads do; products are overwritten by the next block of the same thread. Of a screen with itself only
    blocks on the diagonal come, and then those above it.
    """
    itself = first is second
    height, width = (SQUARE, SQUARE) if itself else (ROWS, COLUMNS)
    rows = [slice(start, min(start + height, len(first))) for start in range(0, len(first), height)]
    columns = [slice(start, min(start + width, len(second))) for start in range(0, len(second), width)]
    pairs = [(row, column) for column in columns for row in rows if not itself or row.start <= column.start]
    if itself:
        pairs.sort(key=lambda pair: pair[1].start - pair[0].start)
    threads = min(torch.get_num_threads(), len(pairs))
    room = (threads, min(height, len(first)) * min(width, len(second)))
    found = torch.empty(room, dtype=first.vectors.dtype)
    kind, shift = (torch.int16, 16) if found.dtype == torch.bfloat16 else (torch.int32, 0)
    free: SimpleQueue[int] = SimpleQueue()
    for thread in range(threads):
        free.put(thread)

    def handle(pair: tuple[slice, slice]) -> None:
        thread, (row, column) = free.get(), pair
        size = row.stop - row.start, column.stop - column.start
        part = found[thread, : size[0] * size[1]].view(size)
        torch.mm(first.vectors[row], second.vectors[column].T, out=part)
        work(row, column, Products(part.view(kind).numpy(), np.int32(shift)), thread)
        free.put(thread)

    run_threads(threads, handle, pairs)


def run_rows(count: int, work: Callable[[int, int, int], None]) -> None:
    """Call work(start, stop, thread) for as many parts of ``count`` rows as there are threads."""
    threads = max(1, min(torch.get_num_threads(), count // LEAST_ROWS))
    edges = np.linspace(0, count, threads + 1).astype(int).tolist()
    run_threads(threads, lambda part: work(*part), list(zip(edges[:-1], edges[1:], range(threads), strict=True)))


def run_threads(threads: int, work: Callable[[Any], None], items: list[Any]) -> None:
    """Call work(item) for all items, in threads in which torch does not start threads of its own."""
    if threads == 1:
        for item in items:
            work(item)
        return
    allowed = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, items))
    finally:
        torch.set_num_threads(allowed)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _measure_rows(centred, rounded, squares, lost):  # type: ignore[no-untyped-def]
    """Note the squared length of each row, and of what rounding took from it."""
    for row in range(centred.shape[0]):
        total, missing = 0.0, 0.0
        for place in range(centred.shape[1]):
            total += np.float64(centred[row, place]) ** 2
            missing += np.float64(centred[row, place] - rounded[row, place]) ** 2
        squares[row], lost[row] = total, missing


@njit(inline="always")
def read_product(values, shift, place):  # type: ignore[no-untyped-def]
    """Return one product of a row."""
    return np.int32(np.int32(values[place]) << shift).view(np.float32)


@njit(inline="always", fastmath={"nnan", "nsz", "contract"})
def any_reaches(values, shift, edges, first, bound):  # type: ignore[no-untyped-def]
    """Return whether products - edges reach the bound anywhere among the next places from ``first``.

    A loop of unknown length that gathers bits is vectorised; one of known length, or with a maximum, is not.
    """
    some, less = values[first : first + CHUNK], edges[first : first + CHUNK]
    found = np.int32(0)
    for place in range(some.size):
        found |= np.int32(read_product(some, shift, place) - less[place] >= bound)
    return found != 0
