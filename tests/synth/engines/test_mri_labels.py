"""The MRI engine on label maps: volumes that are met, rows that replay, recipes that are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.models import pin_models
from flows.settings import Settings, load_settings
from synth.engines import Engine, find_engine
from synth.errors import SpecError
from synth.nouns import Image, Subject, Visit
from synth.physics.grid import Grid
from synth.spec import CohortSpec, parse_spec
from tests.label_maps import block_labels, render_labels, save_map

RECIPE = """name = "somebody"
subjects = 4
seed = 4
[imaging]
contrasts = ["T1w", "FLAIR"]
resolution_mm = 2.0
[imaging.anatomy]
source = "labels"
labels = "maps"
table = "cohortium"
"""
VOLUMES = ("intracranial_volume", "brain_volume", "grey_matter_volume", "white_matter_volume", "ventricle_volume")


def somebody(index: int = 0, lesion_ml: float = 0.0) -> Subject:
    visits = (
        Visit(0, 0.0, 45.0, 1080.0, 30.0, lesion_ml, {"grey_matter_ml": 596.0}),
        Visit(1, 4.0, 49.0, 1050.0, 36.0, lesion_ml, {"grey_matter_ml": 574.0}),
    )
    return Subject(f"t-s{index}", "t", index, 45.0, "F", "", 1450.0, "SIEMENS", "Skyra", 3.0, 1.0, visits)


@dataclass(frozen=True)
class Made:
    """A folder with a recipe and two label maps, and a home that keeps them."""

    place: Path
    settings: Settings
    spec: CohortSpec

    @property
    def engine(self) -> Engine:
        return find_engine("mri", self.settings.shelf)

    def pin(self, recipe: str) -> CohortSpec:
        return pin_models(parse_spec(recipe, folder=self.place), self.settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("labels")
    (place / "maps").mkdir()
    labels, affine = render_labels(2.0), Grid(2.0).affine
    save_map(place / "maps" / "a.nii.gz", labels, affine)
    save_map(place / "maps" / "b.nii", *block_labels(labels, affine, (1, 1, 2)))
    settings = load_settings(place / "home", workers=1)
    return Made(place, settings, pin_models(parse_spec(RECIPE, folder=place), settings))


@pytest.fixture(scope="module")
def images(made: Made) -> dict[int, list[Image]]:
    """Return the images of two subjects who were drawn two maps, by map."""
    found: dict[int, list[Image]] = {}
    pins = sorted(label.partition("sha256:")[2] for label in made.spec.imaging.anatomy.labels)
    for index in range(20):
        if len(found) == 2:
            break
        chosen = made.engine.draw_scans(made.spec, replace(somebody(index), visits=somebody().visits[:1]))
        number = pins.index(chosen[0].parameters["anatomy"]["sha256"])
        if number not in found:
            found[number] = made.engine.render(made.engine.draw_scans(made.spec, somebody(index, 6.0)))
    return found


def test_the_volumes_of_every_map_come_back(images: dict[int, list[Image]]) -> None:
    assert len(images) == 2  # several maps: drawn per subject
    for own in images.values():
        assert len(own) == 4
        for image in own:
            errors = {m.name: m.measured / m.requested - 1 for m in image.measurements if m.name in VOLUMES}
            assert len(errors) == 5
            assert max(map(abs, errors.values())) < 0.01, errors
            assert all(m.within for m in image.measurements), image.measurements


def test_volumes_are_the_maps_and_change_as_the_subject_does(made: Made, images: dict[int, list[Image]]) -> None:
    first, second = (own.scan.parameters["requested"] for own in images[0][::2])
    table = np.bincount(render_labels(2.0).ravel())[1:] * 0.008
    grid = [float(table.sum()), float(table[1] + table[2]), float(table[3])]
    asked = [first["intracranial_ml"], first["brain_ml"], first["ventricle_ml"]]
    other = images[1][0].scan.parameters["requested"]
    asked_other = [other["intracranial_ml"], other["brain_ml"], other["ventricle_ml"]]
    assert asked == pytest.approx(grid, rel=1e-6) or asked_other == pytest.approx(grid, rel=1e-6)
    assert second["brain_ml"] / first["brain_ml"] == pytest.approx(1050 / 1080)
    assert second["ventricle_ml"] / first["ventricle_ml"] == pytest.approx(1.2)
    assert second["intracranial_ml"] == first["intracranial_ml"]


def test_a_row_alone_gives_the_image_again(made: Made, images: dict[int, list[Image]]) -> None:
    for image in (images[0][0], images[1][3]):
        row = json.loads(json.dumps(dict(image.scan.parameters)))
        [again] = find_engine("mri", made.settings.shelf).render([replace(image.scan, parameters=row)])
        np.testing.assert_array_equal(again.pixels, image.pixels)
        np.testing.assert_array_equal(again.masks["tissue"], image.masks["tissue"])


def test_another_file_in_the_place_of_the_map_is_not_rendered(
    made: Made, images: dict[int, list[Image]], tmp_path: Path
) -> None:
    home = Path(shutil.copytree(made.settings.home.root, tmp_path / "home"))
    first, second = (images[n][0].scan.parameters["anatomy"]["sha256"] for n in (0, 1))
    [theirs] = (home / "models" / second).iterdir()
    [own] = (home / "models" / first).iterdir()
    shutil.copyfile(theirs, own)
    other = find_engine("mri", load_settings(home).shelf)
    with pytest.raises(SpecError, match="changed or replaced"):
        other.render([images[0][0].scan])
    shutil.rmtree(home / "models" / first)
    with pytest.raises(SpecError, match="Restore it"):
        other.render([images[0][0].scan])


def test_the_population_may_be_asked_for_volumes(made: Made) -> None:
    spec = made.pin(RECIPE + 'volumes = "population"\n')
    subject = replace(somebody(), visits=somebody().visits[:1])
    image = made.engine.render(made.engine.draw_scans(spec, subject))[0]
    assert image.scan.parameters["requested"]["brain_ml"] == 1080.0
    assert all(m.within for m in image.measurements if m.name in VOLUMES), image.measurements


def test_without_deformation_the_map_is_rendered_as_it_is(made: Made) -> None:
    spec = made.pin(RECIPE + "deformation = 0\n")
    scan = made.engine.draw_scans(spec, replace(somebody(), visits=somebody().visits[:1]))[0]
    shape, alignment = scan.parameters["shape"], scan.parameters["anatomy"]["alignment"]
    assert (shape["broad_mm"], shape["fine_mm"], shape["torque_mm"]) == (0, 0, 0)
    size = np.asarray(shape["stretch"]) * scan.parameters["solution"]["scale"]
    np.testing.assert_allclose(size, alignment["size"], rtol=0.01)


def test_the_hash_is_that_of_the_maps_not_of_their_names(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.place / "maps", tmp_path / "maps")
    (tmp_path / "maps" / "a.nii.gz").rename(tmp_path / "maps" / "z.nii.gz")
    moved = parse_spec(RECIPE, folder=tmp_path)
    assert moved.content_hash == made.spec.content_hash
    assert moved.images_hash == made.spec.images_hash
    (tmp_path / "maps" / "b.nii").unlink()
    assert parse_spec(RECIPE, folder=tmp_path).content_hash != made.spec.content_hash
    assert parse_spec(RECIPE.replace("maps", "maps/z.nii.gz"), folder=tmp_path).content_hash == parse_spec(
        RECIPE, folder=tmp_path
    ).content_hash  # fmt: skip


def test_the_recipe_is_pinned_and_its_maps_are_kept(made: Made) -> None:
    labels = made.spec.imaging.anatomy.labels
    assert {label.partition("@")[0] for label in labels} == {"a.nii.gz", "b.nii"}
    assert pin_models(made.spec, made.settings) == made.spec
    kept = {path.name for path in made.settings.home.models.glob("*/*")}
    assert kept == {"labels.nii.gz", "labels.nii"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({'"maps"': '"mops"'}, "'mops': there is no such file or folder"),
        ({'"maps"': '"recipe.toml"'}, "label maps are NIfTI files"),
        ({'"maps"': '"empty"'}, "no NIfTI file"),
        ({'labels = "maps"': ""}, "needs 'labels'"),
        ({'table = "cohortium"': ""}, "needs 'table'"),
        ({'"cohortium"': '"synthsec"'}, "Did you mean 'synthseg'?"),
        ({'source = "labels"': ""}, "belongs to label maps"),
        ({'"cohortium"': "{ grey_matter = [2], white_matter = [3] }"}, "not 1, 4"),
        ({'source = "labels"': 'source = "labels"\ndeformation = 2'}, "less than or equal to 1"),
    ],
)
def test_recipes_that_cannot_be_are_refused(made: Made, change: dict[str, Any], words: str) -> None:
    (made.place / "recipe.toml").write_text(RECIPE)
    (made.place / "empty").mkdir(exist_ok=True)
    recipe = RECIPE
    for old, new in change.items():
        recipe = recipe.replace(old, new)
    with pytest.raises(SpecError) as caught:
        made.pin(recipe)
    assert words in str(caught.value)


def test_engines_without_label_maps_refuse_them(made: Made) -> None:
    with pytest.raises(SpecError, match="Restore it there"):
        find_engine("mri").check(made.spec)
