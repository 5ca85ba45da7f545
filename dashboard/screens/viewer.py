"""One image: a picture, or three orthogonal slices with masks; how it was acquired, and requested against measured."""

from __future__ import annotations

import streamlit as st

from catalog import StoredImage
from dashboard import queries
from dashboard.components.details import describe_scan, show_measurements, show_parameters
from dashboard.components.frame import IMAGES_PAGE, read_cohorts, run_page, show_title, stop_unknown
from dashboard.components.panels import show_panels
from dashboard.components.picture import show_picture
from dashboard.store import ReadError, read_image, read_rows
from dashboard.words import name_visit


def choose_image() -> str:
    """Return the image named in the URL, else the one looked at last; stops with a message if it is unknown."""
    cohorts = {row["cohort_id"]: row for row in read_cohorts()}
    wanted = st.query_params.get("image")
    if wanted is None:
        cohort = st.query_params.get("cohort") or st.session_state.get("last_cohort") or next(iter(cohorts))
        if cohort not in cohorts:
            stop_unknown("cohort", cohort, list(cohorts))
        wanted = st.session_state.get(f"last_image-{cohort}") or first_image(cohort)
    if not read_rows(queries.IMAGE_PLACE, wanted):
        stop_unknown("image", wanted, nearby_images(wanted))
    return wanted


def first_image(cohort_id: str) -> str:
    """Return the first image of a cohort, or stop: it has none."""
    rows = read_rows("SELECT min(image_id) AS image_id FROM images WHERE cohort_id = ?", cohort_id)
    if rows[0]["image_id"] is None:
        st.info(f"The cohort `{cohort_id}` has no image.", icon=":material/info:")
        st.stop()
    return str(rows[0]["image_id"])


def nearby_images(wanted: str) -> list[str]:
    """Return ids of images that begin like the wanted one, to suggest from."""
    query = "SELECT image_id FROM images WHERE starts_with(image_id, ?) ORDER BY image_id LIMIT 200"
    return [row["image_id"] for row in read_rows(query, wanted.rpartition("-v")[0] or wanted[:20])]


def open_image(image_id: str) -> None:
    """Show another image at the same place."""
    st.query_params["image"] = image_id
    st.rerun()


def show_switches(image: StoredImage) -> None:
    """Offer the other contrasts and visits of the subject, and the neighbouring subjects."""
    row = image.row
    others = read_rows(queries.SUBJECT_IMAGES, row["cohort_id"], row["subject_id"])
    kinds = list(dict.fromkeys(other["kind"] for other in others if other["visit"] == row["visit"]))
    visits = {other["visit"]: other for other in others if other["kind"] == row["kind"]}
    near = read_rows(queries.NEIGHBOURS, row["cohort_id"], row["subject_id"], row["kind"])[0]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = st.segmented_control("Contrast", kinds, default=row["kind"], required=True, key=f"kind-{image.image_id}")
        visit = st.segmented_control(
            "Visit", list(visits), default=row["visit"], required=True, key=f"visit-{image.image_id}",
            format_func=lambda v: name_visit(v) + (f" (+{visits[v]['years_since_first']:.1f} y)" if v else ""),
        )  # fmt: skip
        st.space("stretch")
        with st.container(horizontal=True, width="content", gap="small"):
            before = st.button("Previous subject", icon=":material/chevron_left:", disabled=near["before"] is None)
            after = st.button("Next subject", icon=":material/chevron_right:", disabled=near["after"] is None)
    if before or after:
        open_image(near["before"] if before else near["after"])
    wanted = [o["image_id"] for o in others if (o["kind"], o["visit"]) == (kind, visit)]
    if wanted and wanted[0] != image.image_id:
        open_image(wanted[0])


def show_page() -> None:
    """Show the page."""
    image_id = choose_image()
    try:
        image, volume = read_image(image_id)
    except ReadError as error:  # a damaged shard: the page says which one and what to do
        show_title("Viewer")
        st.error(str(error), icon=":material/broken_image:")
        return
    cohort_id = image.row["cohort_id"]
    st.session_state["last_cohort"], st.session_state[f"last_image-{cohort_id}"] = cohort_id, image_id
    if st.query_params.get("image") != image_id:
        st.query_params["image"] = image_id
    show_title(f"{image.row['kind']} · {name_visit(image.row['visit'])}", describe_scan(image))
    show_switches(image)
    if volume is None:
        show_picture(image)
    else:
        show_panels(image, volume)
    left, right = st.columns([1.15, 1], gap="large")
    with left:
        show_measurements(image)
        st.page_link(
            IMAGES_PAGE, label="All images of this subject", icon=":material/grid_view:",
            query_params={"cohort": cohort_id, "subject": image.row["subject_id"]},
        )  # fmt: skip
    with right:
        show_parameters(image)


run_page(show_page)
