"""The mix of a cohort's subjects by one attribute: requested, drawn, and design-weighted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dashboard.charts import MIX_SERIES
from dashboard.words import SEX, name_diagnosis

_MEANING = {
    "Requested": "what the recipe asks for",
    "Drawn": "the subjects of this cohort",
    "Design-weighted": "the population they stand for",
}
MIX_LEGEND = (
    "<div class='legend'>"
    + "".join(
        f"<span><i style='background:{colour}'></i>{name}: {_MEANING[name]}</span>"
        for name, colour in MIX_SERIES.items()
    )
    + "</div>"
)


def requested_shares(spec: Mapping[str, Any], attribute: str, drawn: Sequence[str]) -> dict[str, float]:
    """Return the shares that the recipe asks for; the one category without a target gets the rest.

    With several categories left, their shares follow the population's natural mix and are not part of the recipe.
    """
    population = spec.get("population", {})
    targets = dict((population.get("targets") or {}).get(attribute) or {})
    if not targets:
        return {}
    allowed = (population.get("where") or {}).get(attribute) or ["F", "M"] * (attribute == "sex") or drawn
    rest = [name for name in allowed if name not in targets]
    if len(rest) == 1:
        targets[rest[0]] = max(0.0, 1.0 - sum(targets.values()))
    return targets


def name_category(attribute: str, category: str) -> str:
    """Return a category as one writes it."""
    if attribute == "age_decade":
        return f"{category}–{int(category) + 9} years"
    return SEX.get(category, category) if attribute == "sex" else name_diagnosis(category)


def tabulate_mix(counts: pd.DataFrame, attribute: str, spec: Mapping[str, Any]) -> pd.DataFrame:
    """Return category, series, share and subjects, one row a bar.

    ``counts`` has category, subjects, drawn and weighted (shares from 0 to 1), one row a category.
    """
    requested = requested_shares(spec, attribute, list(counts["category"]))
    found = {row.category: row for row in counts.itertuples()}
    rows = []
    for category in [*found, *(name for name in requested if name not in found)]:
        row = found.get(category)
        shares = {
            "Requested": requested.get(category),
            "Drawn": float(row.drawn) if row else 0.0,
            "Design-weighted": float(row.weighted) if row else 0.0,
        }
        label, subjects = name_category(attribute, category), int(row.subjects) if row else 0
        rows += [(label, series, value, subjects) for series, value in shares.items() if value is not None]
    return pd.DataFrame(rows, columns=["category", "series", "share", "subjects"])
