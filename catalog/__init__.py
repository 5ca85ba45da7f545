"""All storage of Cohortium: DuckLake catalog, Parquet shards, the one writer, read-only queries, integrity."""

from catalog.decisions import commit_report, withdraw_cohort
from catalog.home import Home, resolve_home
from catalog.integrity import registered_shards, verify_all, verify_shards
from catalog.reader import Catalog, open_catalog
from catalog.records import CohortRow, DamagedShard, ReleaseRow, ShardRecord, StoredImage, VerifyProgress, VerifyResult
from catalog.shards import damaged_shards, find_finished_shards, remove_abandoned, write_shard
from catalog.writer import commit_cohort, ensure_catalog, record_event

__all__ = [
    "Catalog",
    "CohortRow",
    "DamagedShard",
    "Home",
    "ReleaseRow",
    "ShardRecord",
    "StoredImage",
    "VerifyProgress",
    "VerifyResult",
    "commit_cohort",
    "commit_report",
    "damaged_shards",
    "ensure_catalog",
    "find_finished_shards",
    "open_catalog",
    "record_event",
    "registered_shards",
    "remove_abandoned",
    "resolve_home",
    "verify_all",
    "verify_shards",
    "withdraw_cohort",
    "write_shard",
]
