"""Heads: layers in their order and thickness, nothing within the dura, and one head for one draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.physics import head
from synth.physics.head_tissues import HEAD_TISSUES, draw_head_tissues
from synth.physics.individual import load_prior
from synth.physics.overlay import FULL, Overlay
from synth.physics.relaxation import RELAXATION
from synth.seeds import stream, stream_key

SCALE = 0.9
PLACE = {part.tissue: number for number, part in enumerate(head.PARTS)}


def shape_of(number: int, sex: str = "M") -> head.HeadShape:
    return head.draw_head(stream(5, number, -1, "head"), stream_key(5, number, -1, "fields"), sex)


@pytest.fixture(scope="module")
def laid() -> Overlay:
    return head.lay_head(head.find_template_vault(), shape_of(0), SCALE)


def column(overlay: Overlay, x: float, y: float, z: slice | float) -> NDArray[np.float64]:
    """Return the shares of the parts along a line through MNI positions, (n, parts)."""
    low = np.asarray(head.LOW_MM)
    a, b = int(x - low[0]), int(y - low[1])
    c = slice(int(z.start - low[2]), int(z.stop - low[2])) if isinstance(z, slice) else int(z - low[2])
    return overlay.fractions[a, b, c].astype(np.float64) / FULL


def test_shares_of_a_voxel_are_at_most_one_and_all_tissues_are_there(laid: Overlay) -> None:
    assert int(laid.fractions.sum(axis=-1, dtype=np.uint16).max()) == FULL
    for part, number in PLACE.items():
        assert laid.fractions[..., number].max() > 200 * (part != "marrow"), part
        assert laid.fractions[..., number].any()


def test_from_the_vertex_outwards_lie_dura_bone_fat_and_skin(laid: Overlay) -> None:
    """Through the crown, beside the sagittal sinus: the layers follow in order, about as thick as they were drawn."""
    drawn = shape_of(0)
    line = column(laid, 20, -20, slice(60, 112))
    order = ("dura", "bone", "fat", "skin")
    middles = [
        float((line[:, PLACE[name]] * np.arange(len(line))).sum() / line[:, PLACE[name]].sum()) for name in order
    ]
    assert middles == sorted(middles)
    skull = (line[:, PLACE["bone"]] + line[:, PLACE["marrow"]]).sum() * SCALE
    assert skull == pytest.approx(drawn.skull_mm, rel=0.35)
    assert line[:, PLACE["skin"]].sum() * SCALE == pytest.approx(drawn.skin_mm, rel=0.25)
    assert line[:, PLACE["fat"]].sum() * SCALE == pytest.approx(drawn.fat_mm, rel=0.5)
    assert line[-6:].sum() == 0  # air


def measure_skull(overlay: Overlay) -> NDArray[np.float64]:
    """Return mm of bone and marrow above points of the vault, in image millimetres."""
    found = []
    for x in range(-40, 41, 10):
        for y in range(-70, 41, 10):
            line = column(overlay, x, y, slice(45, 112))
            found.append((line[:, PLACE["bone"]] + line[:, PLACE["marrow"]]).sum() * SCALE)
    return np.asarray(found)


def test_the_skull_is_as_thick_as_adults_have_it_and_varies(laid: Overlay) -> None:
    thickness = measure_skull(laid)
    assert 5 < np.median(thickness) < 9
    assert thickness.std() > 0.3
    thick = head.lay_head(head.find_template_vault(), replace(shape_of(0), skull_mm=9.0), SCALE)
    assert np.median(measure_skull(thick)) - np.median(thickness) == pytest.approx(9 - shape_of(0).skull_mm, abs=0.7)


def test_nothing_but_dura_lies_within_the_skull(laid: Overlay) -> None:
    inside = load_prior().inside > 16000
    a, b, c = (-low for low in laid.low)
    own = laid.fractions[a : a + inside.shape[0], b : b + inside.shape[1], c : c + inside.shape[2]]
    others = np.delete(own, PLACE["dura"], axis=-1)[inside]
    assert (others.sum(axis=-1) > 40).mean() < 0.002


def test_the_head_goes_on_below_the_brain(laid: Overlay) -> None:
    """No plane below the brain cuts the head: each slice has soft tissue, and areas change slowly."""
    areas = (laid.fractions.sum(axis=-1, dtype=np.uint16) > 127).sum(axis=(0, 1))[10:70].astype(float)
    assert areas.min() > 6000
    assert np.abs(np.diff(areas)).max() / areas.mean() < 0.12


def test_the_same_draw_is_the_same_head_and_another_is_not(laid: Overlay) -> None:
    again = head.lay_head(head.find_template_vault(), head.head_from_json(head.head_to_json(shape_of(0))), SCALE)
    np.testing.assert_array_equal(again.fractions, laid.fractions)
    other = replace(shape_of(0), key=hex(stream_key(5, 1, -1, "fields")))
    changed = head.lay_head(head.find_template_vault(), other, SCALE).fractions != laid.fractions
    assert changed.any(axis=-1).sum() > 100_000


def test_women_have_thicker_skulls_on_average() -> None:
    thick = {sex: np.mean([shape_of(n, sex).skull_mm for n in range(400)]) for sex in "FM"}
    assert thick["M"] == pytest.approx(6.5, abs=0.15)
    assert thick["F"] == pytest.approx(7.1, abs=0.15)


@pytest.mark.parametrize("tesla", sorted(RELAXATION))
def test_tissues_of_the_head_are_known_at_every_field(tesla: float) -> None:
    drawn = draw_head_tissues(stream(1, 2, -1, "tissues"), tesla, RELAXATION[tesla])
    assert set(drawn) == set(HEAD_TISSUES) == {part.tissue for part in head.PARTS}
    for tissue in drawn.values():
        assert 0 < tissue.t2star_ms <= tissue.t2_ms <= tissue.t1_ms
    assert drawn["fat"].t1_ms < RELAXATION[tesla]["wm"].t1_ms
    assert drawn["bone"].t2_ms < 1
