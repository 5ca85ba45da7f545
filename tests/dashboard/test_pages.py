"""Every page on real data through Streamlit's AppTest: what it says, what filters do, what odd URLs get."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from catalog import open_catalog

PAGES = ("cohorts", "cohort", "images", "viewer", "measured", "scorecard")


def read_text(app: AppTest) -> str:
    """Return what a page says."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.warning, app.error, app.success)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def find_pictures(app: AppTest) -> list[str]:
    """Return the addresses of the pictures, which name their content."""
    return [url for element in app.image for url in element.value]


def count_found(app: AppTest) -> int:
    """Return how many images the grid page says it found."""
    line = next(element.value for element in app.markdown if " images" in element.value)
    return int(line.split("**")[1])


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_real_data_marked_as_synthetic(shown, open_page, page):
    app = open_page(shown.home, page)
    assert not app.exception
    assert app.title
    assert "Synthetic data" in read_text(app)


@pytest.mark.parametrize("page", PAGES)
def test_page_without_catalog_says_what_to_do(tmp_path, open_page, page):
    app = open_page(tmp_path / "nothing", page)
    assert not app.exception
    assert "cohortium build" in read_text(app)
    assert "Synthetic data" in read_text(app)


@pytest.mark.parametrize("page", PAGES)
def test_page_of_an_empty_catalog_says_what_to_do(empty_home, open_page, page):
    app = open_page(empty_home, page)
    assert not app.exception
    assert "holds no cohort yet" in read_text(app)
    assert "Synthetic data" in read_text(app)


@pytest.mark.parametrize("page", ["cohort", "images", "measured", "viewer", "scorecard"])
@pytest.mark.parametrize("wanted", ["../../etc/passwd", "'; DROP TABLE cohorts; --", "`<script>`"])
def test_unknown_cohort_in_the_url_is_explained(shown, open_page, page, wanted):
    app = open_page(shown.home, page, cohort=wanted)
    assert not app.exception
    assert "There is no cohort" in read_text(app)


@pytest.mark.parametrize("wanted", ["nonsense", "../x", "%00"])
def test_unknown_image_in_the_url_is_explained(shown, open_page, wanted):
    app = open_page(shown.home, "viewer", image=wanted)
    assert not app.exception
    assert "There is no image" in read_text(app)
    assert "Synthetic data" in read_text(app)


def test_a_nearly_right_image_is_suggested(shown, open_page):
    app = open_page(shown.home, "viewer", image=shown.image.replace("flair", "flare"))
    assert f"Did you mean `{shown.image}`" in read_text(app)


@pytest.mark.parametrize("odd", [{"from": "-1"}, {"from": "x"}, {"from": "99999999999"}, {"subject": "nobody"}])
def test_odd_places_in_the_subject_table_are_survived(shown, open_page, odd):
    assert not open_page(shown.home, "cohort", cohort=shown.released, **odd).exception


@pytest.mark.parametrize("odd", [{"x": "9999"}, {"z": "abc"}, {"tissue": "maybe"}, {"convention": "sideways"}])
def test_odd_places_in_the_viewer_are_survived(shown, open_page, odd):
    app = open_page(shown.home, "viewer", image=shown.image, **odd)
    assert not app.exception
    assert len(find_pictures(app)) == 3


@pytest.mark.parametrize("odd", [{"page": "77"}, {"page": "x"}, {"kind": "PET"}, {"age": "1"}, {"subject": "nobody"}])
def test_odd_filters_are_survived(shown, open_page, odd):
    assert not open_page(shown.home, "images", cohort=shown.released, **odd).exception


def test_cohorts_lists_all_with_status_and_reasons(shown, open_page):
    app = open_page(shown.home)
    table = app.dataframe[0].value.set_index("Cohort")
    assert table.loc[shown.released, "Status"] == "✓ Released"
    assert table.loc[shown.refused, "Status"] == "✗ Refused"
    assert table.loc[shown.refused, "Why not released"] == "1 gate failed: Signal-to-noise ratio"
    with open_catalog(shown.home) as catalog:
        assert table.loc[shown.released, "Images"] == catalog.sql("SELECT count(*) FROM released_images").scalar()


def test_released_only_hides_the_others(shown, open_page):
    app = open_page(shown.home)
    app.toggle(key="released").set_value(True).run()
    assert list(app.dataframe[0].value["Cohort"]) == [shown.released]


def test_cohort_says_why_it_is_refused(shown, open_page):
    app = open_page(shown.home, "cohort", cohort=shown.refused)
    assert "Signal-to-noise ratio: only 50 % of the images show what was requested; 95 % must." in app.error[0].value
    gates = app.table[0].value
    assert gates.iloc[0]["Gate"] == "Signal-to-noise ratio as requested"
    assert gates.iloc[0]["Threshold"] == "at least 95 %"


def test_cohort_shows_gates_mix_and_subjects(shown, open_page):
    app = open_page(shown.home, "cohort", cohort=shown.released)
    assert not app.error
    charts = json.dumps([chart.proto.spec for chart in app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")])
    assert charts.count("Share of subjects (%)") == 4 * charts.count("Share of the stratum (%)") > 0
    assert "requested bands" in charts
    with open_catalog(shown.home) as catalog:
        query = "SELECT count(*) FROM subjects WHERE cohort_id = ?"
        assert len(app.dataframe[0].value) == catalog.sql(query, [shown.released]).scalar()


def test_cohort_shows_how_many_unweighted_subjects_it_is_worth(shown, open_page):
    app = open_page(shown.home, "cohort", cohort=shown.released)
    line = next(element.value for element in app.markdown if "Effective sample size" in element.value)
    with open_catalog(shown.home) as catalog:
        query = "SELECT scores_json::JSON -> 'effective_sample_size' FROM reports WHERE cohort_id = ?"
        stored = float(catalog.sql(query, [shown.released]).scalar())
        weights = catalog.sql("SELECT design_weight FROM subjects WHERE cohort_id = ?", [shown.released]).df()
    kish = weights["design_weight"].sum() ** 2 / (weights["design_weight"] ** 2).sum()
    assert stored == pytest.approx(kish, rel=1e-12)
    assert line == f"**Effective sample size: {kish:,.0f}** of 6 subjects"
    unweighted = open_page(shown.home, "cohort", cohort=shown.refused).markdown
    assert "**Effective sample size: 2** of 2 subjects" in [element.value for element in unweighted]


def test_age_bands_and_prevalences_are_gates(shown, open_page):
    gates = open_page(shown.home, "cohort", cohort=shown.released).table[0].value
    assert {"Mix by age band", "Prevalence within strata"} <= set(gates["Gate"])


def test_selected_subject_shows_its_images(shown, open_page):
    subject = shown.image.partition("-v")[0]
    app = open_page(shown.home, "cohort", cohort=shown.released, subject=subject)
    with open_catalog(shown.home) as catalog:
        images = catalog.sql("SELECT count(*) FROM images WHERE subject_id = ?", [subject]).scalar()
    assert len(find_pictures(app)) == images > 0


def test_another_cohort_can_be_chosen(shown, open_page):
    app = open_page(shown.home, "cohort", cohort=shown.released)
    app.selectbox[0].set_value(shown.refused).run()
    assert app.query_params["cohort"] == shown.refused
    assert app.title[0].value == "refused"


FILTERS = {
    "kind": (["T1w"], "kind = 'T1w'"),
    "visit": ([1], "visit = 1"),
    "diagnosis": (["none"], "diagnosis = 'none'"),
    "sex": (["F"], "sex = 'F'"),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filter_changes_what_is_found(shown, open_page, name):
    chosen, clause = FILTERS[name]
    app = open_page(shown.home, "images", cohort=shown.released)
    everything = count_found(app)
    app.button_group(key=name).set_value(chosen).run()
    with open_catalog(shown.home) as catalog:
        query = (
            "SELECT count(*) FROM (SELECT i.kind, i.visit, p.diagnosis, p.sex FROM released_images AS i "
            f"JOIN subjects AS p ON p.subject_id = i.subject_id) WHERE {clause}"
        )
        expected = catalog.sql(query).scalar()
    assert count_found(app) == expected < everything
    assert len(find_pictures(app)) == expected


def test_range_filters_change_what_is_found(shown, open_page):
    app = open_page(shown.home, "images", cohort=shown.released)
    everything = count_found(app)
    low, high = app.slider(key="lesion").value
    app.slider(key="lesion").set_value((high / 100, high)).run()
    with open_catalog(shown.home) as catalog:
        query = "SELECT count(*) FROM images JOIN scans USING (scan_id) WHERE lesion_ml > 0 AND scans.cohort_id = ?"
        assert count_found(app) == catalog.sql(query, [shown.released]).scalar() < everything
    assert low == 0


def test_filters_come_from_the_url(shown, open_page):
    app = open_page(shown.home, "images", cohort=shown.released, kind="T1w", subject=shown.image.partition("-v")[0])
    with open_catalog(shown.home) as catalog:
        query = "SELECT count(*) FROM images WHERE kind = 'T1w' AND subject_id = ?"
        assert count_found(app) == catalog.sql(query, [shown.image.partition("-v")[0]]).scalar()


def test_nothing_found_is_said(shown, open_page):
    app = open_page(shown.home, "images", cohort=shown.released, subject="nobody")
    assert "No image passes" in read_text(app)


def test_viewer_shows_three_slices_measurements_and_protocol(shown, open_page):
    app = open_page(shown.home, "viewer", image=shown.image)
    assert len(find_pictures(app)) == 3
    measured = app.table[0].value
    with open_catalog(shown.home) as catalog:
        image = catalog.image(shown.image)
    assert len(measured) == len(image.measurements)
    assert [("✓" in mark) for mark in measured[""]] == [found.within for found in image.measurements]
    assert "Echo time TE (ms)" in list(app.table[1].value["Protocol"])
    assert "Lesion" in "".join(element.proto.body for element in app.get("html"))


@pytest.mark.parametrize(
    ("kind", "key", "value", "changed"),
    [
        ("slider", "z", 20, 1),
        ("toggle", "tissue", True, 3),
        ("toggle", "cross", False, 3),
        ("slider", "opacity", 90, 0),
    ],
)
def test_viewer_controls_change_the_pictures(shown, open_page, kind, key, value, changed):
    app = open_page(shown.home, "viewer", image=shown.image, cross="false" if key == "z" else "true")
    before = find_pictures(app)
    getattr(app, kind)(key=key).set_value(value).run()
    assert not app.exception
    assert sum(a != b for a, b in zip(before, find_pictures(app), strict=True)) == changed


def test_viewer_switches_contrast(shown, open_page):
    app = open_page(shown.home, "viewer", image=shown.image)
    other = "T1w" if "flair" in shown.image else "FLAIR"
    app.button_group(key=f"kind-{shown.image}").set_value(other).run()
    assert app.query_params["image"] != shown.image
    assert app.title[0].value.startswith(other)


def test_measured_shows_a_chart_for_each_measurement(shown, open_page):
    app = open_page(shown.home, "measured", cohort=shown.released)
    with open_catalog(shown.home) as catalog:
        names = catalog.sql("SELECT count(DISTINCT name) FROM measurements").scalar()
    charts = app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")
    assert len(charts) == names
    assert "Requested (mL)" in json.dumps([chart.proto.spec for chart in charts])


def test_damaged_shard_is_named_without_traceback(shown, tmp_path: Path, open_page):
    home = Path(shutil.copytree(shown.home, tmp_path / "home"))
    with open_catalog(home) as catalog:
        files = [home / shard.path for shard in catalog.shards()]
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for page in ("viewer", "images"):
        app = open_page(home, page)
        assert not app.exception
        assert app.error or app.warning


def test_logo_and_icon_are_local(shown):
    folder = Path(__file__).parents[2] / "dashboard" / "assets"
    assert "http" not in (folder / "style.css").read_text()
    assert {path.suffix for path in folder.iterdir()} <= {".svg", ".css"}
