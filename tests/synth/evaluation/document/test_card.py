"""The dataset card says what was given and measured, and no more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.evaluation.document.card import NOT_STATED, escape_markdown, say_privacy, write_card
from synth.evaluation.images.report import Control
from synth.evaluation.metric import Score


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def test_card_has_every_section_from_facts(pictures) -> None:
    card = write_card(pictures.facts(public=True))
    assert card.startswith("# drawn chests\n\n**Synthetic images. Scorecard: refused.**")
    assert section(card, "How it was made").startswith("A flow model trained on the training patients")
    assert "| sex | 12 | F 50.0 %, M 50.0 % |" in section(card, "Population")
    assert "| age_years | 11 | median 36 years, middle half 33.50 to 38.50, all 31 to 41 |" in section(
        card, "Population"
    )
    assert section(card, "Intended use") == "- Teaching\n- Benchmarks of classifiers"
    assert "- No lateral views" in section(card, "Limits")
    assert "radiomics needs at least 64 pixels a side" in section(card, "Limits")
    assert "| Fréchet distance | radiomics | 12.50 | 10.10 to 15.20 | 3.100 | lower is better |" in card
    assert "Gap of recall in encoder by sex: 0.120" in section(card, "Fairness")
    assert section(card, "Licence") == "https://creativecommons.org/licenses/by/4.0/"
    assert "## Contact" not in card
    assert "## Citation" not in card


def test_what_was_not_given_is_not_invented(pictures) -> None:
    made = pictures.change()
    made.about.clear()
    card = write_card(made.facts(public=True))
    assert section(card, "Intended use") == NOT_STATED
    assert section(card, "Licence") == NOT_STATED
    assert section(card, "How it was made") == "How the images were made was not stated."


def test_card_names_no_real_image_or_patient(pictures) -> None:
    card = write_card(pictures.facts(public=True))
    assert "real-train" not in card
    assert "patient-of" not in card


def test_privacy_is_said_as_it_is(pictures) -> None:
    assert "2 of them are altered copies" in say_privacy(pictures.facts())[0]
    assert "none was found" in say_privacy(pictures.change(copies=()).facts())[0]
    unsearched = tuple(score for score in pictures.report.scores if score.name != "copy_rate")
    assert "were not searched for" in say_privacy(pictures.change(copies=(), scores=unsearched).facts())[0]
    assert "The images are real" in say_privacy(pictures.change(about={"synthetic": False}).facts())[0]


def test_invalid_card_says_so_first(pictures) -> None:
    bad = Control("floor", False, "halves of the reference differ")
    card = write_card(pictures.change(controls=(bad,)).facts(public=True))
    assert "Scorecard: invalid." in card.splitlines()[2]
    assert "Control floor misbehaves" in section(card, "Limits")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("# heading", "\\# heading"),
        ("- point", "\\- point"),
        ("12. point", "12\\. point"),
        ("0.810", "0.810"),
        ("copy_rate", "copy_rate"),
        ("_x_ *y*", "\\_x\\_ \\*y\\*"),
        ("a|b\nc", "a\\|b c"),
        ("<b>&amp;[x](y)", "\\<b\\>\\&amp;\\[x\\](y)"),
        ("`code`", "\\`code\\`"),
        ("", ""),
    ],
)
def test_markdown_is_escaped(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


@given(st.text(st.characters(codec=None), max_size=80))
def test_escaped_text_is_one_line_without_markup(text: str) -> None:
    found = escape_markdown(text)
    assert "\n" not in found
    assert "\r" not in found
    assert not re.search(r"(?<!\\)(\\\\)*[<>|`\[\]*&]", found)
    found.encode("utf-8")


def test_hostile_names_keep_the_tables(pictures) -> None:
    hostile = Score("recall", 0.1, features="a|b\n# c <script>", images=3)
    card = write_card(pictures.change(scores=(hostile,), images_name="x\n# y").facts(public=True))
    assert "<script>" not in card
    rows = [line for line in card.splitlines() if line.startswith("| Recall")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 7
