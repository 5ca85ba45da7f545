"""Pictures for those who train, never part of a release: drawn images beside real ones, and the steps curve."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.ranks import Ints
from synth.learned.conditions import Condition
from synth.learned.steps_curve import Point, StepsCurve
from synth.seeds import stream

_SIDE, _TEXT, _LINE, _GAP = 128, 30, 18, 4
_COLUMNS = 8
_GROUPS = 8  # of an attribute: its most frequent labels
_BANDS = 4  # of a number
_CHART = (560, 340)
_PLOT = (70, 30, 540, 270)  # left, top, right, bottom
_MARKS = "Upper of each pair: a real image, not to be released. Lower: drawn by a model."
_COLOURS = {"model": (31, 119, 180), "few-step student": (214, 39, 40)}


@dataclass(frozen=True)
class Group:
    """Some images that show one thing; ``places`` are theirs in the set."""

    caption: str
    places: Ints


def draw_pairs(real: Floats32, made: Floats32, captions: Sequence[str], path: Path) -> Path:
    """Write a grid of pairs, real above made; of volumes the middle slice. Returns ``path``."""
    lines = -(-len(real) // _COLUMNS)
    height = _TEXT + 2 * (_SIDE + _GAP)
    sheet = Image.new("L", (_COLUMNS * (_SIDE + _GAP), lines * height), 0)
    draw = ImageDraw.Draw(sheet)
    for place, (one, other, caption) in enumerate(zip(real, made, captions, strict=True)):
        left, top = place % _COLUMNS * (_SIDE + _GAP), place // _COLUMNS * height
        draw.multiline_text((left + 2, top), caption, fill=255, font_size=10, spacing=2)
        sheet.paste(_picture(one), (left, top + _TEXT))
        sheet.paste(_picture(other), (left, top + _TEXT + _SIDE + _GAP))
    marks = PngInfo()
    marks.add_text("Description", _MARKS)
    sheet.save(path, pnginfo=marks)
    return path


def choose_groups(images: ImageSet, condition: Condition, seed: int) -> list[Group]:
    """Return some images of each value, label or band of an attribute, most frequent first; bands in order."""
    name = condition.attribute.name
    values = images.values(name)
    order = stream(seed, -1, -1, f"train/groups/{name}").permutation(len(values))
    if condition.numeric:
        numbers = np.array([float("nan") if value is None else float(value) for value in values])  # type: ignore[arg-type]
        edges = np.unique(np.round(np.nanquantile(numbers, np.linspace(0, 1, _BANDS + 1)))) if len(numbers) else []
        masks = {
            f"{name} {low:g} to {high:g}": (numbers >= low)
            & ((numbers < high) | (high == edges[-1]) & (numbers == high))
            for low, high in itertools.pairwise(edges)
        }
    else:
        masks = {
            f"{name}: {label}": np.array([label in value if isinstance(value, tuple | list) else value == label
                                          for value in values], bool)
            for label in condition.values
        }  # fmt: skip
        if condition.attribute.kind == "set":
            masks[f"{name}: none"] = np.array([value is not None and not len(value) for value in values], bool)  # type: ignore[arg-type]
        masks = dict(sorted(masks.items(), key=lambda item: -int(item[1].sum()))[:_GROUPS])
    found = [Group(caption, order[mask[order]][:_COLUMNS]) for caption, mask in masks.items()]
    return [group for group in found if len(group.places)]


def draw_groups(groups: Sequence[Group], real: Sequence[Floats32], made: Sequence[Floats32], path: Path) -> Path:
    """Write a picture of groups: a row of real images above a row of drawn ones for the same requests."""
    height = _LINE + 2 * (_SIDE + _GAP)
    sheet = Image.new("L", (_COLUMNS * (_SIDE + _GAP), len(groups) * height), 0)
    draw = ImageDraw.Draw(sheet)
    for number, (group, above, below) in enumerate(zip(groups, real, made, strict=True)):
        top = number * height
        draw.text((2, top + 1), f"{group.caption} (above: real, below: drawn)", fill=255, font_size=12)
        for line, images in enumerate((above, below)):
            for column, image in enumerate(images):
                place = column * (_SIDE + _GAP), top + _LINE + line * (_SIDE + _GAP)
                sheet.paste(_picture(image), place)
    marks = PngInfo()
    marks.add_text("Description", _MARKS)
    sheet.save(path, pnginfo=marks)
    return path


def draw_curve(curve: StepsCurve, path: Path) -> Path:
    """Write the chart of distance against steps, both growing by factors; near 0 the distance grows evenly."""
    chart = Image.new("RGB", _CHART, "white")
    draw = ImageDraw.Draw(chart)
    left, top, right, bottom = _PLOT
    points, floor = curve.points, curve.floor
    unit = max((floor.high - floor.low) / 2, 1e-12)  # what chance moves
    ends = [value for point in (*points, floor) for value in (point.low, point.high, 0.0)]
    low, high = (math.asinh(end / unit) for end in (min(ends), max(ends)))
    widest = math.log2(max(2, *(point.steps for point in points)))

    def place(steps: float, value: float) -> tuple[float, float]:
        up = (math.asinh(value / unit) - low) / max(high - low, 1e-12)
        return left + 15 + (right - left - 30) * math.log2(steps) / widest, bottom - (bottom - top) * up

    band = [left, place(1, floor.high)[1], right, place(1, floor.low)[1]]
    draw.rectangle(band, fill=(225, 240, 225))
    draw.text((right - 175, band[1] + 1), "real training patients, 95 %", fill=(60, 120, 60), font_size=11)
    for tick in _choose_ticks(unit, min(ends), max(ends)):
        y = place(1, tick)[1]
        draw.line([left, y, right, y], fill=(235, 235, 235))
        draw.text((left - 6, y), f"{tick:.3g}", fill="black", font_size=11, anchor="rm")
    for steps in sorted({point.steps for point in points}):
        draw.text((place(steps, 0)[0], bottom + 6), str(steps), fill="black", font_size=11, anchor="mt")
    for name, colour in _COLOURS.items():
        _draw_points([point for point in points if point.sampler == name], colour, draw, place)
    draw.rectangle(_PLOT, outline=(120, 120, 120))
    draw.text(
        ((left + right) / 2, bottom + 24), "steps from noise to an image", fill="black", font_size=12, anchor="mt"
    )
    title = f"kernel distance of coarse pixels to unseen patients, {curve.images} images each"
    draw.text((left, 8), title, fill="black", font_size=12)
    for number, (name, colour) in enumerate(_COLOURS.items()):
        if any(point.sampler == name for point in points):
            draw.text((left + 10 + 120 * number, bottom + 44), name, fill=colour, font_size=12)
    chart.save(path)
    return path


def _draw_points(points: Sequence[Point], colour: tuple[int, int, int], draw: ImageDraw.ImageDraw, place: Any) -> None:
    """Draw points with their intervals, joined."""
    places = [place(point.steps, point.value) for point in points]
    if len(places) > 1:
        draw.line(places, fill=colour, width=2)
    for point, (x, y) in zip(points, places, strict=True):
        draw.line([place(point.steps, point.low), place(point.steps, point.high)], fill=colour)
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)


def _choose_ticks(unit: float, low: float, high: float) -> list[float]:
    """Return 0 and powers of ten between the ends that are not hidden by what chance moves."""
    powers = [10.0**power for power in range(math.floor(math.log10(unit)), math.ceil(math.log10(max(high, unit))) + 1)]
    return [0.0, *(tick for tick in powers if unit < tick <= high), *(-tick for tick in powers if low <= -tick < -unit)]


def _picture(values: Floats32) -> Image.Image:
    if values.ndim == 3:
        values = values[:, :, values.shape[2] // 2].T[::-1]
    grey = Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))
    scale = _SIDE / max(grey.size)
    return grey.resize(
        (max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), Image.Resampling.BILINEAR
    )
