"""All cohorts with their status; selecting one opens it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components.frame import COHORT_PAGE, read_cohorts, run_page, show_title
from dashboard.words import STATUS_MARK, summarise_reasons

TABLE = {
    "Cohort": st.column_config.TextColumn(width=190),
    "Status": st.column_config.TextColumn(width=95, help="Released: readers see it. Refused: a gate failed."),
    "Subjects": st.column_config.NumberColumn(format="localized", width=75),
    "Images": st.column_config.NumberColumn(format="localized", width=75),
    "Population": st.column_config.TextColumn(width=105),
    "Engine": st.column_config.TextColumn(width=65),
    "Created (UTC)": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm", timezone="UTC", width=150),
    "Why not released": st.column_config.TextColumn(width=620),
}


def tabulate_cohorts(cohorts: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of cohorts as it is shown."""
    return pd.DataFrame(
        {
            "Cohort": [row["cohort_id"] for row in cohorts],
            "Status": [STATUS_MARK[row["status"]] for row in cohorts],
            "Subjects": [row["subjects"] for row in cohorts],
            "Images": [row["images"] for row in cohorts],
            "Population": [row["population"] for row in cohorts],
            "Engine": [row["engine"] for row in cohorts],
            "Created (UTC)": pd.to_datetime([row["created_at"] for row in cohorts], utc=True),
            "Why not released": [summarise_reasons(row["reasons"] or []) for row in cohorts],
        }
    )


def show_summary(cohorts: list[dict[str, Any]]) -> None:
    """Show what the catalog holds in four numbers."""
    released = sum(row["status"] == "released" for row in cohorts)
    figures = {
        "Cohorts": len(cohorts),
        "Released": released,
        "Subjects": sum(row["subjects"] for row in cohorts),
        "Images": sum(row["images"] for row in cohorts),
    }
    for column, (label, value) in zip(st.columns(4), figures.items(), strict=True):
        column.metric(label, f"{value:,}", border=True)


def show_page() -> None:
    """Show the page."""
    cohorts = read_cohorts()
    show_title("Cohorts", "Every synthetic cohort in this catalog, newest first. Select one to open it.")
    show_summary(cohorts)
    only = st.toggle("Released only", key="released", bind="query-params", help="What readers of the catalog see.")
    shown = [row for row in cohorts if row["status"] == "released"] if only else cohorts
    if not shown:
        st.info("No cohort is released. Switch off 'Released only' to see the others and why.", icon=":material/info:")
        return
    event = st.dataframe(
        tabulate_cohorts(shown),
        column_config=TABLE,
        hide_index=True,
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        key="cohort-table",
        row_height=40,
    )
    rows = [*event["selection"]["rows"], *(cell[0] for cell in event["selection"]["cells"])]
    if rows:
        st.switch_page(COHORT_PAGE, query_params={"cohort": shown[rows[0]]["cohort_id"]})


run_page(show_page)
