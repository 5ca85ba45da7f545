"""Conditional prevalence: each label should be as frequent as in reality within each cell of age band, sex and view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from synth.evaluation.ranks import Z95, Floats, Ints
from synth.evaluation.records.tables import Bands, RecordArrays, band_numbers
from synth.population.schema import Schema

LEAST_REAL = 50  # rows of a cell
EXPECTED = 5.0  # rows with and without the label, on each side, of an informative cell


@dataclass(frozen=True, slots=True)
class Miss:
    """A cell whose prevalence is outside the interval; ``z`` is the difference in standard errors (0 if no rows)."""

    label: str
    cell: str
    real_rows: int
    real: float
    synthetic_rows: int
    synthetic: float
    z: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """The share of label x cell prevalences covered, of all cells and of the informative ones, and the misses."""

    cells: int
    share: float
    informative_cells: int
    informative_share: float
    root_mean_square_z: float
    misses: tuple[Miss, ...]


@dataclass(frozen=True)
class _Side:
    """Of each cell: rows, and by label (cells x labels) the prevalence and its cluster-robust variance."""

    rows: Floats
    prevalence: Floats
    variance: Floats


def conditional_prevalence_coverage(
    real: RecordArrays, synthetic: RecordArrays, bands: Bands, by: tuple[str, ...] | None = None
) -> Coverage:
    """Return how many prevalences of labels within cells are what sampling alone explains.

    Cells are the combinations of ``by`` (default: see ``cell_columns``; age decade x sex x view) with at least 50 real
    rows. A cell is covered if |p_synthetic - p_real| <= 1.96 sqrt(V_synthetic + V_real). Rows of a patient are alike,
    so V is the linearised variance of the ratio p = sum(y_k) / sum(n_k) over the K patients of the cell,
    K / (K - 1) sum (y_k - p n_k)^2 / n^2, and at least the binomial p0 (1 - p0) / n with p0 the prevalence on both
    sides together, without which a label that one side lacks would have no variance there. A cell without synthetic
    rows is missed. Informative cells, in which the two-sided test can fail, have at least 5 rows expected with and
    5 without the label on both sides under p0.
    """
    names = cell_columns(real.schema) if by is None else by
    keys, texts = _cell_keys([real, synthetic], bands, names)
    sides = [_measure(side, key, len(texts)) for side, key in zip((real, synthetic), keys, strict=True)]
    kept = sides[0].rows >= LEAST_REAL
    rows = [side.rows[:, None] for side in sides]
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (rows[0] * sides[0].prevalence + rows[1] * sides[1].prevalence) / (rows[0] + rows[1])
        variance = sum(np.maximum(s.variance, pooled * (1 - pooled) / n) for s, n in zip(sides, rows, strict=True))
        difference = sides[1].prevalence - sides[0].prevalence
        z = np.where((rows[1] > 0) & (difference != 0.0), difference / np.sqrt(variance), 0.0)
    covered = (rows[1] > 0) & (np.abs(z) <= Z95)
    smaller = np.minimum(rows[0], rows[1])
    informative = (smaller * pooled >= EXPECTED) & (smaller * (1 - pooled) >= EXPECTED) & kept[:, None]
    labels = [label for column in real.schema.columns if column.kind == "set" for label in column.categories]
    missed = [(cell, label) for cell, label in zip(*np.nonzero(~covered & kept[:, None]), strict=True)]
    missed.sort(key=lambda place: -abs(z[place]))
    return Coverage(
        cells=int(kept.sum()) * len(labels),
        share=_mean(covered[kept]),
        informative_cells=int(informative.sum()),
        informative_share=_mean(covered[informative]),
        root_mean_square_z=float(np.sqrt(np.mean(z[informative] ** 2))) if informative.any() else 0.0,
        misses=tuple(_describe(labels[label], texts[cell], sides, z, (cell, label)) for cell, label in missed),
    )


def cell_columns(schema: Schema) -> tuple[str, ...]:
    """Return what cells are made of by default: the first age, and the first two categorical columns."""
    ages = [column.name for column in schema.columns if column.is_number and column.name.startswith("age")]
    return (*ages[:1], *[column.name for column in schema.columns if column.kind == "categorical"][:2])


def _cell_keys(sides: list[RecordArrays], bands: Bands, names: tuple[str, ...]) -> tuple[list[Ints], list[str]]:
    """Return the cell number of each row of each side, and what each cell is called."""
    columns = [np.zeros(sum(side.rows for side in sides), np.int64)]  # without names, all rows are one cell
    columns += [np.concatenate([_values(side, bands, name) for side in sides]) for name in names]
    cells, codes = np.unique(np.stack(columns), axis=1, return_inverse=True)
    texts = [_name_cell(sides[0].schema, bands, names, cell[1:]) for cell in cells.T]
    return list(np.split(codes.reshape(-1), [sides[0].rows])), texts


def _values(side: RecordArrays, bands: Bands, name: str) -> Ints:
    return side.codes[name] if name in side.codes else band_numbers(side.numbers[name], bands[name])


def _name_cell(schema: Schema, bands: Bands, names: tuple[str, ...], cell: Ints) -> str:
    return ", ".join(_name_value(schema, bands, name, int(value)) for name, value in zip(names, cell, strict=True))


def _name_value(schema: Schema, bands: Bands, name: str, value: int) -> str:
    if value < 0:
        return f"{name} missing"
    if name not in bands:
        return f"{name} {schema.column(name).categories[value]}"
    edges = [f"{edge:g}" for edge in bands[name]]
    if value in (0, len(edges)):
        return f"{name} under {edges[0]}" if value == 0 and edges else f"{name} from {edges[-1]}" if edges else name
    return f"{name} {edges[value - 1]} to under {edges[value]}"


def _measure(side: RecordArrays, key: Ints, cells: int) -> _Side:
    labels = np.concatenate(list(side.labels.values()), axis=1).astype(np.float64)
    rows = np.bincount(key, minlength=cells).astype(np.float64)
    prevalence = _sum_by(key, labels, cells) / np.maximum(rows, 1)[:, None]
    clusters, cluster = np.unique(key * side.patients + side.patient, return_inverse=True)
    cell = clusters // side.patients
    sizes = np.bincount(cluster)[:, None]
    residuals = _sum_by(cluster, labels, len(clusters)) - prevalence[cell] * sizes
    patients = np.bincount(cell, minlength=cells)
    factor = patients / np.maximum(patients - 1, 1) / np.maximum(rows, 1) ** 2
    return _Side(rows, prevalence, _sum_by(cell, residuals**2, cells) * factor[:, None])


def _sum_by(key: Ints, values: Floats, size: int) -> Floats:
    """Return the sums of ``values`` (rows x labels) over rows of the same key."""
    matrix = sparse.csr_array((np.ones(len(key)), (key, np.arange(len(key)))), shape=(size, len(key)))
    return np.asarray(matrix @ values)


def _describe(label: str, cell: str, sides: list[_Side], z: Floats, place: tuple[int, int]) -> Miss:
    real, synthetic = sides
    return Miss(
        label=label,
        cell=cell,
        real_rows=int(real.rows[place[0]]),
        real=float(real.prevalence[place]),
        synthetic_rows=int(synthetic.rows[place[0]]),
        synthetic=float(synthetic.prevalence[place]),
        z=float(z[place]),
    )


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else 1.0
