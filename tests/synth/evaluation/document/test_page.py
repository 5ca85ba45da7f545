"""The pages: well-formed, self-contained, honest about the verdict, and nothing real in the public one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synth.evaluation.document.page import INTERNAL, PUBLIC, write_page
from synth.evaluation.images.report import Control, Pair
from synth.evaluation.images.sets import Unusable
from synth.evaluation.metric import Score
from synth.nouns import GateResult

VOID = {"img", "meta", "line", "circle", "path"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; --><svg/onload=alert(1)>",
    "</style><script>1</script>",
    "javascript:alert(1)",
    "$x^2$ \\begin{a} {{7*7}}",
    "a\x00b\u202ec\ud800",
    "日本語 مرحبا",
    "x" * 3000,
]


class Checked(HTMLParser):
    """Parses a page strictly: every element is closed, in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_harmless(page: str) -> Checked:
    """Fail if a page could run or fetch anything."""
    parsed = Checked(page)
    assert not {name for name, _ in parsed.tags} & {"script", "iframe", "object", "embed", "link", "form", "base"}
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
    for picture in parsed.all("img"):
        assert (picture["src"] or "").startswith("data:image/")
        assert picture["alt"]
    policy = next(meta for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")
    assert not re.search(r"url\(|@import", page)
    return parsed


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("side", ["pictures", "volumes"])
def test_page_is_well_formed_and_needs_nothing_else(side: str, public: bool, request) -> None:
    parsed = check_harmless(write_page(request.getfixturevalue(side).facts(public)))
    levels = [int(name[1]) for name, _ in parsed.tags if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in parsed.tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    anchors = [a["href"][1:] for a in parsed.all("a") if (a["href"] or "").startswith("#")]
    assert anchors
    assert set(anchors) <= set(ids)
    assert all(head.get("scope") in ("col", "row") for head in parsed.all("th"))
    assert all(chart["role"] == "img" for chart in parsed.all("svg"))


def test_every_score_stands_in_the_page(pictures) -> None:
    text = Checked(write_page(pictures.facts())).text
    for wanted in (
        "12.50", "10.10 to 15.20", "biased 18.25", "−2.0 × 10⁻⁵", "0.810", "no interval", "Gap of recall",
        "lowest sex M, highest sex F", "not measurable: radiomics needs at least 64 pixels a side",
        "not measurable: the generator was not given", "not measurable: only 3 images; 25 are needed",
        "sex M, age 40-60",
    ):  # fmt: skip
        assert wanted in text
    for wanted in ("ab" * 32, "cd" * 32, "ef" * 32, "3 min 20 s", "judge images.parquet --reference chest --seed 7"):
        assert wanted in text
    for question in (
        "Congruence",
        "Coverage",
        "Constraint",
        "Completeness",
        "Compliance",
        "Comprehension",
        "Consistency",
    ):
        assert question in text


def test_refused_page_gives_the_reasons(pictures) -> None:
    parsed = Checked(write_page(pictures.facts()))
    assert "Refused" in parsed.text
    assert "Gate recall: recall (encoder) is 0.4 (0.31 to 0.5); at least 0.53 is required." in parsed.text
    assert "fails recall" in parsed.text
    assert "(refused)" in parsed.text  # in the title


def test_passed_page_says_what_was_not_measured(pictures) -> None:
    text = Checked(write_page(pictures.passed().facts())).text
    assert "Passed" in text
    assert "2 gates hold." in text
    assert "1 gate could not be measured and was not required: utility." in text
    assert "All 3 gates hold" not in text


def test_invalid_page_leads_with_the_control(pictures) -> None:
    bad = Control("planted_copies", False, "only 31 of 50 planted copies were found")
    parsed = Checked(write_page(pictures.passed().change(controls=(bad,)).facts()))
    assert "Invalid" in parsed.text
    assert "Passed" not in parsed.text
    assert "Control planted_copies misbehaves: only 31 of 50 planted copies were found." in parsed.text
    assert "no score below proves anything" in parsed.text


def test_page_without_gates_or_controls_does_not_pass(pictures) -> None:
    text = Checked(write_page(pictures.change(gates=(), controls=()).facts())).text
    assert "Not decided" in text
    assert "No control was run" in text


def test_pairs_are_marked_and_missing_pictures_said(pictures) -> None:
    gone = Pair("not-there", "real-train-1", "p", 0.4)
    parsed = Checked(write_page(pictures.change(closest=(*pictures.report.closest, gone)).facts()))
    assert parsed.text.count("✕ copy") == 2
    assert parsed.text.count("not a copy") == 5
    assert "picture not available" in parsed.text
    assert "2 images are copies by the calibrated threshold." in parsed.text
    assert INTERNAL in parsed.text
    assert any((picture["alt"] or "").startswith("Real training image real-train-0") for picture in parsed.all("img"))


@pytest.mark.parametrize("side", ["pictures", "volumes"])
def test_public_page_shows_and_names_nothing_real(side: str, request) -> None:
    made = request.getfixturevalue(side).passed()
    page = write_page(made.facts(public=True))
    parsed = check_harmless(page)
    assert PUBLIC in parsed.text
    assert INTERNAL not in page
    assert parsed.all("img"), "images that are no copies are shown"
    for image in (*made.real.train.image_ids, *made.real.holdout.image_ids, "patient-of"):
        assert image not in page
    own = [name for name in made.images.image_ids if re.search(rf"\b{name}\b", page)]
    assert own
    assert not set(own) & {pair.image_id for pair in made.report.copies}


def test_public_sheet_holds_no_copy(pictures) -> None:
    """The copies are made all white; no picture of the public page may hold a white image."""
    stored = pictures.images.stored.copy()
    stored[:2] = 65535
    made = replace(pictures.passed(), images=replace(pictures.images, stored=stored))
    assert made.facts(public=True).may_show == frozenset(range(2, 12))
    assert made.facts().may_show == frozenset(range(12))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "nobody can say that none of them is a copy"),
        ({"about": {"synthetic": False}}, "the judged images are real"),
    ],
)
def test_public_page_has_no_picture_of_refused_or_real_images(pictures, changed, reason) -> None:
    made = pictures.passed() if changed else pictures
    page = write_page(made.change(**changed).facts(public=True))
    parsed = check_harmless(page)
    assert not parsed.all("img")
    assert reason in parsed.text
    if changed:
        assert "a.png" not in page, "names of real images are not public either"


def test_public_page_has_no_picture_if_copies_were_not_searched_for(pictures) -> None:
    made = pictures.passed().change(scores=tuple(s for s in pictures.report.scores if s.name != "copy_rate"), copies=())
    assert made.facts(public=True).may_show == frozenset()
    assert not check_harmless(write_page(made.facts(public=True))).all("img")


def make_hostile(made, text: str):
    """Return the scorecard with ``text`` wherever text comes from outside."""
    score = Score("recall", 0.4, 0.3, 0.5, 0.8, text, images=4, detail={text: text})
    scores = (
        score, replace(score, name=f"recall.{text}"), replace(score, subgroup=f"{text}={text}"),
        replace(score, subgroup=f"x={text}"), Score.missing("precision", text, features=text),
    )  # fmt: skip
    images = made.images
    places = [images.image_ids.index(pair.image_id) for pair in made.report.closest]
    names = [text if place == places[0] else name for place, name in enumerate(images.image_ids)]
    safe = [name.encode("utf-8", "replace").decode() for name in names]
    records = images.records.set_column(0, "image_id", pa.array(safe))
    pair = Pair(safe[places[0]], text, text, 0.5)
    return replace(
        made.change(
            about=dict.fromkeys(("title", "method", "licence", "command", "url", "policy_name", "contact"), text)
            | {"limits": [text], "software": {text: text}},
            gates=(*made.gates, GateResult(text, 0.1, 0.2, False, text)),
            images_name=text, reference_name=text, reference_fingerprint=text, layout={text: [text]},
            counts={text: 3}, features={text: text}, scores=scores, controls=(Control(text, False, text),),
            closest=(pair,), copies=(pair,), worst=(safe[places[0]],), best=(text,), unusable=(Unusable(text, text),),
            notes=(text,), seconds={text: 1.0},
        ),
        images=replace(images, records=records),
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(pictures, text: str) -> None:
    made = make_hostile(pictures, text)
    for public in (False, True):
        page = write_page(made.facts(public))
        check_harmless(page)
        page.encode("utf-8")
        assert "\x00" not in page
        assert "\u202e" not in page


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec=None), max_size=60))
def test_any_text_stays_text(pictures, text: str) -> None:
    check_harmless(write_page(make_hostile(pictures, text).facts()))


def test_page_is_the_same_again_and_small(pictures, write: Callable) -> None:
    first, second = write(pictures), write(pictures)
    assert first == second
    assert len(first["index.html"]) < 3_000_000


def test_large_report_stays_small(pictures) -> None:
    """4,000 scores by subgroup and 500 copies: what is too much is counted, not shown."""
    scores = tuple(Score("recall", 0.5, 0.4, 0.6, 0.7, f"f{k}", f"sex={i}", 30) for k in range(40) for i in range(100))
    copies = tuple(Pair(f"drawn-{i % 12}", f"real-train-{i % 10}", "p", 0.9) for i in range(500))
    made = pictures.change(scores=(*pictures.report.scores, *scores), copies=copies)
    page = write_page(made.facts())
    assert len(page) < 3_000_000
    assert "12 are shown; report.json lists all." in page
    assert "more are in report.json" in page


def test_real_radiographs_fit_into_three_megabytes(pictures) -> None:
    noise = np.random.Generator(np.random.Philox(1)).integers(0, 65535, (40, 128, 128), dtype=np.uint16)
    rows = pa.table({"image_id": [f"drawn-{i}" for i in range(40)], "patient_id": [f"p{i}" for i in range(40)]})
    worst = replace(pictures.images, stored=noise, records=rows, schema=())  # noise is what JPEG compresses least
    train = replace(worst, records=rows.set_column(0, "image_id", pa.array([f"real-train-{i}" for i in range(40)])))
    pairs = tuple(Pair(f"drawn-{i}", f"real-train-{i}", "p", 0.9) for i in range(40))
    made = replace(pictures, images=worst, real=replace(pictures.real, train=train, holdout=train))
    page = write_page(made.change(closest=pairs, copies=pairs[:20]).facts())
    assert 1_000_000 < len(page) < 3_000_000
