"""Counts what the gates look at, by SQL over the registered cohort, and asks synth.evaluation for the Report."""

from __future__ import annotations

from catalog import Catalog
from synth.evaluation.gates import Adherence, CohortCounts, evaluate_cohort
from synth.nouns import Report
from synth.plan import CohortPlan
from synth.population import find_population

_ADHERENCE = """
    SELECT name, count(*) AS images, count(*) FILTER ("within") AS "inside",
           avg(error ORDER BY image_id) FILTER (NOT isnan(error)) AS mean_error,  -- ordered: the same to the last bit
           max(CASE WHEN isnan(error) THEN 'infinity'::DOUBLE ELSE error END) AS worst_error
    FROM (SELECT *, abs(measured - requested) / tolerance AS error FROM measurements WHERE cohort_id = ?)
    GROUP BY name ORDER BY name
"""


def evaluate_build(catalog: Catalog, plan: CohortPlan) -> Report:
    """Return the Report of the registered cohort of ``plan``."""
    rows = catalog.sql(_ADHERENCE, [plan.cohort_id]).dicts()
    adherence = {
        row["name"]: Adherence(row["images"], row["inside"], float(row["mean_error"] or 0.0), row["worst_error"])
        for row in rows
    }
    wanted = find_population(plan.spec.population.source).expected_shares(plan.spec)
    counts = CohortCounts(
        images_planned=plan.images,
        images_present=_count_images(catalog, plan.cohort_id),
        subjects=plan.spec.subjects,
        wanted_shares=wanted,
        drawn_shares={attribute: _drawn_shares(catalog, plan.cohort_id, attribute) for attribute in wanted},
        adherence=adherence,
    )
    return evaluate_cohort(plan.spec, plan.cohort_id, counts)


def _count_images(catalog: Catalog, cohort_id: str) -> int:
    return int(catalog.sql("SELECT count(*) FROM images WHERE cohort_id = ?", [cohort_id]).scalar())


def _drawn_shares(catalog: Catalog, cohort_id: str, attribute: str) -> dict[str, float]:
    """Return category -> share of the subjects; ``attribute`` is a column name that the population declares."""
    query = f'SELECT "{attribute}", count(*) / sum(count(*)) OVER () FROM subjects WHERE cohort_id = ? GROUP BY 1'
    return {str(name): float(share) for name, share in catalog.sql(query, [cohort_id]).rows()}
