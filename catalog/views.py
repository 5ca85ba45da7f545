"""The views of the catalog: what is released, how each cohort stands, and what every column means."""

from __future__ import annotations

from catalog.cohort_tables import COHORTS, IMAGES, MEASUREMENTS, SCANS, SUBJECTS
from catalog.columns import Column, Table, View
from catalog.reference_tables import REFERENCE_IMAGES, REFERENCE_SETS, REFERENCE_TERMS
from catalog.scorecard_tables import SCORECARD_METRICS, SCORECARDS
from catalog.tables import TABLES

_STATUS_QUERY = """
    SELECT c.cohort_id, c.name, c.subjects, c.images,
           CASE r.decision WHEN 'released' THEN 'released' WHEN 'refused' THEN 'refused'
                           WHEN 'withdrawn' THEN 'refused' ELSE 'built' END AS status,
           r.decision,
           CASE WHEN r.decision IN ('refused', 'withdrawn') THEN r.reasons ELSE CAST([] AS VARCHAR[]) END AS reasons,
           r.spec_hash, r.report_id, r.decided_by, r.decided_at, c.created_at, r.policy_hash, p.scorecard_id
    FROM cohorts AS c LEFT JOIN (
        SELECT * FROM releases
        QUALIFY row_number() OVER (PARTITION BY cohort_id ORDER BY release_number DESC) = 1
    ) AS r ON r.cohort_id = c.cohort_id
    LEFT JOIN reports AS p ON p.report_id = r.report_id
"""

COHORT_STATUS = View(
    "cohort_status",
    "One row per cohort with its status, which follows from the latest decision about it.",
    _STATUS_QUERY,
    (
        Column("cohort_id", "VARCHAR", "Id of the cohort."),
        Column("name", "VARCHAR", "Name of the recipe."),
        Column("subjects", "BIGINT", "Number of subjects."),
        Column("images", "BIGINT", "Number of images."),
        Column("status", "VARCHAR", "released, refused (also after a withdrawal) or built (not decided yet)."),
        Column("decision", "VARCHAR", "Latest decision: released, refused, withdrawn or null."),
        Column("reasons", "VARCHAR[]", "Sentences that say why the cohort is not released."),
        Column("spec_hash", "VARCHAR", "SHA-256 of the recipe whose gates were applied last."),
        Column("report_id", "VARCHAR", "Report the latest decision rests on."),
        Column("decided_by", "VARCHAR", "Who or what decided."),
        Column("decided_at", "TIMESTAMPTZ", "Time of the latest decision."),
        Column("created_at", "TIMESTAMPTZ", "Time at which the cohort was registered."),
        Column("policy_hash", "VARCHAR", "SHA-256 of the policy whose gates were applied last, or null."),
        Column("scorecard_id", "VARCHAR", "Scorecard of images that the latest decision rests on, or null."),
    ),
)


def _released(table: Table) -> View:
    names = ", ".join(f't."{column.name}"' for column in table.columns)
    return View(
        f"released_{table.name}",
        f"The rows of {table.name} that belong to cohorts whose latest decision is a release.",
        f"SELECT {names} FROM {table.name} AS t SEMI JOIN "
        "(SELECT cohort_id FROM cohort_status WHERE status = 'released') AS r ON r.cohort_id = t.cohort_id",
        table.columns,
    )


RELEASED = tuple(_released(table) for table in (COHORTS, SUBJECTS, SCANS, IMAGES, MEASUREMENTS))

_PAIR_COLUMNS = (
    Column("cohort_id", "VARCHAR", "Cohort the images belong to."),
    Column("subject_id", "VARCHAR", "Subject shown in both."),
    Column("visit", "INTEGER", "Number of the visit, from 0."),
    Column("kind", "VARCHAR", "Contrast of both."),
    Column("pair", "VARCHAR", "What they differ in, for example motion."),
    Column("original_image_id", "VARCHAR", "Image without it."),
    Column("image_id", "VARCHAR", "Image with it."),
)


def _pairs(prefix: str, words: str) -> View:
    return View(
        f"{prefix}image_pairs",
        f"One row per pair of {words}images that differ in one thing: see imaging.pairs of a recipe.",
        f"""
        SELECT s.cohort_id, s.subject_id, s.visit, s.kind, s.parameters_json ->> '$.pair' AS pair,
               o.image_id AS original_image_id, i.image_id
        FROM {prefix}scans AS s JOIN {prefix}images AS i ON i.scan_id = s.scan_id
        JOIN {prefix}images AS o ON o.scan_id = (s.parameters_json ->> '$.pair_of')
        WHERE s.parameters_json LIKE '%"pair_of":%'
        """,
        _PAIR_COLUMNS,
    )


IMAGE_PAIRS = (_pairs("", ""), _pairs("released_", "released "))

_HIDDEN = ("document", "report_json")  # they show or name real images

RELEASED_SCORECARDS = View(
    "released_scorecards",
    "The scorecard that the release of each released cohort rests on, where it has one.",
    f"""
    SELECT {", ".join(f"c.{column.name}" for column in SCORECARDS.columns if column.name not in _HIDDEN)}
    FROM scorecards AS c SEMI JOIN (SELECT scorecard_id FROM cohort_status WHERE status = 'released') AS r
    ON r.scorecard_id = c.scorecard_id
    """,
    tuple(column for column in SCORECARDS.columns if column.name not in _HIDDEN),
)

RELEASED_SCORES = View(
    "released_scorecard_metrics",
    "The scores of the scorecards in released_scorecards.",
    "SELECT m.* FROM scorecard_metrics AS m SEMI JOIN released_scorecards AS r ON r.scorecard_id = m.scorecard_id",
    SCORECARD_METRICS.columns,
)

_STATED = tuple(column for column in REFERENCE_TERMS.columns if column.name in ("licence", "source"))

REFERENCE_STATUS = View(
    "reference_status",
    "One row per reference with the licence and source that were stated last.",
    """
    SELECT r.*, t.licence, t.source FROM reference_sets AS r LEFT JOIN (
        SELECT * FROM reference_terms
        QUALIFY row_number() OVER (PARTITION BY reference_id ORDER BY statement DESC) = 1
    ) AS t ON t.reference_id = r.reference_id
    """,
    REFERENCE_SETS.columns + _STATED,
)

REFERENCE_RECORDS = View(
    "reference_records",
    "One row per image or record of a reference, with all its attributes as text: attributes['age_years'].",
    """
    SELECT i.*, coalesce(a.attributes, CAST(map() AS MAP(VARCHAR, VARCHAR))) AS attributes
    FROM reference_images AS i LEFT JOIN (
        SELECT image_id, map(list(name ORDER BY name), list(
            CASE kind WHEN 'set' THEN array_to_string(labels, '|') WHEN 'categorical' THEN text
                      WHEN 'integer' THEN CAST(CAST(number AS BIGINT) AS VARCHAR) ELSE CAST(number AS VARCHAR) END
            ORDER BY name)) AS attributes
        FROM reference_attributes GROUP BY image_id
    ) AS a ON a.image_id = i.image_id
    """,
    (
        *REFERENCE_IMAGES.columns,
        Column("attributes", "MAP(VARCHAR, VARCHAR)", "Name to value as text; the labels of a set are joined by '|'."),
    ),
)

DESCRIPTION_COLUMNS = (
    Column("table_name", "VARCHAR", "Name of the table or view."),
    Column("column_name", "VARCHAR", "Name of the column; null in the row about the table itself."),
    Column("type", "VARCHAR", "DuckDB type of the column, or table or view."),
    Column("description", "VARCHAR", "What it means, in one sentence."),
)


def _quote(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def _describe(views: tuple[View, ...]) -> View:
    rows: list[tuple[str, str | None, str, str]] = []
    items: tuple[Table | View, ...] = (*TABLES, *views)
    for item in items:
        rows.append((item.name, None, "view" if isinstance(item, View) else "table", item.description))
        rows.extend((item.name, column.name, column.type, column.description) for column in item.columns)
    names = ", ".join(column.name for column in DESCRIPTION_COLUMNS)
    values = ",\n".join("(" + ", ".join(map(_quote, row)) + ")" for row in rows)
    return View(
        "descriptions",
        "What every table, view and column means, including the columns of views.",
        f"SELECT * FROM (VALUES\n{values}\n) AS d({names})",
        DESCRIPTION_COLUMNS,
    )


_DESCRIPTIONS = View(
    "descriptions", "What every table, view and column means, including the columns of views.", "", DESCRIPTION_COLUMNS
)
_OTHERS = (
    COHORT_STATUS,
    *RELEASED,
    *IMAGE_PAIRS,
    RELEASED_SCORECARDS,
    RELEASED_SCORES,
    REFERENCE_STATUS,
    REFERENCE_RECORDS,
)
VIEWS = (*_OTHERS, _describe((*_OTHERS, _DESCRIPTIONS)))
