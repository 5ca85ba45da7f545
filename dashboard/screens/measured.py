"""Requested against measured over one cohort: one chart a measurement, and the images that missed."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import queries
from dashboard.charts import KIND_COLOURS, draw_adherence
from dashboard.components.frame import VIEWER_PAGE, choose_cohort, run_page, show_title
from dashboard.store import read_frame
from dashboard.words import MEASUREMENTS, name_diagnosis, name_measurement, name_unit, name_visit

COLUMNS = 4
MISS_TABLE = {
    "Requested": st.column_config.NumberColumn(format="%.4g"),
    "Measured": st.column_config.NumberColumn(format="%.4g"),
    "Tolerance ±": st.column_config.NumberColumn(format="%.3g"),
    "Miss (× tolerance)": st.column_config.NumberColumn(format="%.2f"),
}


def order_measurements(names: list[str]) -> list[str]:
    """Return the measurements in the order one reads them: volumes first, then signals, then any others."""
    known = [name for name in MEASUREMENTS if name in names]
    return known + sorted(set(names) - set(known))


def show_legend(kinds: list[str]) -> None:
    """Show what colours and marks mean."""
    entries = [
        f"<span><i style='background:{c}'></i>{kind}</span>" for kind, c in zip(kinds, KIND_COLOURS, strict=False)
    ]
    entries += [
        "<span><i style='background:#14708a22'></i>within tolerance</span>",
        "<span><i style='border:2px solid #d64545;border-radius:50%;background:none'></i>outside tolerance</span>",
        "<span>– – measured equals requested</span>",
    ]
    st.html(f"<div class='legend'>{''.join(entries)}</div>")


def show_charts(points: pd.DataFrame) -> None:
    """Show one chart a measurement."""
    kinds = sorted(points["kind"].unique())[: len(KIND_COLOURS)]
    show_legend(kinds)
    names = order_measurements(list(points["name"].unique()))
    for start in range(0, len(names), COLUMNS):
        for column, name in zip(st.columns(COLUMNS, gap="large"), names[start : start + COLUMNS], strict=False):
            chosen = points[points["name"] == name]
            chart = draw_adherence(chosen, name_measurement(name), name_unit(chosen["unit"].iloc[0]), kinds)
            column.altair_chart(chart, alt=f"{name_measurement(name)}: measured against requested values")


def show_misses(cohort_id: str) -> None:
    """Show the images that lie outside a tolerance, the worst first; selecting one opens the viewer."""
    misses = read_frame(queries.MISSES, cohort_id)
    st.subheader("Outside tolerance", anchor=False)
    if misses.empty:
        st.success("Every measurement of every image lies within its tolerance.", icon=":material/check:")
        return
    st.caption("The worst first, 100 at most. Select one to see the image.")
    units = misses["unit"].map(lambda unit: f" ({name_unit(unit)})" if name_unit(unit) else "")
    table = pd.DataFrame(
        {
            "Quantity": misses["name"].map(name_measurement) + units,
            "Contrast": misses["kind"],
            "Visit": misses["visit"].map(name_visit),
            "Diagnosis": misses["diagnosis"].map(name_diagnosis),
            "Requested": misses["requested"],
            "Measured": misses["measured"],
            "Tolerance ±": misses["tolerance"],
            "Miss (× tolerance)": misses["times"],
        }
    )
    event = st.dataframe(
        table, column_config=MISS_TABLE, hide_index=True, on_select="rerun", key="misses",
        selection_mode=["single-row", "single-cell"], height=min(35 * len(table) + 38, 400),
    )  # fmt: skip
    rows = [*event["selection"]["rows"], *(cell[0] for cell in event["selection"]["cells"])]
    if rows:
        st.switch_page(VIEWER_PAGE, query_params={"image": misses["image_id"].iloc[rows[0]]})


def show_page() -> None:
    """Show the page."""
    cohort = choose_cohort()
    show_title(
        "Requested vs measured",
        f"What every image of `{cohort['cohort_id']}` was asked to show, and what was measured back from it.",
        cohort,
    )
    points = read_frame(queries.MEASURED, cohort["cohort_id"])
    if points.empty:
        st.info("Nothing was measured in this cohort.", icon=":material/info:")
        return
    show_charts(points)
    show_misses(cohort["cohort_id"])


run_page(show_page)
