"""Figures of the comparison of population models: marginals side by side, and errors of every pair of columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa

from synth.evaluation.records.report import RecordReport, Scores
from synth.evaluation.records.tables import VISIT_EDGES, Bands, RecordArrays, band_numbers, fit_bands, read_records
from synth.population.records import Records
from synth.population.schema import Schema

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = ("#222222", "#0072b2", "#56b4e9", "#999999", "#e69f00", "#cc79a7", "#009e73")  # Okabe and Ito
MARKERS = ("_", "o", "s", "x", "D", "^", "v")


def draw_marginals(path: Path, tables: Mapping[str, pa.Table], train: Records) -> None:
    """Draw the share of each value in dots, one mark for each table; real is the black bar that marks should hit."""
    bands = fit_bands(read_records(train.table, train.schema))
    shares = {
        name: marginal_shares(read_records(table, train.schema), train.schema, bands) for name, table in tables.items()
    }
    columns = list(next(iter(shares.values())))
    sizes = [len(next(iter(shares.values()))[column]) for column in columns]
    figure, axes = plt.subplots(
        1, len(columns), figsize=(18, 4.4), layout="constrained", width_ratios=[size + 3 for size in sizes]
    )
    for axis, column in zip(axes, columns, strict=True):
        (real, *others) = [(name, list(found[column].values())) for name, found in shares.items()]
        values = list(next(iter(shares.values()))[column])
        places = np.arange(len(values))
        axis.hlines(real[1], places - 0.45, places + 0.45, color=COLOURS[0], linewidth=2, label=real[0])
        for index, (name, heights) in enumerate(others, start=1):
            spread = 0.7 * (index - 1) / max(len(others) - 1, 1) - 0.35
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            axis.plot(places + spread, heights, marker, color=colour, markersize=4, label=name)
        axis.set_xticks(range(len(values)), values, rotation=90 if len(values) > 3 else 0, fontsize=8)
        axis.set_title(column, fontsize=10)
        axis.set_ylim(0, None)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of rows")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(shares))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def marginal_shares(records: RecordArrays, schema: Schema, bands: Bands) -> dict[str, dict[str, float]]:
    """Return of each column the share of rows by value: bands of numbers, categories, labels."""
    found = {"visit": _band_shares(records.visit.astype(float), VISIT_EDGES)}
    for column in schema.columns:
        if column.is_number:
            found[column.name] = _band_shares(records.numbers[column.name], bands[column.name])
        elif column.kind == "categorical":
            codes = records.codes[column.name]
            found[column.name] = {name: float((codes == i).mean()) for i, name in enumerate(column.categories)}
        else:
            means = records.labels[column.name].mean(0)
            found[column.name] = {name: float(means[i]) for i, name in enumerate(column.categories)}
    return found


def _band_shares(values: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    counts = np.bincount(band_numbers(values, edges), minlength=len(edges) + 1) / len(values)
    names = [f"< {edges[0]:g}", *[f"{edge:g}+" for edge in edges]]
    return dict(zip(names, counts.tolist(), strict=True))


def draw_pairs(path: Path, reports: Mapping[str, RecordReport]) -> None:
    """Draw a heat map of the association errors for real against real and for each generator, on one scale.

    Associations and not joint distributions: errors of single columns, which the marginals show, would cover them.
    """
    panels: dict[str, Scores] = {"real (floor)": next(iter(reports.values())).floor}
    panels |= {name: report.synthetic for name, report in reports.items()}
    top = max(float(np.percentile(panel.pair_associations, 99)) for panel in panels.values())
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.4 * columns, 4.6 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, panel) in zip(axes.flat, panels.items(), strict=False):
        axis.set_axis_on()
        shown = axis.imshow(panel.pair_associations, cmap="cividis", vmin=0.0, vmax=top)
        short = [text.partition(":")[2] or text for text in panel.pair_names]
        axis.set_xticks(range(len(short)), short, rotation=90, fontsize=6)
        axis.set_yticks(range(len(short)), short, fontsize=6)
        axis.set_title(f"{name}: mean {panel.values['association_error']:.4f}", fontsize=10)
    figure.colorbar(shown, ax=axes, shrink=0.7, label="error of p(a, b) - p(a) p(b), half the absolute sum")
    figure.savefig(path, dpi=130)
    plt.close(figure)
