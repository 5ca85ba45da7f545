"""Scores as tables and charts of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from synth.evaluation.document.charts import Mark, draw_apart, draw_shared, split_cramped
from synth.evaluation.document.facts import Facts, list_scores
from synth.evaluation.document.markup import Child, Markup, clean_text, join, tag
from synth.evaluation.document.words import (
    FAMILIES,
    GOAL_SIGNS,
    GOALS,
    MISSING,
    format_count,
    format_interval,
    format_value,
    name_metric,
    name_score,
    name_subgroup,
    shorten,
)
from synth.evaluation.metric import Family, Score
from synth.evaluation.metrics import find_metric

ROWS_OF_CHART, CHARTS_OF_FAMILY = 16, 3
ROWS_OF_FAMILY = 16  # of a family's table before the rest is folded away
ROWS_OF_SUBGROUPS, CHARTS_OF_SUBGROUPS = 20, 12
BESIDE_THE_COUNT = ("n", "n_real")  # details that the column of images has already
SUBGROUP_ROWS = 600  # of the table of all subgroups; report.json has every one
KEY = "● score with its 95 % interval   ◇ control   ↑ higher, ↓ lower, → 0 or → ◇: what is best"


def make_table(heads: Sequence[str], rows: Sequence[Child], caption: str = "", class_: str = "") -> Markup:
    """Return a table in a box that scrolls on its own; ``rows`` are rows of cells from ``make_cell``."""
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    inner = [tag("caption", caption) if caption else None, head, tag("tbody", *rows)]
    return tag("div", tag("table", *inner, class_=class_ or None), class_="scroll")


def make_cell(label: str, *children: Child, class_: str | None = None) -> Markup:
    """Return a cell; ``label`` is its column, which a narrow screen shows before it."""
    return tag("td", *children, data_label=label, class_=class_)


def show_family(facts: Facts, family: Family) -> Markup:
    """Return the section of one family: its question, charts, table, and what each score means."""
    title, question = FAMILIES[family]
    scores = list_scores(facts.report, family)
    parts: list[Child] = [tag("h3", title), tag("p", question, class_="lead")]
    if not scores:
        parts.append(tag("p", "No score of this family was computed.", class_="quiet"))
        return tag("section", *parts, id=family, class_="family")
    parts.append(_draw_family(scores, title))
    parts += [_list_family(scores), _explain(scores)]
    return tag("section", *parts, id=family, class_="family")


def _list_family(scores: Sequence[Score]) -> Markup:
    """Return the table of a family; of a long one the first rows, and the rest, what is missing last, to unfold."""
    heads = ["Score", "Value (95 % interval)", "Control", "Best", "Images"]
    ordered = scores if len(scores) <= ROWS_OF_FAMILY else sorted(scores, key=lambda score: score.value is None)
    first, rest = ordered[:ROWS_OF_FAMILY], ordered[ROWS_OF_FAMILY:]
    table = make_table(heads, [_show_score(score) for score in first], class_="scores")
    if not rest:
        return table
    missing = sum(score.value is None for score in scores)
    text = f"{format_count(len(rest), 'more score')}" + (f"; {missing:,} are not measurable" if missing else "")
    more = make_table(heads, [_show_score(score) for score in rest], class_="scores")
    return join([table, tag("details", tag("summary", text), more)])


def show_subgroups(facts: Facts) -> Markup:
    """Return the charts of scores by subgroup, and a table of all of them; empty if there are none."""
    scores = [score for score in facts.report.scores if "=" in score.subgroup]
    if not scores:
        return tag("p", "No score was computed by subgroup.", class_="quiet")
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.name, score.features), []).append(score)
    drawable = {key: [s for s in members if s.value is not None] for key, members in groups.items()}
    drawable = {key: members for key, members in drawable.items() if len(members) > 1}
    shown = sorted(drawable, key=lambda key: find_metric(key[0]).family != "fairness")[:CHARTS_OF_SUBGROUPS]
    charts = [_draw_subgroups(facts, name, features, drawable[name, features]) for name, features in shown]
    parts: list[Child] = [tag("div", *charts, class_="charts")]
    if len(shown) < len(drawable):
        parts.append(
            tag("p", f"{len(drawable) - len(shown)} more scores by subgroup are in the table.", class_="quiet")
        )
    parts.append(_list_subgroups(scores))
    return join(parts)


def make_mark(score: Score, label: str, note: str) -> Mark:
    """Return the row of a chart for a measured score."""
    metric = find_metric(score.name)
    value = score.value if score.value is not None else math.nan
    return Mark(label, note, value, score.low, score.high, score.control, (metric.low, metric.high))


def describe_detail(score: Score) -> str:
    """Return further numbers of a score, such as the biased value, as text."""
    found = []
    for key, value in [item for item in score.detail.items() if item[0] not in BESIDE_THE_COUNT][:4]:
        if isinstance(value, bool | int | str):
            found.append(f"{_words(key)} {name_subgroup(value) if isinstance(value, str) else value}")
        elif isinstance(value, float) and math.isfinite(value):
            found.append(f"{_words(key)} {format_value(value)}")
    return ", ".join(found)


def _words(key: Any) -> str:
    return clean_text(key).replace("_", " ")


def _show_score(score: Score) -> Markup:
    metric = find_metric(score.name)
    small = [score.features and f"in {score.features}", score.subgroup and f"by {name_subgroup(score.subgroup)}"]
    note = ", ".join(clean_text(text) for text in (*small, describe_detail(score)) if text)
    head = tag("th", name_score(clean_text(score.name)), tag("small", note) if note else None, scope="row")
    if score.value is None:
        text = f"{MISSING}: {clean_text(score.reason) or 'no reason was given'}"
        return tag("tr", head, tag("td", text, colspan=4), class_="missing")
    extra = tag("small", clean_text(score.reason)) if score.reason else None
    interval = format_interval(score)
    return tag(
        "tr",
        head,
        make_cell("Value", tag("b", format_value(score.value)), tag("span", interval or "no interval", class_="range"),
                  extra, class_="number"),
        make_cell("Control", "—" if score.control is None else format_value(score.control), class_="number"),
        make_cell("Best", tag("span", GOAL_SIGNS[metric.goal], class_="sign", aria_hidden="true"), GOALS[metric.goal],
                  class_="number"),
        make_cell("Images", f"{score.images:,}" if score.images else "—", class_="number"),
    )  # fmt: skip


def _draw_family(scores: Sequence[Score], title: str) -> Markup:
    measured = [score for score in scores if score.value is not None and math.isfinite(score.value)]
    bounded: list[Mark] = []
    free: list[Mark] = []
    for score in measured:
        metric = find_metric(score.name)
        label, _, what = name_score(clean_text(score.name)).partition(": ")
        note = " · ".join(part for part in (what, _note(score), GOAL_SIGNS[metric.goal]) if part)
        mark = make_mark(score, label, note)
        (bounded if math.isfinite(metric.high) else free).append(mark)
    bounded, cramped = split_cramped(bounded)
    free += cramped
    charts = [draw_shared(rows, f"{title}: scores and controls on one axis") for rows in _split(bounded)]
    charts += [draw_apart(rows, f"{title}: scores and controls, each on its own axis") for rows in _split(free)]
    if not charts:
        return Markup("")
    figures = [tag("div", chart) for chart in charts[:CHARTS_OF_FAMILY]]
    hidden = len(charts) > CHARTS_OF_FAMILY
    caption = KEY + (" Further scores are in the table only." if hidden else "")
    return tag("figure", tag("div", *figures, class_="charts"), tag("figcaption", caption))


def _note(score: Score) -> str:
    return ", ".join(clean_text(part) for part in (score.features, name_subgroup(score.subgroup)) if part)


def _split(marks: Sequence[Mark]) -> list[Sequence[Mark]]:
    parts = -(-len(marks) // ROWS_OF_CHART)
    size = -(-len(marks) // max(1, parts))
    return [marks[start : start + size] for start in range(0, len(marks), max(1, size))]


def _draw_subgroups(facts: Facts, name: str, features: str, scores: Sequence[Score]) -> Markup:
    ordered = sorted(scores, key=lambda score: "," in score.subgroup)
    whole = facts.report.find(name, features)
    line = whole.value if whole is not None else None
    marks = [
        make_mark(score, name_subgroup(score.subgroup), f"{format_count(score.images, 'image')}")
        for score in ordered[:ROWS_OF_SUBGROUPS]
    ]
    title = name_score(clean_text(name)) + (f", {clean_text(features)}" if features else "")
    rest = len(ordered) - len(marks)
    goal = GOALS[find_metric(name).goal]
    caption = join([tag("b", title), f" {goal}.", " Dashed: all images." if line is not None else "",
                    f" {format_count(rest, 'subgroup')} more in the table." if rest else ""])  # fmt: skip
    return tag("figure", tag("figcaption", caption), draw_shared(marks, f"{title} by subgroup", line))


def _list_subgroups(scores: Sequence[Score]) -> Markup:
    ordered = sorted(scores, key=lambda score: score.value is None)[:SUBGROUP_ROWS]
    rows = []
    for score in ordered:
        name = name_score(clean_text(score.name)) + (f", {clean_text(score.features)}" if score.features else "")
        head = tag("th", name_subgroup(clean_text(score.subgroup)), scope="row")
        if score.value is None:
            cells = [make_cell("Score", name), tag("td", f"{MISSING}: {clean_text(score.reason)}", colspan=3)]
        else:
            value = f"{format_value(score.value)} ({format_interval(score) or 'no interval'})"
            control = "—" if score.control is None else format_value(score.control)
            cells = [make_cell("Score", name), make_cell("Value", value, class_="number"),
                     make_cell("Control", control, class_="number"),
                     make_cell("Images", f"{score.images:,}", class_="number")]  # fmt: skip
        rows.append(tag("tr", head, *cells, class_="missing" if score.value is None else None))
    rest = len(scores) - len(ordered)
    more = f"; {rest:,} more are in report.json" if rest > 0 else ""
    heads = ["Subgroup", "Score", "Value (95 % interval)", "Control", "Images"]
    summary = tag("summary", f"All {format_count(len(scores), 'score')} by subgroup{more}")
    return tag("details", summary, make_table(heads, rows, class_="compact"))


def _explain(scores: Sequence[Score]) -> Markup:
    metrics = {find_metric(score.name).name: find_metric(score.name) for score in scores}
    rows = []
    for metric in metrics.values():
        source = tag("small", f"Source: {metric.source}. Cost: {metric.cost}.")
        rows += [
            tag("dt", name_metric(metric.name), " ", tag("code", metric.name)),
            tag("dd", metric.description, source),
        ]
    names = shorten(", ".join(name_metric(name) for name in metrics), 120)
    return tag("details", tag("summary", f"What these scores mean: {names}"), tag("dl", *rows, class_="meanings"))
