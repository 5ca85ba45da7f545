"""Plain words and charts: what is said about numbers, and what the charts hold."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from dashboard.charts import count_within, draw_adherence, draw_mix
from dashboard.components.details import flatten_parameters, tabulate_relaxation
from dashboard.components.mix import (
    list_bands,
    list_prevalences,
    requested_shares,
    tabulate_mix,
    tabulate_prevalences,
)
from dashboard.queries import find_images, mix_of, mix_of_bands
from dashboard.words import (
    explain_gate,
    explain_refusal,
    name_diagnosis,
    name_gate,
    name_parameter,
    number,
    share,
    summarise_reasons,
)

SNR = {"gate": "adherence.snr", "value": 0.5, "threshold": 0.95, "passed": False, "reason": "adherence.snr: 1 of 2"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1386.41, "1386"), (0.0444, "0.0444"), (3.9636, "3.964"), (10951.2, "10951"), (math.nan, "—"),
     (None, "—"), (1.5e-6, "1.5e-06"), (120.0, "120"), (-0.5, "-0.5")],
)  # fmt: skip
def test_number(value, text):
    assert float(text) == pytest.approx(float(number(value)), rel=1e-3) if text != "—" else number(value) == "—"
    assert number(value) == text or "e" in text


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "100 %"), (0.9375, "93.8 %"), (0.99996, "100.00 %"), (0.95, "95 %"), (0.0, "0 %")]
)
def test_share(value, text):
    assert share(value) == text


def test_names():
    assert name_diagnosis("multiple-sclerosis") == "Multiple sclerosis"
    assert name_diagnosis("alzheimer-disease") == "Alzheimer disease"
    assert name_parameter("te_ms") == "Echo time TE (ms)"
    assert name_parameter("rotation_deg") == "Rotation (°)"
    assert name_gate("population.sex") == "Mix by sex"
    assert name_gate("population.age_years") == "Mix by age band"
    assert name_gate("population.prevalence") == "Prevalence within strata"
    gate = {"gate": "population.prevalence", "value": 0.05, "threshold": 0.02, "passed": False, "reason": ""}
    assert explain_gate(gate) == "A prevalence is off by 5 % of the subjects in its stratum; only 2 % is allowed."


def test_refusal_is_explained_in_plain_words():
    assert explain_refusal("refused", [SNR["reason"]], [SNR]) == [explain_gate(SNR)]
    assert "only 50 % of the images" in explain_gate(SNR)
    assert explain_refusal("refused", ["Withdrawn by hand."], [SNR]) == ["Withdrawn by hand."]
    assert explain_refusal("released", [], [SNR]) == []
    assert summarise_reasons([SNR["reason"]]) == "1 gate failed: Signal-to-noise ratio"
    assert summarise_reasons(["A person said no: too old."]) == "A person said no: too old."


@pytest.mark.parametrize(
    ("attribute", "targets", "where", "wanted"),
    [
        ("sex", {"F": 0.6}, None, {"F": 0.6, "M": 0.4}),
        ("diagnosis", {"b": 0.25}, ["a", "b"], {"b": 0.25, "a": 0.75}),
        ("diagnosis", {"b": 0.25}, None, {"b": 0.25}),
        ("diagnosis", None, ["a", "b"], {}),
    ],
)
def test_requested_shares(attribute, targets, where, wanted):
    spec = {"population": {"where": {attribute: where}, "targets": {attribute: targets}}}
    assert requested_shares(spec, attribute, ["a", "b", "c"]) == pytest.approx(wanted)
    assert requested_shares({}, attribute, ["a"]) == {}


def test_mix_keeps_a_category_that_was_requested_but_not_drawn():
    counts = pd.DataFrame({"category": ["F"], "subjects": [3], "drawn": [1.0], "weighted": [1.0]})
    mix = tabulate_mix(counts, "sex", {"population": {"targets": {"sex": {"F": 0.5}}}})
    male = mix[mix["category"] == "Male"].set_index("series")["share"]
    assert male.to_dict() == {"Requested": 0.5, "Drawn": 0.0, "Design-weighted": 0.0}
    chart = draw_mix(mix, "Sex").to_dict()
    assert chart["title"] == "Sex"
    assert chart["layer"][0]["encoding"]["x"]["title"] == "Share of subjects (%)"


def test_age_bands_are_shown_as_requested():
    spec = {"population": {"targets": {"age_years": {"40.0-60": 0.25, "20-40": 0.5}}}}
    assert list_bands(spec) == [(20.0, 40.0), (40.0, 60.0)]
    counts = pd.DataFrame(
        {
            "category": ["20-40", "40-60", "other"],
            "subjects": [2, 1, 1],
            "drawn": [0.5, 0.25, 0.25],
            "weighted": [1, 0, 0],
        }
    )
    mix = tabulate_mix(counts, "age_years", spec)
    requested = mix[mix["series"] == "Requested"].set_index("category")["share"]
    assert requested.to_dict() == {"20–40 years": 0.5, "40–60 years": 0.25, "Other ages": 0.25}
    assert "age_years >= 20.0 AND age_years < 40.0 THEN '20-40'" in mix_of_bands(list_bands(spec))
    assert list_bands({}) == list_prevalences({}) == []


def test_prevalences_are_shown_as_requested():
    wanted = {"diagnosis": "multiple-sclerosis", "share": 0.12, "where": {"sex": ["F"], "age_years": [20, 40]}}
    asked = list_prevalences({"population": {"prevalence": [wanted, {**wanted, "where": {}}]}})
    assert [one["label"] for one in asked] == [
        "Multiple sclerosis: female, 20–40 years",
        "Multiple sclerosis: everybody",
    ]
    assert asked[0]["parameters"] == ("multiple-sclerosis", ("F",), 20.0, 40.0)
    mix = tabulate_prevalences(asked[:1], [{"subjects": 3, "drawn": 0.125, "weighted": 0.003}])
    assert mix.set_index("series")["share"].to_dict() == {"Requested": 0.12, "Drawn": 0.125, "Design-weighted": 0.003}
    chart = draw_mix(mix, "Prevalence", "Share of the stratum (%)").to_dict()
    assert chart["layer"][0]["encoding"]["x"]["title"] == "Share of the stratum (%)"


def test_adherence_chart_has_units_identity_band_and_misses():
    points = pd.DataFrame(
        {"requested": [1.0, 2.0], "measured": [1.1, 3.0], "tolerance": [0.2, 0.2], "within": [True, False],
         "kind": ["T1w", "T2w"], "image_id": ["a", "b"]}
    )  # fmt: skip
    chart = draw_adherence(points, "Lesion volume", "mL", ["T1w", "T2w"]).to_dict()
    band, line, dots, missed = chart["layer"]
    assert band["encoding"]["y"]["title"] == dots["encoding"]["y"]["title"] == "Measured (mL)"
    assert dots["encoding"]["x"]["scale"]["domain"] == dots["encoding"]["y"]["scale"]["domain"]
    identity = chart["datasets"][line["data"]["name"]]
    assert all(row["requested"] == row["measured"] for row in identity)
    assert [row["image_id"] for row in chart["datasets"][missed["data"]["name"]]] == ["b"]
    assert chart["title"]["subtitle"] == "1 of 2 images within tolerance"


def test_adherence_chart_survives_no_points_and_nan():
    points = pd.DataFrame(
        {"requested": [1.0], "measured": [math.nan], "tolerance": [0.2], "within": [False], "kind": ["T1w"],
         "image_id": ["a"]}
    )  # fmt: skip
    assert draw_adherence(points, "x", "", ["T1w"]).to_dict()
    assert count_within(points.assign(images=9000, inside=8999)) == "8,999 of 9,000 images within tolerance · 1 shown"


def test_filters_become_clauses_with_parameters_only():
    found, params = find_images("c", "s", {"kind": ["T1w'; DROP"], "age": (20, 30.5), "sex": [], "lesion": None})
    assert "DROP" not in found
    assert params == ("c", "s", ("T1w'; DROP",), 20.0, 30.5)
    with pytest.raises(ValueError, match="age_years"):
        mix_of("age_years")


def test_parameters_are_readable_and_hide_keys():
    flat = flatten_parameters({"pose": {"shift_mm": [1.0, -2.5]}, "noise_key": "0x1", "snr": 40.0, "name": "x"})
    assert flat == {"Pose: shift (mm)": "1, -2.5", "Snr": "40", "Name": "x"}
    assert tabulate_relaxation({"gm": {"t1_ms": 1500.0}}).loc["Grey matter", "T1 (ms)"] == "1500"
