"""NIfTI volumes as arrays. The header is checked first, and no more is unpacked than it declares."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from synth.references.limits import check_size
from synth.references.plan import BadItemError, Budget, show_size

SUFFIXES = (".nii", ".nii.gz")
LARGEST_OFFSET = 16 << 20  # header extensions stand before the voxels
_HEADERS: dict[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_MAGIC = {348: (344, b"n+1\0"), 540: (4, b"n+2\0")}
_TO_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_KEPT = ("uint8", "uint16", "int16", "float32")


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels indexed (x, y, z) and their geometry; stored value times ``intensity_scale`` is the file's value.

    ``placed`` says whether the header tells how the volume lies (sform or qform); else the affine is only its spacing.
    """

    pixels: NDArray[Any]
    axes: str
    spacing_mm: tuple[float, ...]
    affine: tuple[float, ...]
    intensity_scale: float
    placed: bool = True


def read_volume(path: Path, budget: Budget) -> Volume:
    """Return the volume in a NIfTI file; raises BadItemError, before memory is taken for voxels, if it is too large.

    Types other than those that are stored become the smallest one that holds every value exactly, else float32. Also
    raises BadItemError if the file is broken, or is not one volume of plain numbers.
    """
    try:
        with path.open("rb") as raw:
            packed = path.stat().st_size
            if packed > budget.image_bytes + LARGEST_OFFSET:
                raise BadItemError(f"it has {show_size(packed)}; {show_size(budget.image_bytes)} are allowed")
            if raw.read(2) == b"\x1f\x8b":
                raw.seek(0)
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    return _read(unpacked, packed, budget)  # type: ignore[arg-type]
            raw.seek(0)
            return _read(raw, packed, budget, is_packed=False)
    except (OSError, EOFError, zlib.error) as error:
        raise BadItemError(f"it cannot be read: {str(error) or type(error).__name__}"[:200]) from error


def _read(stream: IO[bytes], packed: int, budget: Budget, is_packed: bool = True) -> Volume:
    header, length = _read_header(stream)
    shape = _read_shape(header)
    kind = _read_type(header)
    size = check_size(shape, kind.itemsize, budget)
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset) or not 0 <= offset <= LARGEST_OFFSET:
        raise BadItemError(f"its header says that the voxels begin at byte {offset:g}")
    start = max(int(offset), length + 4)
    if is_packed and size + start > packed * budget.ratio:
        raise BadItemError(f"its header declares {show_size(size)}, which {show_size(packed)} cannot hold")
    if not is_packed and size + start > packed:
        raise BadItemError(f"its header declares {show_size(size + start)}, but the file has {show_size(packed)}")
    _read_exactly(stream, start - length)
    data = _read_exactly(stream, size)
    pixels = np.frombuffer(data, kind).reshape(shape, order="F")
    spacing, affine = _read_geometry(header, len(shape))
    pixels, scale = _apply_scaling(header, pixels)
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return Volume(_keep_type(pixels), "xyz", spacing, affine, scale, placed)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise BadItemError(f"it ends early: {size - len(data)} bytes are missing")
    return data


def _read_header(stream: IO[bytes]) -> tuple[Any, int]:
    start = _read_exactly(stream, 4)
    length = next((n for n in _HEADERS for order in _ORDERS if int.from_bytes(start, order) == n), 0)
    if not length:
        raise BadItemError("it does not begin with the header of a NIfTI file")
    block = start + _read_exactly(stream, length - 4)
    place, magic = _MAGIC[length]
    if block[place : place + 4] != magic:
        raise BadItemError("it is no single-file NIfTI (.nii); pairs of .hdr and .img must be joined first")
    try:
        return _HEADERS[length].from_fileobj(io.BytesIO(block), check=False), length
    except (WrapStructError, HeaderDataError, ValueError) as error:
        raise BadItemError(f"its header cannot be read: {error}") from error


def _read_shape(header: Any) -> tuple[int, ...]:
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7:
        raise BadItemError(f"its header declares {dims[0]} dimensions; 3 are expected")
    shape = dims[1 : dims[0] + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3:
        raise BadItemError(f"it has the shape {' x '.join(map(str, shape))}; one volume with 3 dimensions is expected")
    return tuple(shape)


def _read_type(header: Any) -> np.dtype[Any]:
    try:
        kind: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise BadItemError(f"its type of numbers is unknown: {error}") from error
    if kind.hasobject or kind.kind not in "iuf" or kind.itemsize > 8:
        raise BadItemError(f"its voxels are of type {kind}; plain numbers are expected")
    return kind


def _read_geometry(header: Any, axes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        unit = header.get_xyzt_units()[0]
        affine = np.array(header.get_best_affine(), np.float64)
    except (HeaderDataError, KeyError, ValueError, np.linalg.LinAlgError) as error:
        raise BadItemError(f"its geometry cannot be read: {error}") from error
    factor = _TO_MM.get(unit, 1.0)
    spacing = tuple(abs(float(mm)) * factor for mm in header["pixdim"][1 : axes + 1])
    affine[:3] *= factor
    if not np.isfinite(affine).all() or abs(float(np.linalg.det(affine[:3, :3]))) < 1e-12:
        raise BadItemError("its affine is not finite or not invertible")
    if not all(math.isfinite(mm) and mm > 0 for mm in spacing):
        raise BadItemError(f"its voxels have the size {spacing} mm")
    return spacing, tuple(float(value) for value in affine.ravel())


def _apply_scaling(header: Any, pixels: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the voxels and the factor to the file's values; an intercept is added to the voxels as float32."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        return pixels, 1.0
    if not math.isfinite(intercept) or intercept == 0:
        return pixels, slope
    return (pixels.astype(np.float64) * slope + intercept).astype(np.float32), 1.0


def _keep_type(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype.kind in "iu" and pixels.dtype.name not in _KEPT:
        low, high = int(pixels.min()), int(pixels.max())
        fitting = [n for n in _KEPT[:3] if np.iinfo(n).min <= low and high <= np.iinfo(n).max]
        kind = fitting[0] if fitting else "float32"
    else:
        kind = pixels.dtype.name if pixels.dtype.name in _KEPT else "float32"
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(pixels, dtype=np.dtype(kind))
