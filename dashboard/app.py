"""The dashboard: read-only pages over the catalog. ``cohortium dashboard`` starts it; nothing here changes anything."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.components.frame import (
    COHORT_PAGE,
    COHORTS_PAGE,
    IMAGES_PAGE,
    MEASURED_PAGE,
    SCORECARD_PAGE,
    VIEWER_PAGE,
    show_problem,
    show_title,
)
from dashboard.store import ReadError, catalog

ASSETS = Path(__file__).parent / "assets"


def show_app() -> None:
    """Show the page that the URL names; errors of the catalog become messages that say what to do."""
    st.set_page_config(page_title="Cohortium · synthetic data", page_icon=ASSETS / "icon.svg", layout="wide")
    st.html(ASSETS / "style.css")
    st.logo(ASSETS / "logo.svg", size="large")
    pages = [
        st.Page(COHORTS_PAGE, title="Cohorts", icon=":material/groups:", url_path="cohorts", default=True),
        st.Page(COHORT_PAGE, title="Cohort", icon=":material/fact_check:", url_path="cohort"),
        st.Page(IMAGES_PAGE, title="Images", icon=":material/grid_view:", url_path="images"),
        st.Page(VIEWER_PAGE, title="Viewer", icon=":material/neurology:", url_path="viewer"),
        st.Page(MEASURED_PAGE, title="Requested vs measured", icon=":material/straighten:", url_path="measured"),
        st.Page(SCORECARD_PAGE, title="Scorecard", icon=":material/verified:", url_path="scorecard"),
    ]
    # Pages lie in screens/: a folder named pages/ beside this script makes Streamlit skip it on a server's first visit.
    page = st.navigation(pages, position="top")
    try:
        catalog()
    except ReadError as error:
        show_title("No catalog to show")
        show_problem(f"{error}\n\nFor a first cohort: `cohortium build flows/specs/demo.toml`, then reload this page.")
        return
    page.run()


show_app()
