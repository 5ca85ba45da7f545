"""What decides about a built cohort: the gates of its recipe, counted by SQL, and, if asked for, its scorecard."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from catalog import Catalog, Home, open_catalog
from catalog.rows import gate_from_row
from flows.settings import Settings
from flows.shelf import FolderShelf
from synth.evaluation.gates import Adherence, CohortCounts, evaluate_cohort
from synth.evaluation.policy import Policy, load_policy, parse_policy
from synth.nouns import GateResult, Report
from synth.plan import CohortPlan
from synth.population import find_population
from synth.population.conditioning import effective_sample_size
from synth.population_spec import BRAIN, PrevalenceSpec, parse_band
from synth.spec import CohortSpec, EvaluationSpec

_ADHERENCE = """
    SELECT name, count(*) AS images, count(*) FILTER ("within") AS "inside",
           avg(error ORDER BY image_id) FILTER (NOT isnan(error)) AS mean_error,  -- ordered: the same to the last bit
           max(CASE WHEN isnan(error) THEN 'infinity'::DOUBLE ELSE error END) AS worst_error
    FROM (SELECT *, abs(measured - requested) / tolerance AS error FROM measurements WHERE cohort_id = ?)
    GROUP BY name ORDER BY name
"""

_FIRST_VISITS = """
    SELECT avg(CAST(coalesce(CASE json_type(found)
        WHEN 'ARRAY' THEN CASE WHEN $3 = 'none' THEN json_array_length(found) = 0
                               ELSE list_contains(from_json(found, '["VARCHAR"]'), $3) END
        WHEN 'VARCHAR' THEN found ->> '$' = $3
        ELSE CAST(found AS DOUBLE) >= $4 AND CAST(found AS DOUBLE) < $5 END, false) AS INTEGER))
    FROM (SELECT coalesce(s.attributes_json -> $2, p.attributes_json -> $2) AS found
          FROM subjects AS p JOIN (SELECT DISTINCT subject_id, attributes_json FROM scans
                                   WHERE cohort_id = $1 AND visit = 0) AS s ON s.subject_id = p.subject_id)
"""


def evaluate_build(catalog: Catalog, plan: CohortPlan) -> Report:
    """Return the Report of the registered cohort of ``plan``."""
    rows = catalog.sql(_ADHERENCE, [plan.cohort_id]).dicts()
    adherence = {
        row["name"]: Adherence(row["images"], row["inside"], float(row["mean_error"] or 0.0), row["worst_error"])
        for row in rows
    }
    wanted = find_population(plan.spec.population.source, FolderShelf(catalog.home.models)).expected_shares(plan.spec)
    strata = {asked.label: _count_stratum(catalog, plan.cohort_id, asked) for asked in plan.spec.population.prevalence}
    columns = [attribute for attribute in wanted if attribute != "prevalence"]
    drawn = {name: _drawn_shares(catalog, plan.cohort_id, name, tuple(wanted[name])) for name in columns}
    if plan.spec.population.source != BRAIN:  # a learned population says only of what was asked how much it should be
        drawn = {name: {each: shares.get(each, 0.0) for each in wanted[name]} for name, shares in drawn.items()}
    if strata:
        drawn["prevalence"] = {label: ill / max(1, people) for label, (people, ill) in strata.items()}
    counts = CohortCounts(
        images_planned=plan.images,
        images_present=_count_images(catalog, plan.cohort_id),
        subjects=plan.spec.subjects,
        wanted_shares=wanted,
        drawn_shares=drawn,
        adherence=adherence,
        stratum_subjects={label: people for label, (people, _) in strata.items()},
        effective_sample_size=_effective_size(catalog, plan.cohort_id),
    )
    return evaluate_cohort(plan.spec, plan.cohort_id, counts)


def _count_images(catalog: Catalog, cohort_id: str) -> int:
    return int(catalog.sql("SELECT count(*) FROM images WHERE cohort_id = ?", [cohort_id]).scalar())


def _drawn_shares(catalog: Catalog, cohort_id: str, attribute: str, wanted: tuple[str, ...]) -> dict[str, float]:
    """Return category -> share of the subjects; ``attribute`` is a column name that the population declares.

    Ages are counted in the ``wanted`` bands.
    """
    if attribute == "age_years":
        query = "SELECT avg(CAST(age_years >= ? AND age_years < ? AS INTEGER)) FROM subjects WHERE cohort_id = ?"
        return {band: float(catalog.sql(query, [*parse_band(band), cohort_id]).scalar()) for band in wanted}
    if attribute not in ("sex", "diagnosis"):
        return {category: _drawn_share(catalog, cohort_id, attribute, category) for category in wanted}
    query = f'SELECT "{attribute}", count(*) / sum(count(*)) OVER () FROM subjects WHERE cohort_id = ? GROUP BY 1'
    return {str(name): float(share) for name, share in catalog.sql(query, [cohort_id]).rows()}


def _drawn_share(catalog: Catalog, cohort_id: str, attribute: str, category: str) -> float:
    """Return the share of the subjects whose first visit shows a value or label, or a number within a band."""
    try:
        low, high = parse_band(category)
    except ValueError:
        low, high = math.nan, math.nan
    path = f'$."{attribute}"'
    return float(catalog.sql(_FIRST_VISITS, [cohort_id, path, category, low, high]).scalar())


def _count_stratum(catalog: Catalog, cohort_id: str, wanted: PrevalenceSpec) -> tuple[int, int]:
    """Return (subjects of the stratum, those among them with the diagnosis)."""
    query = """
        SELECT count(*), count(*) FILTER (diagnosis = $2) FROM subjects
        WHERE cohort_id = $1 AND ($3 IS NULL OR list_contains($3, sex)) AND age_years >= $4 AND age_years < $5
    """
    low, high = wanted.where.age_years or (0.0, math.inf)
    sexes = None if wanted.where.sex is None else list(wanted.where.sex)
    ((people, ill),) = catalog.sql(query, [cohort_id, wanted.diagnosis, sexes, low, high]).rows()
    return int(people), int(ill)


def _effective_size(catalog: Catalog, cohort_id: str) -> float:
    """Return the effective sample size of the design weights; ordered, so that it is the same to the last bit."""
    query = "SELECT design_weight, count(*) FROM subjects WHERE cohort_id = ? GROUP BY 1 ORDER BY 1"
    rows = list(catalog.sql(query, [cohort_id]).rows())
    return effective_sample_size(np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows]))


def find_policy(asked: EvaluationSpec) -> Policy:
    """Return the policy of a recipe with its own limits; raises SpecError if there is none or it cannot be used."""
    if asked.policy is None or isinstance(asked.policy, str):
        policy = load_policy(asked.policy)
    else:
        policy = parse_policy(asked.policy, "evaluation.policy")
    return policy.override(asked.gates)


def check_evaluation(spec: CohortSpec, home: Home | None = None) -> None:
    """Raise SpecError or CatalogError if a recipe asks for a policy or, in ``home``, a reference that is not there."""
    if spec.evaluation is None:
        return
    find_policy(spec.evaluation)
    if home is not None:
        with open_catalog(home) as catalog:
            importlib.import_module("flows.evaluation_sources").open_reference(catalog, spec.evaluation.reference)


def judge_build(settings: Settings, spec: CohortSpec, cohort_id: str, tell: Any) -> Any:
    """Return the verdict about the images of a registered cohort, or None if its recipe asks for none."""
    asked = spec.evaluation
    if asked is None:
        return None
    requests = importlib.import_module("flows.evaluation_request")  # with torch, which other builds do not load
    request = requests.EvaluationRequest(
        images=cohort_id,
        reference=asked.reference,
        policy=find_policy(asked),
        settings=requests.ScorecardSettings(features=asked.features, utility=asked.utility, seed=spec.seed),
        choice=requests.Choice(kind=asked.kind or spec.imaging.contrasts[0], seed=spec.seed),
    )
    return importlib.import_module("flows.scorecards").judge_images(settings, request, tell)


def read_gates(catalog: Catalog, report_id: str) -> tuple[GateResult, ...]:
    """Return the gates of a stored report: those of the recipe and those of a policy."""
    gates = catalog.sql("SELECT gates FROM reports WHERE report_id = ?", [report_id]).scalar()
    return tuple(map(gate_from_row, gates))
