"""The common form in which images are judged: one grid and one intensity scale for the real and the synthetic side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from scipy import ndimage

from synth.errors import PermanentError

LARGEST_PICTURE = 128  # pixels along the longest side
LARGEST_VOLUME = 64  # voxels
ASPECT_TOLERANCE = 0.05
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
WINDOW = (0.5, 99.5)  # percentiles that become black and white
Floats32 = NDArray[np.float32]


class NotComparableError(PermanentError):
    """Two sides, or an image and its side, cannot be judged together."""


class UnusableImageError(PermanentError):
    """An image that no score may be computed of: NaN, one single value, or another shape."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is known of one image before its pixels are looked at."""

    axes: str
    shape: tuple[int, ...]
    dtype: str
    spacing_mm: tuple[float, ...] | None = None

    @property
    def spatial(self) -> tuple[int, ...]:
        """Its shape without colours."""
        return tuple(size for size, axis in zip(self.shape, self.axes, strict=True) if axis != "c")


@dataclass(frozen=True, slots=True)
class Layout:
    """The grid that all images are brought to. ``shape`` is (y, x) of pictures, (x, y, z) of volumes.

    ``intensity`` is absolute if 8-bit values mean the same on both sides (255 becomes 1), else relative: each image's
    own 0.5 and 99.5 % become 0 and 1. ``spacing_mm`` is the grid's, where both sides know theirs; volumes then keep
    their size, and their centre of mass goes to the middle.
    """

    shape: tuple[int, ...]
    intensity: Literal["absolute", "relative"]
    spacing_mm: float | None = None


def choose_layout(real: Form, synthetic: Form, largest: int | None = None) -> Layout:
    """Return the layout for both sides: the coarser of the two, ``largest`` pixels along the longest side at most.

    Raises NotComparableError if one side has pictures and the other volumes, or if pictures differ in aspect.
    """
    if len(real.spatial) != len(synthetic.spatial):
        raise NotComparableError(
            f"the reference has {_name_kind(real)} and the images are {_name_kind(synthetic)}; "
            "only images of one kind can be compared."
        )
    absolute = real.dtype == synthetic.dtype == "uint8"
    intensity: Literal["absolute", "relative"] = "absolute" if absolute else "relative"
    volumes = len(real.spatial) == 3
    limit = largest or (LARGEST_VOLUME if volumes else LARGEST_PICTURE)
    if volumes and real.spacing_mm and synthetic.spacing_mm:
        extent = [size * step for size, step in zip(real.spatial, real.spacing_mm, strict=True)]
        spacing = max(*real.spacing_mm, *synthetic.spacing_mm, max(extent) / limit)
        return Layout(tuple(max(1, round(size / spacing)) for size in extent), intensity, spacing)
    _check_aspect(real.spatial, synthetic.spatial, "the reference's images", "the images")
    coarser = min(real.spatial, synthetic.spatial, key=max)
    scale = min(1.0, limit / max(coarser))
    return Layout(tuple(max(1, round(size * scale)) for size in coarser), intensity)


def bring_to_layout(pixels: NDArray[Any], form: Form, affine: NDArray[np.float64] | None, layout: Layout) -> Floats32:
    """Return the image on the grid of ``layout``, 0 black and 1 white (values outside the window are cut off).

    Colours become luminance. Raises UnusableImageError, saying why, if no score may be computed of it.
    """
    values = np.asarray(pixels, np.float32)
    if "c" in form.axes:
        values = _to_grey(values, form.axes)
    if not np.isfinite(values).all():
        raise UnusableImageError("it has pixels that are not numbers (NaN or infinite).")
    if values.size == 0 or values.min() == values.max():
        raise UnusableImageError(
            f"all its pixels have the same value ({values.flat[0]:g})." if values.size else "empty."
        )
    if values.ndim != len(layout.shape):
        raise UnusableImageError(f"it has {values.ndim} axes in space; the others have {len(layout.shape)}.")
    if layout.intensity == "absolute":
        values = values / 255.0
    else:
        low, high = np.percentile(values, WINDOW)
        if high <= low:
            low, high = float(values.min()), float(values.max())
        values = (values - low) / (high - low)
    values = np.clip(values, 0.0, 1.0)
    if values.ndim == 3:
        return _resample_volume(values, form, affine, layout)
    _check_picture(values, layout)
    return _resize_picture(values, layout.shape)


def bring_labels(
    mask: str | None, labels: NDArray[Any] | None, form: Form, affine: NDArray[np.float64] | None, layout: Layout
) -> NDArray[np.uint8]:
    """Return the labels of an image's ``mask`` on the grid to which bring_to_layout brings the image: the nearest ones.

    Raises UnusableImageError if there are none, or a label is above 255; PermanentError for a layout with spacing, on
    which the place of an image depends on its pixels.
    """
    if layout.spacing_mm is not None:
        raise PermanentError("labels are brought to grids without spacing only; give the shape alone.")
    if labels is None:
        raise UnusableImageError(f"it has no mask '{mask}'.")
    if labels.shape != form.spatial or labels.min() < 0 or labels.max() > 255:
        raise UnusableImageError(f"mask '{mask}' is {labels.shape} with labels up to {labels.max()}; 255 is the most.")
    values = labels.astype(np.uint8)
    if values.ndim == 2:
        picture = Pictures.fromarray(values).resize((layout.shape[1], layout.shape[0]), Pictures.Resampling.NEAREST)
        return np.ascontiguousarray(np.asarray(picture, np.uint8))
    if affine is not None:
        values, _ = _orient(values, np.ones(3), np.asarray(affine, np.float64).reshape(4, 4))
    factor = np.asarray(values.shape) / np.asarray(layout.shape, float)
    offset = (np.asarray(values.shape) - 1) / 2 - factor * (np.asarray(layout.shape, float) - 1) / 2
    found = ndimage.affine_transform(values, factor, offset, layout.shape, order=0, mode="nearest")
    return np.ascontiguousarray(found, dtype=np.uint8)


def _name_kind(form: Form) -> str:
    return {2: "pictures (2D)", 3: "volumes (3D)"}.get(len(form.spatial), f"arrays of {len(form.spatial)} axes")


def _check_aspect(first: tuple[int, ...], second: tuple[int, ...], one: str, other: str) -> None:
    ratios = np.asarray(first, float) / np.asarray(second, float)
    if ratios.max() / ratios.min() > 1 + ASPECT_TOLERANCE:
        raise NotComparableError(
            f"{one} are {' x '.join(map(str, first))} and {other} {' x '.join(map(str, second))}: of another aspect. "
            "Crop or pad one side so that both show the same field of view."
        )


def _check_picture(values: Floats32, layout: Layout) -> None:
    try:
        _check_aspect(layout.shape, values.shape, "the others", "this one")
    except NotComparableError as error:
        raise UnusableImageError(str(error)) from error


def _to_grey(values: Floats32, axes: str) -> Floats32:
    values = np.moveaxis(values, axes.index("c"), -1)
    if values.shape[-1] in (3, 4):
        return np.asarray(values[..., :3] @ np.asarray(LUMINANCE, np.float32))
    return np.asarray(values[..., 0] if values.shape[-1] <= 2 else values.mean(axis=-1))


def _resize_picture(values: Floats32, shape: tuple[int, ...]) -> Floats32:
    if values.shape == shape:
        return np.ascontiguousarray(values)
    resized = Pictures.fromarray(values).resize((shape[1], shape[0]), Pictures.Resampling.BILINEAR)  # with support
    return np.ascontiguousarray(np.asarray(resized, np.float32))


def _resample_volume(values: Floats32, form: Form, affine: NDArray[np.float64] | None, layout: Layout) -> Floats32:
    """Resample linearly, after a Gaussian that removes what the coarser grid cannot hold; axes point to R, A and S."""
    steps = np.asarray(form.spacing_mm or [1.0] * 3)
    if affine is not None:
        values, steps = _orient(values, steps, np.asarray(affine, np.float64).reshape(4, 4))
    target = np.asarray(layout.shape, float)
    if layout.spacing_mm is not None:
        factor = layout.spacing_mm / steps  # source voxels per target voxel
        middle = np.asarray(ndimage.center_of_mass(values))
    else:
        factor = np.asarray(values.shape) / target
        middle = (np.asarray(values.shape) - 1) / 2
    smooth = ndimage.gaussian_filter(values, 0.42 * np.sqrt(np.maximum(factor**2 - 1, 0)))
    offset = middle - factor * (target - 1) / 2
    found = ndimage.affine_transform(smooth, factor, offset, layout.shape, order=1, mode="constant")
    return np.ascontiguousarray(np.clip(found, 0, 1), dtype=np.float32)


def _orient(
    values: NDArray[Any], steps: NDArray[np.float64], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the volume with its axes permuted and flipped towards right, anterior and superior."""
    directions = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-9)
    order: list[int] = []
    for world in range(3):
        free = [axis for axis in range(3) if axis not in order]
        order.append(max(free, key=lambda axis: abs(directions[world, axis])))
    flips = tuple(world for world in range(3) if directions[world, order[world]] < 0)
    return np.flip(np.transpose(values, order), flips), steps[order]
