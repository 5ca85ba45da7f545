"""Small previews: the middle slices of an image as one PNG that says it is synthetic."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo

from synth.errors import CatalogError

HEIGHT_PX = 80
WINDOW_PERCENTILES = (1.0, 99.5)  # of pictures
AIR = 0.1  # voxels below this share of the 99th percentile count as air
HEADROOM = 1.25  # of white above tissue, so that lesions stand out of it
_PLANES = ((2, 0, 1), (1, 0, 2), (0, 1, 2))  # (cut, horizontal, vertical) axes: axial, coronal, sagittal


def draw_preview(image_id: str, pixels: NDArray[Any], spacing_mm: tuple[float, ...] | None) -> bytes:
    """Return a PNG, 80 pixels high, of the middle slices of ``pixels`` (volumes: axial, coronal, sagittal).

    Pixels are square where the spacing is not known. Grey levels run from the 1st to the 99.5th percentile of a
    picture, and from 0 to find_white of a volume's slices. Raises CatalogError unless 2D or 3D.
    """
    slices = [_to_panel(*cut) for cut in _cut_slices(pixels, spacing_mm or (1.0,) * pixels.ndim)]
    shown = np.concatenate([panel.ravel() for panel in slices])
    low, high = np.percentile(shown, WINDOW_PERCENTILES) if pixels.ndim == 2 else (0.0, find_white(shown))
    scale = 255.0 / max(float(high - low), 1e-12)
    grey = [np.clip((panel - low) * scale, 0, 255).astype(np.uint8) for panel in slices]
    strip = PilImage.fromarray(np.concatenate(grey, axis=1))
    info = PngInfo()
    info.add_text("Synthetic Data", "YES")
    info.add_text("Software", "Cohortium")
    info.add_text("image_id", image_id)
    out = io.BytesIO()
    strip.save(out, "PNG", pnginfo=info, compress_type=zlib.Z_HUFFMAN_ONLY)  # noise repeats nothing
    return out.getvalue()


def find_white(voxels: NDArray[Any]) -> float:
    """Return the value to show as white, so that tissue is mid to light grey and lesions may be brighter."""
    tissue = voxels[voxels > AIR * np.percentile(voxels, 99.0)]
    return HEADROOM * float(np.percentile(tissue, 97.0)) if tissue.size else 1.0


def _cut_slices(pixels: NDArray[Any], spacing_mm: tuple[float, ...]) -> list[tuple[NDArray[Any], float]]:
    """Return each middle slice, vertical axis first and pointing up, with its width over its height."""
    if pixels.ndim == 2:
        height, width = (n * mm for n, mm in zip(pixels.shape, spacing_mm, strict=True))
        return [(pixels, width / height)]
    if pixels.ndim != 3:
        raise CatalogError(f"images must have 2 or 3 axes, got shape {pixels.shape}.")
    size_mm = [n * mm for n, mm in zip(pixels.shape, spacing_mm, strict=True)]
    cuts = []
    for cut, horizontal, vertical in _PLANES:
        plane = np.take(pixels, pixels.shape[cut] // 2, axis=cut)  # remaining axes keep their order
        cuts.append((plane.T[::-1], size_mm[horizontal] / size_mm[vertical]))
    return cuts


def _to_panel(plane: NDArray[Any], aspect: float) -> NDArray[np.float32]:
    width = min(max(round(HEIGHT_PX * aspect), 1), 4 * HEIGHT_PX)
    image = PilImage.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((width, HEIGHT_PX), PilImage.Resampling.BILINEAR), dtype=np.float32)
