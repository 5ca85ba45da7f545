"""A grid of previews, each a link to the viewer."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import streamlit as st

from dashboard.components.details import read_others
from dashboard.components.frame import VIEWER_PAGE
from dashboard.store import read_previews
from dashboard.words import name_diagnosis, name_value, name_visit, number


def viewer_link(image_id: str) -> str:
    """Return the address of the viewer with one image, relative to the app."""
    return f"viewer?{urlencode({'image': image_id})}"


def describe_image(row: dict[str, Any]) -> str:
    """Return the subject of a preview in a few words."""
    age = row.get("age_years")
    words = [f"{row.get('sex') or ''}{'' if age is None else f' {age:.0f} y'}".strip()]
    if row.get("diagnosis") not in (None, "none"):
        words.append(name_diagnosis(row["diagnosis"]))
    if row.get("lesion_ml"):
        words.append(f"lesions {number(row['lesion_ml'], 2)} mL")
    words += [name_value(value) for value in read_others(row).values()]
    return " · ".join(word for word in words if word)


def show_gallery(rows: list[dict[str, Any]], columns: int = 4) -> None:
    """Show one preview a row of ``rows`` (image_id, kind, visit, status, age_years, perhaps more)."""
    previews = read_previews(tuple(row["image_id"] for row in rows))
    for start in range(0, len(rows), columns):
        for cell, row in zip(st.columns(columns), rows[start : start + columns], strict=False):
            with cell.container(key=f"preview-{row['image_id']}", gap=None):
                _show_preview(row, previews[row["image_id"]])


def _show_preview(row: dict[str, Any], preview: bytes) -> None:
    title = f"{row['kind']} · {name_visit(row['visit'])}"
    st.image(preview, width="stretch", link=viewer_link(row["image_id"]), alt=f"Synthetic {title}, {row['image_id']}")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.page_link(VIEWER_PAGE, label=f"**{title}**", query_params={"image": row["image_id"]})
        if row["status"] != "ok":
            st.badge(row["status"], color="red", help="A measurement of this image lies outside its tolerance.")
    st.caption(describe_image(row))
