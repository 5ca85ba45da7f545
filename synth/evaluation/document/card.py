"""The dataset card in Markdown, and the sentences it shares with the metadata. It names no real image or patient."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import get_args

from synth.evaluation.document.facts import (
    Facts,
    copied_images,
    describe_population,
    judge,
    list_scores,
    searched_copies,
)
from synth.evaluation.document.markup import clean_text
from synth.evaluation.document.words import (
    FAMILIES,
    GOALS,
    MISSING,
    format_count,
    format_interval,
    format_value,
    name_score,
    name_subgroup,
)
from synth.evaluation.metric import Family, Score
from synth.evaluation.metrics import find_metric

NOT_STATED = "Not stated."
MOST_GAPS = 8
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
_START = re.compile(r"^([#+\-=]|\d+(?=[.)](?:\s|$)))")  # what opens a heading or a list


def escape_markdown(value: object) -> str:
    """Return text in which no character is Markdown or HTML, on one line."""
    text = re.sub(r"\s+", " ", clean_text(value)).strip()
    text = _SPECIAL.sub(lambda found: f"\\{found[0]}", text)
    opening = _START.match(text)
    if opening is None:
        return text
    return f"\\{text}" if not opening[0].isdigit() else f"{opening[0]}\\{text[opening.end() :]}"


def write_card(facts: Facts) -> str:
    """Return the dataset card."""
    about, report, verdict = facts.about, facts.report, judge(facts)
    say = escape_markdown
    kind = "Synthetic images" if about.synthetic else "Real images, judged as if they were synthetic"
    lines = [f"# {say(facts.title)}", "", f"**{kind}. Scorecard: {verdict.word.lower()}.**", ""]
    lines += [f"- {say(sentence)}" for sentence in verdict.sentences]
    lines += _section("What it is", [about.description, about.modality and f"Modality: {about.modality}"])
    lines += _section("How it was made", [say_method(facts), about.annotation])
    lines += ["", "## Population", ""]
    lines += [say(about.population), ""] if about.population else []
    lines += _table(["attribute", "images with it", "distribution"], [
        [share.attribute.name, f"{share.known:,}", share.text] for share in describe_population(facts.images)
    ])  # fmt: skip
    lines += _section("Intended use", about.intended_use, bullets=True)
    lines += _section("Limits", list_limits(facts), bullets=True)
    lines += ["", "## Scores", "", say(
        f"Against the reference '{report.reference_name}' ({report.reference_fingerprint}), seed {report.seed}. "
        "The control is what real patients score, or the arm named in the documentation."
    )]  # fmt: skip
    for family in get_args(Family):
        lines += _list_family(facts, family)
    lines += _section("Privacy", say_privacy(facts), bullets=True)
    lines += _section("Fairness", say_subgroups(facts), bullets=True)
    lines += _section("Licence", [about.licence])
    for title, text in (("Citation", about.citation), ("Maintenance", about.maintenance), ("Contact", about.contact)):
        lines += _section(title, [text]) if text else []
    lines += _list_files(facts)
    lines += ["", "## About this card", "", say(
        "Written by Cohortium from the scorecard alone. Whatever was not stated by the makers is said to be so. "
        + (f"Judged at {about.evaluated_at}." if about.evaluated_at else "")
    ), ""]  # fmt: skip
    return "\n".join(lines)


def say_method(facts: Facts) -> str:
    """Return how the images were made, or that nobody said so."""
    return facts.about.method or "How the images were made was not stated."


def say_privacy(facts: Facts) -> list[str]:
    """Return what was found about the privacy of the patients behind the training data, in sentences."""
    copies = len(copied_images(facts.report))
    found = [_say_score(score) for score in list_scores(facts.report, "privacy")]
    kind = "synthetic" if facts.about.synthetic else "real"
    if copies:
        few = f"{format_count(copies, 'of them is an altered copy', 'of them are altered copies')} of training images"
        first = f"The images are {kind}, but {few}: treat these as images of those patients."
    elif searched_copies(facts.report):
        first = f"The images are {kind}; none was found to be an altered copy of a training image."
    else:
        first = f"The images are {kind}; copies of training images were not searched for."
    return [first, *found]


def say_subgroups(facts: Facts) -> list[str]:
    """Return the largest gaps between subgroups, in sentences; what could not be measured is named too."""
    scores = list_scores(facts.report, "fairness")
    known = sorted((s for s in scores if s.value is not None), key=lambda s: -abs(s.value or 0.0))
    found = [_say_score(score) for score in known[:MOST_GAPS]]
    missing = [score for score in scores if score.value is None]
    if missing:
        found.append(f"{format_count(len(missing), 'score')} of fairness could not be measured.")
    return found or ["Differences between subgroups were not measured."]


def list_limits(facts: Facts) -> list[str]:
    """Return what is known to be wrong or unknown: limits, failed gates, misbehaving controls, missing scores."""
    verdict = judge(facts)
    found = [*facts.about.limits, *(verdict.sentences if verdict.state in ("refused", "invalid") else ())]
    missing = [s for s in facts.report.scores if s.value is None and not s.subgroup]
    found += [f"{name_score(s.name)} is {MISSING}: {s.reason.rstrip('.')}." for s in missing]
    found += list(facts.report.notes)
    found.append("Scores hold for the set as a whole; a single image may be wrong. Not for diagnosis.")
    return [clean_text(text) for text in found]


def _say_score(score: Score) -> str:
    where = f" in {score.features}" if score.features else ""
    who = f" by {name_subgroup(score.subgroup)}" if score.subgroup else ""
    name = f"{name_score(score.name)}{where}{who}"
    if score.value is None:
        return f"{name}: {MISSING}, {score.reason.rstrip('.')}."
    interval = f" (95 % interval {format_interval(score)})" if format_interval(score) else ""
    control = f"; control {format_value(score.control)}" if score.control is not None else ""
    return f"{name}: {format_value(score.value)}{interval}{control}."


def _list_family(facts: Facts, family: Family) -> list[str]:
    scores = list_scores(facts.report, family)
    if not scores:
        return []
    rows = []
    for score in scores:
        shown = f"{MISSING}: {score.reason}" if score.value is None else format_value(score.value)
        control = format_value(score.control) if score.control is not None and math.isfinite(score.control) else ""
        label = name_score(score.name) + (f" by {name_subgroup(score.subgroup)}" if score.subgroup else "")
        rows.append(
            [label, score.features, shown, format_interval(score), control, GOALS[find_metric(score.name).goal]]
        )
    heads = ["score", "features", "value", "95 % interval", "control", "best"]
    return ["", f"### {FAMILIES[family][0]}", "", *_table(heads, rows)]


def _list_files(facts: Facts) -> list[str]:
    files, columns = facts.about.files, facts.about.columns
    lines: list[str] = []
    if files:
        total = sum(file.bytes for file in files)
        lines += ["", "## Files", "", escape_markdown(
            f"{format_count(len(files), 'Parquet file')}, {total:,} bytes; their SHA-256 are in croissant.json."
        )]  # fmt: skip
    if columns:
        rows = [[c.name, c.type, c.unit, c.description] for c in columns]
        lines += ["", "## Columns", "", *_table(["column", "type", "unit", "what it holds"], rows)]
    return lines


def _section(title: str, texts: Sequence[str], bullets: bool = False) -> list[str]:
    said = [escape_markdown(text) for text in texts if text and text.strip()]
    body = [f"- {text}" for text in said] if bullets else [part for text in said for part in (text, "")][:-1]
    return ["", f"## {title}", "", *(body or [NOT_STATED])]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return [NOT_STATED]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return lines + [f"| {' | '.join(escape_markdown(cell) for cell in row)} |" for row in rows]
