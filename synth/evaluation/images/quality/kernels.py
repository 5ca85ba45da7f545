"""Unbiased kernel distances (KID, MMD): every pair of images once, in blocks, for all halves and permutations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from synth.evaluation.images.layout import Floats32, NotComparableError
from synth.evaluation.images.resampling import PAIRS, centred_interval, draw_halves, number_patients, spread_of_halves
from synth.evaluation.images.sides import Side
from synth.evaluation.ranks import Floats, Interval, Ints
from synth.seeds import stream

BLOCK = 2048  # rows and columns of the kernel matrix that are in memory at once
PERMUTATIONS = 99
MEDIAN_PAIRS = 50_000
KERNELS = ("kernel_distance", "mmd_rbf")


@dataclass(frozen=True)
class Scale:
    """Features are taken relative to ``middle`` and divided by ``unit``: float32 then neither overflows nor cancels.

    ``width`` is the standard deviation of the Gaussian kernel, in the same units as ``unit``.
    """

    middle: Floats
    unit: float
    width: float

    @property
    def tilt(self) -> Floats:
        """The middle in units."""
        return self.middle / self.unit

    @property
    def level(self) -> float:
        """Cubic root of the polynomial kernel in the middle, in units; a constant, it cancels in an MMD."""
        return float(self.tilt @ self.tilt) / len(self.middle) + 1 / self.unit**2


class Vectors(NamedTuple):
    """Features on a scale (n, d), their squared lengths, and their inner products with the scale's tilt."""

    values: Tensor
    squares: Tensor
    tilts: Tensor


@dataclass(frozen=True)
class Sums:
    """Sums over pairs of a first and a second set, with columns of 0/1 weights U and V (groups) on either.

    ``total`` is 1'K1, ``left`` U'K1, ``right`` 1'KV and ``inside`` the diagonal of U'KV; with K = 1 they count pairs.
    """

    total: float
    left: Floats
    right: Floats
    inside: Floats

    @property
    def outside(self) -> Floats:
        """The sums over pairs of which neither is in the group."""
        return self.total - self.left - self.right + self.inside

    @property
    def between(self) -> Floats:
        """The sums over ordered pairs of which one is in the group."""
        return self.left + self.right - 2 * self.inside

    def without(self, amount: Floats, groups: Floats) -> Sums:
        """Return the sums without pairs inside patients; ``amount`` is theirs, ``groups`` (patients, columns)."""
        lost = amount @ groups
        return Sums(self.total - float(amount.sum()), self.left - lost, self.right - lost, self.inside - lost)

    def take(self, part: slice) -> Sums:
        """Return the sums of some columns."""
        return Sums(self.total, self.left[part], self.right[part], self.inside[part])


class Table(NamedTuple):
    """The sums of a kernel, or of 1, over pairs of synthetic images, of real images, and of one of each."""

    synthetic: Sums
    real: Sums
    cross: Sums

    def take(self, part: slice) -> Table:
        """Return the sums of some columns."""
        return Table(*(sums.take(part) for sums in self))


def measure_kernels(synthetic: Side, real: Side, seed: int) -> dict[str, tuple[Interval, dict[str, float]]]:
    """Return the two unbiased squared MMDs, by name, with intervals and details.

    ``kernel_distance`` is KID: kernel (x.y / d + 1)^3, of all images instead of random subsets (Binkowski et al., ICLR
    2018). ``mmd_rbf`` has the kernel exp(-|x - y|^2 / (2 w^2)), w the median distance of real images (Gretton et al.,
    JMLR 2012). Pairs of images of one patient are left out, since they are more alike than images of two; ``all_pairs``
    in the details has them (the usual estimator, equal if each image has its own patient). ``p`` is the share of 99
    permutations of patients between the sides, and the sides themselves, that are at least as far apart.
    """
    found = {}
    for name, (sums, counts, usual) in _tabulate(synthetic, real, seed).items():
        value, inside, outside = _contrast(sums, counts)
        interval = centred_interval(value, spread_of_halves(inside, outside), PAIRS)
        details = {"all_pairs": usual, "p": _permute(sums, counts, value), "n": len(synthetic), "n_real": len(real)}
        found[name] = interval, details
    return found


def compare_kernels(first: Side, second: Side, real: Side, seed: int) -> dict[str, Interval]:
    """Return how much farther from ``real`` the ``first`` side is than the ``second``, in both distances, by name.

    Both sides hold images of the same patients in the same order, such as two models' answers to the same requests:
    the halves of the interval are then of the same patients, and what both sides share cancels. Raises
    NotComparableError if they do not.
    """
    if not np.array_equal(first.patient, second.patient):
        raise NotComparableError("two sides are compared that hold images of other patients; give the same, in order.")
    tables = [_tabulate(side, real, seed) for side in (first, second)]
    found = {}
    for name in KERNELS:
        one, other = (_contrast(*table[name][:2]) for table in tables)
        value, inside, outside = one[0] - other[0], one[1] - other[1], one[2] - other[2]
        found[name] = centred_interval(value, spread_of_halves(inside, outside), PAIRS)
    return found


def _tabulate(synthetic: Side, real: Side, seed: int) -> dict[str, tuple[Table, Table, float]]:
    """Return, by kernel, its sums over pairs, how many pairs there are, and the usual estimator.

    The first columns are halves of the patients, drawn from the seed and the patients alone; the others permutations.
    """
    rng = stream(seed, -1, -1, "images/kernels")
    scale = choose_scale(synthetic, real, rng)
    sides = (synthetic, real)
    patient = [number_patients(side.patient)[0] for side in sides]
    halves = [draw_halves(codes, rng) for codes in patient]
    permuted = permute_patients(patient[0], patient[1], rng)
    columns = [np.concatenate([half, moved]).T.astype(np.float32) for half, moved in zip(halves, permuted, strict=True)]
    vectors = [_scale_vectors(side.features, scale) for side in sides]
    groups = [c[np.unique(p, return_index=True)[1]].astype(np.float64) for c, p in zip(columns, patient, strict=True)]
    whole = [_sum_pairs(v, v, c, c, scale) for v, c in zip(vectors, columns, strict=True)]
    cross = _sum_pairs(vectors[0], vectors[1], columns[0], columns[1], scale)
    same = [_sum_patients(v, p, scale) for v, p in zip(vectors, patient, strict=True)]
    diagonals = [_evaluate_pairs(v, v, scale) for v in vectors]
    sizes = [np.bincount(p).astype(np.float64) for p in patient]
    own_pairs = [_count_pairs(c, c).without(s**2, g) for c, s, g in zip(columns, sizes, groups, strict=True)]
    counts = Table(own_pairs[0], own_pairs[1], _count_pairs(columns[0], columns[1]))
    found = {}
    for place, name in enumerate(KERNELS):
        own = [w[place].without(s[place], g) for w, s, g in zip(whole, same, groups, strict=True)]
        usual = sum(
            (w[place].total - d[place].sum()) / (len(p) * (len(p) - 1))
            for w, d, p in zip(whole, diagonals, patient, strict=True)
        )
        mixed = 2 * cross[place].total / counts.cross.total
        found[name] = Table(own[0], own[1], cross[place]), counts, float(usual - mixed)
    return found


def choose_scale(synthetic: Side, real: Side, rng: np.random.Generator) -> Scale:
    """Return the scale of both sides; the width is the median distance of random real images of two patients each."""
    middle = (synthetic.features.mean(axis=0, dtype=np.float64) + real.features.mean(axis=0, dtype=np.float64)) / 2
    first, second = rng.integers(len(real), size=(2, MEDIAN_PAIRS))
    apart = np.flatnonzero(real.patient[first] != real.patient[second])
    distances = np.empty(len(apart))
    for start in range(0, len(apart), BLOCK):
        part = apart[start : start + BLOCK]
        difference = real.features[first[part]].astype(np.float64) - real.features[second[part]]
        distances[start : start + BLOCK] = np.sqrt((difference**2).sum(axis=1))
    largest = max(float(np.abs(side.features).max()) for side in (synthetic, real))
    return Scale(middle, max(1.0, largest), max(float(np.median(distances)), 1e-9 * largest))


def permute_patients(synthetic: Ints, real: Ints, rng: np.random.Generator) -> tuple[Floats32, Floats32]:
    """Return (permutations, images) of either side: 1 if the image goes to the first of two groups of patients."""
    first, second = int(synthetic.max()) + 1, int(real.max()) + 1
    groups = np.zeros((PERMUTATIONS, first + second), np.float32)
    for row in groups:
        row[rng.permutation(first + second)[:first]] = 1.0
    return groups[:, synthetic], groups[:, first + real]


def _contrast(sums: Table, counts: Table) -> tuple[float, Floats, Floats]:
    """Return the squared MMD of all, of the halves, and of what the halves leave."""
    half, half_counts = sums.take(slice(0, PAIRS)), counts.take(slice(0, PAIRS))

    def contrast(kind: str) -> Floats:
        ratios = [getattr(s, kind) / getattr(c, kind) for s, c in zip(half, half_counts, strict=True)]
        return np.asarray(ratios[0] + ratios[1] - 2 * ratios[2])

    return float(contrast("total")), contrast("inside"), contrast("outside")


def _permute(sums: Table, counts: Table, value: float) -> float:
    """Return the p-value of the permutations."""
    s, c = sums.take(slice(PAIRS, None)), counts.take(slice(PAIRS, None))
    parts = [
        (t.synthetic.inside + t.real.inside + 2 * t.cross.inside,
         t.synthetic.outside + t.real.outside + 2 * t.cross.outside,
         t.synthetic.between + t.real.between + 2 * t.cross.between)
        for t in (s, c)
    ]  # fmt: skip
    first, second, between = (a / b for a, b in zip(*parts, strict=True))
    permuted = first + second - 2 * between
    return float((1 + (permuted >= value).sum()) / (1 + len(permuted)))


def _scale_vectors(features: Floats32, scale: Scale) -> Vectors:
    values = ((features - scale.middle) / scale.unit).astype(np.float32)
    tilts = torch.from_numpy((values @ scale.tilt.astype(np.float32)).astype(np.float32))
    return Vectors(torch.from_numpy(values), torch.from_numpy((values**2).sum(axis=1, dtype=np.float32)), tilts)


def _evaluate_kernels(first: Vectors, second: Vectors, scale: Scale) -> tuple[Tensor, Tensor]:
    """Return both kernels of all pairs. Of the polynomial one, what it is in the middle is taken away: see Scale.

    With x.y / d + 1 = unit^2 (a + e), its cube less (unit^2 a)^3 is unit^6 e (e (e + 3 a) + 3 a^2).
    """
    products = first.values @ second.values.T
    polynomial = products + first.tilts[:, None]
    polynomial += second.tilts
    polynomial /= first.values.shape[1]
    outer = polynomial + 3 * scale.level
    outer.mul_(polynomial).add_(3 * scale.level**2)
    polynomial.mul_(outer)
    products.mul_(-2).add_(first.squares[:, None]).add_(second.squares).clamp_(min=0)
    gaussian = products.mul_(-0.5 * (scale.unit / scale.width) ** 2).exp_()
    return polynomial, gaussian


def _sum_pairs(first: Vectors, second: Vectors, left: Floats32, right: Floats32, scale: Scale) -> tuple[Sums, Sums]:
    """Return the sums of both kernels over all pairs; of a set with itself, only half of them are evaluated."""
    itself = first is second
    weights = [torch.from_numpy(np.hstack([np.ones((len(c), 1), np.float32), c])) for c in (left, right)]
    sums = [torch.zeros(len(weights[0]), weights[1].shape[1], dtype=torch.float64) for _ in KERNELS]
    for start in range(0, len(left), BLOCK):
        rows = slice(start, start + BLOCK)
        for begin in range(start if itself else 0, len(right), BLOCK):
            columns = slice(begin, begin + BLOCK)
            kernels = _evaluate_kernels(_cut(first, rows), _cut(second, columns), scale)
            for kernel, found in zip(kernels, sums, strict=True):
                found[rows] += kernel @ weights[1][columns]
                if itself and begin > start:
                    found[columns] += kernel.T @ weights[1][rows]
    units = (scale.unit**6, 1.0)
    return _gather(sums[0], weights[0], units[0]), _gather(sums[1], weights[0], units[1])


def _gather(products: Tensor, weights: Tensor, unit: float) -> Sums:
    """Return the sums given K [1 V] and [1 U]."""
    exact, found = weights.numpy().astype(np.float64), products.numpy() * unit
    left, right = exact.T @ found[:, 0], found.sum(axis=0)
    return Sums(float(right[0]), left[1:], right[1:], np.einsum("nc,nc->c", exact, found)[1:])


def _cut(vectors: Vectors, part: slice | Tensor) -> Vectors:
    return Vectors(*(item[part] for item in vectors))


def _count_pairs(left: Floats32, right: Floats32) -> Sums:
    """Return how many pairs there are."""
    a, b = left.sum(axis=0, dtype=np.float64), right.sum(axis=0, dtype=np.float64)
    return Sums(float(len(left) * len(right)), a * len(right), len(left) * b, a * b)


def _sum_patients(vectors: Vectors, patient: Ints, scale: Scale) -> tuple[Floats, Floats]:
    """Return, of each kernel, the sum over all pairs of images of each patient, an image with itself included."""
    polynomial, gaussian = (
        np.bincount(patient, values).astype(np.float64) for values in _evaluate_pairs(vectors, vectors, scale)
    )
    order = np.argsort(patient, kind="stable")
    for step in range(1, int(np.bincount(patient).max())):
        first = np.flatnonzero(patient[order[:-step]] == patient[order[step:]])
        for start in range(0, len(first), BLOCK):
            places = order[first[start : start + BLOCK]], order[first[start : start + BLOCK] + step]
            left, right = (_cut(vectors, torch.from_numpy(place)) for place in places)
            pairs = _evaluate_pairs(left, right, scale)
            for found, values in zip((polynomial, gaussian), pairs, strict=True):
                np.add.at(found, patient[places[0]], 2 * values)
    return polynomial, gaussian


def _evaluate_pairs(first: Vectors, second: Vectors, scale: Scale) -> tuple[Floats, Floats]:
    """Return both kernels of the vectors of one row each, the polynomial one in its own unit."""
    e = torch.einsum("nd,nd->n", first.values, second.values).double() + first.tilts + second.tilts
    e /= first.values.shape[1]
    squares = (first.values - second.values).square().sum(dim=1).double()
    gaussian = torch.exp(squares * (-0.5 * (scale.unit / scale.width) ** 2))
    return (scale.unit**6 * e * (e * (e + 3 * scale.level) + 3 * scale.level**2)).numpy(), gaussian.numpy()
