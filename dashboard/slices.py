"""From a volume to the pictures of the viewer: orthogonal slices, windowed, with masks and marks. Pure functions.

Arrays are indexed (x, y, z) in RAS order: x grows to the subject's right, y to the front, z to the top.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from catalog.preview import find_white
from dashboard.words import LESION_COLOUR, TISSUE_COLOUR

AXES = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}  # (cut, horizontal, vertical) axis
PANEL_PX = 720
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # at the low and the high end of x, y and z
_INK, _FAINT, _CROSS, _EDGE = (232, 236, 240), (150, 158, 168), (90, 190, 200), (58, 64, 72)


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume in RAS order with its masks. ``origin_mm`` is the centre of the first voxel."""

    pixels: NDArray[Any]
    masks: Mapping[str, NDArray[np.uint8]]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    @property
    def side_mm(self) -> float:
        """The longest side; every panel shows this much, so that all have one scale."""
        return max(n * mm for n, mm in zip(self.pixels.shape, self.spacing_mm, strict=True))

    def place_mm(self, axis: int, index: int) -> float:
        """Return the coordinate of the centre of slice ``index`` along ``axis`` in millimetres."""
        return self.origin_mm[axis] + index * self.spacing_mm[axis]


@dataclass(frozen=True, slots=True)
class Display:
    """How slices are shown. ``level`` and ``window`` are in stored pixel values, ``opacity`` from 0 to 1."""

    level: float
    window: float
    tissue: bool = False
    lesion: bool = False
    outline: bool = True
    opacity: float = 0.5
    radiological: bool = False
    crosshair: bool = True


def orient_volume(pixels: NDArray[Any], masks: Mapping[str, NDArray[np.uint8]], affine: NDArray[Any]) -> Volume:
    """Return the volume in RAS order; ``affine`` (4 x 4, voxels to RAS millimetres) must not be oblique beyond 45°."""
    matrix = np.asarray(affine, float)
    order = [int(np.argmax(np.abs(matrix[row, :3]))) for row in range(3)]
    signs = [1 if matrix[row, axis] > 0 else -1 for row, axis in enumerate(order)]
    flip = tuple(slice(None, None, sign) for sign in signs)
    shape = [pixels.shape[axis] for axis in order]
    spacing = [float(np.linalg.norm(matrix[:3, axis])) for axis in order]
    origin = [
        float(matrix[row, 3] + (matrix[row, axis] * (shape[row] - 1) if signs[row] < 0 else 0.0))
        for row, axis in enumerate(order)
    ]
    turned = {name: mask.transpose(order)[flip] for name, mask in masks.items()}
    return Volume(pixels.transpose(order)[flip], turned, tuple(spacing), tuple(origin))  # type: ignore[arg-type]


def find_start(volume: Volume) -> tuple[int, int, int]:
    """Return where the viewer opens: on the slices that cut most lesion, else through the middle of the head."""
    lesion = volume.masks.get("lesion")
    if lesion is not None and lesion.any():
        cut = (np.count_nonzero(lesion, axis=tuple({0, 1, 2} - {axis})) for axis in range(3))
        x, y, z = (int(np.argmax(counts)) for counts in cut)
        return x, y, z
    x, y, z = (n // 2 for n in volume.pixels.shape)
    return x, y, z


def find_window(volume: Volume) -> tuple[float, float]:
    """Return (level, window) that show tissue in mid to light grey; lesions may be brighter."""
    top = max(1.0, round(find_white(volume.pixels)))
    return round(top / 2), top


def draw_slice(volume: Volume, plane: str, place: tuple[int, int, int], display: Display, title: str) -> bytes:
    """Return one slice as a square PNG marked as synthetic; all planes of a volume have the same scale."""
    cut, horizontal, vertical = AXES[plane]
    flipped = display.radiological
    grey = _cut(volume.pixels, plane, place[cut], flipped).astype(np.float32)
    low = display.level - display.window / 2
    grey = np.clip((grey - low) * (255.0 / max(display.window, 1e-6)), 0, 255)
    size = [max(1, round(n * mm * PANEL_PX / volume.side_mm)) for n, mm in _sides(volume, horizontal, vertical)]
    shown = PilImage.fromarray(grey).resize((size[0], size[1]), PilImage.Resampling.BICUBIC)
    rgb = np.repeat(np.clip(np.asarray(shown), 0, 255)[..., None], 3, axis=2)
    for colour, where, strength in _layers(volume, plane, place[cut], display, size):
        rgb[where] = (1 - strength) * rgb[where] + strength * np.asarray(colour, np.float32)
    canvas = PilImage.new("RGB", (PANEL_PX, PANEL_PX))
    corner = ((PANEL_PX - size[0]) // 2, (PANEL_PX - size[1]) // 2)
    canvas.paste(PilImage.fromarray(rgb.astype(np.uint8)), corner)
    draw = ImageDraw.Draw(canvas, "RGBA")
    if display.crosshair:
        _draw_crosshair(draw, volume, plane, place, flipped, (*corner, *size))
    _draw_marks(draw, volume, plane, flipped, f"{title}\n{'xyz'[cut]} = {volume.place_mm(cut, place[cut]):+.0f} mm")
    return _to_png(canvas, title)


def draw_picture(pixels: NDArray[Any], spacing_mm: tuple[float, ...] | None, display: Display, title: str) -> bytes:
    """Return a picture, indexed (y, x) from its top left corner, as a PNG marked as synthetic."""
    sides = [n * mm for n, mm in zip(pixels.shape, spacing_mm or (1.0, 1.0), strict=True)]
    height, width = (max(1, round(side * PANEL_PX / max(sides))) for side in sides)
    grey = (pixels.astype(np.float32) - (display.level - display.window / 2)) * (255.0 / max(display.window, 1e-6))
    shown = PilImage.fromarray(np.clip(grey, 0, 255)).resize((width, height), PilImage.Resampling.BICUBIC)
    canvas = PilImage.new("RGB", (PANEL_PX, PANEL_PX))
    picture = np.clip(np.asarray(shown), 0, 255).astype(np.uint8)
    canvas.paste(PilImage.fromarray(picture).convert("RGB"), ((PANEL_PX - width) // 2, (PANEL_PX - height) // 2))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(20)
    draw.multiline_text((14, 12), title, font=font, fill=_INK)
    draw.text((14, PANEL_PX - 14), "SYNTHETIC", font=font, fill=_FAINT, anchor="lb")
    return _to_png(canvas, title)


def _sides(volume: Volume, *axes: int) -> list[tuple[int, float]]:
    return [(volume.pixels.shape[axis], volume.spacing_mm[axis]) for axis in axes]


def _cut(array: NDArray[Any], plane: str, index: int, flipped: bool) -> NDArray[Any]:
    """Return a slice as a picture: vertical axis pointing up, horizontal one to the right unless ``flipped``."""
    picture = np.take(array, index, axis=AXES[plane][0]).T[::-1]
    return picture[:, ::-1] if flipped else picture


def _layers(volume: Volume, plane: str, index: int, display: Display, size: list[int]) -> list[tuple[Any, Any, float]]:
    """Return (colour, where, strength) of every mask layer, from the lowest to the topmost."""
    layers: list[tuple[Any, Any, float]] = []

    def enlarge(mask: NDArray[Any]) -> NDArray[Any]:
        picture = PilImage.fromarray(np.ascontiguousarray(_cut(mask, plane, index, display.radiological)))
        return np.asarray(picture.resize((size[0], size[1]), PilImage.Resampling.NEAREST))

    if display.tissue and "tissue" in volume.masks:
        labels = enlarge(volume.masks["tissue"])
        layers += [(colour, labels == label, display.opacity) for label, colour in TISSUE_COLOUR.items()]
    if display.lesion and "lesion" in volume.masks:
        inside = enlarge(volume.masks["lesion"]) > 0
        where = trace_outline(inside) if display.outline else inside
        layers.append((LESION_COLOUR, where, 1.0 if display.outline else display.opacity))
    return layers


def trace_outline(inside: NDArray[np.bool_], width: int = 2) -> NDArray[np.bool_]:
    """Return the pixels around ``inside``, at most ``width`` away: the line leaves all that it encloses visible."""
    grown = inside
    for _ in range(width):
        padded = np.pad(grown, 1)
        grown = grown | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return grown & ~inside


def _draw_crosshair(
    draw: ImageDraw.ImageDraw, volume: Volume, plane: str, place: tuple[int, int, int], flipped: bool,
    box: tuple[int, int, int, int],
) -> None:  # fmt: skip
    _, horizontal, vertical = AXES[plane]
    left, top, width, height = box
    across = (place[horizontal] + 0.5) / volume.pixels.shape[horizontal]
    up = (place[vertical] + 0.5) / volume.pixels.shape[vertical]
    x, y = left + width * (1 - across if flipped else across), top + height * (1 - up)
    gap = 14
    for line in (
        (x, top, x, y - gap),
        (x, y + gap, x, top + height),
        (left, y, x - gap, y),
        (x + gap, y, left + width, y),
    ):
        if line[2] >= line[0] and line[3] >= line[1]:
            draw.line(line, fill=(*_CROSS, 120), width=1)


def _draw_marks(draw: ImageDraw.ImageDraw, volume: Volume, plane: str, flipped: bool, text: str) -> None:
    """Draw the caption, the letters of orientation, a 5 cm bar, and the mark that the image is synthetic."""
    _, horizontal, vertical = AXES[plane]
    font, small, middle, edge = ImageFont.load_default(24), ImageFont.load_default(20), PANEL_PX / 2, PANEL_PX - 14
    left, right = _LETTERS[horizontal][::-1] if flipped else _LETTERS[horizontal]
    bottom, top = _LETTERS[vertical]
    for letter, xy, anchor in (
        (left, (14, middle), "lm"), (right, (edge, middle), "rm"),
        (top, (middle, 12), "mt"), (bottom, (middle, edge), "mb"),
    ):  # fmt: skip
        draw.text(xy, letter, font=font, fill=_INK, anchor=anchor)
    draw.line((PANEL_PX - 1, 0, PANEL_PX - 1, PANEL_PX), fill=_EDGE)
    draw.multiline_text((14, 12), text, font=small, fill=_INK, spacing=6)
    draw.text((14, edge), "SYNTHETIC", font=small, fill=_FAINT, anchor="lb")
    bar = 50 * PANEL_PX / volume.side_mm
    draw.line((edge - bar, edge, edge, edge), fill=_INK, width=3)
    draw.text((edge - bar / 2, edge - 8), "5 cm", font=small, fill=_FAINT, anchor="mb")


def _to_png(canvas: PilImage.Image, title: str) -> bytes:
    info = PngInfo()
    info.add_text("Synthetic Data", "YES")
    info.add_text("Software", "Cohortium")
    info.add_text("Title", title)
    out = io.BytesIO()
    canvas.save(out, "PNG", pnginfo=info, compress_level=1)
    return out.getvalue()
