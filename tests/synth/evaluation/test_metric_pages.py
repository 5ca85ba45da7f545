"""The pages on fidelity and diversity, and the table of the 7 Cs, name the scores that are registered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from synth.evaluation.images.metrics import IMAGE_METRICS
from synth.evaluation.metric import SevenC

DOCS = Path(__file__).resolve().parents[3] / "docs" / "evaluation"


def read_rows(page: str, header: str) -> dict[str, str]:
    """Return the rows of the table with that header, by the first cell without code marks."""
    table = (DOCS / page).read_text(encoding="utf-8").partition(header)[2].partition("\n\n")[0]
    cells = [line.strip("| ").split("|", 1) for line in table.splitlines()[2:]]
    return {first.strip(" `"): rest for first, rest in cells}


@pytest.mark.parametrize("family", ["fidelity", "diversity"])
def test_a_page_lists_the_scores_of_its_family(family: str) -> None:
    assert set(read_rows(f"{family}.md", "| score |")) == {m.name for m in IMAGE_METRICS if m.family == family}


def test_every_score_is_beside_its_question_of_the_7_cs() -> None:
    rows = read_rows("README.md", "| question | what it asks |")
    assert tuple(rows) == get_args(SevenC)
    for metric in IMAGE_METRICS:
        for question, row in rows.items():
            named = f"`{metric.name}`" in row or f"`{metric.family}`, all scores" in row
            assert named == (question == metric.seven_c), f"{metric.name} in the row of {question}"


def test_no_other_score_is_named() -> None:
    names = {metric.name for metric in IMAGE_METRICS} | {metric.family for metric in IMAGE_METRICS}
    for row in read_rows("README.md", "| question | what it asks |").values():
        assert set(re.findall(r"`(\w+)`", row)) <= names
