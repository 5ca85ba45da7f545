"""The fused kernel against independent references: scipy interpolation, float64 partial volumes, spheres."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics.grid import FIELD_OF_VIEW_MM, LABELS, NODE_SPACING_MM, Grid, node_positions_mm
from synth.physics.individual import INSIDE_STEP, ODDS_STEP, Person, sample_person
from synth.physics.lesions import LESION_COLUMNS, bin_lesions, no_lesions
from synth.physics.render import render_volumes
from synth.seeds import stream, stream_key
from tests.synth.physics.painting import GRID_1MM, GRID_2MM, full_template, keys_of, paint, voxel_nodes

FAR_AWAY = -1000.0


def bspline_reference(nodes: NDArray[np.float64], grid: Grid, step: int = 1) -> NDArray[np.float64]:
    """Evaluate cubic B-spline nodes (nx, ny, nz, channels) at the voxel centres by scipy, in float64."""
    axes = [((np.arange(n // step) * step + step // 2) * grid.resolution_mm / NODE_SPACING_MM) + 1 for n in grid.shape]
    place = np.stack(np.meshgrid(*axes, indexing="ij"))
    channels = [
        ndimage.map_coordinates(nodes[..., c], place, order=3, prefilter=False, mode="nearest")
        for c in range(nodes.shape[-1])
    ]
    return np.stack(channels, axis=-1)


# ------------------------------------------------------------------------------------------------- what does not matter


@pytest.fixture(scope="module")
def head() -> tuple[Person, NDArray[np.float64]]:
    template = sample_person(stream_key(1, 2, -1, "tissue"))
    nodes = voxel_nodes(GRID_2MM, bias=3)
    nodes[..., :3] += (4, 10, 2)
    nodes += stream(7, 0, 0, "test").normal(0, 0.2, nodes.shape)
    return template, nodes


CONTRASTS = [(0.5, 0.7, 0.2, 0.6), (0.6, 0.5, 1.0, 0.8), (0.5, 0.4, 0.05, 0.9)]


def test_threads_do_not_change_a_bit(head: tuple[Person, NDArray[np.float64]]) -> None:
    keys = keys_of("a", "b", "c")
    one, two, three = (
        paint(GRID_2MM, *head, CONTRASTS, [0.02] * 3, [3000] * 3, keys, threads=threads) for threads in (1, 2, 3)
    )
    for other in (two, three):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.tissue, other.tissue)


def test_contrasts_rendered_together_or_alone_are_the_same(head: tuple[Person, NDArray[np.float64]]) -> None:
    template, nodes = head
    keys, sigma, scale = keys_of("a", "b", "c"), [0.02, 0.03, 0.01], [3000.0, 2500.0, 2800.0]
    together = paint(GRID_2MM, template, nodes, CONTRASTS, sigma, scale, keys)
    assert not np.array_equal(together.images[0], together.images[1])
    for chosen in ([0], [1], [2], [2, 0]):
        bias = nodes[..., [0, 1, 2, *(3 + q for q in chosen)]]
        alone = paint(
            GRID_2MM,
            template,
            bias,
            [CONTRASTS[q] for q in chosen],
            [sigma[q] for q in chosen],
            [scale[q] for q in chosen],
            keys[chosen],
        )
        np.testing.assert_array_equal(alone.images, together.images[chosen])
        np.testing.assert_array_equal(alone.tissue, together.tissue)


def test_skipping_air_changes_nothing(head: tuple[Person, NDArray[np.float64]]) -> None:
    person = head[0]
    assert 0.3 < person.occupied.mean() < 0.9  # it does skip
    everywhere = replace(person, occupied=np.ones_like(person.occupied))
    keys = keys_of("a", "b", "c")
    fast, slow = (
        paint(GRID_2MM, each, head[1], CONTRASTS, [0.02] * 3, [3000] * 3, keys) for each in (person, everywhere)
    )
    np.testing.assert_array_equal(fast.images, slow.images)
    np.testing.assert_array_equal(fast.tissue, slow.tissue)
    for place in np.argwhere(~person.occupied) * 4:  # a voxel is interpolated with its upper neighbours
        assert not person.odds[tuple(slice(p, p + 5) for p in place)][..., 3].any()


def test_labels_without_images_are_the_labels_of_the_images(head: tuple[Person, NDArray[np.float64]]) -> None:
    template, nodes = head
    full = paint(GRID_2MM, template, nodes, CONTRASTS, [0.02] * 3, [3000] * 3, keys_of("a", "b", "c"))
    labels = render_volumes(GRID_2MM, template, nodes[..., :3], (0.3, -0.2), no_lesions(), with_log_odds=True)
    np.testing.assert_array_equal(labels.tissue, full.tissue)
    assert labels.images.shape[0] == 0
    dry = np.isin(labels.tissue, (LABELS["grey_matter"], LABELS["white_matter"]))
    white, fluid = labels.log_odds[dry | (labels.tissue == LABELS["csf"])].T
    named = np.where(fluid >= np.maximum(white, 0), LABELS["csf"], np.where(white > 0, 3, 2))
    same = named == labels.tissue[dry | (labels.tissue == LABELS["csf"])]
    assert same.mean() > 0.95  # a mean of log-odds is not quite that of shares
    assert not labels.log_odds[labels.tissue == 0].any()


def test_one_voxel_in_eight_is_one_of_the_delivered_voxels(head: tuple[Person, NDArray[np.float64]]) -> None:
    """What volumes are solved on: every second voxel, sampled as it will be delivered."""
    template, nodes = head[0], head[1][..., :3]
    whole, part = (render_volumes(GRID_2MM, template, nodes, (0.0, 0.0), no_lesions(), step=s) for s in (1, 2))
    np.testing.assert_array_equal(part.tissue, whole.tissue[1::2, 1::2, 1::2])


def test_gains_widen_sulci_and_thin_the_cortex(head: tuple[Person, NDArray[np.float64]]) -> None:
    template, nodes = head[0], head[1][..., :3]

    def count(white: float, fluid: float) -> dict[str, int]:
        tissue = render_volumes(GRID_2MM, template, nodes, (white, fluid), no_lesions()).tissue
        return {name: int((tissue == value).sum()) for name, value in LABELS.items()}

    plain, whiter, wetter = count(0, 0), count(1, 0), count(0, 1)
    assert whiter["white_matter"] > 1.05 * plain["white_matter"]
    assert whiter["grey_matter"] < plain["grey_matter"]
    assert wetter["csf"] > 1.05 * plain["csf"]
    assert wetter["grey_matter"] < plain["grey_matter"]
    assert plain["background"] == whiter["background"] == wetter["background"]


# -------------------------------------------------------------------------------------------------------- interpolation


def test_bspline_nodes_are_read_as_scipy_reads_them() -> None:
    """The bias of a uniform template shows the spline itself: random nodes, and affine ones, which are exact."""
    template, rng = full_template((0, 255, 0, 0)), stream(3, 0, 0, "test")
    for grid, step in ((GRID_2MM, 1), (GRID_1MM, 2), (GRID_1MM, 4)):
        nodes = voxel_nodes(grid, bias=2)
        nodes[..., 3] = rng.uniform(0.5, 1.5, nodes.shape[:3])
        nodes[..., 4] = 1 + nodes[..., :3] @ (0.001, -0.002, 0.0015)
        scale = 30_000.0
        seen = paint(grid, template, nodes, [(1, 1, 1, 1)] * 2, [0, 0], [scale] * 2, keys_of("a", "b"), step=step)
        expected = bspline_reference(nodes[..., 3:], grid, step)
        for q in range(2):
            np.testing.assert_allclose(seen.images[q] / scale, expected[..., q], rtol=0, atol=0.55 / scale)
        index = np.stack(np.meshgrid(*(np.arange(n) for n in seen.tissue.shape), indexing="ij"), axis=-1)
        position = (index * step + step // 2) * grid.resolution_mm
        np.testing.assert_allclose(
            seen.images[1] / scale, 1 + position @ (0.001, -0.002, 0.0015), rtol=0, atol=0.55 / scale
        )


def shares_reference(
    person: Person, place: NDArray[np.float64], away: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Shares of GM, WM, CSF and ventricle at template voxels ``place`` (3, n), by scipy in float64.

    If they are asked for ``away`` (3) from there, log-odds are carried on by their slopes.
    """

    def read(where: NDArray[np.float64]) -> NDArray[np.float64]:
        volumes = (person.odds[..., channel].astype(np.float64) for channel in range(5))
        return np.stack([ndimage.map_coordinates(volume, where, order=1) for volume in volumes])

    found = read(place)
    for axis, step in enumerate(np.zeros(3) if away is None else away):
        ends = [np.where(np.arange(3)[:, None] == axis, edge, place) for edge in (np.floor(place), np.floor(place) + 1)]
        found += step * (read(ends[1]) - read(ends[0]))
    wm, csf, vent, inside, fold = found
    odds = np.stack([0 * wm, wm + np.abs(fold), csf - 2 * np.abs(fold), vent]) * ODDS_STEP
    odds[1:3] += np.array([0.3, -0.2])[:, None]  # the gains of paint
    shares = np.exp(odds - odds.max(axis=0))
    return np.asarray(shares / shares.sum(axis=0) * np.clip(inside * INSIDE_STEP, 0, 1))


@pytest.mark.parametrize("grid", [GRID_2MM, GRID_1MM], ids=["2 mm", "1 mm"])
def test_partial_volumes_are_those_of_a_float64_reference(grid: Grid, head: tuple[Person, NDArray[np.float64]]) -> None:
    """Nodes -> positions of a voxel's samples -> trilinear log-odds -> softmax -> mean -> signal, in stored units."""
    turn = np.array([[0.96, 0.05, 0], [-0.04, 1.02, 0.03], [0.02, 0, 0.98]])
    nodes = voxel_nodes(grid, bias=1)
    nodes[..., :3] = nodes[..., :3] @ turn + (2.3, 7.1, 0.4)
    signals, scale = (0.5, 0.8, 0.3, 0.6), 60_000.0
    seen = paint(grid, head[0], nodes, [signals], [0], [scale], keys_of("a"))
    chosen = np.stack(np.meshgrid(*(np.arange(3, n - 3, 7) for n in grid.shape), indexing="ij"), -1).reshape(-1, 3)
    corners = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    corners = corners / 4 if grid.resolution_mm > 1 else 0.15 * corners[corners.prod(axis=1) > 0]
    middle = (chosen * grid.resolution_mm @ turn + (2.3, 7.1, 0.4)).T
    steps = [corner * grid.resolution_mm @ turn for corner in corners]
    if grid.resolution_mm > 1:
        shares = np.mean([shares_reference(head[0], middle + step[:, None]) for step in steps], axis=0)
        pure = shares_reference(head[0], middle)
        shares = np.where(pure.max(axis=0) < 0.998, shares, pure)  # a voxel that is pure in its middle is pure
    else:  # the samples lie near the middle, and log-odds follow from the slopes there
        shares = np.mean([shares_reference(head[0], middle, step) for step in steps], axis=0)
    index = tuple(chosen.T)
    inside = shares.sum(axis=0)
    expected = np.where(inside < 0.004, 0, scale * (np.array([*signals[:3], signals[2]]) @ shares))
    difference = np.abs(seen.images[0][index] - expected)[(np.abs(inside - 0.004) > 1e-3)]
    assert (inside > 0.5).sum() > 500
    assert np.percentile(difference, 99) < 20  # of 60,000: float32 positions on steep log-odds
    assert np.median(difference) < 1
    ranked = np.sort(shares, axis=0)
    clear = (ranked[-1] - ranked[-2] > 0.01) & (np.abs(inside - 0.5) > 0.01)
    clear &= np.abs(middle - np.rint(middle)).min(axis=0) > 1e-3  # slopes jump where cells meet
    names = np.array([LABELS[n] for n in ("grey_matter", "white_matter", "csf", "ventricles")], np.uint8)
    named = np.where(inside > 0.5, names[shares.argmax(axis=0)], np.uint8(0))
    np.testing.assert_array_equal(seen.tissue[index][clear], named[clear])


# -------------------------------------------------------------------------------------------------------------- lesions


def lesion_row(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.float32]:
    """One lesion without lobes."""
    return np.asarray([[*centre, *(1 / r for r in radii), 0, 0, 0, 0]], np.float32)


@pytest.mark.parametrize("radii", [(10.0, 10.0, 10.0), (2.5, 2.5, 2.5), (5.0, 12.0, 4.0)])
def test_a_lesion_has_the_volume_of_its_ellipsoid(radii: tuple[float, float, float]) -> None:
    template = full_template((0, 255, 0, 0))
    table = lesion_row((83.2, 101.7, 90.4), radii)
    seen = paint(
        GRID_1MM,
        template,
        voxel_nodes(GRID_1MM, 1),
        [(0, 0, 0, 1)],
        [0],
        [50_000],
        keys_of("a"),
        bin_lesions(table, template.odds.shape[:3]),
    )
    volume = 4 / 3 * math.pi * math.prod(radii)
    assert seen.lesion.sum() == pytest.approx(volume, rel=0.01, abs=6)
    index = np.argwhere(seen.lesion)
    np.testing.assert_allclose(index.mean(axis=0), (83.2, 101.7, 90.4), atol=0.1)
    np.testing.assert_allclose((index.max(axis=0) - index.min(axis=0) + 1) / 2, radii, atol=0.8)
    if len(set(radii)) == 1:  # the rim of one voxel, half in and half out: E[(r + u)^3] = r^3 + r / 4
        soft = seen.images[0].sum() / 50_000
        assert soft == pytest.approx(4 / 3 * math.pi * (radii[0] ** 3 + radii[0] / 4), rel=0.004)


def test_lesions_are_found_in_every_cell_they_reach() -> None:
    """Binning is only a look-up: many lesions rendered together are the union of each alone, by brute force."""
    template, rng = full_template((0, 255, 0, 0)), stream(5, 0, 0, "test")
    count = 24
    table = np.zeros((count, LESION_COLUMNS), np.float32)
    table[:, :3] = rng.uniform(0, 1, (count, 3)) * (165, 205, 173)
    table[:, 3:6] = 1 / rng.uniform(1.2, 14, (count, 3))
    table[:, 6], table[:, 8] = 0.15, 0.1
    table[:, [7, 9]] = rng.uniform(0, 6, (count, 2))
    lesions = bin_lesions(table, template.odds.shape[:3])
    seen = render_volumes(GRID_2MM, template, voxel_nodes(GRID_2MM), (0.0, 0.0), lesions)
    index = np.stack(np.meshgrid(*(2.0 * np.arange(n) for n in GRID_2MM.shape), indexing="ij"), axis=-1)
    expected, unsure = np.zeros(GRID_2MM.shape, bool), np.zeros(GRID_2MM.shape, bool)
    for row in table.astype(np.float64):
        u = (index - row[:3]) * row[3:6]
        radius = np.sqrt((u**2).sum(axis=-1))
        direction = u / np.maximum(radius, 1e-9)[..., None]
        lobes = 1 + row[6] * np.sin(3 * direction[..., 0] + row[7]) + row[8] * np.sin(4 * direction[..., 1] + row[9])
        expected |= radius * lobes < 1
        unsure |= np.abs(radius * lobes - 1) < 1e-4
    assert expected.sum() > 1000
    np.testing.assert_array_equal(seen.lesion.astype(bool)[~unsure], expected[~unsure])


@pytest.mark.parametrize(
    ("values", "shows"), [((0, 255, 0, 0), True), ((255, 0, 0, 0), False), ((0, 0, 0, 255), False)]
)
def test_lesions_show_in_white_matter_only(values: tuple[int, int, int, int], shows: bool) -> None:
    template = full_template(values)
    lesions = bin_lesions(lesion_row((80, 100, 90), (9, 9, 9)), template.odds.shape[:3])
    assert render_volumes(GRID_2MM, template, voxel_nodes(GRID_2MM), (0.0, 0.0), lesions).lesion.any() == shows


# ----------------------------------------------------------------------------------------------------------------- grid


@pytest.mark.parametrize("resolution_mm", [1.0, 2.0, 16.0])
def test_the_grid_is_centred_and_covers_its_field_of_view(resolution_mm: float) -> None:
    grid = Grid(resolution_mm)
    centre = grid.affine @ [*((np.asarray(grid.shape) - 1) / 2), 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-9)
    for count, length in zip(grid.shape, FIELD_OF_VIEW_MM, strict=True):
        assert count == length // resolution_mm
    assert abs(np.linalg.det(grid.affine[:3, :3])) == pytest.approx(resolution_mm**3)
    nodes = node_positions_mm(grid)
    np.testing.assert_allclose(nodes[1, 1, 1], grid.affine[:3, 3])
    assert (nodes[-2, -2, -2] >= -grid.affine[:3, 3]).all()
