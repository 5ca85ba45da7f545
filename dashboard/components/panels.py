"""The three slices of the viewer with their controls; a fragment, so that moving a slider redraws nothing else."""

from __future__ import annotations

import numpy as np
import streamlit as st

from catalog import StoredImage
from dashboard.slices import AXES, Display, Volume, draw_slice, find_start, find_window
from dashboard.words import LESION_COLOUR, PLANES, TISSUE_COLOUR, TISSUES, name_visit

_CONVENTIONS = {
    "Neurological": "Neurological: the subject's right is on the right",
    "Radiological": "Radiological: the subject's right is on the left",
}


@st.fragment
def show_panels(image: StoredImage, volume: Volume) -> None:
    """Show axial, coronal and sagittal slices, the sliders that move them, and how they are displayed."""
    pictures, legend = st.container(key="slices", gap=None), st.container()
    place = choose_place(volume)
    display = choose_display(image, volume)
    title = f"{image.row['kind']} · {name_visit(image.row['visit'])}"
    with pictures:
        for column, plane in zip(st.columns(3, gap=None), PLANES, strict=True):
            png = draw_slice(volume, plane, place, display, f"{title} · {PLANES[plane]}")
            column.image(png, width="stretch", alt=f"Synthetic {title}, {plane} slice {place[AXES[plane][0]]}")
    legend.html(describe_display(image, display))


def choose_place(volume: Volume) -> tuple[int, int, int]:
    """Show one slider below each slice and return the place (x, y, z) in voxels."""
    start = find_start(volume)
    place = list(start)
    for column, plane in zip(st.columns(3, gap="large"), PLANES, strict=True):
        axis = AXES[plane][0]
        last = volume.pixels.shape[axis] - 1
        with column:
            place[axis] = st.slider(
                f"{PLANES[plane]} slice ({'xyz'[axis]}, 0 to {last})", 0, last, start[axis], key="xyz"[axis],
                bind="query-params",
            )  # fmt: skip
    return place[0], place[1], place[2]


def choose_display(image: StoredImage, volume: Volume) -> Display:
    """Show the controls of grey levels, masks and orientation, and return what they say."""
    level, window = find_window(volume)
    top = max(2, int(window), int(volume.pixels.max()))
    has_lesion = bool(np.any(volume.masks.get("lesion", False)))
    grey, masks, view = st.columns([1.1, 1.3, 1], gap="large")
    with grey:
        width = st.slider("Window (stored value)", 1, top, int(min(window, top)), key=f"window-{image.image_id}")
        centre = st.slider("Level (stored value)", 0, top, int(level), key=f"level-{image.image_id}")
    with masks:
        with st.container(horizontal=True, gap="medium"):
            lesion = st.toggle(
                "Lesions", has_lesion, key=f"lesion-{image.image_id}", disabled=not has_lesion,
                help=None if has_lesion else "This subject has no lesion.",
            )  # fmt: skip
            tissue = st.toggle("Tissue map", key="tissue", bind="query-params", disabled="tissue" not in volume.masks)
            filled = st.toggle("Fill lesions", key="fill", bind="query-params", disabled=not lesion)
        opacity = st.slider("Opacity of the masks (%)", 0, 100, 45, 5, key="opacity", bind="query-params")
    with view:
        convention = st.segmented_control(
            "Orientation", list(_CONVENTIONS), default="Neurological", required=True,
            key="convention", bind="query-params",
        )  # fmt: skip
        crosshair = st.toggle("Crosshair", True, key="cross", bind="query-params")
    return Display(
        centre, width, tissue, lesion, not filled, opacity / 100, convention == "Radiological", crosshair
    )  # fmt: skip


def describe_display(image: StoredImage, display: Display) -> str:
    """Return the legend of the masks shown, and how to read the slices, as HTML."""
    entries = []
    if display.tissue:
        entries += [_swatch(colour, TISSUES[label]) for label, colour in TISSUE_COLOUR.items()]
    if display.lesion:
        entries.append(_swatch(LESION_COLOUR, "Lesion"))
    convention = _CONVENTIONS["Radiological" if display.radiological else "Neurological"]
    unit = f"One stored value = {image.intensity_scale:.3g} {image.intensity_unit}."
    text = f"{convention}; front and top point up. Coordinates in mm, RAS. {unit}"
    return f"<div class='legend'>{''.join(entries)}<span>{text}</span></div>"


def _swatch(colour: tuple[int, int, int], label: str) -> str:
    return f"<span><i style='background:rgb{colour}'></i>{label}</span>"
