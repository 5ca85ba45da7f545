"""Verification: every registered shard is hashed again and compared with the SHA-256 in the catalog."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from catalog.home import Home, resolve_home
from catalog.reader import open_catalog
from catalog.records import DamagedShard, ShardRecord, VerifyProgress, VerifyResult
from catalog.shards import check_shard


def verify_shards(
    home: Home | Path | str | None = None, cohort_id: str | None = None
) -> Generator[VerifyProgress, None, VerifyResult]:
    """Hash every registered shard (of one cohort, or of everything); yield a record after each and return the result.

    A missing file counts as damaged. Raises CatalogError if the catalog cannot be opened or has no such cohort.
    """
    home = resolve_home(home)
    records = registered_shards(home, cohort_id)
    damaged: list[DamagedShard] = []
    for number, record in enumerate(records, start=1):
        damage = check_shard(home, record)
        if damage:
            damaged.append(damage)
        yield VerifyProgress(number, len(records), record.bytes, damage)
    return VerifyResult(len(records), tuple(damaged))


def verify_all(home: Home | Path | str | None = None, cohort_id: str | None = None) -> VerifyResult:
    """Return the result of verify_shards without its progress records."""
    run = verify_shards(home, cohort_id)
    while True:
        try:
            next(run)
        except StopIteration as done:
            result: VerifyResult = done.value
            return result


def registered_shards(home: Home | Path | str | None = None, cohort_id: str | None = None) -> list[ShardRecord]:
    """Return the registered shards (of one cohort, or of all cohorts and references).

    Raises CatalogError if the cohort is unknown.
    """
    with open_catalog(home) as catalog:
        return catalog.shards(cohort_id) + (catalog.reference_shards() if cohort_id is None else [])
