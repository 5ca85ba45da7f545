"""The one place that reads the environment (besides catalog.home, which finds COHORTIUM_HOME for plain Python users).

Importing this module also sets quiet, offline defaults for Prefect and MLflow, so it is imported before either.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from catalog.home import Home, resolve_home
from flows.shelf import FolderShelf
from synth.errors import SpecError

_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # Prefect would start a second server, which outlives kill -9
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # errors are shown once, by the command, without tracebacks
    "PREFECT_CLI_COLORS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a server that is gone is named within half a minute, not after four
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes beside the UI
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # Two workers on two cores: nested threads would only fight over them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are kept and how much of the machine may be used."""

    home: Home
    workers: int
    shard_subjects: int | None
    prefect_api_url: str | None
    tracking_uri: str

    @property
    def shelf(self) -> FolderShelf:
        """The models that are kept in the home."""
        return FolderShelf(self.home.models)

    @property
    def prefect_folder(self) -> Path:
        """The folder of the local Prefect server (database, address of a running one)."""
        return self.home.root / "prefect"

    @property
    def lock_folder(self) -> Path:
        """The folder of the locks that let one process at a time build a cohort."""
        return self.home.root / "locks"

    @property
    def report_folder(self) -> Path:
        """The folder of pictures made of cohorts (contact sheets) and of the documents of scorecards."""
        return self.home.root / "reports"

    @property
    def encoder_folder(self) -> Path:
        """The folder of encoders that were trained on references."""
        return self.home.root / "encoders"


def load_settings(
    home: str | Path | None = None, workers: int | None = None, shard_subjects: int | None = None
) -> Settings:
    """Return the settings: arguments first, then COHORTIUM_* variables, then defaults.

    Raises SpecError if a number is not a positive whole number.
    """
    resolved = resolve_home(home)
    return Settings(
        home=resolved,
        workers=workers or _read_number("COHORTIUM_WORKERS") or max(1, min(os.cpu_count() or 1, 32)),
        shard_subjects=shard_subjects or _read_number("COHORTIUM_SHARD_SUBJECTS"),
        prefect_api_url=os.environ.get("PREFECT_API_URL"),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{resolved.root / 'mlflow.db'}",
    )


def _read_number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise SpecError(f"{name}='{text}' is not allowed; give a whole number of 1 or more, or unset it")
    return int(text)


def find_cache_folder() -> Path:
    """Return the folder of what can be made again at any time: COHORTIUM_CACHE, or cohortium in the user's cache."""
    given = os.environ.get("COHORTIUM_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cohortium"


def point_prefect_at(url: str, folder: Path) -> None:
    """Make Prefect use the server at ``url`` and keep its own files in ``folder``; call before Prefect is imported."""
    os.environ["PREFECT_API_URL"] = url
    os.environ.setdefault("PREFECT_HOME", str(folder))


def server_environment(folder: Path, api_url: str) -> dict[str, str]:
    """Return the environment of a local Prefect server that keeps its database in ``folder``."""
    return {
        **os.environ,
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
        "PREFECT_UI_API_URL": api_url,
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }


def child_environment() -> dict[str, str]:
    """Return the environment for other child processes."""
    return dict(os.environ)
