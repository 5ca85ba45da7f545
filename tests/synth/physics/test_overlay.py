"""Parts laid over a head: who gives way, what the masks say, partial volume, and tissue that is pushed aside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synth.physics.grid import LABELS, Grid, node_positions_mm
from synth.physics.individual import INSIDE_STEP, ODDS_STEP, Person
from synth.physics.lesions import no_lesions
from synth.physics.overlay import BRAIN, GREY, INSIDE, OUTSIDE, WHITE, Overlay, Part, crop_overlay
from synth.physics.render import Rendering, list_tissues, render_volumes

GRID = Grid(8.0)
SIGNALS = (0.5, 0.7, 0.2, 0.9)  # GM, WM, CSF, lesion
SCALE = 20_000.0
MARGIN = 3.0  # from the template's first voxel to the image's, in mm


def mixed_person(odds_wm: float, odds_csf: float, inside: float = 1.0) -> Person:
    """Return a person of one mixture everywhere."""
    odds = np.empty((172, 212, 180, 5), np.int16)
    odds[:] = [round(odds_wm / ODDS_STEP), round(odds_csf / ODDS_STEP), -30_000, round(inside / INSIDE_STEP), 0]
    return Person(odds, np.ones((43, 53, 45), bool), np.zeros(3))


def render(
    person: Person, overlays: list[Overlay], own: list[float], fields: NDArray[np.float64] | None = None
) -> Rendering:
    nodes = node_positions_mm(GRID) - GRID.affine[:3, 3] + MARGIN
    channels = [nodes, np.ones((*nodes.shape[:3], 1))] + ([] if fields is None else [fields])
    return render_volumes(
        GRID, person, np.concatenate(channels, axis=-1), (0.0, 0.0), no_lesions(), overlays,
        moved=fields is not None, signals=np.asarray([[*SIGNALS, *own]], np.float32), sigma=np.zeros(1, np.float32),
        scale=np.full(1, SCALE, np.float32), keys=np.zeros((1, 2), np.uint32),
    )  # fmt: skip


def lay(values: list[int], parts: tuple[Part, ...]) -> Overlay:
    """Return an overlay with the same fractions all over the head (in template voxels of 1 mm)."""
    fractions = np.empty((180, 220, 190, len(values)), np.uint8)
    fractions[:] = values
    return Overlay(fractions, (-5, -5, -5), parts)


@settings(max_examples=15, deadline=None)
@given(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(0.3, 1), st.integers(0, 255), st.integers(0, 255),
    st.sampled_from([WHITE, GREY, BRAIN, INSIDE, OUTSIDE, INSIDE | OUTSIDE]),
    st.sampled_from([WHITE, BRAIN, INSIDE]),
)  # fmt: skip
def test_a_part_takes_its_fraction_of_what_it_replaces(
    wm: float, csf: float, inside: float, first: int, second: int, one: int, other: int
) -> None:
    second = min(second, 255 - first)
    person = mixed_person(wm, csf, inside)
    seen = render(person, [lay([first, second], (Part("a", one, 1), Part("b", other, 2)))], [0.1, 1.0])
    odds = np.array([0, round(wm / ODDS_STEP) * ODDS_STEP, round(csf / ODDS_STEP) * ODDS_STEP])
    shares = [*np.exp(odds) / np.exp(odds).sum() * inside, 0.0, 1 - inside]
    f, g = first / 255, second / 255
    left = [s * (1 - f * (one >> n & 1) - g * (other >> n & 1)) for n, s in enumerate(shares)]
    a, b = (sum(share * s for n, s in enumerate(shares) if rule >> n & 1) for share, rule in ((f, one), (g, other)))
    expected = np.dot(left[:3], SIGNALS[:3]) + 0.1 * a + 1.0 * b
    np.testing.assert_allclose(seen.images[0] / SCALE, expected, rtol=0, atol=2e-4)
    assert a + b + sum(left) == pytest.approx(1)
    margin = a + b - 0.5 * (a + b + sum(left[:4]))
    whole = a + b + sum(left[:4])
    if abs(margin) > 0.01 and abs(a - b) > 0.01 and abs(whole - 0.5) > 0.01:
        assert (seen.lesion == (0 if margin < 0 or whole < 0.5 else 1 if a > b else 2)).all()


def test_overlays_share_what_the_ones_before_have_left() -> None:
    half = lay([128], (Part("a", WHITE),))
    seen = render(mixed_person(20, -20), [half, half], [1.0, 0.0])
    assert list_tissues(no_lesions(), [half, half]) == ("gm", "wm", "csf", "lesion", "a", "a")
    share = 128 / 255
    np.testing.assert_allclose(seen.images[0] / SCALE, share + 0.7 * (1 - share) ** 2, atol=2e-4)


def test_fractions_are_interpolated_and_end_with_their_box() -> None:
    fractions = np.zeros((60, 50, 40, 1), np.uint8)
    fractions[20:40, 10:30, 10:30] = np.linspace(0, 255, 20).astype(np.uint8)[:, None, None, None]
    whole = Overlay(fractions, (50, 70, 60), (Part("a", WHITE),))
    cropped = crop_overlay(fractions, whole.parts, whole.low)
    assert cropped.fractions.shape == (21, 22, 22, 1)  # its first plane is empty
    assert cropped.low == (70, 79, 69)
    one, other = (render(mixed_person(20, -20), [overlay], [0.0]) for overlay in (whole, cropped))
    np.testing.assert_array_equal(one.images, other.images)
    place = np.stack(
        np.meshgrid(
            *((8 * np.arange(n) + MARGIN - low) for n, low in zip(GRID.shape, whole.low, strict=True)), indexing="ij"
        )
    )
    y, x, z = place
    inside = (y >= 20) & (y <= 39) & (x >= 10) & (x <= 29) & (z >= 10) & (z <= 29)
    expected = np.where(inside, np.interp(y, np.arange(20, 40), fractions[20:40, 10, 10, 0]) / 255, 0)
    np.testing.assert_allclose(one.images[0] / SCALE, 0.7 * (1 - expected), atol=2e-4)
    assert 0 < one.lesion.sum() < inside.sum()
    assert not crop_overlay(np.zeros_like(fractions), whole.parts).fractions.any()


def test_a_part_may_name_the_tissue_and_lie_outside_of_the_skull() -> None:
    skull = lay([255], (Part("bone", OUTSIDE, 0, 5),))
    seen = render(mixed_person(20, -20, 0.3), [skull], [0.4])
    assert (seen.tissue == 5).all()
    assert not seen.lesion.any()
    np.testing.assert_allclose(seen.images[0] / SCALE, 0.3 * 0.7 + 0.7 * 0.4, atol=2e-4)
    mass = lay([200], (Part("mass", INSIDE, 3, LABELS["csf"]),))
    seen = render(mixed_person(20, -20), [mass], [1.0])
    assert (seen.tissue == LABELS["csf"]).all()
    assert (seen.lesion == 3).all()


def test_tissue_is_moved_and_fluid_gained_where_the_fields_say_but_overlays_stay() -> None:
    """A plane between white and grey matter, shifted by 16 mm; an overlay of a plane that is not."""
    person = mixed_person(20, -20)
    person.odds[:80, ..., 0] = round(-20 / ODDS_STEP)
    plane = np.zeros((172, 212, 180, 1), np.uint8)
    plane[:40] = 255
    nodes = node_positions_mm(GRID)
    fields = np.zeros((*nodes.shape[:3], 4))
    fields[..., 0] = -16
    overlay = Overlay(plane, (0, 0, 0), (Part("a", INSIDE),))
    still, moved = (render(person, [overlay], [1.0], f) for f in (0 * fields, fields))
    np.testing.assert_array_equal(still.lesion[2:], moved.lesion[2:])
    np.testing.assert_array_equal(still.tissue[5:-2], moved.tissue[7:])
    assert not np.array_equal(still.tissue, moved.tissue)
    fields[..., 3] = 45.0
    assert (render(person, [], [], fields).tissue[3:] == LABELS["csf"]).all()
