"""Label maps go to the grid of their images, also turned ones, and an image without its mask is left out by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synth.errors import PermanentError
from synth.evaluation.images.layout import Form, Layout, UnusableImageError, bring_labels, bring_to_layout
from synth.evaluation.images.sets import ImageWriter, join_sets
from synth.seeds import stream

TURNED = np.asarray([[0, -1, 0, 3], [-1, 0, 0, 5], [0, 0, 2, 0], [0, 0, 0, 1]], float)  # first axis to the front


def draw_boxes(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return labels 0 to 2: boxes on a grid."""
    rng, labels = stream(seed, -1, -1, "test/boxes"), np.zeros(shape, np.uint8)
    for label in (1, 2):
        low = [rng.integers(1, side // 2) for side in shape]
        labels[tuple(slice(a, a + side // 3) for a, side in zip(low, shape, strict=True))] = label
    return labels


@pytest.mark.parametrize(
    ("shape", "target", "affine"),
    [((30, 24), (10, 8), None), ((20, 24, 30), (10, 12, 10), None), ((20, 24, 30), (12, 10, 10), TURNED)],
)
def test_labels_lie_where_the_image_shows_them(
    shape: tuple[int, ...], target: tuple[int, ...], affine: np.ndarray | None
) -> None:
    layout, form = Layout(target, "absolute"), Form("yx" if len(shape) == 2 else "xyz", shape, "uint8")
    labels = draw_boxes(shape, 1)
    image = bring_to_layout((labels * 120).astype(np.uint8), form, affine, layout)
    found = bring_labels("boxes", labels, form, affine, layout)
    assert found.shape == target
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1, 2}
    sure = np.abs(image * 255 / 120 - np.round(image * 255 / 120)) < 0.1  # away from borders, where the image is mixed
    assert (found[sure] == np.round(image * 255 / 120)[sure]).mean() > 0.98


def test_a_writer_keeps_labels_beside_images_and_leaves_out_those_without(tmp_path: Path) -> None:
    layout, form = Layout((8, 8), "absolute"), Form("yx", (8, 8), "uint8")
    maps = [draw_boxes((8, 8), seed) for seed in range(3)]
    with ImageWriter(tmp_path / "a.u16", "a", layout, (), "boxes") as writer:
        for number, labels in enumerate(maps):
            given = None if number == 1 else labels
            writer.add(f"i{number}", f"p{number}", {}, (labels * 100 + 5).astype(np.uint8), form, labels=given)
        images = writer.finish()
    assert images.image_ids == ["i0", "i2"]
    assert images.maps is not None
    assert np.array_equal(images.maps, np.stack([maps[0], maps[2]]))
    assert [(one.name, one.reason) for one in images.unusable] == [("i1", "it has no mask 'boxes'.")]
    joined = join_sets("both", [images, images.select(np.asarray([1]))])
    assert joined.maps is not None
    assert np.array_equal(joined.maps[2], maps[2])


def test_labels_that_cannot_be_placed_are_refused() -> None:
    form, labels = Form("yx", (8, 8), "uint8"), np.zeros((8, 8), np.int32)
    with pytest.raises(UnusableImageError, match=r"mask 'm' is \(8, 8\) with labels up to 300"):
        bring_labels("m", labels + 300, form, None, Layout((4, 4), "absolute"))
    with pytest.raises(UnusableImageError, match=r"mask 'm' is \(4, 8\)"):
        bring_labels("m", labels[:4], form, None, Layout((4, 4), "absolute"))
    with pytest.raises(PermanentError, match="grids without spacing only"):
        bring_labels("m", labels, form, None, Layout((4, 4), "absolute", 2.0))
