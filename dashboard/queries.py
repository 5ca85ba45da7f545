"""The questions that the pages ask the catalog. Lists never touch pixels, masks or previews.

Tables are joined on one id alone, which names its cohort: given the cohort too, DuckDB may join on that first, and
pairs every subject with every scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SUBJECTS_PER_PAGE = 100
IMAGES_PER_PAGE = 24
POINTS_PER_MEASUREMENT = 2000

COHORTS = """
    SELECT s.cohort_id, s.name, s.status, s.decision, s.reasons, s.subjects, s.images, s.decided_by, s.decided_at,
           s.created_at, c.engine, c.engine_version, c.population, c.population_version, c.spec_json, c.shards,
           s.report_id
    FROM cohort_status AS s JOIN cohorts AS c ON c.cohort_id = s.cohort_id
    ORDER BY s.created_at DESC, s.cohort_id
"""
REPORT = "SELECT gates, created_at FROM reports WHERE report_id = ?"
MIX = """
    SELECT CAST("{attribute}" AS VARCHAR) AS category, count(*) AS subjects,
           count(*) / sum(count(*)) OVER () AS drawn, sum(design_weight) / sum(sum(design_weight)) OVER () AS weighted
    FROM subjects WHERE cohort_id = ? GROUP BY "{attribute}" ORDER BY "{attribute}"
"""
MIX_ATTRIBUTES = ("sex", "diagnosis", "age_decade")
BAND_MIX = """
    SELECT category, count(*) AS subjects, count(*) / sum(count(*)) OVER () AS drawn,
           sum(design_weight) / sum(sum(design_weight)) OVER () AS weighted
    FROM (SELECT age_years, design_weight, CASE {bands} ELSE '{other}' END AS category
          FROM subjects WHERE cohort_id = ?)
    GROUP BY category ORDER BY min(age_years)
"""
OTHER_AGES = "other"
_FIRST_VISITS = """
    people AS (
        SELECT p.design_weight, coalesce(s.attributes_json, '{}') AS own, coalesce(p.attributes_json, '{}') AS common
        FROM subjects AS p JOIN (
            SELECT DISTINCT subject_id, attributes_json FROM scans WHERE cohort_id = $1 AND visit = 0
        ) AS s ON s.subject_id = p.subject_id
    )
"""
ATTRIBUTES = f"""
    WITH {_FIRST_VISITS}, pairs AS (
        SELECT unnest(json_keys(text)) AS name, text
        FROM (SELECT own AS text FROM people UNION SELECT common FROM people)
    )
    SELECT name, max(json_type(text -> ('$."' || name || '"'))) AS kind FROM pairs
    WHERE name NOT IN ('sex', 'diagnosis', 'age_years') GROUP BY name HAVING kind IN ('VARCHAR', 'ARRAY') ORDER BY name
"""
_LABELS = """
    CASE WHEN json_type({found}) = 'VARCHAR' THEN [{found} ->> '$']
         WHEN json_array_length({found}) = 0 THEN ['none']
         ELSE from_json({found}, '["VARCHAR"]') END
"""
ATTRIBUTE_MIX = f"""
    WITH {_FIRST_VISITS}, labels AS (
        SELECT design_weight, unnest({_LABELS.format(found="found")}) AS category
        FROM (SELECT design_weight, coalesce(own -> ('$."' || $2 || '"'), common -> ('$."' || $2 || '"')) AS found
              FROM people)
    )
    SELECT category, count(*) AS subjects, count(*) / (SELECT count(*) FROM people) AS drawn,
           sum(design_weight) / (SELECT sum(design_weight) FROM people) AS weighted
    FROM labels WHERE category IS NOT NULL GROUP BY category ORDER BY subjects DESC, category
"""
PREVALENCE = """
    SELECT count(*) AS stratum, count(*) FILTER (diagnosis = $2) AS subjects,
           count(*) FILTER (diagnosis = $2) / count(*) AS drawn,
           coalesce(sum(design_weight) FILTER (diagnosis = $2), 0) / sum(design_weight) AS weighted
    FROM subjects
    WHERE cohort_id = $1 AND (len($3) = 0 OR list_contains($3, sex)) AND age_years >= $4 AND age_years < $5
    HAVING sum(design_weight) > 0
"""
EFFECTIVE_SIZE = """
    SELECT sum(design_weight) * sum(design_weight) / sum(design_weight * design_weight) AS effective
    FROM subjects WHERE cohort_id = ? HAVING sum(design_weight) > 0
"""
SUBJECTS = f"""
    SELECT subject_index, subject_id, age_years, sex, diagnosis, visits, intracranial_ml, manufacturer,
           manufacturer_model, field_strength_t, design_weight
    FROM subjects WHERE cohort_id = ? AND subject_index >= ? ORDER BY subject_index LIMIT {SUBJECTS_PER_PAGE + 1}
"""
SUBJECTS_BEFORE = f"""
    SELECT min(subject_index) FROM (
        SELECT subject_index FROM subjects WHERE cohort_id = ? AND subject_index < ?
        ORDER BY subject_index DESC LIMIT {SUBJECTS_PER_PAGE})
"""
SUBJECT_IMAGES = """
    SELECT i.image_id, i.kind, i.visit, i.status, s.years_since_first, s.age_years, s.attributes_json
    FROM images AS i JOIN scans AS s ON s.scan_id = i.scan_id
    WHERE i.cohort_id = ? AND i.subject_id = ? ORDER BY i.visit, i.kind, i.image_id
"""
IMAGE_PLACE = "SELECT image_id, cohort_id, subject_id, kind, visit FROM images WHERE image_id = ?"
NEIGHBOURS = """
    SELECT (SELECT max_by(image_id, subject_id) FROM images
            WHERE cohort_id = $1 AND kind = $3 AND visit = 0 AND subject_id < $2) AS before,
           (SELECT min_by(image_id, subject_id) FROM images
            WHERE cohort_id = $1 AND kind = $3 AND visit = 0 AND subject_id > $2) AS after
"""
_IMAGE_TABLES = """
    FROM images AS i
    JOIN subjects AS p ON p.subject_id = i.subject_id
    JOIN scans AS s ON s.scan_id = i.scan_id
"""
FILTER_CHOICES = f"""
    SELECT list_sort(list_distinct(list(i.kind))) AS kind, list_sort(list_distinct(list(i.visit))) AS visit,
           list_sort(list_distinct(list(p.diagnosis))) AS diagnosis, list_sort(list_distinct(list(p.sex))) AS sex,
           list_sort(list_distinct(list(p.field_strength_t))) AS field,
           list_sort(list_distinct(list(i.status))) AS status,
           floor(min(s.age_years)) AS age_low, ceil(max(s.age_years)) AS age_high, ceil(max(s.lesion_ml)) AS lesion_high
    {_IMAGE_TABLES} WHERE i.cohort_id = ?
"""
MOST_LABELS = 30  # of an attribute that one may choose from
ATTRIBUTE_CHOICES = f"""
    WITH texts AS (
        SELECT attributes_json AS text FROM scans WHERE cohort_id = $1
        UNION SELECT attributes_json FROM subjects WHERE cohort_id = $1
    ), pairs AS (
        SELECT name, text -> ('$."' || name || '"') AS found
        FROM (SELECT unnest(json_keys(text)) AS name, text FROM texts WHERE text IS NOT NULL)
        WHERE name NOT IN ('sex', 'diagnosis', 'age_years')
    ), labels AS (
        SELECT name, unnest({_LABELS.format(found="found")}) AS label
        FROM pairs WHERE json_type(found) IN ('VARCHAR', 'ARRAY')
    )
    SELECT name, list_sort(list_distinct(list(label))) AS labels FROM labels
    GROUP BY name HAVING count(DISTINCT label) BETWEEN 2 AND {MOST_LABELS} ORDER BY name
"""
FILTER_COLUMNS = {
    "kind": "i.kind",
    "visit": "i.visit",
    "diagnosis": "p.diagnosis",
    "sex": "p.sex",
    "field": "s.field_strength_t",
    "status": "i.status",
}
_SHOWS_A_LABEL = f"""
    i.scan_id IN (
        SELECT scan_id FROM (
            SELECT scan_id, unnest({_LABELS.format(found="found")}) AS label FROM (
                SELECT v.scan_id, coalesce(v.attributes_json -> ?, w.attributes_json -> ?) AS found
                FROM scans AS v JOIN subjects AS w ON w.subject_id = v.subject_id WHERE v.cohort_id = ?))
        WHERE list_contains(?, label))
"""
RANGE_COLUMNS = {"age": "s.age_years", "lesion": "s.lesion_ml"}
MEASURED = f"""
    SELECT m.name, m.unit, m.requested, m.measured, m.tolerance, m."within", i.kind, m.image_id, total.images,
           total.inside
    FROM measurements AS m JOIN images AS i ON i.image_id = m.image_id
    JOIN (SELECT name, count(*) AS images, count(*) FILTER ("within") AS inside FROM measurements WHERE cohort_id = $1
          GROUP BY name) AS total ON total.name = m.name
    WHERE m.cohort_id = $1
    QUALIFY row_number() OVER (PARTITION BY m.name ORDER BY m."within", hash(m.image_id)) <= {POINTS_PER_MEASUREMENT}
    ORDER BY m.name, i.kind, m.image_id
"""
MISSES = """
    SELECT m.name, i.kind, i.visit, p.diagnosis, m.requested, m.measured, m.tolerance, m.unit, m.image_id,
           abs(m.measured - m.requested) / m.tolerance AS times
    FROM measurements AS m JOIN images AS i ON i.image_id = m.image_id
    JOIN subjects AS p ON p.subject_id = i.subject_id
    WHERE m.cohort_id = ? AND NOT m."within" ORDER BY times DESC, m.image_id, m.name LIMIT 100
"""

SCORECARDS = """
    SELECT s.scorecard_id, s.images, coalesce(r.name, s.reference_id) AS reference, s.reference_fingerprint, s.policy,
           s.policy_hash, s.gates, s.controls_valid, s.passed, s.seed, s.document, s.created_at,
           coalesce(c.scorecard_id = s.scorecard_id, false) AS decisive,
           (SELECT count(*) FROM scorecard_copies AS k WHERE k.scorecard_id = s.scorecard_id) AS copies
    FROM scorecards AS s JOIN cohort_status AS c ON c.cohort_id = s.cohort_id
    LEFT JOIN reference_sets AS r ON r.reference_id = s.reference_id
    WHERE s.cohort_id = ? ORDER BY s.created_at DESC, s.scorecard_id
"""
SCORECARD_METRICS = """
    SELECT family, name, features, subgroup, value, low, high, control, goal, images, reason
    FROM scorecard_metrics WHERE scorecard_id = ? ORDER BY place
"""
SCORECARD_COPIES = """
    SELECT image_id, max(score) AS score FROM scorecard_copies WHERE scorecard_id = ?
    GROUP BY image_id ORDER BY score DESC, image_id LIMIT 100
"""


def mix_of(attribute: str) -> str:
    """Return the query for the mix of subjects by one of MIX_ATTRIBUTES."""
    if attribute not in MIX_ATTRIBUTES:
        raise ValueError(f"attribute '{attribute}' is not one of {', '.join(MIX_ATTRIBUTES)}")
    return MIX.format(attribute=attribute)


def mix_of_bands(bands: Sequence[tuple[float, float]]) -> str:
    """Return the query for the mix of subjects by age bands, named like "20-40", the rest being OTHER_AGES."""
    whens = " ".join(
        f"WHEN age_years >= {low!r} AND age_years < {high!r} THEN '{low:g}-{high:g}'" for low, high in bands
    )
    return BAND_MIX.format(bands=whens, other=OTHER_AGES)


def find_images(cohort_id: str, subject_id: str | None, filters: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return (FROM ... WHERE ..., parameters) of the images that pass ``filters``.

    ``filters`` maps names of FILTER_COLUMNS to the values wanted (none: any), of RANGE_COLUMNS to (low, high), and
    "attributes" to a mapping of their names to the labels of which one at least is wanted.
    """
    clauses, parameters = ["i.cohort_id = ?"], [cohort_id]
    if subject_id is not None:
        clauses.append("i.subject_id = ?")
        parameters.append(subject_id)
    for name, column in FILTER_COLUMNS.items():
        if wanted := list(filters.get(name) or ()):
            clauses.append(f"list_contains(?, {column})")
            parameters.append(tuple(wanted))
    for name, column in RANGE_COLUMNS.items():
        if bounds := filters.get(name):
            clauses.append(f"{column} BETWEEN ? AND ?")
            parameters.extend(float(bound) for bound in bounds)
    for name, labels in (filters.get("attributes") or {}).items():
        if labels:
            clauses.append(_SHOWS_A_LABEL)
            parameters += [f'$."{name}"', f'$."{name}"', cohort_id, tuple(labels)]
    return f"{_IMAGE_TABLES} WHERE {' AND '.join(clauses)}", tuple(parameters)


def list_images(found: str) -> str:
    """Return the query for one page of the images in ``found``; it takes an offset as its last parameter."""
    return (
        "SELECT i.image_id, i.subject_id, i.kind, i.visit, i.status, s.age_years, p.sex, p.diagnosis, "
        f"s.field_strength_t, s.lesion_ml, s.attributes_json {found} "
        f"ORDER BY p.subject_index, i.visit, i.kind, i.image_id LIMIT {IMAGES_PER_PAGE} OFFSET ?"
    )


def count_images(found: str) -> str:
    """Return the query that counts the images in ``found``, and those of them with a missed measurement."""
    return f"SELECT count(*) AS images, count(*) FILTER (i.status <> 'ok') AS missed {found}"
