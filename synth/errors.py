"""The two families of errors: permanent ones (fix the input) and retryable ones (try again).

Every message says what was given, what is allowed and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CohortiumError(Exception):
    """Base of every error that Cohortium raises on purpose; shown to users without a traceback."""


class PermanentError(CohortiumError):
    """Trying again gives the same error: the input, the recipe or the stored data must change."""


class RetryableError(CohortiumError):
    """Trying again may succeed: a lock was held, a worker died, a disk was full for a moment."""


class SpecError(PermanentError):
    """A recipe cannot be read or asks for something that does not exist."""


class PopulationError(PermanentError):
    """A population cannot deliver what was asked of it."""


class ModelError(PermanentError):
    """A learned model cannot be trained, read, or asked for what it was not taught."""


class CatalogError(PermanentError):
    """The catalog cannot be opened, or does not hold what was asked for."""


class DamagedShardError(PermanentError):
    """Stored bytes no longer have the SHA-256 they were registered with."""


class ReadOnlyError(PermanentError):
    """A statement would change the catalog where only reading is allowed."""


class StorageError(RetryableError):
    """The disk refused a write: full, read-only or not permitted. Nothing was registered."""


class BusyError(RetryableError):
    """Another process holds the lock that is needed."""


class WorkerError(RetryableError):
    """A shard killed its worker more often than the supervisor allows."""


def suggest_nearest(given: str, allowed: Iterable[str]) -> str:
    """Return ``' Did you mean ...?'`` for the allowed word nearest to ``given``, or an empty string."""
    nearest = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
