"""The mix of a cohort's subjects by one attribute: requested, drawn, and design-weighted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dashboard.charts import MIX_SERIES
from dashboard.queries import OTHER_AGES
from dashboard.words import SEX, name_diagnosis
from synth.population_spec import parse_band

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
    wanted = population.get("targets") or {}
    targets = dict(wanted.get(attribute) or {})
    if own := (wanted.get("attributes") or {}).get(attribute):
        return dict(own)
    if not targets:
        return {}
    if attribute == "age_years":
        targets = {"{:g}-{:g}".format(*parse_band(band)): share for band, share in targets.items()}
        allowed = drawn
    else:
        allowed = (population.get("where") or {}).get(attribute) or ["F", "M"] * (attribute == "sex") or drawn
    rest = [name for name in allowed if name not in targets]
    if len(rest) == 1:
        targets[rest[0]] = max(0.0, 1.0 - sum(targets.values()))
    return targets


def name_category(attribute: str, category: str) -> str:
    """Return a category as one writes it."""
    if attribute == "age_decade":
        return f"{category}–{int(category) + 9} years"
    if attribute == "age_years":
        return "Other ages" if category == OTHER_AGES else f"{category.replace('-', '–')} years"
    if attribute == "diagnosis":
        return name_diagnosis(category)
    return SEX.get(category, category) if attribute == "sex" else category


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


def list_bands(spec: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the age bands that the recipe has targets for, youngest first."""
    targets = spec.get("population", {}).get("targets") or {}
    return sorted(parse_band(band) for band in targets.get("age_years") or {})


def list_prevalences(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the conditional prevalences that the recipe asks for: label, share, diagnosis, sexes and ages."""
    found = []
    for wanted in spec.get("population", {}).get("prevalence") or ():
        where = wanted.get("where") or {}
        sexes, ages = tuple(where.get("sex") or ()), where.get("age_years")
        stratum = [" or ".join(SEX.get(sex, sex).lower() for sex in sexes)] if sexes else []
        stratum += ["{:g}–{:g} years".format(*ages)] if ages else []
        label = f"{name_diagnosis(wanted['diagnosis'])}: {', '.join(stratum) or 'everybody'}"
        low, high = ages or (0.0, 1000.0)
        found.append(
            {
                "label": label,
                "share": wanted["share"],
                "parameters": (wanted["diagnosis"], sexes, float(low), float(high)),
            }
        )
    return found


def tabulate_prevalences(wanted: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return category, series, share and subjects, one row a bar; ``found`` has subjects, drawn and weighted."""
    rows = []
    for asked, row in zip(wanted, found, strict=True):
        shares = {"Requested": asked["share"], "Drawn": row["drawn"], "Design-weighted": row["weighted"]}
        rows += [(asked["label"], series, float(value), int(row["subjects"])) for series, value in shares.items()]
    return pd.DataFrame(rows, columns=["category", "series", "share", "subjects"])
