"""Where everything of Cohortium is stored, and how paths below it are built: from checked names only.

    <home>/catalog.sqlite                                       DuckLake metadata
    <home>/models/<hash>/                                       models that cohorts were drawn by
    <home>/writer.lock                                          held by the one committer
    <home>/data/main/<table>/*.parquet                          rows of the tables
    <home>/data/main/pixels/<cohort_id>/<shard_id>.<hash>.parquet   shards
    <home>/data/main/reference_pixels/<reference_id>/<shard_id>.<hash>.parquet   shards of references (real data)

Shards lie inside the folder of the table ``pixels`` or ``reference_pixels`` because DuckLake then stores their paths
relative to it, so a home can be moved or copied to another place.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synth.errors import CatalogError, StorageError

HOME_VARIABLE = "COHORTIUM_HOME"
DEFAULT_HOME = "cohortium-data"
LONGEST_NAME = 63
LONGEST_ID = 127
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
    errno.EFBIG: "the file-size limit is reached; raise it (ulimit -f) and run the command again",
    errno.EROFS: f"the file system is read-only; set {HOME_VARIABLE} to a writable folder",
    errno.EACCES: f"permission was denied; make the folder writable or set {HOME_VARIABLE} to another one",
    errno.EPERM: f"permission was denied; make the folder writable or set {HOME_VARIABLE} to another one",
    errno.ENOENT: f"no folder can be made there; set {HOME_VARIABLE} to another one",
    errno.ENOTDIR: f"a file stands where a folder is needed; move it away or set {HOME_VARIABLE} to another folder",
    errno.EEXIST: f"a file stands where a folder is needed; move it away or set {HOME_VARIABLE} to another folder",
}


@dataclass(frozen=True, slots=True)
class Home:
    """The root folder of one installation; every path below it is made here."""

    root: Path

    @property
    def metadata(self) -> Path:
        """The SQLite file with the catalog's metadata."""
        return self.root / "catalog.sqlite"

    @property
    def lock(self) -> Path:
        """The file whose lock the one committer holds."""
        return self.root / "writer.lock"

    @property
    def data(self) -> Path:
        """The folder of all Parquet files."""
        return self.root / "data"

    @property
    def pixels(self) -> Path:
        """The folder of the table ``pixels``, which holds all shards."""
        return self.data / "main" / "pixels"

    @property
    def models(self) -> Path:
        """The folder of the models that cohorts were drawn by, each in a folder named by its hash."""
        return self.root / "models"

    def cohort_folder(self, cohort_id: str) -> Path:
        """Return the folder of a cohort's shards; raises CatalogError if the id is not a plain name."""
        return self.resolve_below(self.pixels / check_name(cohort_id, "cohort_id"))

    def reference_folder(self, reference_id: str) -> Path:
        """Return the folder of a reference's shards; raises CatalogError if the id is not a plain name."""
        return self.resolve_below(self.data / "main" / "reference_pixels" / check_name(reference_id, "reference_id"))

    def resolve_below(self, path: Path | str) -> Path:
        """Return the absolute form of ``path`` (relative ones start at the root); raises CatalogError if outside."""
        resolved = (self.root / path).resolve()
        if not resolved.is_relative_to(self.root):
            raise CatalogError(f"path '{path}' leads out of '{self.root}'. Only files below that folder may be used.")
        return resolved

    def relative(self, path: Path) -> str:
        """Return ``path`` as the catalog stores it: relative to the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()


def resolve_home(home: Home | Path | str | None = None) -> Home:
    """Return the home: the argument, else the environment variable COHORTIUM_HOME, else ./cohortium-data."""
    if isinstance(home, Home):
        return home
    chosen = home or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME
    return Home(Path(chosen).expanduser().resolve())


def check_name(name: str, what: str, longest: int = LONGEST_NAME) -> str:
    """Return ``name`` if it is safe as a part of a path (a-z, 0-9, '-'); raises CatalogError otherwise."""
    if len(name) > longest or _NAME.fullmatch(name) is None:
        raise CatalogError(
            f"{what} {name!r} is not allowed; use a-z, 0-9 and '-', starting with a letter or digit, "
            f"{longest} characters at most."
        )
    return name


@contextmanager
def explain_refusals(path: Path) -> Iterator[None]:
    """Turn any OSError about writing ``path`` into a StorageError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        raise StorageError(describe_refusal(path, error)) from error


def describe_refusal(path: Path, error: OSError) -> str:
    """Return the sentence for an OSError about ``path``: what was refused and what to do next."""
    remedy = _REMEDIES.get(error.errno or 0, f"the system says: {error}")
    return f"'{path}' cannot be written: {remedy}. Nothing was registered."


def make_folder(path: Path) -> None:
    """Create ``path`` and its parents durably; raises StorageError if the disk refuses."""
    with explain_refusals(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Make the names in the folder ``path`` survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of the file ``path`` survive a power loss."""
    sync_folder(path)
