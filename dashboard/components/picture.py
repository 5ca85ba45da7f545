"""A picture in the viewer with its grey levels; a fragment, so that moving a slider redraws nothing else."""

from __future__ import annotations

import streamlit as st

from catalog import StoredImage
from dashboard.slices import Display, draw_picture
from dashboard.words import name_visit


@st.fragment
def show_picture(image: StoredImage) -> None:
    """Show a picture and the sliders of its grey levels."""
    left, right = st.columns([1.15, 1], gap="large")
    top = max(2, int(image.pixels.max()))
    with right:
        window = st.slider("Window (stored value)", 1, top, top, key=f"window-{image.image_id}")
        level = st.slider("Level (stored value)", 0, top, top // 2, key=f"level-{image.image_id}")
        st.caption(f"One stored value = {image.intensity_scale:.3g} {image.intensity_unit}.")
    title = f"{image.row['kind']} · {name_visit(image.row['visit'])}"
    png = draw_picture(image.pixels, image.spacing_mm, Display(level, window), title)
    left.image(png, width="stretch", alt=f"Synthetic {title}")
