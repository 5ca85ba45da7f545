"""Files whose names prove them: written whole or not at all, and named by the SHA-256 of their content."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.home import LONGEST_ID, check_name, explain_refusals, make_folder, sync_folder

DIGITS = 16  # of the SHA-256 in a file's name
Written = TypeVar("Written")


class HashingSink(io.RawIOBase):
    """A file that hashes what is written and reports refusals of the disk as StorageError."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.digest = hashlib.sha256()
        self.bytes = 0
        self.discarding = False
        with explain_refusals(path):
            self._file = path.open("xb", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # shows that its writer is alive

    def writable(self) -> bool:
        """Return True, as files open for writing do."""
        return True

    def write(self, data: Any) -> int:
        """Write and hash ``data``; return its size in bytes."""
        view = memoryview(data).cast("B")
        if not self.discarding:
            with explain_refusals(self.path):
                written = 0
                while written < len(view):
                    written += self._file.write(view[written:]) or 0
            self.digest.update(view)
        self.bytes += len(view)
        return len(view)

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self.bytes

    def sync(self) -> None:
        """Make what was written survive a power loss."""
        with explain_refusals(self.path):
            os.fsync(self._file.fileno())

    def release(self) -> None:
        """Close the file itself; Parquet's writer may close the sink before it is synced."""
        self._file.close()


def write_hashed(
    folder: Path, shard_id: str, fill: Callable[[HashingSink], Written]
) -> tuple[Path, HashingSink, Written]:
    """Write one file durably as ``<shard_id>.<hash>.parquet``; return its path, its sink and what ``fill`` returned.

    Whatever ``fill`` raises is passed on, and nothing is left behind. Raises StorageError if the disk refuses.
    """
    check_name(shard_id, "shard_id", LONGEST_ID)
    make_folder(folder)
    temporary = folder / f".{shard_id}.{os.getpid()}.{secrets.token_hex(6)}.tmp"
    sink = HashingSink(temporary)
    try:
        written = fill(sink)
        sink.sync()
        final = folder / f"{shard_id}.{sink.digest.hexdigest()[:DIGITS]}.parquet"
        with explain_refusals(final):
            temporary.replace(final)
            sync_folder(folder)
    finally:
        sink.release()
        temporary.unlink(missing_ok=True)
    return final, sink, written


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_proved(path: Path) -> tuple[str, int, Any] | None:
    """Return (SHA-256, bytes, Parquet footer) of a file that its name proves whole, or None if it does not."""
    try:
        digest, size = hash_file(path), path.stat().st_size
        return (digest, size, pq.read_metadata(path)) if path.name.split(".")[-2] == digest[:DIGITS] else None
    except (OSError, pa.ArrowException):
        return None


def remove_abandoned_in(folder: Path) -> int:
    """Delete the temporary files in ``folder`` whose writer has died; return how many."""
    removed = 0
    for path in folder.glob(".*.tmp"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
        except (FileNotFoundError, BlockingIOError):
            continue
    return removed
