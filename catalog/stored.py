"""One stored image out of its shard: a direct read of its row group, with every hash checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.codec import decode_array, hash_array
from catalog.home import Home
from catalog.records import ShardRecord, StoredImage
from catalog.rows import measurement_from_row, scan_from_row
from synth.errors import DamagedShardError

REMEDY = "Run 'cohortium verify' to see all damage, and build the same recipe again to restore the shard."


class ShardFile:
    """An open shard that keeps the last row group it read. Page checksums are verified."""

    def __init__(self, home: Home, record: ShardRecord, remedy: str = REMEDY) -> None:
        self.record = record
        self.remedy = remedy
        self.path = home.resolve_below(record.path)
        self._key: tuple[int, tuple[str, ...]] | None = None
        self._group: pa.Table | None = None
        try:
            self._file = pq.ParquetFile(self.path, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise self.damaged(str(error)) from error

    def damaged(self, reason: str) -> DamagedShardError:
        """Return the error that names this shard, its file and the next step."""
        return DamagedShardError(f"shard '{self.record.shard_id}' in '{self.path}' is damaged: {reason}. {self.remedy}")

    def read_row(self, row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
        """Return some columns of an image's row as Arrow scalars; raises DamagedShardError if they cannot be read."""
        key = (row["row_group"], columns)
        try:
            if self._group is None or self._key != key:
                self._group = self._file.read_row_group(row["row_group"], columns=["image_id", *columns])
                self._key = key
            scalars = {name: self._group.column(name)[row["row_in_group"]] for name in ("image_id", *columns)}
            found = scalars["image_id"].as_py()
        except (OSError, pa.ArrowException, ValueError, IndexError, KeyError) as error:
            self._group = None
            raise self.damaged(str(error)) from error
        if found != row["image_id"]:
            raise self.damaged(f"it holds '{found}' where the catalog expects '{row['image_id']}'")
        return scalars

    def read_preview(self, row: Mapping[str, Any]) -> bytes:
        """Return the preview PNG of an image."""
        preview: bytes = self.read_row(row, ("preview",))["preview"].as_py()
        return preview


def read_stored_image(file: ShardFile, row: Mapping[str, Any], measurements: list[dict[str, Any]]) -> StoredImage:
    """Return the image of a joined catalog row; raises DamagedShardError if pixels or masks have changed."""
    blobs = file.read_row(row, ("pixels", "masks"))
    pixels = decode_verified(
        file, "pixels", blobs["pixels"].as_buffer(), row["dtype"], row["shape"], row["pixels_sha256"]
    )
    masks = {}
    stored = {mask["name"].as_py(): mask for mask in blobs["masks"]}
    for name, digest in zip(row["mask_names"], row["mask_sha256"], strict=True):
        if name not in stored:
            raise file.damaged(f"mask '{name}' of '{row['image_id']}' is missing")
        mask = stored[name]
        masks[name] = decode_verified(file, name, mask["data"].as_buffer(), mask["dtype"].as_py(), row["shape"], digest)
    return StoredImage(
        image_id=row["image_id"],
        pixels=pixels,
        masks=masks,
        spacing_mm=None if row["spacing_mm"] is None else tuple(row["spacing_mm"]),
        affine=None if row["affine"] is None else np.array(row["affine"], dtype=np.float64).reshape(4, 4),
        intensity_scale=row["intensity_scale"],
        intensity_unit=row["intensity_unit"],
        scan=scan_from_row(row),
        measurements=tuple(measurement_from_row(m) for m in measurements),
        row=row,
    )


def decode_verified(file: ShardFile, what: str, data: Any, dtype: str, shape: list[int], digest: str) -> NDArray[Any]:
    """Return the array encoded as ``data``; raises DamagedShardError unless its SHA-256 is ``digest``."""
    try:
        array = decode_array(data, dtype, shape)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise file.damaged(f"{what} cannot be decoded ({error})") from error
    found = hash_array(array)
    if found != digest:
        raise file.damaged(f"{what} have SHA-256 {found} instead of {digest}")
    return array
