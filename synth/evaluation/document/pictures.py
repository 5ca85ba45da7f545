"""Pictures of the page: images as data addresses, volumes as their three middle slices, differences, sheets."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from synth.evaluation.images.layout import Floats32

Bytes8 = NDArray[np.uint8]
SMALLEST_JPEG = 64  # pixels: smaller pictures are PNG, as JPEG's blocks would be seen
QUALITY = 88
GAIN = 3.0  # of differences: a third of the scale is white
GAP = 2  # pixels between pictures of one sheet
LARGEST_SIDE = 128  # pixels of one picture


def show_slices(image: Floats32) -> Floats32:
    """Return a picture of (y, x) as it is, of a volume (x, y, z) its axial, coronal and sagittal middle slice.

    Slices are shown as radiologists hang them: the patient's right is on the left, or the front is on the left.
    """
    if image.ndim == 2:
        return image
    x, y, z = (size // 2 for size in image.shape)
    axial = image[::-1, ::-1, z].T
    coronal = image[::-1, y, ::-1].T
    sagittal = image[x, ::-1, ::-1].T
    height = max(part.shape[0] for part in (axial, coronal, sagittal))
    return np.concatenate([_centre(part, height) for part in (axial, coronal, sagittal)], axis=1)


def show_difference(image: Floats32, reference: Floats32) -> tuple[Floats32, bool]:
    """Return three times the absolute difference, and whether the reference was mirrored for it.

    It is mirrored, left to right, where that is the better match: a mirrored copy is a copy.
    """
    mirrored = reference[:, ::-1] if image.ndim == 2 else reference[::-1]
    plain, flipped = (np.abs(image - other) for other in (reference, mirrored))
    mirror = bool(flipped.mean() < plain.mean())
    return np.clip(GAIN * (flipped if mirror else plain), 0.0, 1.0).astype(np.float32), mirror


def make_sheet(images: Sequence[Floats32], columns: int) -> Floats32:
    """Return equally large pictures on one sheet, ``columns`` in a row."""
    pictures = [show_slices(image) for image in images]
    height, width = pictures[0].shape
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), np.float32)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def encode_picture(picture: Floats32) -> str:
    """Return a picture with intensities from 0 to 1 as a data address: JPEG, or PNG if it is small."""
    values: Bytes8 = np.round(np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)
    small = max(values.shape) < SMALLEST_JPEG
    buffer = io.BytesIO()
    made = Pictures.fromarray(values)
    if small:
        made.save(buffer, "PNG", optimize=True)
    else:
        made.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def shrink(image: Floats32) -> Floats32:
    """Return a picture with at most 128 pixels a side; volumes stay as they are."""
    if image.ndim != 2 or max(image.shape) <= LARGEST_SIDE:
        return image
    scale = LARGEST_SIDE / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    resized = Pictures.fromarray(image).resize(size, Pictures.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def _centre(picture: Floats32, height: int) -> Floats32:
    above = (height - picture.shape[0]) // 2
    return np.pad(picture, ((above, height - picture.shape[0] - above), (0, 0)))
