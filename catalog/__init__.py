"""All storage of Cohortium: DuckLake catalog, Parquet shards, the one writer, read-only queries, integrity."""

from catalog.decisions import commit_cohort_scorecard, commit_report, release_cohort, withdraw_cohort
from catalog.home import Home, resolve_home
from catalog.integrity import registered_shards, verify_all, verify_shards
from catalog.reader import Catalog, open_catalog
from catalog.records import (
    CohortRow,
    DamagedShard,
    ReferenceRow,
    ReferenceShard,
    ReferenceState,
    ReleaseRow,
    ScorecardRow,
    ShardRecord,
    StoredImage,
    StoredReferenceImage,
    VerifyProgress,
    VerifyResult,
)
from catalog.reference_reader import Reference
from catalog.reference_shards import find_reference_shards, write_reference_shard
from catalog.references import commit_reference, find_reference, state_terms
from catalog.scorecards import commit_scorecard
from catalog.shards import damaged_shards, find_finished_shards, remove_abandoned, write_shard
from catalog.writer import commit_cohort, ensure_catalog, record_event

__all__ = [
    "Catalog",
    "CohortRow",
    "DamagedShard",
    "Home",
    "Reference",
    "ReferenceRow",
    "ReferenceShard",
    "ReferenceState",
    "ReleaseRow",
    "ScorecardRow",
    "ShardRecord",
    "StoredImage",
    "StoredReferenceImage",
    "VerifyProgress",
    "VerifyResult",
    "commit_cohort",
    "commit_cohort_scorecard",
    "commit_reference",
    "commit_report",
    "commit_scorecard",
    "damaged_shards",
    "ensure_catalog",
    "find_finished_shards",
    "find_reference",
    "find_reference_shards",
    "open_catalog",
    "record_event",
    "registered_shards",
    "release_cohort",
    "remove_abandoned",
    "resolve_home",
    "state_terms",
    "verify_all",
    "verify_shards",
    "withdraw_cohort",
    "write_reference_shard",
    "write_shard",
]
