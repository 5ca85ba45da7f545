"""The pages on a cohort of pictures whose subjects have attributes of their own and no brain."""

from __future__ import annotations

import json

import pytest

from catalog import resolve_home
from tests.catalog.chest import COHORT, build_chest
from tests.catalog.conftest import Maker

VIEWED = f"{COHORT}-s0000000-v0-radiograph-0"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = resolve_home(tmp_path_factory.mktemp("chest") / "home")
    build_chest(home, Maker)
    return home.root


def test_a_cohort_shows_the_mix_of_its_own_attributes(home, open_page):
    app = open_page(home, "cohort", cohort=COHORT)
    assert not app.exception
    charts = json.dumps([chart.proto.spec for chart in app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")])
    assert all(title in charts for title in ("Findings (several at once)", "View", "Sex"))
    assert "Diagnosis" not in charts
    columns = set(app.dataframe[0].value.columns)
    assert {"Age (years)", "Sex"} <= columns
    assert not {"Diagnosis", "Scanner", "Intracranial volume (mL)"} & columns


def test_pictures_are_listed_and_viewed(home, open_page):
    app = open_page(home, "images", cohort=COHORT)
    assert not app.exception
    assert any("Effusion, Mass · PA" in caption.value for caption in app.caption)
    app = open_page(home, "viewer", image=VIEWED)
    assert not app.exception
    assert "findings Effusion, Mass" in app.caption[0].value
    assert "20 × 16 pixels" in app.caption[0].value
    before = [url for element in app.image for url in element.value]
    assert len(before) == 1
    after = app.slider(key=f"window-{VIEWED}").set_value(100).run()
    assert [url for element in after.image for url in element.value] != before


def test_pictures_are_found_by_their_attributes(home, open_page):
    app = open_page(home, "images", cohort=COHORT)
    choices = {group.label: group.options for group in app.get("button_group")}
    assert {"Sex", "Findings"} <= set(choices)
    assert "View" not in choices, "all of them are of one view"
    everything = len(app.caption)
    app = open_page(home, "images", **{"cohort": COHORT, "attribute-findings": "Mass"})
    assert not app.exception
    found = [caption.value for caption in app.caption if " · " in caption.value]
    assert found
    assert all("Mass" in caption for caption in found)
    assert len(app.caption) < everything
    app = open_page(home, "images", **{"cohort": COHORT, "attribute-findings": "none"})
    assert not any("Mass" in caption.value for caption in app.caption)


def test_nothing_measured_is_said(home, open_page):
    app = open_page(home, "measured", cohort=COHORT)
    assert not app.exception
    assert "Nothing was measured" in app.info[0].value
