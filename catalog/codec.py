"""Arrays to compact bytes and back: bytes of equal significance are brought together, then compressed with zstd.

The high bytes of neighbouring voxels resemble each other, so they compress well once they stand side by side.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synth.errors import CatalogError

DTYPES = ("uint8", "uint16", "int16", "float32")
_ZSTD = pa.Codec("zstd", compression_level=1)


def raw_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the array's bytes, little-endian and in C order; raises CatalogError for a type we do not store."""
    if array.dtype.name not in DTYPES:
        raise CatalogError(f"arrays of type {array.dtype} cannot be stored; use one of {', '.join(DTYPES)}.")
    ordered = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return ordered.reshape(-1).view(np.uint8)


def hash_array(array: NDArray[Any]) -> str:
    """Return the SHA-256 of the array's raw bytes."""
    return hashlib.sha256(raw_bytes(array).data).hexdigest()


def encode_array(array: NDArray[Any]) -> bytes:
    """Return the encoded bytes of ``array``; equal arrays give equal bytes."""
    planes = _split_planes(raw_bytes(array), array.dtype.itemsize)
    encoded: bytes = _ZSTD.compress(pa.py_buffer(planes.data), asbytes=True)
    return encoded


def _split_planes(raw: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Return the bytes of numbers ``width`` bytes wide, least significant ones first. Shifts beat a transposed copy."""
    if width == 1:
        return raw
    numbers = raw.view(f"<u{width}")
    planes = np.empty((width, numbers.size), np.uint8)
    for place in range(width):
        np.right_shift(numbers, 8 * place, out=planes[place], casting="unsafe")
    return planes


def decode_array(data: bytes | memoryview, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return the array of type ``dtype`` and ``shape`` that was encoded as ``data``.

    Raises ValueError or OSError if the bytes cannot be the encoding of such an array.
    """
    if dtype not in DTYPES:
        raise ValueError(f"arrays of type {dtype} are never stored")
    kind = np.dtype(dtype).newbyteorder("<")
    size = math.prod(shape) * kind.itemsize
    decoded: bytes = _ZSTD.decompress(pa.py_buffer(data), decompressed_size=size, asbytes=True)
    planes = np.frombuffer(decoded, np.uint8)
    raw = planes.reshape(kind.itemsize, -1).T if size else planes
    return np.ascontiguousarray(raw).reshape(-1).view(kind).reshape(tuple(shape))
