"""The page: one HTML file that needs nothing else, neither the network nor a script."""

from __future__ import annotations

from typing import get_args

from synth.evaluation.document.facts import Facts, judge
from synth.evaluation.document.gallery import show_pairs, show_sheet, show_typical
from synth.evaluation.document.markup import Child, Markup, join, tag
from synth.evaluation.document.sections import (
    show_controls,
    show_gates,
    show_judged,
    show_notes,
    show_questions,
    show_unusable,
    show_verdict,
)
from synth.evaluation.document.style import STYLE
from synth.evaluation.document.tables import show_family, show_subgroups
from synth.evaluation.document.words import FAMILIES
from synth.evaluation.metric import Family

INTERNAL = "INTERNAL — this page contains images of real patients. Not for release."
ON_PAPER = "@page { @top-center { content: 'INTERNAL: images of real patients'; font: 600 9pt sans-serif; } }"
PUBLIC = "Public edition: no picture of a patient, no name of a real image or patient."
# Whatever a name might smuggle in, a browser runs no script of this page and fetches nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(facts: Facts) -> str:
    """Return the page as HTML."""
    verdict = judge(facts)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="robots", content="noindex"),
        tag("title", f"Scorecard: {facts.title} ({verdict.word.lower()})"),
        tag("style", Markup(STYLE if facts.public else STYLE + ON_PAPER)),
    )
    banner = tag("p", PUBLIC if facts.public else INTERNAL, class_="banner public" if facts.public else "banner")
    body = tag("body", banner, tag("main", *_list_sections(facts)), None if facts.public else tag("footer", INTERNAL))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _list_sections(facts: Facts) -> list[Child]:
    sections = [
        ("verdict", "", join([tag("h1", tag("small", "Scorecard"), " ", facts.title), show_verdict(facts)])),
        ("questions", "Seven questions", show_questions(facts)),
        ("judged", "What was judged", show_judged(facts)),
        ("gates", "Gates", show_gates(facts)),
        ("controls", "Controls", join([tag("p", CONTROLS, class_="lead"), show_controls(facts)])),
        ("scores", "Scores", join([show_family(facts, family) for family in get_args(Family)])),
        ("subgroups", "By subgroup", show_subgroups(facts)),
        ("closest", "Closest training images", show_pairs(facts)),
        ("images", "Images", join([show_sheet(facts), show_typical(facts)])),
        ("left-out", "Left out", show_unusable(facts)),
        ("notes", "Notes", show_notes(facts)),
    ]
    shown = [(name, title, content) for name, title, content in sections if content]
    links = [tag("li", tag("a", title, href=f"#{name}"), _link_families(name)) for name, title, _ in shown if title]
    navigation = tag("nav", tag("ul", *links), aria_label="Sections")
    found: list[Child] = []
    for name, title, content in shown:
        found.append(tag("section", tag("h2", title) if title else None, content, id=name))
        if not title:
            found.append(navigation)
    return found


def _link_families(section: str) -> Markup | None:
    if section != "scores":
        return None
    parts = [tag("a", FAMILIES[family][0].lower(), href=f"#{family}") for family in get_args(Family)]
    return join([" (", *[part for link in parts for part in (link, ", ")][:-1], ")"])


CONTROLS = (
    "Each control has an outcome that is known beforehand: if it comes out otherwise, the measurement is broken and "
    "nothing is proven."
)
