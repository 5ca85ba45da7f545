"""What every page shares: the mark of synthetic data, titles, statuses, the choice of a cohort, friendly messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from dashboard import queries
from dashboard.store import ReadError, find_root, read_rows
from dashboard.words import STATUS, STATUS_COLOUR, STATUS_MEANING, SYNTHETIC

COHORTS_PAGE, COHORT_PAGE = "screens/cohorts.py", "screens/cohort.py"
IMAGES_PAGE, VIEWER_PAGE = "screens/images.py", "screens/viewer.py"
MEASURED_PAGE, SCORECARD_PAGE = "screens/measured.py", "screens/scorecard.py"
_SYNTHETIC_HELP = "No image or person on these pages is real: every subject is drawn and every image is computed."


def show_title(title: str, subtitle: str = "", cohort: dict[str, Any] | None = None) -> None:
    """Show the title of a page, the status of its cohort and the other cohorts, and that all of this is synthetic."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.title(title, anchor=False, width="content")
        if cohort is not None:
            show_status(cohort["status"])
        st.space("stretch")
        if cohort is not None:
            offer_cohorts(cohort["cohort_id"])
        st.badge(SYNTHETIC, icon=":material/science:", color="orange", help=_SYNTHETIC_HELP)
    if subtitle:
        st.caption(subtitle)


def show_status(status: str) -> None:
    """Show a cohort's status as a badge that says what it means."""
    icon = {"released": ":material/check:", "refused": ":material/close:"}.get(status, ":material/hourglass_empty:")
    st.badge(STATUS[status], icon=icon, color=STATUS_COLOUR[status], help=STATUS_MEANING[status])  # type: ignore[arg-type]


def run_page(show_page: Callable[[], None]) -> None:
    """Run a page; an error of the catalog becomes a message that says what to do."""
    try:
        show_page()
    except ReadError as error:
        show_problem(str(error))


def show_problem(message: str) -> None:
    """Show what went wrong and what to do next."""
    st.warning(message, icon=":material/info:")


def read_cohorts() -> list[dict[str, Any]]:
    """Return all cohorts, newest first; stops the page with a message if there is none."""
    cohorts = read_rows(queries.COHORTS)
    if not cohorts:
        show_title("No cohort yet")
        st.info(
            f"The catalog in `{find_root()}` holds no cohort yet. Build one, then reload this page:\n\n"
            "```\ncohortium build flows/specs/demo.toml\n```",
            icon=":material/inbox:",
        )
        st.stop()
    return cohorts


def choose_cohort() -> dict[str, Any]:
    """Return the cohort named in the URL, else the one looked at last, else the newest.

    Stops the page with a message if the URL names a cohort that the catalog does not hold.
    """
    cohorts = {row["cohort_id"]: row for row in read_cohorts()}
    wanted = st.query_params.get("cohort")
    if wanted is not None and wanted not in cohorts:
        stop_unknown("cohort", wanted, list(cohorts))
    current = wanted or st.session_state.get("last_cohort")
    if current not in cohorts:
        current = next(iter(cohorts))
    remember_cohort(current)
    return cohorts[current]


def offer_cohorts(current: str) -> None:
    """Offer the other cohorts; choosing one shows the same page of it."""
    ids = [row["cohort_id"] for row in read_cohorts()]
    chosen = st.selectbox(
        "Cohort", ids, index=ids.index(current), key=f"pick-{current}", label_visibility="collapsed", width=300
    )
    if chosen != current:
        st.query_params.from_dict({"cohort": chosen})
        st.rerun()


def remember_cohort(cohort_id: str) -> None:
    """Keep the cohort in the URL and for the next page."""
    st.session_state["last_cohort"] = cohort_id
    if st.query_params.get("cohort") != cohort_id:
        st.query_params["cohort"] = cohort_id


def stop_unknown(what: str, wanted: str, known: Sequence[str]) -> None:
    """End the page: the URL names something that the catalog does not hold."""
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    show_title(f"No such {what}")
    show_problem(f"There is no {what} `{wanted[:130].replace('`', '')}` in this catalog.{hint}")
    st.page_link(COHORTS_PAGE, label="See all cohorts", icon=":material/arrow_back:")
    st.stop()
