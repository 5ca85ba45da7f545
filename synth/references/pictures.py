"""PNG, JPEG, TIFF and BMP pictures as arrays, grey or coloured; the header is checked before anything is decoded."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from synth.references.limits import check_size
from synth.references.plan import BadItemError, Budget

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM")
_BYTES = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4, "LA": 2, "I;16": 2, "I;16B": 2, "I": 4, "F": 4}
_FAILURES = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, ZeroDivisionError,
    OverflowError, AttributeError, Image.DecompressionBombError, Warning,
)  # fmt: skip


def looks_like_picture(data: bytes) -> bool:
    """Return whether ``data`` begins like a picture."""
    return data.startswith(MAGIC)


def decode_picture(data: bytes, budget: Budget) -> NDArray[Any]:
    """Return the picture in ``data``: uint8, uint16 or float32, (rows, columns) or (rows, columns, 3).

    Colours that are all grey become one channel; nothing else is changed. Raises BadItemError, before memory is taken
    for pixels, if it is too large, and if it is broken or of a kind that cannot be kept.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # what Pillow only warns of is damage
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                return _decode(picture, budget)
    except UnidentifiedImageError as error:
        raise BadItemError(f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture") from error
    except _FAILURES as error:
        raise BadItemError(f"it cannot be decoded: {str(error) or type(error).__name__}"[:200]) from error


def _decode(picture: Image.Image, budget: Budget) -> NDArray[Any]:
    if picture.mode not in _BYTES:
        raise BadItemError(f"its colour mode {picture.mode} is not supported; save it as grey or RGB")
    check_size((picture.height, picture.width), _BYTES[picture.mode], budget)
    if getattr(picture, "n_frames", 1) != 1:
        raise BadItemError("it holds several frames; save each as a picture of its own")
    if picture.mode in ("1", "P"):
        transparent = "transparency" in picture.info
        picture = picture.convert("RGBA" if transparent else "RGB" if picture.mode == "P" else "L")
    pixels = np.asarray(picture)
    if picture.mode in ("RGBA", "LA"):
        if not (pixels[..., -1] == 255).all():
            raise BadItemError("it is partly transparent; save it without transparency")
        pixels = pixels[..., :-1]
    return _simplify(pixels)


def _simplify(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize == 4:
        if pixels.min() < 0 or pixels.max() > 65535:
            raise BadItemError("its 32-bit values do not fit into 16 bits")
        pixels = pixels.astype(np.uint16)
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def axes_of(pixels: NDArray[Any]) -> str:
    """Return the letters of a picture's axes."""
    return "yxc" if pixels.ndim == 3 else "yx"
