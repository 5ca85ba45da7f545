"""Label maps: what is refused, where a map lies over the template, and a person made of it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synth.errors import SpecError
from synth.physics import render
from synth.physics.grid import LABELS, Grid, node_positions_mm
from synth.physics.individual import Person, sample_person
from synth.physics.label_maps import LabelMap, fill_fluid, open_label_map, read_label_map
from synth.physics.label_person import Alignment, align_map, find_ventricles, make_person, measure_map
from synth.physics.label_tables import TABLES, TISSUES, find_table
from synth.physics.lesions import no_lesions
from synth.physics.template import load_template
from tests.label_maps import block_labels, place_template, render_labels, save_map

TABLE = TABLES["cohortium"]
CENTRE = np.array([0.0, -17.0, 4.0])


@pytest.fixture(scope="module")
def labels() -> NDArray[np.uint8]:
    return render_labels(1.0)


@pytest.fixture(scope="module")
def whole(labels: NDArray[np.uint8]) -> LabelMap:
    return LabelMap(labels, Grid(1.0).affine, has_ventricles=True)


@pytest.fixture(scope="module")
def aligned(whole: LabelMap) -> Alignment:
    return align_map(whole)


@pytest.fixture(scope="module")
def person(whole: LabelMap, aligned: Alignment) -> Person:
    return make_person(whole, aligned)


def render_at_home(person: Person, alignment: Alignment, grid: Grid) -> render.Rendering:
    """Render a person where its map lies: white matter 2, grey matter 1, nothing else, no noise."""
    turned = (node_positions_mm(grid) - alignment.centre_mm) @ np.linalg.inv(alignment.matrix).T
    nodes = turned + CENTRE - load_template().origin_mm
    nodes = np.concatenate([nodes, np.ones((*nodes.shape[:3], 1))], axis=-1)
    return render.render_volumes(
        grid, person, nodes, (0.0, 0.0), no_lesions(), signals=np.array([[1, 2, 0, 0]], np.float32),
        sigma=np.zeros(1, np.float32), scale=np.full(1, 1000, np.float32), keys=np.zeros((1, 2), np.uint32),
    )  # fmt: skip


def dice(first: NDArray[np.uint8], second: NDArray[np.uint8], value: int) -> float:
    return float(2 * ((first == value) & (second == value)).sum() / ((first == value).sum() + (second == value).sum()))


def steepness(image: NDArray[np.uint16], tissue: NDArray[np.uint8]) -> float:
    """Return the median slope per voxel where white matter touches grey matter and fluid is not near."""
    border = np.zeros(tissue.shape, bool)
    border[1:-1, 1:-1, 1:-1] = True
    touches = np.zeros(tissue.shape, bool)
    for axis in range(3):
        for step in (-1, 1):
            near = np.roll(tissue, step, axis)
            border &= (near == 2) | (near == 3)
            touches |= near == 2
    slope = np.sqrt(sum(g**2 for g in np.gradient(image.astype(np.float32))))
    return float(np.median(slope[border & touches & (tissue == 3)]))


def test_the_map_is_laid_over_the_template_where_it_lies(aligned: Alignment) -> None:
    """The map is the template's own anatomy, turned and moved by what place_template says."""
    angles, shift, size = place_template()
    np.testing.assert_allclose(aligned.rotation_deg, angles, atol=1.5)
    np.testing.assert_allclose(aligned.centre_mm, shift, atol=1.5)
    np.testing.assert_allclose(aligned.size, size, rtol=0.02)


def test_a_person_has_the_tissues_of_the_map(
    labels: NDArray[np.uint8], person: Person, aligned: Alignment, whole: LabelMap
) -> None:
    seen = render_at_home(person, aligned, Grid(1.0))
    for name, least in (("csf", 0.9), ("grey_matter", 0.92), ("white_matter", 0.95), ("ventricles", 0.98)):
        assert dice(seen.tissue, labels, LABELS[name]) > least, name
    found, asked = np.bincount(seen.tissue.ravel()) / 1000, measure_map(whole, aligned)
    assert found[1:].sum() == pytest.approx(asked["intracranial_ml"], rel=0.01)
    assert found[4] == pytest.approx(asked["ventricle_ml"], rel=0.02)
    assert found[2] + found[3] == pytest.approx(asked["brain_ml"], rel=0.06)  # without the solver, which meets it


def test_edges_are_nearly_as_crisp_as_a_sampled_persons(person: Person, aligned: Alignment) -> None:
    grid = Grid(1.0)
    own = render_at_home(person, aligned, grid)
    sampled = render_at_home(sample_person(7), aligned, grid)
    assert steepness(own.images[0], own.tissue) > 0.9 * steepness(sampled.images[0], sampled.tissue)


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 1, 3)])
def test_coarse_maps_make_fine_people(labels: NDArray[np.uint8], factors: tuple[int, int, int]) -> None:
    """At 1 mm a coarse map agrees with the fine one as far as its own voxels do."""
    coarse, affine = block_labels(labels, Grid(1.0).affine, factors)
    read = LabelMap(coarse, affine, has_ventricles=True)
    alignment = align_map(read)
    seen = render_at_home(make_person(read, alignment), alignment, Grid(1.0))
    blown = np.zeros_like(labels)
    large = coarse.repeat(factors[0], 0).repeat(factors[1], 1).repeat(factors[2], 2)
    blown[tuple(slice(0, n) for n in large.shape)] = large
    for value in (2, 3):
        assert dice(seen.tissue, labels, value) > dice(blown, labels, value) - 0.015 > 0.7


def test_axes_in_any_order_and_oblique_ones_are_the_same_anatomy(
    whole: LabelMap, aligned: Alignment, tmp_path: Path
) -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (6, -5, 8), degrees=True).as_matrix()
    turn[:3, 3] = (12, -7, 30)
    order = np.zeros((4, 4))  # voxel of the file -> voxel of the map: axes z, x, y, the first reversed
    order[[2, 0, 1], [0, 1, 2]] = (-1, 1, 1)
    order[2, 3], order[3, 3] = whole.tissue.shape[2] - 1, 1
    moved = np.ascontiguousarray(whole.tissue.transpose(2, 0, 1)[::-1])
    read = read_label_map(save_map(tmp_path / "a.nii.gz", moved, turn @ whole.affine @ order), TABLE)
    found = align_map(read)
    np.testing.assert_allclose(found.matrix, turn[:3, :3] @ aligned.matrix, atol=0.03)
    np.testing.assert_allclose(found.centre_mm, turn[:3, :3] @ aligned.centre_mm + turn[:3, 3], atol=1.0)
    assert measure_map(read, found) == pytest.approx(measure_map(whole, aligned), rel=1e-6)


def test_ventricles_are_found_among_the_fluid(whole: LabelMap, aligned: Alignment) -> None:
    tissue = np.where(whole.tissue == LABELS["ventricles"], LABELS["csf"], whole.tissue).astype(np.uint8)
    found = find_ventricles(LabelMap(tissue, whole.affine, has_ventricles=False), aligned)
    assert dice(found.tissue, whole.tissue, LABELS["ventricles"]) > 0.9


def test_a_map_that_ends_at_the_pia_gets_fluid_and_one_with_fluid_does_not(whole: LabelMap) -> None:
    assert fill_fluid(whole) is whole.tissue
    bare = np.where(whole.tissue == LABELS["csf"], 0, whole.tissue).astype(np.uint8)
    filled = fill_fluid(LabelMap(bare, whole.affine, has_ventricles=True))
    np.testing.assert_array_equal(filled[bare > 0], bare[bare > 0])
    assert dice(filled > 0, whole.tissue > 0, True) > 0.96


# ------------------------------------------------------------------------------------------------------------ refusals


def small(value: int = 3) -> NDArray[np.int16]:
    """Return 80 x 80 x 80 voxels of 2 mm with a ball of white matter in grey matter, 1,600 mL."""
    x, y, z = np.mgrid[:80, :80, :80] - 39.5
    radius = np.sqrt(x**2 + y**2 + z**2)
    return np.where(radius < 36, np.where(radius < 29, value, 2), 0).astype(np.int16)


AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("made", "affine", "words"),
    [
        (small() + 0.25, AFFINE, ["fractions", "whole numbers"]),
        (small(77), AFFINE, ["not 77", "imaging.anatomy.table"]),
        (small() - 1, AFFINE, ["-1", "0 to 65535"]),
        (small() * 0, AFFINE, ["no brain"]),
        (np.minimum(small(), 2), AFFINE, ["0 mL of white matter", "10 % at least"]),
        (small(), np.diag([4.0, 4.0, 4.0, 1]), ["mL", "400 to 2500 mL"]),
        (small(), np.diag([0.002, 0.002, 0.002, 1]), ["0.3 to 8 mm"]),
        (small(), AFFINE + np.eye(4, k=1) * [[0, 1.8, 0, 0]] * 1, ["sheared"]),
        (np.stack([small()] * 2, axis=-1), AFFINE, ["80 x 80 x 80 x 2", "3 dimensions"]),
    ],
    ids=["float", "unknown", "negative", "empty", "one tissue", "giant", "tiny", "sheared", "4D"],
)
def test_what_is_no_brain_is_refused(
    made: NDArray[np.generic], affine: NDArray[np.float64], words: list[str], tmp_path: Path
) -> None:
    path = save_map(tmp_path / "x.nii.gz", made, affine)
    with pytest.raises(SpecError) as caught:
        read_label_map(path, TABLE)
    assert all(word in str(caught.value) for word in ["imaging.anatomy.labels", "x.nii.gz", *words]), caught.value


def test_files_that_are_no_nifti_or_do_not_say_how_they_lie_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_bytes(b"not an image" * 100)
    with pytest.raises(SpecError, match="does not begin with the header"):
        read_label_map(tmp_path / "x.nii", TABLE)
    image = nib.Nifti1Image(small(), AFFINE)
    image.set_sform(AFFINE, code=0)
    image.set_qform(AFFINE, code=0)
    nib.save(image, tmp_path / "y.nii")
    with pytest.raises(SpecError, match="sform and qform are unset"):
        read_label_map(tmp_path / "y.nii", TABLE)


def test_a_map_with_other_bytes_is_not_opened(tmp_path: Path) -> None:
    path = save_map(tmp_path / "x.nii.gz", small(), AFFINE)
    with pytest.raises(SpecError, match="changed or replaced"):
        open_label_map(path, "0" * 64, tuple(TABLE.items()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("freesurver", "Did you mean 'freesurfer'?"),
        ({"grey": [1]}, "'grey' is unknown"),
        ({"grey_matter": [1]}, "'white_matter' has no number"),
        ({"grey_matter": [1, 2], "white_matter": [2]}, "label 2 is listed more than once"),
        ({"grey_matter": [1], "white_matter": [-2]}, "-2 is no label"),
    ],
)
def test_impossible_tables_are_refused(table: str | dict[str, list[int]], words: str) -> None:
    with pytest.raises(SpecError, match=words.replace("?", "\\?")):
        find_table(table)


def test_shipped_tables_give_each_label_one_tissue() -> None:
    for table in TABLES.values():
        assert set(table) == set(TISSUES)
        numbers = [number for own in table.values() for number in own]
        assert len(set(numbers)) == len(numbers)
        assert 0 in table["background"]
