"""The scanner mix: cleaning adds up, one spelling per maker, only field strengths the engine knows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from synth.errors import PopulationError
from synth.population import find_population
from synth.population.scanner_models import MODEL_BY_KEY, MODELS, maker_name, model_key
from synth.population.scanners import clean_rows, draw_scanner, load_scanner_mix, read_mr_rows, restrict_mix
from synth.seeds import stream


def make_row(maker: str, model: str, part: str = "BRAIN", **other: Any) -> dict[str, str | int]:
    return {
        "collection_id": "c",
        "PatientID": "p",
        "BodyPartExamined": part,
        "Manufacturer": maker,
        "ManufacturerModelName": model,
        "StudyDescription": "",
        "series": 2,
        **other,
    }


def test_cleaning_of_the_real_index_adds_up() -> None:
    mix, report = load_scanner_mix()
    assert report.series_in == sum(int(row["series"]) for row in read_mr_rows())
    assert report.series_in == report.series_kept + sum(report.dropped.values())
    assert report.series_in > 100_000
    assert report.series_kept > 3_000
    assert report.patients_kept > 500
    assert all(count > 0 for count in report.dropped.values())
    assert find_population("adult-brain").cleaning_report() == report
    assert sum(scanner.weight for scanner in mix) == pytest.approx(1, abs=1e-12)


def test_the_real_mix_is_sorted_and_has_one_spelling_and_known_fields() -> None:
    mix, report = load_scanner_mix()
    makers = {scanner.manufacturer for scanner in mix}
    assert makers <= {"Siemens", "GE", "Philips", "Canon", "Hitachi"}
    assert {"Siemens", "GE", "Philips"} <= makers
    assert {scanner.field_strength_t for scanner in mix} == {1.5, 3.0}
    keys = [(s.manufacturer, s.model, s.field_strength_t) for s in mix]
    assert keys == sorted(set(keys))
    assert len({model.casefold() for _, model, _ in keys}) == len({model for _, model, _ in keys})
    assert len(report.maker_spellings["Siemens"]) > 1  # there was something to merge


@pytest.mark.parametrize(
    ("row", "species", "reason"),
    [
        (make_row("SIEMENS", "Trio"), "Mouse", "not a human patient (animal or phantom collection)"),
        (make_row("SIEMENS", "Trio", "BREAST"), "Human", "not a brain"),
        (make_row("SIEMENS", "Trio", ""), "Human", "not a brain"),
        (make_row("", "Trio"), "Human", "maker missing"),
        (make_row("Unknown manufacturer", "Unknown model"), "Human", "maker missing"),
        (make_row("SIEMENS", " "), "Human", "model missing"),
        (make_row("SIEMENS", "syngo.via.VB10A"), "Human", "model is post-processing software"),
        (make_row("Imaging Biometrics LLC", "Trio"), "Human", "maker makes no MR scanners"),
        (make_row("SIEMENS", "Achieva"), "Human", "model belongs to another maker"),
        (make_row("SIEMENS", "Frobnicator"), "Human", "model not in the reviewed table"),
        (make_row("Hitachi Medical Corporation", "OASIS"), "Human", "field strength other than 1.5 or 3 T"),
    ],
)
def test_each_impossible_row_is_dropped_for_its_reason(row: dict[str, str | int], species: str, reason: str) -> None:
    good = make_row("Siemens Healthineers", "MAGNETOM Skyra_fit")
    mix, report = clean_rows([row, {**good, "collection_id": "ok"}], {"c": (species, "")})
    assert report.dropped == {reason: 2}
    assert (report.series_in, report.series_kept) == (4, 2)
    assert [(s.manufacturer, s.model, s.field_strength_t, s.weight) for s in mix] == [("Siemens", "Skyra", 3.0, 1.0)]


def test_missing_body_part_is_a_brain_only_with_a_hint() -> None:
    rows = [
        make_row("SIEMENS", "Avanto", ""),
        make_row("SIEMENS", "Avanto", "", StudyDescription="BRAIN^ROUTINE"),
        make_row("SIEMENS", "Avanto", "HEADNECK", StudyDescription="MR head-neck"),
        make_row("SIEMENS", "Avanto", "", collection_id="tumours"),
        make_row("SIEMENS", "Avanto", "BREAST", StudyDescription="brain"),
    ]
    _, report = clean_rows(rows, {"c": ("Human", "Chest"), "tumours": ("Human", "Brain")})
    assert (report.series_kept, report.dropped) == (4, {"not a brain": 6})


def test_patients_count_once_per_scanner_and_ambiguous_models_are_split() -> None:
    rows = [make_row("SIEMENS", "Avanto", StudyDescription=f"brain {i}") for i in range(5)]
    rows.append(make_row("Philips Healthcare", "Achieva dStream", PatientID="q"))
    mix, report = clean_rows(rows, {})
    assert [(s.model, s.field_strength_t, s.weight) for s in mix] == [
        ("Achieva", 1.5, 0.25),
        ("Achieva", 3.0, 0.25),
        ("Avanto", 1.5, 0.5),
    ]
    assert (report.patients_kept, report.ambiguous_patients) == (2, 1)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("SIEMENS", "Siemens"),
        ("Siemens HealthCare GmbH", "Siemens"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("General Electric", "GE"),
        ("Philips Medical Systems, Inc.", "Philips"),
        ("TOSHIBA_MEC", "Canon"),
        ("Genentech", None),
    ],
)
def test_maker_spellings(raw: str, name: str | None) -> None:
    assert maker_name(raw) == name


def test_reviewed_table_is_consistent() -> None:
    assert len(MODEL_BY_KEY) == len(MODELS)
    for entry in MODELS:
        assert MODEL_BY_KEY[model_key(entry.model)] is entry
        assert sum(share for _, share in entry.fields_t) == pytest.approx(1, abs=1e-12)
        assert maker_name(entry.maker) == entry.maker


def test_draws_follow_the_weights() -> None:
    mix = restrict_mix(("Siemens",), None)
    counts = Counter(draw_scanner(mix, stream(0, index, -1, "test")).model for index in range(4000))
    for scanner in mix:
        assert counts[scanner.model] / 4000 == pytest.approx(scanner.weight, abs=0.025)


def test_restriction_that_leaves_nothing_names_what_exists() -> None:
    with pytest.raises(PopulationError, match=r"Siemens 1\.5 T, Siemens 3 T"):
        restrict_mix(("Hitachi",), (3.0,))
