"""What stands below the slices: the scan in readable form, and requested against measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from catalog import StoredImage
from catalog.rows import read_attributes
from dashboard.words import SEX, name_diagnosis, name_measurement, name_parameter, name_unit, name_value, number
from synth.nouns import AttributeValue

_TISSUE_NAMES = {"csf": "CSF", "gm": "Grey matter", "wm": "White matter", "lesion": "Lesion"}
_RELAXATION = {"t1_ms": "T1 (ms)", "t2_ms": "T2 (ms)", "t2star_ms": "T2* (ms)", "proton_density": "Proton density"}
_PRIVATE = ("_key", "key")  # seeds of the generators: needed to replay, not to read
_SHOWN_APART = ("protocol", "relaxation", "requested", "row")


def describe_scan(image: StoredImage) -> str:
    """Return subject and scanner in one line."""
    row = image.row
    person = [SEX.get(row["sex"], row["sex"])] if row["sex"] is not None else []
    person += [f"{row['age_years']:.1f} years"] if row["age_years"] is not None else []
    words = [", ".join(person)] if person else []
    words += [name_diagnosis(row["diagnosis"])] if row["diagnosis"] is not None else []
    words += [f"{name} {name_value(value)}".replace("_", " ") for name, value in read_others(row).items()]
    if row["manufacturer"] is not None:
        words.append(f"{row['manufacturer']} {row['manufacturer_model']}, {row['field_strength_t']:g} T")
    cells = "voxels" if image.pixels.ndim == 3 else "pixels"
    spacing = "" if image.spacing_mm is None else f" of {' × '.join(f'{mm:g}' for mm in image.spacing_mm)} mm"
    return " · ".join([*words, f"{' × '.join(map(str, row['shape']))} {cells}{spacing}", f"`{image.image_id}`"])


def read_others(row: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Return what is known of the subject on the visit of an image besides the columns of the catalog."""
    own = {**read_attributes(row.get("subject_attributes_json")), **read_attributes(row.get("attributes_json"))}
    return {name: value for name, value in own.items() if name not in row and value is not None}


def show_measurements(image: StoredImage) -> None:
    """Show every measurement beside what was requested, with its tolerance and whether it holds."""
    st.subheader("Requested vs measured", anchor=False)
    rows = []
    for found in image.measurements:
        unit = name_unit(found.unit)
        rows.append(
            {
                "": ":green[**✓**]" if found.within else ":red[**✗**]",
                "Quantity": name_measurement(found.name) + (f" ({unit})" if unit else ""),
                "Requested": number(found.requested),
                "Measured": number(found.measured),
                "Difference": signed(found.measured - found.requested),
                "Tolerance": f"± {number(found.tolerance, 3)}",
            }
        )
    if not rows:
        st.caption("Nothing was measured in this image.")
        return
    st.table(pd.DataFrame(rows), hide_index=True, border="horizontal")
    missed = sum(not found.within for found in image.measurements)
    if missed:
        st.caption(f":red[**{missed} of {len(rows)} measurements lie outside their tolerance.**]")


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{'+' if value >= 0 else '−'}{number(abs(value), 3)}"


def show_parameters(image: StoredImage) -> None:
    """Show the scan's drawn parameters: the protocol, the tissues' relaxation, and the rest."""
    parameters = image.scan.parameters
    st.subheader("Acquisition", anchor=False)
    protocol = {name_parameter(k): number(float(v)) for k, v in parameters.get("protocol", {}).items()}
    asked = {name_parameter(k): str(v) for k, v in (parameters.get("row") or {}).items()}
    for title, shown in (("Protocol", protocol), ("Asked of the model", asked)):
        if shown:
            table = pd.DataFrame(list(shown.items()), columns=[title, "Value"])
            st.table(table, hide_index=True, border="horizontal")
    if relaxation := parameters.get("relaxation"):
        with st.expander("Relaxation of the tissues", icon=":material/show_chart:"):
            st.table(tabulate_relaxation(relaxation), border="horizontal")
    with st.expander("Every other drawn parameter", icon=":material/tune:"):
        rest = flatten_parameters({k: v for k, v in parameters.items() if k not in _SHOWN_APART})
        rest["Engine"] = f"{image.scan.engine} {image.scan.engine_version}"
        rest["SHA-256 of the pixels"] = str(image.row["pixels_sha256"])[:16] + "…"
        st.table(pd.DataFrame(list(rest.items()), columns=["Parameter", "Value"]), hide_index=True, border="horizontal")


def tabulate_relaxation(relaxation: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return relaxation times and proton density, one row a tissue."""
    return pd.DataFrame(
        {
            _TISSUE_NAMES.get(tissue, tissue): {
                _RELAXATION.get(k, name_parameter(k)): number(float(v), 3) for k, v in values.items()
            }
            for tissue, values in relaxation.items()
        }
    ).T


def flatten_parameters(parameters: Mapping[str, Any], group: str = "") -> dict[str, str]:
    """Return nested parameters as readable name -> readable value, without the seeds of generators."""
    flat: dict[str, str] = {}
    for name, value in parameters.items():
        label = f"{group}: {name_parameter(name).lower()}" if group else name_parameter(name)
        if name.endswith(_PRIVATE):
            continue
        if isinstance(value, Mapping):
            flat |= flatten_parameters(value, name_parameter(name))
        elif isinstance(value, list | tuple):
            flat[label] = ", ".join(number(v, 3) if isinstance(v, int | float) else str(v) for v in value)
        else:
            flat[label] = number(float(value)) if isinstance(value, int | float) else str(value)
    return flat
