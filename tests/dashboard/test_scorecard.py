"""The scorecard page on real catalogs: verdicts, scores beside controls, subgroups, copies, hostile names."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catalog import ScorecardRow, commit_cohort_scorecard, commit_reference, find_reference, resolve_home
from dashboard.charts import draw_scores
from dashboard.scores import (
    escape_markdown,
    list_by_subgroup,
    make_rows,
    name_score,
    name_subgroup,
    select_family,
    split_by_scale,
    tabulate_scores,
)
from synth.nouns import GateResult
from tests.catalog.test_references import make_row, write_all

COLUMNS = ("family", "name", "features", "subgroup", "value", "low", "high", "control", "goal", "images", "reason")
SCORES = [
    ("fidelity", "frechet_distance", "radiomics", "", 12.5, 10.0, 15.0, 3.0, "lower", 40, ""),
    ("fidelity", "kernel_distance", "encoder", "", 2e-5, -4e-4, 5e-4, 1e-4, "lower", 40, ""),
    ("diversity", "precision", "encoder", "", 0.8, 0.7, 0.9, 0.9, "higher", 40, ""),
    ("diversity", "vendi_score", "pixels", "", 21.0, None, None, 33.0, "higher", 40, ""),
    ("diversity", "recall", "encoder", "", None, None, None, None, "higher", 0, "fewer than 20 *real* images"),
    ("diversity", "precision", "encoder", "sex=F", 0.82, 0.7, 0.9, 0.9, "higher", 22, ""),
    ("diversity", "precision", "encoder", "sex=M,age_years=40-60", 0.7, 0.5, 0.8, 0.9, "higher", 9, ""),
    ("diversity", "precision", "encoder", "sex=M", 0.78, 0.7, 0.9, 0.9, "higher", 18, ""),
    ("diversity", "precision", "encoder", "age_years=0-20", None, None, None, None, "higher", 3, "only 3 images"),
    ("privacy", "copy_rate", "", "", 0.05, 0.02, 0.12, 0.001, "lower", 40, ""),
    ("fairness", "gap.precision", "encoder", "sex", 0.04, 0.0, 0.2, 0.01, "lower", 18, ""),
]
FAILED = GateResult("copies", 0.05, 0.002, False, "copies: copy_rate is 0.05 (0.02 to 0.12); at most 0.002 is required")
HELD = GateResult("precision", 0.8, 0.54, True, "precision: precision (encoder) is 0.8; at least 0.54 is required")
UNMEASURED = GateResult("utility", math.nan, math.nan, True, "utility: not measurable (no labels); not required")


def frame() -> pd.DataFrame:
    return pd.DataFrame(SCORES, columns=list(COLUMNS))


def make_scorecard(home: Any, cohort_id: str, name: str, image: str, **changes: Any) -> ScorecardRow:
    state = find_reference(home, "real")
    metrics = [{**dict(zip(COLUMNS, row, strict=True)), "seven_c": "coverage", "detail": {}} for row in SCORES]
    copy = {"image_id": image, "reference_image_id": "a-real-image", "reference_patient_id": "a-patient", "score": 0.99}
    values: dict[str, Any] = {
        "scorecard_id": f"{cohort_id}-{name}", "cohort_id": cohort_id, "images_name": cohort_id,
        "images_sha256": "1" * 64, "images": 40, "reference_id": state.reference_id,
        "reference_fingerprint": state.fingerprint, "policy": "default", "policy_hash": "9" * 64,
        "gates": (FAILED, HELD, UNMEASURED), "controls_valid": True, "seed": 3, "request": {},
        "document": f"reports/{cohort_id}-{name}/scorecard",
        "report": {"metrics": metrics, "copies": [copy], "controls": []},
    }  # fmt: skip
    return ScorecardRow(**values | changes)


HOSTILE = GateResult("a", 0.1, 0.2, False, "a: :red[**x**] ![p](https://example.org/x.png) <script> is 0.1")
# In the order in which they are committed: the decision about the cohort rests on the last.
SCORECARDS: dict[str, dict[str, Any]] = {
    "good": {"gates": (HELD,)},
    "invalid": {"gates": (HELD,), "controls_valid": False},
    "hostile": {"gates": (HOSTILE,)},
    "last": {},
}


@pytest.fixture(scope="session")
def judged(shown, tmp_path_factory) -> Path:
    """A copy of the shown home with a reference and four scorecards of the released cohort."""
    home = resolve_home(shutil.copytree(shown.home, tmp_path_factory.mktemp("judged") / "home"))
    commit_reference(home, make_row(), write_all(home))
    for name, changes in SCORECARDS.items():
        commit_cohort_scorecard(home, make_scorecard(home, shown.released, name, shown.image, **changes))
    return Path(home.root)


@pytest.fixture
def open_scorecard(judged, shown, open_page) -> Callable[[str], Any]:
    """Return a function that opens one of the scorecards."""
    return lambda name: open_page(judged, "scorecard", cohort=shown.released, scorecard=f"{shown.released}-{name}")


def find_charts(app: Any) -> list[str]:
    return [json.dumps(chart.proto.spec) for chart in app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")]


def test_cohort_without_scorecard_says_so(shown, open_page) -> None:
    app = open_page(shown.home, "scorecard", cohort=shown.released)
    assert not app.exception
    assert "were not judged against a reference yet" in app.info[0].value


def test_refused_scorecard_shows_gates_scores_and_copies(open_scorecard, shown) -> None:
    app = open_scorecard("last")
    assert not app.exception
    assert "These images do not pass" in app.error[0].value
    gates = app.table[0].value
    assert list(gates["Gate"]) == ["copies", "precision", "utility"]
    assert list(gates["Value"]) == ["0.05", "0.8", "—"]
    headings = [element.value for element in app.subheader]
    assert headings == [
        "Gates",
        "Fidelity",
        "Diversity",
        "Privacy",
        "Fairness",
        "By subgroup",
        "Copies of training images",
    ]
    diversity = app.dataframe[1].value
    assert list(diversity["Score"]) == ["Precision", "Vendi score", "Recall"]
    assert diversity.iloc[2]["Not measurable because"] == "fewer than 20 *real* images"
    assert diversity.iloc[0]["95 % interval"] == "0.7 to 0.9"
    assert len(find_charts(app)) == 2 + 2 + 1 + 1 + 1  # fidelity, diversity, privacy, fairness, subgroups
    copies = app.dataframe[-1].value
    assert list(copies["Image"]) == [shown.image]
    text = "".join(str(element) for element in (*app.caption, *app.markdown)) + "".join(find_charts(app))
    assert "a-real-image" not in text
    assert "a-patient" not in text
    assert any("with pictures of real patients" in element.value for element in app.caption)


def test_passed_and_invalid_scorecards_are_told_apart(open_scorecard) -> None:
    assert "Every control behaves and every gate holds" in open_scorecard("good").success[0].value
    bad = open_scorecard("invalid")
    assert "A control misbehaves, so no score proves anything" in bad.warning[0].value
    assert not bad.success


def test_the_scorecard_of_the_decision_comes_first_and_others_can_be_chosen(judged, shown, open_page) -> None:
    app = open_page(judged, "scorecard", cohort=shown.released)
    choice = next(box for box in app.selectbox if box.label == "Scorecard")
    assert choice.value == f"{shown.released}-last"
    assert len(choice.options) == len(SCORECARDS)
    choice.set_value(f"{shown.released}-good").run()
    assert "Every control behaves" in app.success[0].value
    assert app.query_params["scorecard"] == f"{shown.released}-good"


def test_unknown_scorecard_in_the_url_is_explained(judged, shown, open_page) -> None:
    app = open_page(judged, "scorecard", cohort=shown.released, scorecard="'; DROP TABLE scorecards; --")
    assert not app.exception
    assert "no such scorecard" in app.warning[0].value
    assert app.table


def test_hostile_words_of_gates_are_no_markdown(open_scorecard) -> None:
    app = open_scorecard("hostile")
    assert not app.exception
    assert "![p]" not in app.error[0].value
    assert ":red[" not in app.error[0].value
    assert "![p]" not in app.table[0].value.iloc[0]["In words"]


def test_cohort_page_shows_scores_as_numbers_with_their_direction(judged, shown, open_page) -> None:
    app = open_page(judged, "cohort", cohort=shown.released)
    assert not app.exception
    gates = app.table[0].value.set_index("Gate")
    row = gates.loc["Scorecard: copies"]
    assert row["Value"] == "0.05"
    assert row["Threshold"] == "at most 0.002"
    assert row["In plain words"].startswith("copies: copy_rate is 0.05")
    assert gates.loc["Scorecard: precision"]["Threshold"] == "at least 0.54"
    assert list(gates.loc["Scorecard: utility"][["Value", "Threshold"]]) == ["—", "—"]


# ------------------------------------------------------------------------------------------------- words and charts


def test_scores_are_named_for_people() -> None:
    assert name_score("attribute_auc.view=PA") == "Attribute AUC: view = PA"
    assert name_score("gap.precision") == "Gap of precision"
    assert name_score("gap.ms_ssim_pairs") == "Gap of MS-SSIM between pairs"
    assert name_subgroup("sex=F,age_years=40-60") == "sex F, age 40-60"
    assert escape_markdown("a_b [x](y) :red[z]") == "a\\_b \\[x\\](y) \\:red\\[z\\]"


def test_families_hold_whole_scores_and_gaps() -> None:
    assert list(select_family(frame(), "diversity")["name"]) == ["precision", "vendi_score", "recall"]
    fairness = tabulate_scores(select_family(frame(), "fairness"))
    assert list(fairness["Score"]) == ["Gap of precision, by sex"]


def test_scores_on_other_scales_get_their_own_axis() -> None:
    shared, apart = split_by_scale(make_rows(select_family(frame(), "diversity")), "diversity")
    assert list(shared["label"]) == ["Precision · encoder"]
    assert list(apart["label"]) == ["Vendi score · pixels"]
    assert split_by_scale(make_rows(select_family(frame(), "fidelity")), "fidelity")[0].empty


def test_subgroups_name_their_counts_single_ones_first() -> None:
    rows = list_by_subgroup(frame())["Precision · encoder"]
    shown = make_rows(rows, by_subgroup=True)
    assert list(shown["label"]) == ["sex F (22)", "sex M (18)", "sex M, age 40-60 (9)"]


def test_chart_has_intervals_controls_and_the_whole() -> None:
    rows = make_rows(list_by_subgroup(frame())["Precision · encoder"], by_subgroup=True)
    chart = draw_scores(rows, "Precision", 0.8).to_dict()
    marks = [layer["mark"]["type"] for layer in chart["layer"]]
    assert marks == ["rule", "point", "point", "rule"]
    data = chart["datasets"][chart["layer"][0]["data"]["name"]] if "data" in chart["layer"][0] else None
    data = data or chart["datasets"][chart["data"]["name"]]
    assert [row["low"] for row in data] == [0.7, 0.7, 0.5]
    single = draw_scores(rows.iloc[:1]).to_dict()
    assert single["title"] == "sex F (22)"
