"""Whole scorecards with the default policy: five kinds of bad images fail the gate meant for them, real ones pass.

All on made-up patients; tests/flows does the same on real radiographs where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from synth.errors import PermanentError
from synth.evaluation.images.features.encoder_lessons import EncoderSettings
from synth.evaluation.images.features.registry import FeatureSettings
from synth.evaluation.images.report import ImageReport
from synth.evaluation.images.scorecard import FAMILIES, ScorecardSettings, check_settings, evaluate_images
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.evaluation.images.utility.settings import TrainingSettings, UtilitySettings
from synth.evaluation.metric import Family
from synth.evaluation.metrics import METRICS, find_metric
from synth.evaluation.policy import apply_policy, load_policy
from synth.seeds import stream
from tests.synth.evaluation.images.phantoms import draw_phantoms, draw_reference

PEOPLE = 260


@pytest.fixture(scope="module")
def real() -> RealImages:
    return draw_reference()


@pytest.fixture(scope="module")
def judge(real: RealImages, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[ImageReport, set[str]]]:
    folder = tmp_path_factory.mktemp("encoders")
    encoder = EncoderSettings(size=32, widths=(8, 16, 32, 64), steps=80, check=40)
    training = TrainingSettings(steps=80, size=32, widths=(8, 16, 32))
    utility = UtilitySettings(training, arms=("real", "synthetic"), seeds=2, real_patients=())

    def run(images: ImageSet, *families: Family) -> tuple[ImageReport, set[str]]:
        settings = ScorecardSettings(
            families=families or FAMILIES, utility=utility, seed=3, folder=folder, encoding=FeatureSettings(encoder)
        )
        report = evaluate_images(images, real, settings)
        failed = {gate.gate for gate in apply_policy(load_policy(), report) if not gate.passed}
        return report, failed

    return run


@pytest.fixture(scope="module")
def fair(judge) -> tuple[ImageReport, set[str]]:
    return judge(draw_phantoms(PEOPLE, seed=2))


def test_other_real_patients_pass_every_gate(fair) -> None:
    report, failed = fair
    assert report.controls_valid, report.controls
    assert not failed


def test_report_holds_every_metric_and_json_is_plain(fair) -> None:
    report, _ = fair
    families = {find_metric(score.name).family for score in report.scores}
    assert families == {"fidelity", "diversity", "adherence", "utility", "privacy", "fairness"}
    document = report.to_json()
    assert {"family", "name", "features", "subgroup", "value", "low", "high", "control", "goal"} <= set(
        document["metrics"][0]
    )
    for score in report.scores:
        assert (score.value is None) == bool(score.value is None and score.reason), score
        metric = METRICS[score.name.partition(".")[0]]
        if score.value is not None:
            assert metric.low - 1e-9 <= score.value <= metric.high + 1e-9, score


def test_an_overfitted_generator_fails_privacy(judge, real: RealImages) -> None:
    rng = stream(1, -1, -1, "test/overfit")
    copies = real.train.images(slice(None)) + 0.02 * rng.normal(size=real.train.stored.shape)
    stored = np.round(np.clip(copies, 0, 1) * 65535).astype(np.uint16)
    _, failed = judge(
        replace(real.train, name="overfitted", stored=stored, records=_rename(real.train.records)), "privacy"
    )
    assert {"copies", "membership"} <= failed


def test_a_collapsed_generator_fails_diversity(judge) -> None:
    few = draw_phantoms(8, seed=5)
    rng = stream(1, -1, -1, "test/collapse")
    repeated = few.select(np.resize(np.arange(len(few)), PEOPLE))
    stored = np.clip(repeated.stored + 400 * rng.normal(size=repeated.stored.shape), 0, 65535).astype(np.uint16)
    _, failed = judge(
        replace(repeated, name="collapsed", stored=stored, records=_rename(repeated.records)), "diversity"
    )
    assert {"coverage", "vendi"} & failed


def test_shuffled_labels_fail_utility_and_adherence(judge) -> None:
    images = draw_phantoms(PEOPLE, seed=6)
    order = stream(1, -1, -1, "test/shuffle").permutation(len(images))
    records = images.records
    for name in ("sex", "view", "age_years", "findings"):
        place = records.schema.get_field_index(name)
        records = records.set_column(place, name, records.column(name).take(pa.array(order)))
    _, failed = judge(replace(images, name="shuffled", records=records), "adherence", "utility")
    assert {"attributes", "utility"} <= failed


def test_a_starved_subgroup_fails_fairness(judge) -> None:
    images = draw_phantoms(2 * PEOPLE, seed=7)
    women = np.flatnonzero(np.array(images.values("sex")) == "F")
    men = np.flatnonzero(np.array(images.values("sex")) == "M")
    _, failed = judge(images.select(np.concatenate([men, women[:4]]), "starved"), "fairness")
    assert "representation" in failed


def test_a_reference_that_is_too_small_gives_reasons_and_no_numbers(real: RealImages) -> None:
    small = replace(real, train=real.train.select(np.arange(5)))
    report = evaluate_images(draw_phantoms(20, seed=2), small)
    measured = {score.name for score in report.scores if score.value is not None}
    assert measured == {"usable_images", "ms_ssim_pairs"}
    assert all("30 of each are needed" in score.reason for score in report.scores if score.value is None)
    assert not report.controls_valid


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (ScorecardSettings(families=("fidelty",)), "fidelity"),
        (ScorecardSettings(utility="none"), "off"),
        (ScorecardSettings(features=()), "encoder"),
    ],
)
def test_settings_that_do_not_exist_are_named(settings: ScorecardSettings, match: str) -> None:
    with pytest.raises(PermanentError, match=match):
        check_settings(settings)


def _rename(records: pa.Table) -> pa.Table:
    names = pa.array([f"s{index}" for index in range(records.num_rows)])
    return records.set_column(0, "image_id", names).set_column(1, "patient_id", names)
