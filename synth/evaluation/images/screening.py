"""Approximate squared distances with a bound on their error, in blocks: which pairs of images need an exact distance.

Let x be a feature vector less the middle of all, N = |x|^2, and g' a product x.y computed in bfloat16 or float32. Then

    | N_x + N_y - 2 g' - |x - y|^2 |  <=  E (N_x + N_y)

for |g' - x.y| <= E' |x| |y| <= E' (N_x + N_y) / 2. In float32 E' is d u / (1 - d u), u = 2^-24, whatever the order of
the sum (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). In bfloat16 the rounding error of
each vector is measured, r = max |x - x'| / |x|, and E' = r_x + r_y + r_x r_y, plus the sum's and the result's rounding.
What the bound leaves open is decided by the exact distance, so results do not depend on the precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np
import torch
from numba import njit
from torch import Tensor

from synth.evaluation.images.layout import Floats32

UNIT = 2.0**-24  # rounding of float32
UNIT_16 = 2.0**-8  # of bfloat16
SLACK = 16 * UNIT  # rounding of the centred vectors, of their squared lengths and of comparisons
ROWS, COLUMNS, BLOCK = 2048, 4096, 4096  # of products, and of vectors, that are worked on together
CHUNK = 32  # products that are looked at together
LEAST_ROWS = 8  # for a thread of their own
LEAST_DIMENSIONS_16 = 192  # shorter vectors are not worth rounding


@dataclass(frozen=True)
class Screen:
    """Vectors of one side, ready for products: ``halves`` is N / 2 of each, ``error`` the largest rounding error."""

    vectors: Tensor  # (n, d) bfloat16 or float32
    halves: Floats32
    error: float

    def __len__(self) -> int:
        return len(self.vectors)


def find_middle(features: Floats32) -> Floats32:
    """Return the mean feature vector."""
    return np.asarray(features.mean(axis=0, dtype=np.float64), np.float32)


def choose_precision(dimensions: int) -> torch.dtype:
    """Return bfloat16 for long vectors where the processor multiplies it, else float32."""
    fast = llvm.get_host_cpu_features().get("avx512bf16", False)
    return torch.bfloat16 if fast and dimensions >= LEAST_DIMENSIONS_16 else torch.float32


def make_screen(features: Floats32, middle: Floats32, precision: torch.dtype) -> Screen:
    """Return the screen of (n, d) features."""
    n = len(features)
    vectors = torch.empty(features.shape, dtype=precision)
    squares, lost = np.empty(n), np.zeros(n)
    for start in range(0, n, BLOCK):
        part = slice(start, min(start + BLOCK, n))
        centred = torch.from_numpy(features[part] - middle)
        vectors[part] = centred
        arrays = (centred.numpy(), vectors[part].float().numpy(), squares[part], lost[part])
        run_rows(part.stop - start, lambda a, b, _: _measure_rows(*arrays, a, b))  # noqa: B023
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


def product_blocks(first: Screen, second: Screen) -> Iterator[tuple[slice, slice, Floats32]]:
    """Yield (rows, columns, products) of all vectors of the first with all of the second; products are overwritten."""
    shape = min(ROWS, len(first)), min(COLUMNS, len(second))
    exact = torch.empty(shape[0] * shape[1])
    rounded = torch.empty_like(exact, dtype=first.vectors.dtype)
    for start in range(0, len(first), ROWS):
        rows = slice(start, min(start + ROWS, len(first)))
        for begin in range(0, len(second), COLUMNS):
            columns = slice(begin, min(begin + COLUMNS, len(second)))
            size = (rows.stop - start, columns.stop - begin)
            found = rounded[: size[0] * size[1]].view(size)
            torch.mm(first.vectors[rows], second.vectors[columns].T, out=found)
            if found.dtype != torch.float32:
                found = exact[: found.numel()].view(size).copy_(found)
            yield rows, columns, np.asarray(found.numpy())


def run_rows(count: int, work: Callable[[int, int, int], None]) -> None:
    """Call work(start, stop, part) for parts of ``count`` rows, one a thread that torch may use."""
    threads = count_threads(count)
    edges = np.linspace(0, count, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:], range(threads)))


def count_threads(rows: int) -> int:
    """Return how many threads work on that many rows."""
    return max(1, min(torch.get_num_threads(), rows // LEAST_ROWS))


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _measure_rows(centred, rounded, squares, lost, start, stop):  # type: ignore[no-untyped-def]
    """Note the squared length of each row, and of what rounding took from it."""
    for row in range(start, stop):
        total, missing = 0.0, 0.0
        for place in range(centred.shape[1]):
            total += np.float64(centred[row, place]) ** 2
            missing += np.float64(centred[row, place] - rounded[row, place]) ** 2
        squares[row], lost[row] = total, missing
