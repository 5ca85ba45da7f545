"""What of a cohort exists already: the catalog and the shards on disk are asked, never the orchestrator."""

from __future__ import annotations

from dataclasses import dataclass

from catalog import Catalog, ShardRecord, damaged_shards, find_finished_shards, open_catalog, registered_shards
from catalog.home import Home
from synth.errors import CatalogError
from synth.nouns import ShardPlan
from synth.plan import CohortPlan

PUBLISHED = "build-published"  # the event that ends a build
_PUBLISHED = "SELECT count(*) FROM events WHERE cohort_id = ? AND kind = ? AND detail_json LIKE '%' || ? || '%'"
_DECIDED = """
    SELECT count(*) FROM cohort_status WHERE cohort_id = ? AND (spec_hash = ? OR decision = 'withdrawn')
"""  # the gates of this very recipe decided last; a person's withdrawal outlasts them


@dataclass(frozen=True, slots=True)
class Survey:
    """Finished shards, missing ones, and which of the later steps were done for this very recipe."""

    finished: tuple[ShardRecord, ...]
    missing: tuple[ShardPlan, ...]
    records: tuple[ShardRecord, ...]  # what the catalog holds, if the cohort is registered
    published: bool

    @property
    def registered(self) -> bool:
        """Whether the cohort is in the catalog."""
        return bool(self.records)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.published and not self.missing


def survey_cohort(home: Home, plan: CohortPlan) -> Survey:
    """Return what exists of the cohort of ``plan``.

    Once a cohort is registered, its registered shards count, whatever the shard size of ``plan``. Before that, finished
    shards of the same plan are reused. Either way each file is hashed (about 1 GB/s), so that missing, torn and
    damaged ones are rendered again.
    """
    with open_catalog(home) as catalog:
        registered = _count(catalog, "SELECT count(*) FROM cohorts WHERE cohort_id = ?", plan.cohort_id) > 0
        published = _count(catalog, _PUBLISHED, plan.cohort_id, PUBLISHED, plan.spec.content_hash) > 0
        decided = _count(catalog, _DECIDED, plan.cohort_id, plan.spec.content_hash) > 0
    if not registered:
        found = find_finished_shards(home, plan.shards)
        missing = tuple(shard for shard in plan.shards if shard.shard_id not in found)
        return Survey(tuple(found.values()), missing, (), False)
    records = tuple(registered_shards(home, plan.cohort_id))
    damaged = {damage.shard_id for damage in damaged_shards(home, records)}
    kept = tuple(record for record in records if record.shard_id not in damaged)
    lost = tuple(_plan_again(record) for record in records if record.shard_id in damaged)
    return Survey(kept, lost, records, published and decided)


def _count(catalog: Catalog, query: str, *params: str) -> int:
    return int(catalog.sql(query, list(params)).scalar())


def _plan_again(record: ShardRecord) -> ShardPlan:
    """Return the plan of a registered shard, which its id spells out: cohort, first subject, number of subjects."""
    first, subjects = record.shard_id.removeprefix(f"{record.cohort_id}-").split("-")
    return ShardPlan(record.shard_id, record.cohort_id, int(first), int(subjects))


def check_repairs(registered: tuple[ShardRecord, ...], rendered: list[ShardRecord]) -> None:
    """Raise CatalogError if a shard that was rendered again differs from what was registered."""
    known = {record.shard_id: record.sha256 for record in registered}
    for record in rendered:
        if known.get(record.shard_id) != record.sha256:
            raise CatalogError(
                f"shard '{record.shard_id}' was rendered again and differs from the registered one: this machine's "
                "numeric profile is not the one the cohort was built with. Restore the shard from a backup instead."
            )
