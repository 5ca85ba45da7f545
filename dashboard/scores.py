"""Scores of a scorecard in plain words, as tables and as rows of charts. Pure functions of what the catalog holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dashboard.words import number

FAMILIES = {
    "fidelity": "Do the images together look like those of real patients? Every score has its own axis.",
    "diversity": "Do the images differ from each other as patients do?",
    "adherence": "Do the images show what their records say?",
    "utility": "Is what a network learns from the images true for real patients?",
    "privacy": "Can the images give away who was in the training data? An area under the curve of 0.5 is guessing.",
    "fairness": "Is all of this as true in one subgroup as in another?",
}
GOALS = {"lower": "↓ lower", "higher": "↑ higher", "zero": "→ 0", "control": "→ as the control"}
VERDICT_MARK = {"passed": "✓ Passed", "refused": "✗ Refused", "invalid": "! Invalid"}
_NAMES = {
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "Kernel distance (KID)",
    "mmd_rbf": "MMD, Gaussian kernel",
    "ms_ssim_pairs": "MS-SSIM between pairs",
}
_WORDS = {"auc": "AUC", "tpr": "TPR", "01pct": "at 0.1 % FPR", "domias": "DOMIAS", "wasserstein": "Wasserstein"}


def name_score(name: str) -> str:
    """Return a score as one writes it: ``attribute_auc.view=PA`` becomes "Attribute AUC: view = PA"."""
    metric, _, what = name.partition(".")
    if metric == "gap" and what:
        inner = name_score(what)
        return f"Gap of {inner if inner[:2].isupper() else inner[:1].lower() + inner[1:]}"
    words = " ".join(_WORDS.get(word, word) for word in metric.split("_"))
    label = _NAMES.get(metric, words[:1].upper() + words[1:])
    return label + (f": {what.replace('=', ' = ').replace('_', ' ')}" if what else "")


def name_subgroup(subgroup: str) -> str:
    """Return a subgroup as one speaks of it: ``sex=F,age_years=40-60`` becomes "sex F, age 40-60"."""
    parts = []
    for part in subgroup.split(","):
        attribute, _, value = part.partition("=")
        parts.append(f"{attribute.removesuffix('_years').replace('_', ' ')} {value}".strip())
    return ", ".join(parts)


def judge_scorecard(row: Mapping[str, Any]) -> str:
    """Return passed, refused, or invalid (a control misbehaves, so no score proves anything)."""
    if not row["controls_valid"]:
        return "invalid"
    return "passed" if row["passed"] else "refused"


def explain_scorecard(row: Mapping[str, Any]) -> list[str]:
    """Return the sentences of the gates that fail."""
    return [f"{gate['reason'].rstrip('.')}." for gate in row["gates"] if not gate["passed"]]


def escape_markdown(text: str) -> str:
    """Return text in which no character is Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~$:" else c for c in text)


def is_measured(gate: Mapping[str, Any]) -> bool:
    """Return whether a gate had a number to look at; one that had not may still hold, if it is not required."""
    return bool(pd.notna(gate["value"]))


def select_family(scores: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the scores of all images of one family, measured ones first; of fairness also the gaps of attributes."""
    own = scores[scores["family"] == family]
    whole = (own["subgroup"] == "") | ((family == "fairness") & ~own["subgroup"].str.contains("=", regex=False))
    return own[whole].sort_values("value", key=lambda column: column.isna(), kind="stable")


def tabulate_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return scores as they are shown in a table; what cannot be measured keeps its row and says why."""
    table = pd.DataFrame(
        {
            "Score": [label_score(row) for row in scores.to_dict("records")],
            "Features": scores["features"].tolist(),
            "Value": [number(value) for value in scores["value"]],
            "95 % interval": [
                f"{number(low)} to {number(high)}" if pd.notna(low) and pd.notna(high) else ""
                for low, high in zip(scores["low"], scores["high"], strict=True)
            ],
            "Control": [number(value) for value in scores["control"]],
            "Best": [GOALS.get(goal, goal) for goal in scores["goal"]],
            "Images": scores["images"].tolist(),
        }
    )
    if scores["value"].isna().any():
        table["Not measurable because"] = scores["reason"].where(scores["value"].isna(), "").tolist()
    return table


def label_score(row: Mapping[Any, Any]) -> str:
    """Return the name of a score, with the attribute whose subgroups it compares."""
    return name_score(row["name"]) + (f", by {name_subgroup(row['subgroup'])}" if row["subgroup"] else "")


def tabulate_gates(gates: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the gates of a policy as they are shown, the failed ones first."""
    ordered = sorted(gates, key=lambda gate: gate["passed"])
    return pd.DataFrame(
        {
            "": [_mark_gate(gate) for gate in ordered],
            "Gate": [escape_markdown(gate["gate"]) for gate in ordered],
            "Value": [number(gate["value"]) for gate in ordered],
            "Limit": [number(gate["threshold"]) for gate in ordered],
            "In words": [escape_markdown(gate["reason"].removeprefix(f"{gate['gate']}: ")) for gate in ordered],
        }
    )


def make_rows(scores: pd.DataFrame, by_subgroup: bool = False) -> pd.DataFrame:
    """Return the rows of a chart: label, value, low, high, control and images of measured scores."""
    known = scores[scores["value"].notna()]
    labels = []
    for row in known.to_dict("records"):
        features = f" · {row['features']}" if row["features"] else ""
        labels.append(
            f"{name_subgroup(row['subgroup'])} ({row['images']:,})" if by_subgroup else label_score(row) + features
        )
    return known[["value", "low", "high", "control", "images"]].assign(label=labels)


def split_by_scale(rows: pd.DataFrame, family: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that share an axis, all numbers lying within -1 and 1, and those that need one of their own."""
    numbers = rows[["value", "low", "high", "control"]].abs().max(axis=1)
    shared = (numbers <= 1.0) & (family != "fidelity")
    return rows[shared], rows[~shared]


def list_by_subgroup(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the scores that were computed by subgroup: label -> one row a subgroup, single attributes first."""
    own = scores[scores["subgroup"].str.contains("=", regex=False)]
    found = {}
    for (name, features), rows in own.groupby(["name", "features"], sort=False):
        label = name_score(str(name)) + (f" · {features}" if features else "")
        crossed = rows["subgroup"].str.contains(",", regex=False)
        found[label] = pd.concat([rows[~crossed], rows[crossed]])
    return found


def _mark_gate(gate: Mapping[str, Any]) -> str:
    if not gate["passed"]:
        return ":red[**✗**]"
    return ":green[**✓**]" if is_measured(gate) else ":gray[–]"
