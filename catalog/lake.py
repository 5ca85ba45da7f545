"""Connections to the DuckLake catalog: many readers, and one writer under a file lock."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout

from catalog.home import Home, describe_refusal, make_folder
from synth.errors import BusyError, CatalogError, CohortiumError, StorageError

ALIAS = "lake"
LOCK_TIMEOUT_S = 60.0
SQLITE_TIMEOUT_MS = 10_000
WRITER_MEMORY = "768MB"  # larger results spill to disk
EXTENSIONS = ("sqlite_scanner", "ducklake")  # in the order they are loaded
_checked: set[Path] = set()  # extensions whose signature held in this process: to check one, DuckDB hashes 35 MB
_FULL = ("no space left", "disk is full", "disk full", "quota exceeded", "file too large")
_REFUSED = ("permission denied", "read-only file system", "readonly database", "unable to open database file")


def find_extension(name: str) -> Path:
    """Return the file of a DuckDB extension inside its PyPI wheel; raises CatalogError if it is not installed."""
    module = f"duckdb_extension_{name}"
    spec = importlib.util.find_spec(module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        file = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if file.is_file():
            return file
    package = module.replace("_", "-")
    raise CatalogError(
        f"DuckDB {duckdb.__version__} has no matching extension '{name}'. "
        f"Run: pip install {package}=={duckdb.__version__}"
    )


def open_read_only(home: Home) -> duckdb.DuckDBPyConnection:
    """Return a connection that can read the catalog and its data files, and nothing else of the machine.

    Raises CatalogError if there is no catalog, BusyError if it is locked for too long.
    """
    if not home.metadata.is_file():
        raise CatalogError(
            f"there is no catalog in '{home.root}'. Run 'cohortium build SPEC' first, or set COHORTIUM_HOME."
        )
    with explain_failures(home):
        connection = _connect(home, "READ_ONLY, ", {"temp_directory": ""})
        for setting in (
            f"allowed_directories = [{quote(str(home.data))}]",
            "enable_external_access = false",
            "python_enable_replacements = false",
            "enable_logging = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
    return connection


@contextmanager
def lock_writer(home: Home, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock of the one committer; raises BusyError if another process keeps it longer than ``timeout_s``."""
    make_folder(home.root)
    lock = FileLock(home.lock, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:  # an OSError too, so it is caught first
        raise BusyError(
            f"another process has been writing to the catalog in '{home.root}' for {timeout_s:g} s. "
            "Wait for it to finish, then run the command again."
        ) from error
    except OSError as error:
        raise StorageError(describe_refusal(home.lock, error)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def open_read_write(home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a writing connection and close it; the caller holds the lock. DuckDB's errors become ours."""
    make_folder(home.data)
    with explain_failures(home):
        connection = _connect(home, "DATA_INLINING_ROW_LIMIT 0, ", {"memory_limit": WRITER_MEMORY})
        try:
            yield connection
        finally:
            connection.close()


def _connect(home: Home, options: str, config: dict[str, str]) -> duckdb.DuckDBPyConnection:
    offline = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    frugal = {"enable_external_file_cache": "false"}  # or shards stay cached in memory
    spill = {"temp_directory": str(home.root / "spill")}
    files = [find_extension(name) for name in EXTENSIONS]
    known = {"allow_unsigned_extensions": "true" if _checked.issuperset(files) else "false"}
    connection = duckdb.connect(config={**offline, **frugal, **spill, **known, **config})
    try:
        connection.execute("SET enable_progress_bar = false")  # python -c and notebooks draw it on stdout
        for file in files:
            connection.execute(f"LOAD {quote(str(file))}")
        _checked.update(files)
        # OVERRIDE_DATA_PATH: the home may have been moved since the catalog was made.
        connection.execute(
            f"ATTACH {quote(f'ducklake:sqlite:{home.metadata}')} AS {ALIAS} ({options}"
            f"DATA_PATH {quote(f'{home.data}/')}, OVERRIDE_DATA_PATH true, "
            f"META_JOURNAL_MODE 'WAL', META_BUSY_TIMEOUT {SQLITE_TIMEOUT_MS})"
        )
        connection.execute(f"USE {ALIAS}")
    except (duckdb.Error, CatalogError):
        connection.close()
        raise
    return connection


def quote(text: str) -> str:
    """Return ``text`` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def explain_failures(home: Home) -> Iterator[None]:
    """Turn DuckDB's errors into BusyError, StorageError or CatalogError that name the catalog and the next step."""
    try:
        yield
    except duckdb.Error as error:
        raise explain_failure(home, error) from error


def explain_failure(home: Home, error: duckdb.Error) -> CohortiumError:
    """Return our error for one of DuckDB's."""
    text = str(error)
    lowered = text.lower()
    if isinstance(error.__cause__, OSError):
        return StorageError(describe_refusal(home.root, error.__cause__))
    if "locked" in lowered and "database" in lowered:
        return BusyError(f"the catalog in '{home.root}' is locked by another process; run the command again. ({text})")
    if any(words in lowered for words in _FULL):
        return StorageError(
            f"'{home.root}' cannot be written: the disk is full. Free some space, run it again. ({text})"
        )
    if any(words in lowered for words in _REFUSED):
        return StorageError(f"'{home.root}' cannot be opened or written. Make it writable and run it again. ({text})")
    return CatalogError(f"the catalog in '{home.root}' refused: {text}")
