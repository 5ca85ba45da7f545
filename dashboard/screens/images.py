"""The images of one cohort as a grid of previews with filters; each leads to the viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard import queries
from dashboard.components.frame import choose_cohort, run_page, show_title
from dashboard.components.gallery import show_gallery
from dashboard.store import read_rows
from dashboard.words import SEX, name_diagnosis, name_visit

FILTERS = {
    "kind": ("Contrast", str),
    "visit": ("Visit", name_visit),
    "diagnosis": ("Diagnosis", name_diagnosis),
    "sex": ("Sex", lambda sex: SEX.get(sex, sex)),
    "field": ("Field strength", lambda tesla: f"{tesla:g} T"),
    "status": (
        "Measurements",
        lambda status: {"ok": "All within tolerance", "missed": "Some missed"}.get(status, status),
    ),
}


def go_to_first_page() -> None:
    """Return to page 1, as another filter gives other images."""
    st.session_state["page"] = 1


def choose_filters(choices: dict[str, Any], attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Show the filters in the sidebar and return what is wanted; their state is part of the URL."""
    filters: dict[str, Any] = {"attributes": {}}
    with st.sidebar:
        for name, (label, form) in FILTERS.items():
            options = list(choices[name] or ())
            if len(options) > 1:
                filters[name] = choose_labels(label, name, options, form)
        for row in attributes:
            name = row["name"]
            label = name.replace("_", " ").capitalize()
            filters["attributes"][name] = choose_labels(label, f"attribute-{name}", list(row["labels"]))
        low, high = int(choices["age_low"] or 0), int(choices["age_high"] or 0)
        if low < high:
            filters["age"] = choose_range("Age at the scan (years)", "age", low, high, 1)
        if (lesion := float(choices["lesion_high"] or 0)) > 0:
            filters["lesion"] = choose_range("Lesion volume (mL)", "lesion", 0.0, lesion, 0.1)
    return filters


def choose_labels(label: str, key: str, options: list[Any], form: Callable[[Any], str] = str) -> list[Any]:
    """Show labels of which several may be chosen, and return those that are."""
    chosen: list[Any] = st.pills(
        label, options, selection_mode="multi", format_func=form, key=key, bind="query-params",
        on_change=go_to_first_page,
    )  # fmt: skip
    return chosen


def choose_range(label: str, key: str, low: float, high: float, step: float) -> tuple[float, float] | None:
    """Show a range slider and return the range, or None if it leaves nothing out."""
    chosen = st.slider(label, low, high, (low, high), step, key=key, bind="query-params", on_change=go_to_first_page)
    return None if chosen == (low, high) else chosen


def show_subject_filter() -> str | None:
    """Return the subject named in the URL, with a button that shows all again."""
    subject = st.query_params.get("subject")
    if subject is not None and st.button(f"Only {subject[:130]}", icon=":material/close:", help="Show all subjects"):
        st.query_params.pop("subject")
        st.rerun()
    return subject


def show_page() -> None:
    """Show the page."""
    cohort = choose_cohort()
    about = f"Every image of `{cohort['cohort_id']}`, volumes by their middle slices. Select one to view it."
    show_title("Images", about, cohort)
    subject = show_subject_filter()
    choices = read_rows(queries.FILTER_CHOICES, cohort["cohort_id"])[0]
    if not choices["kind"]:
        st.info("This cohort has no image.", icon=":material/info:")
        return
    filters = choose_filters(choices, read_rows(queries.ATTRIBUTE_CHOICES, cohort["cohort_id"]))
    found, params = queries.find_images(cohort["cohort_id"], subject, filters)
    counts = read_rows(queries.count_images(found), *params)[0]
    missed = f" · {counts['missed']:,} with a measurement outside its tolerance" if counts["missed"] else ""
    st.markdown(f"**{counts['images']:,}** of {cohort['images']:,} images{missed}")
    if not counts["images"]:
        st.info("No image passes these filters. Widen one of them in the sidebar.", icon=":material/filter_alt:")
        return
    pages = -(-counts["images"] // queries.IMAGES_PER_PAGE)
    current = min(st.session_state.get("page", 1) or 1, pages)
    grid = st.container()
    if pages > 1:
        current = st.pagination(pages, key="page", bind="query-params", width="stretch")
    with grid:
        show_gallery(read_rows(queries.list_images(found), *params, (current - 1) * queries.IMAGES_PER_PAGE))


run_page(show_page)
