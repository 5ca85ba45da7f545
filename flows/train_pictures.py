"""Drawn images beside real ones that show the same: a picture for those who train, never part of a release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from synth.evaluation.images.layout import Floats32

_SIDE, _TEXT, _GAP = 128, 30, 4
_COLUMNS = 8


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
    marks.add_text("Description", "Upper of each pair: a real image, not to be released. Lower: drawn by a model.")
    sheet.save(path, pnginfo=marks)
    return path


def _picture(values: Floats32) -> Image.Image:
    if values.ndim == 3:
        values = values[:, :, values.shape[2] // 2].T[::-1]
    grey = Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))
    scale = _SIDE / max(grey.size)
    return grey.resize(
        (max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), Image.Resampling.BILINEAR
    )
