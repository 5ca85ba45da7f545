"""Planted copies: training images altered as a careless or a hiding publisher would alter them, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from scipy import ndimage

from synth.errors import PermanentError
from synth.evaluation.images.copies.shortlist import FLIPPED
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import WHITE, ImageSet
from synth.nouns import Attribute
from synth.seeds import stream

Alteration = Callable[[Floats32, np.random.Generator], Floats32]

ANGLE = np.deg2rad(5.0)
CROP = 0.05  # of each side
GAIN, OFFSET, GAMMA = (0.8, 1.2), (-0.1, 0.1), (0.7, 1.4)
BLUR = 1 / 128  # of the longest side, and LEAST_BLUR pixels at least
LEAST_BLUR = 0.7
MOVE = 0.03  # of the longest side
NOISE, LEVELS = 0.02, 32
EIGHT_BITS = 255

SCHEMA = (
    Attribute("alteration", "categorical", description="What was done to the training image."),
    Attribute("copied_image_id", "categorical", description="The training image that was copied."),
)


def keep(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image itself."""
    return image


def flip(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image flipped from left to right."""
    return np.asarray(np.flip(image, FLIPPED[image.ndim]))


def rotate(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image turned by 5 degrees either way, about any axis of a volume; what was outside is black."""
    angle = ANGLE * rng.choice((-1.0, 1.0))
    first, second = sorted(rng.permutation(image.ndim)[:2])
    turn = np.eye(image.ndim)
    turn[[first, second], [first, second]] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    middle = (np.asarray(image.shape) - 1) / 2
    return np.asarray(ndimage.affine_transform(image, turn, middle - turn @ middle, order=1))


def change_intensity(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image with another gamma, gain and offset, cut off at black and white."""
    gamma = np.exp(rng.uniform(*np.log(GAMMA)))
    return np.asarray(np.clip(image**gamma * rng.uniform(*GAIN) + rng.uniform(*OFFSET), 0, 1))


def crop(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image without 5 % on each side, resized back."""
    size = np.asarray(image.shape)
    scale = 1 - 2 * CROP
    return np.asarray(
        ndimage.affine_transform(image, np.full(image.ndim, scale), (size - 1) / 2 * (1 - scale), order=1)
    )


def blur(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image mildly blurred: a Gaussian of 1/128 of its side, 0.7 pixels at least."""
    return np.asarray(ndimage.gaussian_filter(image, max(LEAST_BLUR, BLUR * max(image.shape))))


def blur_flipped(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image flipped and blurred."""
    return blur(flip(image, rng), rng)


def move_rotated(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image turned by 5 degrees and moved by 3 % of its side along each axis, either way."""
    distance = MOVE * max(image.shape) * rng.choice((-1.0, 1.0), image.ndim)
    return np.asarray(ndimage.shift(rotate(image, rng), distance, order=1))


def alter_everything(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image flipped, turned, cropped, and of another intensity."""
    return change_intensity(crop(rotate(flip(image, rng), rng), rng), rng)


def add_noise(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image with white noise of 2 % of the range."""
    return image + rng.normal(0, NOISE, image.shape).astype(np.float32)


def drop_levels(image: Floats32, rng: np.random.Generator) -> Floats32:
    """Return the image with 32 levels of grey."""
    return np.asarray(np.round(image * (LEVELS - 1)) / (LEVELS - 1), np.float32)


ALTERATIONS: Mapping[str, Alteration] = MappingProxyType({
    "exact": keep, "flipped": flip, "rotated": rotate, "intensity": change_intensity, "cropped": crop, "blurred": blur,
})  # fmt: skip
HARDER: Mapping[str, Alteration] = MappingProxyType({
    "flipped_blurred": blur_flipped, "rotated_moved": move_rotated, "everything": alter_everything,
    "noisy": add_noise, "levels": drop_levels,
})  # fmt: skip


def plant_copies(
    train: ImageSet, count: int, seed: int, alterations: Mapping[str, Alteration] = ALTERATIONS, stage: str = "planted"
) -> ImageSet:
    """Return ``count`` training images, each altered in every way and rounded to 8 bits.

    Attributes ``alteration`` and ``copied_image_id`` say what was done to which. Raises PermanentError if the set has
    fewer images.
    """
    if not 1 <= count <= len(train):
        raise PermanentError(
            f"{count} copies cannot be planted of {len(train)} training images; ask for 1 to {len(train)}."
        )
    chosen = np.sort(stream(seed, -1, -1, f"images/copies/{stage}").permutation(len(train))[:count])
    names = np.asarray(train.image_ids)[chosen].tolist()
    altered: list[Floats32] = []
    rows: list[dict[str, str]] = []
    for index, name in zip(chosen.tolist(), names, strict=True):
        image = train.images([index])[0]
        for number, (alteration, alter) in enumerate(alterations.items()):
            altered.append(alter(image, stream(seed, index, number, f"images/copies/{stage}")))
            own = f"{alteration}-copy-of-{name}"
            rows.append({"image_id": own, "patient_id": own, "alteration": alteration, "copied_image_id": name})
    return ImageSet("planted copies", _store(altered), pa.Table.from_pylist(rows), SCHEMA)


def _store(images: Sequence[Floats32]) -> np.ndarray:
    levels = np.round(np.clip(np.stack(images), 0, 1) * EIGHT_BITS)
    return (levels * (WHITE // EIGHT_BITS)).astype(np.uint16)
