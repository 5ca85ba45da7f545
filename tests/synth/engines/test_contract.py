"""The contract of every engine: a new one is tested by being listed in ENGINES (and by its recipe below)."""

from __future__ import annotations

import atexit
import functools
import json
import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.shelf import FolderShelf
from synth.engines import ENGINES, Engine, find_engine
from synth.errors import SpecError
from synth.measure import MEASURES
from synth.nouns import Image, Scan
from synth.population import find_population
from synth.spec import CohortSpec
from tests.learned_models import KIND, TISSUES, make_tiny_model

# What each engine is asked for: two contrasts or views, at its coarsest resolution.
IMAGING: dict[str, dict[str, Any]] = {
    "mri": {"contrasts": ["T1w", "FLAIR"], "resolution_mm": 2.0},
    "flow": {"contrasts": [KIND], "model": ""},
    "mri-flow": {"contrasts": [KIND], "model": "", "resolution_mm": 2.0},
}
COMPUTED = ("mri",)  # by physics: what was asked for is measured back
PLACED = ("mri", "mri-flow")  # with masks and a grid in millimetres
MODELS: dict[str, dict[str, Any]] = {"flow": {}, "mri-flow": {"shape": (10, 12, 8), "labels": TISSUES}}


@functools.cache
def keep_model(engine: str) -> tuple[FolderShelf | None, str]:
    """Return a shelf with a model for an engine, if it takes one, and its hash."""
    if engine not in MODELS:
        return None, ""
    place = Path(tempfile.mkdtemp(prefix="cohortium-tests-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    model = make_tiny_model(place / "tiny", **MODELS[engine])
    (place / "tiny").rename(place / model)
    return FolderShelf(place), model


class Case:
    """One engine, a recipe for it, three subjects and their scans and images."""

    def __init__(self, name: str) -> None:
        self.engine: Engine = find_engine(name, keep_model(name)[0])
        self.spec = recipe(name)
        self.subjects = find_population("adult-brain").draw_subjects(self.spec, "test-0123456789", 0, 3)
        self.scans = {subject.subject_index: self.engine.draw_scans(self.spec, subject) for subject in self.subjects}
        self.images = {index: self.engine.render(scans) for index, scans in self.scans.items()}

    @property
    def all_images(self) -> list[Image]:
        return [image for images in self.images.values() for image in images]


def recipe(name: str, **imaging: Any) -> CohortSpec:
    visits = {"count": 2, "interval_years": 2.0, "share": 1.0}
    asked = {"engine": name, "visits": visits} | IMAGING[name] | imaging
    if "model" in asked:
        asked["model"] = f"tiny@sha256:{keep_model(name)[1]}"
    return CohortSpec.model_validate(
        {
            "name": "test",
            "subjects": 6,
            "seed": 77,
            "population": {"where": {"diagnosis": ["multiple-sclerosis"]}} if name in COMPUTED else {},
            "imaging": asked,
        }
    )


@pytest.fixture(scope="module", params=sorted(ENGINES))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def assert_same(one: Image, other: Image) -> None:
    assert one.image_id == other.image_id
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.affine, other.affine)
    assert one.intensity_scale == other.intensity_scale
    assert one.masks.keys() == other.masks.keys()
    for name in one.masks:
        np.testing.assert_array_equal(one.masks[name], other.masks[name])
    assert one.measurements == other.measurements


def copy_scan(scan: Scan) -> Scan:
    """Return the scan as it comes back from its row: parameters through JSON."""
    return replace(scan, parameters=json.loads(json.dumps(scan.parameters, allow_nan=False)))


def test_every_engine_has_a_recipe_here() -> None:
    assert IMAGING.keys() == ENGINES.keys()
    for name, engine in ENGINES.items():
        assert engine.name == name
        assert engine.version
        assert engine.description
        assert find_engine(name) is engine


def test_an_unknown_engine_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        SpecError, match=r"engine 'mir' does not exist; choose from \[.*'mri'.*\]\. Did you mean 'mri'\?"
    ):
        find_engine("mir")


def test_scans_are_ordered_and_named_and_say_who_made_them(case: Case) -> None:
    for subject in case.subjects:
        scans = case.scans[subject.subject_index]
        wanted = [(visit.visit, kind) for visit in subject.visits for kind in case.spec.imaging.contrasts]
        assert [(scan.visit, scan.kind) for scan in scans] == wanted
        for scan in scans:
            assert (scan.engine, scan.engine_version) == (case.engine.name, case.engine.version)
            assert (scan.subject_id, scan.cohort_id) == (subject.subject_id, subject.cohort_id)
            assert scan.manufacturer_model == subject.manufacturer_model
            assert scan.field_strength_t == subject.field_strength_t
    every = [scan.scan_id for scans in case.scans.values() for scan in scans]
    assert len(set(every)) == len(every)
    assert len({image.image_id for image in case.all_images}) == len(case.all_images)


def test_the_same_recipe_gives_the_same_scans_and_images(case: Case) -> None:
    again = Case(case.engine.name)
    assert again.scans == case.scans
    for index, images in case.images.items():
        for one, other in zip(images, again.images[index], strict=True):
            assert_same(one, other)


def test_draws_do_not_depend_on_other_subjects_or_their_order(case: Case) -> None:
    population = find_population("adult-brain")
    for index in (2, 0):
        (subject,) = population.draw_subjects(case.spec, "test-0123456789", index, index + 1)
        assert subject == case.subjects[index]
        assert case.engine.draw_scans(case.spec, subject) == case.scans[index]


def test_draws_depend_on_the_seed_and_on_the_subject(case: Case) -> None:
    subject = case.subjects[0]
    other_seed = case.spec.model_copy(update={"seed": 78})
    for scans in (
        case.engine.draw_scans(other_seed, subject),
        case.engine.draw_scans(case.spec, replace(subject, subject_index=5)),
    ):
        for mine, other in zip(case.scans[0], scans, strict=True):
            assert mine.parameters != other.parameters


def test_an_image_comes_back_from_its_row_alone(case: Case) -> None:
    """Through JSON, in another order, together with other subjects' scans or all by itself."""
    scans = [copy_scan(scan) for scan in (*case.scans[2], *reversed(case.scans[0]), case.scans[1][1])]
    original = {image.image_id: image for image in case.all_images}
    made = case.engine.render(scans)
    assert [image.scan.scan_id for image in made] == [scan.scan_id for scan in scans]
    for image in made:
        assert_same(image, original[image.image_id])
    alone = case.engine.render([copy_scan(case.scans[0][1])])
    assert_same(alone[0], original[alone[0].image_id])


def test_rendering_nothing_gives_nothing(case: Case) -> None:
    assert case.engine.render([]) == []


def test_pixels_masks_and_geometry_fit_together(case: Case) -> None:
    for image in case.all_images:
        assert image.pixels.dtype == np.uint16
        assert image.pixels.flags.c_contiguous
        assert image.pixels.nbytes == case.engine.image_bytes(case.spec)
        assert 200 < image.pixels.max() < 65536
        for mask in image.masks.values():
            assert mask.dtype == np.uint8
            assert mask.shape == image.pixels.shape
            assert mask.flags.c_contiguous
        assert image.intensity_scale > 0
        assert image.intensity_unit
        assert bool(image.masks) == (case.engine.name in PLACED)
        if image.affine is None or image.spacing_mm is None:
            assert case.engine.name not in PLACED
            continue
        assert image.pixels.ndim == len(image.spacing_mm)
        assert image.affine.shape == (4, 4)
        assert image.affine.dtype == np.float64
        lengths = np.linalg.norm(image.affine[:3, :3], axis=0)[: len(image.spacing_mm)]
        np.testing.assert_allclose(lengths, image.spacing_mm)
        np.testing.assert_array_equal(image.affine[3], [0, 0, 0, 1])
        if case.engine.name in COMPUTED:
            assert image.spacing_mm == (case.spec.imaging.resolution_mm,) * image.pixels.ndim


def test_every_image_is_measured_and_the_requests_are_finite(case: Case) -> None:
    if case.engine.name not in COMPUTED:
        pytest.skip("what a model draws is not measured back by its engine")
    for image in case.all_images:
        assert [found.name for found in image.measurements] == list(MEASURES)
        for found in image.measurements:
            assert math.isfinite(found.requested)
            assert math.isfinite(found.tolerance)
            assert found.unit == MEASURES[found.name].unit
    kept = [found.within for image in case.all_images for found in image.measurements]
    assert sum(kept) / len(kept) > 0.95


def test_visits_share_the_person_but_not_the_noise(case: Case) -> None:
    scans, images = case.scans[0], case.images[0]
    first, second = scans[0], scans[len(case.spec.imaging.contrasts)]
    assert (first.visit, second.visit) == (0, 1)
    assert first.kind == second.kind
    for name in ("shape", "relaxation"):
        assert first.parameters.get(name) == second.parameters.get(name)
    keys = [scan.parameters[name] for scan in scans for name in ("noise_key", "bias_key") if name in scan.parameters]
    assert len(set(keys)) == len(keys) >= len(scans)
    air = (slice(4),) * images[0].pixels.ndim
    assert not np.array_equal(images[0].pixels[air], images[len(case.spec.imaging.contrasts)].pixels[air])
    assert not np.array_equal(images[0].pixels[air], images[1].pixels[air])


def test_no_global_randomness_is_touched(case: Case) -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002 -- the point is that it stays as it is
    case.engine.render(case.engine.draw_scans(case.spec, case.subjects[1])[:1])
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert before["state"]["pos"] == after["state"]["pos"]
    np.testing.assert_array_equal(before["state"]["key"], after["state"]["key"])


def test_impossible_requests_are_refused_with_the_choice(case: Case) -> None:
    case.engine.check(case.spec)
    wrong_contrast = case.spec.imaging.contrasts[0][:-1]
    with pytest.raises(SpecError, match=rf"'{wrong_contrast}' is unknown to (engine|model) '.*'; choose from"):
        case.engine.check(recipe(case.engine.name, contrasts=[wrong_contrast]))
    with pytest.raises(SpecError, match=r"resolution_mm: (1\.7 is not available .* choose one of|.* takes none)"):
        case.engine.check(recipe(case.engine.name, resolution_mm=1.7))


def test_warming_up_changes_nothing(case: Case) -> None:
    case.engine.warm_up(case.spec)
    assert_same(case.engine.render(case.scans[0][:1])[0], case.images[0][0])
