"""The dashboard's only way to the catalog: one read-only connection, answers cached by (SQL, parameters, snapshot)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from catalog import Catalog, StoredImage, open_catalog, resolve_home
from catalog.lake import CohortiumError  # the base of every error that reads raise on purpose
from dashboard.slices import Volume, orient_volume

ReadError = CohortiumError
HOME_ARGUMENT = "--home="


def find_root() -> str:
    """Return the folder of the catalog: the script's argument ``--home=...``, else COHORTIUM_HOME, else the default."""
    given = [word.removeprefix(HOME_ARGUMENT) for word in sys.argv[1:] if word.startswith(HOME_ARGUMENT)]
    return str(resolve_home(given[-1] if given else None).root)


@st.cache_resource(show_spinner=False)
def _open(root: str) -> Catalog:
    return open_catalog(root)


def catalog() -> Catalog:
    """Return the open catalog; raises ReadError if there is none."""
    return _open(find_root())


@st.cache_data(show_spinner=False, max_entries=256)
def _query(root: str, query: str, params: tuple[Any, ...], snapshot_id: int) -> pd.DataFrame:
    return _open(root).sql(query, [list(p) if isinstance(p, tuple) else p for p in params] or None).df()


def read_frame(query: str, *params: Any) -> pd.DataFrame:
    """Return the answer to a SELECT as a data frame; a tuple among ``params`` stands for a list."""
    return _query(find_root(), query, params, catalog().snapshot_id)


@st.cache_data(show_spinner=False, max_entries=256)
def _records(root: str, query: str, params: tuple[Any, ...], snapshot_id: int) -> list[dict[str, Any]]:
    return _open(root).sql(query, [list(p) if isinstance(p, tuple) else p for p in params] or None).dicts()


def read_rows(query: str, *params: Any) -> list[dict[str, Any]]:
    """Return the answer to a SELECT as one mapping a row; a tuple among ``params`` stands for a list."""
    return _records(find_root(), query, params, catalog().snapshot_id)


@st.cache_data(show_spinner=False, max_entries=64)
def _previews(root: str, image_ids: tuple[str, ...]) -> dict[str, bytes]:
    return _open(root).previews(image_ids)


def read_previews(image_ids: tuple[str, ...]) -> dict[str, bytes]:
    """Return the small PNGs of some images, which never change; raises ReadError if one is unknown or damaged."""
    return _previews(find_root(), image_ids)


@st.cache_resource(show_spinner=False, max_entries=6)
def _image(root: str, image_id: str) -> tuple[StoredImage, Volume | None]:
    image = _open(root).image(image_id)
    if image.pixels.ndim != 3:
        return image, None
    affine = np.diag([*(image.spacing_mm or (1.0,) * 3), 1.0]) if image.affine is None else image.affine
    return image, orient_volume(image.pixels, image.masks, affine)


def read_image(image_id: str) -> tuple[StoredImage, Volume | None]:
    """Return one verified image, and it in RAS order (None if it is a picture); shared, so it must not be changed."""
    return _image(find_root(), image_id)
