"""The parts of the page that are words and plain tables: verdict, what was judged, gates, controls, how to repeat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from synth.evaluation.document.facts import Facts, answer_questions, describe_population, describe_reason, judge
from synth.evaluation.document.markup import Child, Markup, clean_text, join, link, tag
from synth.evaluation.document.tables import make_cell, make_table
from synth.evaluation.document.words import (
    SEVEN_CS,
    format_count,
    format_seconds,
    name_metric,
    shorten,
)
from synth.evaluation.metrics import find_metric

SCORECARD = "Zamzmi et al., Scorecard for synthetic medical data evaluation, Commun Eng 2025;4:130"
SIGNS = {"passed": "✓", "refused": "✕", "invalid": "!", "undecided": "–"}
MOST_UNUSABLE, MOST_NAMES = 60, 6
DEFINITE = {"counts": "Counts", "layout": "Common form", "features": "Features"}


def show_verdict(facts: Facts) -> Markup:
    """Return the box with the verdict and its reasons."""
    verdict = judge(facts)
    sign = tag("span", SIGNS[verdict.state], class_="sign", aria_hidden="true")
    head = tag("p", sign, " ", verdict.word, class_="word")
    items = [tag("li", sentence) for sentence in verdict.sentences]
    note = (
        "A verdict speaks of the set as a whole and of what was measured. It does not make an image fit for diagnosis."
    )
    return tag("div", head, tag("ul", *items), tag("p", note, class_="quiet"), class_=f"verdict {verdict.state}",
               role="status")  # fmt: skip


def show_judged(facts: Facts) -> Markup:
    """Return what was judged against what: names, counts, common form, features, fingerprints, seed, time."""
    report, about = facts.report, facts.about
    rows: list[tuple[str, Child]] = [
        ("Images", join([tag("b", clean_text(report.images_name)), " ", _say_kind(facts)])),
        ("What they are", about.description or about.modality),
        ("How they were made", about.method),
        ("Trained on", ", ".join(about.derived_from)),
        ("Whom they stand for", about.population),
        ("Reference", join([tag("b", clean_text(report.reference_name)), " ",
                            tag("code", clean_text(report.reference_fingerprint), class_="hash")])),
        ("Source of the reference", " — ".join(t for t in (about.reference_source, about.reference_licence) if t)),
        ("Counts", _show_mapping({k: f"{v:,}" for k, v in report.counts.items()})),
        ("Common form", _show_mapping({k: _plain(v) for k, v in report.layout.items()})),
        ("Features", _show_features(report.features)),
        ("Seed", f"{report.seed}"),
        ("Judged at", about.evaluated_at),
        ("Policy", join([clean_text(about.policy_name), " ", tag("code", about.policy_hash, class_="hash")])
         if about.policy_name else ""),
        ("Decided by", about.decided_by),
        ("Software", _show_mapping(about.software) if about.software else ""),
    ]  # fmt: skip
    pairs = [part for name, text in rows if text for part in (tag("dt", name), tag("dd", text))]
    return join([tag("dl", *pairs, class_="facts"), _show_population(facts)])


def show_questions(facts: Facts) -> Markup:
    """Return the table of the seven questions with the scores that answer each and their state."""
    rows = []
    for answer in answer_questions(facts):
        names = list(dict.fromkeys(name_metric(find_metric(score.name).name) for score in answer.scores))
        sign = "✕" if answer.failed else "✓" if answer.holding else "–"
        class_ = "bad" if answer.failed else "good" if answer.holding else "quiet"
        state = join([tag("b", sign, class_=class_, aria_hidden="true"), " ", answer.state])
        listed = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES))
        head = tag("th", answer.question.capitalize(), scope="row")
        rows.append(tag("tr", head, make_cell("Question", SEVEN_CS[answer.question]),
                        make_cell("Answered by", listed or "—"), make_cell("State", state)))  # fmt: skip
    caption = f"The seven Cs: {SCORECARD}."
    return make_table(["Criterion", "Question", "Answered by", "State"], rows, caption, "words")


def show_gates(facts: Facts) -> Markup:
    """Return the table of gates, failed ones first."""
    if not facts.gates:
        return tag("p", "No gate was applied.", class_="quiet")
    rows = []
    for gate in sorted(facts.gates, key=lambda gate: gate.passed):
        measured = math.isfinite(gate.value)
        word = "✕ fails" if not gate.passed else "✓ holds" if measured else "– not measured"
        class_ = "bad" if not gate.passed else "good" if measured else "quiet"
        name = clean_text(gate.gate)
        reason = describe_reason(gate).removeprefix(f"{name}: ")
        rows.append(tag(
            "tr", tag("th", name, scope="row"),
            make_cell("Outcome", tag("b", word, class_=class_), class_="number"),
            make_cell("Value", f"{gate.value:.4g}" if measured else "—", class_="number"),
            make_cell("Limit", f"{gate.threshold:.4g}" if math.isfinite(gate.threshold) else "—", class_="number"),
            make_cell("Reason", reason), class_=None if gate.passed else "failed",
        ))  # fmt: skip
    return make_table(["Gate", "Outcome", "Value", "Limit", "Reason"], rows, class_="words")


def show_controls(facts: Facts) -> Markup:
    """Return the table of controls."""
    if not facts.report.controls:
        return tag("p", "No control was run: nothing shows that these scores could have failed.", class_="quiet")
    rows = []
    for control in sorted(facts.report.controls, key=lambda control: control.behaves):
        word = tag("b", "✓ behaves" if control.behaves else "✕ misbehaves", class_="good" if control.behaves else "bad")
        rows.append(tag("tr", tag("th", clean_text(control.name).replace("_", " "), scope="row"),
                        make_cell("Outcome", word, class_="number"),
                        make_cell("Reason", clean_text(control.reason)),
                        class_=None if control.behaves else "failed"))  # fmt: skip
    return make_table(["Control", "Outcome", "Reason"], rows, class_="words")


def show_unusable(facts: Facts) -> Markup:
    """Return the images that were left out, grouped by reason."""
    left_out = facts.report.unusable
    if not left_out:
        return tag("p", "No image was left out.", class_="quiet")
    by_reason: dict[str, list[str]] = {}
    for item in left_out:
        by_reason.setdefault(clean_text(item.reason), []).append(clean_text(item.name))
    rows = []
    for reason, names in list(by_reason.items())[:MOST_UNUSABLE]:
        listed = ", ".join(shorten(name, 60) for name in names[:MOST_NAMES])
        rest = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        if facts.public and not facts.about.synthetic:
            listed, rest = "names of real images are not public", ""
        rows.append(tag("tr", tag("th", reason, scope="row"), make_cell("Images", f"{len(names):,}", class_="number"),
                        make_cell("Names", listed + rest)))  # fmt: skip
    count = format_count(len(left_out), "image is", "images are")
    text = f"{count} in no score, because nothing can be computed of them."
    return join([tag("p", text), make_table(["Reason", "Images", "Names"], rows, class_="words")])


def show_notes(facts: Facts) -> Markup:
    """Return notes, limits, the time of each step and how to repeat the evaluation."""
    report, about = facts.report, facts.about
    parts: list[Child] = []
    notes = [*report.notes, *(f"Limit: {text}" for text in about.limits)]
    if notes:
        parts.append(tag("ul", *(tag("li", clean_text(note)) for note in notes)))
    if about.command:
        parts += [tag("p", "The same evaluation again:"), tag("pre", tag("code", about.command))]
    if report.seconds:
        parts.append(_show_seconds(report.seconds))
    if about.citation or about.url or about.contact:
        words = [about.citation, link(about.url, about.url) if about.url else "", about.contact]
        parts.append(tag("p", join([tag("span", word, " ") for word in words if word])))
    return join(parts) or tag("p", "Nothing was noted.", class_="quiet")


def _show_seconds(seconds: Mapping[str, float]) -> Markup:
    total = sum(value for value in seconds.values() if math.isfinite(value))
    longest = max((value for value in seconds.values() if math.isfinite(value)), default=0.0) or 1.0
    rows = []
    for step, value in sorted(seconds.items(), key=lambda item: -item[1]):
        share = 100 * value / longest if math.isfinite(value) else 0
        bar = tag("span", class_="bar", style=f"width:{share:.1f}%", aria_hidden="true")
        rows.append(tag("tr", tag("th", clean_text(step).replace("_", " "), scope="row"),
                        make_cell("Time", format_seconds(value), class_="number"),
                        tag("td", bar, class_="bars")))  # fmt: skip
    summary = tag("summary", f"Time spent: {format_seconds(total)} in all")
    return tag("details", summary, make_table(["Step", "Time", ""], rows, class_="compact"))


def _show_population(facts: Facts) -> Markup:
    shares = describe_population(facts.images)
    if not shares:
        return Markup("")
    real = {} if facts.public else {s.attribute.name: s for s in describe_population(facts.real.train)}
    rows = []
    for share in shares:
        name = clean_text(share.attribute.name).replace("_", " ")
        missing = len(facts.images) - share.known
        cells = [make_cell("Images", share.text, tag("small", f" missing in {missing:,}") if missing else None)]
        if not facts.public:
            cells.append(make_cell("Training images", real[share.attribute.name].text
                                   if share.attribute.name in real else "not recorded"))  # fmt: skip
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    heads = ["Attribute", f"{facts.kind.capitalize()} images", *([] if facts.public else ["Real training images"])]
    return make_table(heads, rows, class_="words")


def _say_kind(facts: Facts) -> Markup:
    text = "synthetic" if facts.about.synthetic else "real images, judged as if they were synthetic"
    return tag("span", text, class_="label")


def _show_features(features: Mapping[str, str]) -> Markup:
    parts: Sequence[Child] = [
        tag("li", tag("b", clean_text(name)), " ", tag("code", clean_text(mark), class_="hash"))
        for name, mark in features.items()
    ]
    return tag("ul", *parts, class_="plain") if parts else Markup("")


def _show_mapping(values: Mapping[str, object]) -> Markup:
    parts = [
        tag("li", clean_text(key).replace("_", " "), ": ", tag("b", clean_text(value))) for key, value in values.items()
    ]
    return tag("ul", *parts, class_="plain inline") if parts else Markup("")


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return " × ".join(_plain(part) for part in value)
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
