"""The tables of scorecards of images."""

from __future__ import annotations

from catalog.cohort_tables import REPORTS
from catalog.columns import Table, list_columns

_GATES = next(column.type for column in REPORTS.columns if column.name == "gates")

SCORECARDS = Table(
    "scorecards",
    "One row per scorecard of images against a reference: of a cohort, of images made elsewhere, or of real images.",
    list_columns(
        f"""
        scorecard_id   | VARCHAR     | Id of the scorecard: name of the images and a hash of all that it says.
        cohort_id      | VARCHAR     | Cohort whose images were judged, or null.
        images_name    | VARCHAR     | What was judged: a cohort, a split of a reference, or a file or folder.
        images_sha256  | VARCHAR     | SHA-256 of what was judged: of the source's files, the recipe or the reference.
        images         | BIGINT      | Number of images that were judged.
        reference_id   | VARCHAR     | Reference that the images were compared with.
        reference_fingerprint | VARCHAR | SHA-256 of the content of the reference.
        policy         | VARCHAR     | Name of the policy whose gates were applied.
        policy_hash    | VARCHAR     | SHA-256 of the policy.
        gates          | {_GATES} | The gates of the policy with value, threshold and outcome.
        controls_valid | BOOLEAN     | Whether every control behaves; if not, no score proves anything.
        passed         | BOOLEAN     | Whether every gate holds and every control behaves.
        seed           | BIGINT      | Seed of every random draw.
        request_json   | VARCHAR     | What was asked for as JSON: features, families, utility, kind, limit.
        document       | VARCHAR     | Folder of the report document, relative to the home folder; it shows real images.
        report_json    | VARCHAR     | The whole report as JSON; it names real images.
        created_at     | TIMESTAMPTZ | Time at which the scorecard was registered.
        """,
        since=3,
    ),
    since=3,
)

SCORECARD_METRICS = Table(
    "scorecard_metrics",
    "One row per score of a scorecard.",
    list_columns(
        """
        scorecard_id | VARCHAR | Scorecard the score belongs to.
        place        | INTEGER | Position of the score in the scorecard, from 0.
        family       | VARCHAR | Family: fidelity, diversity, adherence, utility, privacy or fairness.
        seven_c      | VARCHAR | Question of the 7 Cs scorecard that the score answers.
        name         | VARCHAR | Name of the metric, with a dot and what it is of where there is one of each.
        features     | VARCHAR | Features in which it was computed, or empty.
        subgroup     | VARCHAR | Subgroup of images, for example sex=F, or empty for all.
        value        | DOUBLE  | Value, or null if it cannot be measured.
        low          | DOUBLE  | Lower end of the 95 % interval, or null.
        high         | DOUBLE  | Upper end of the 95 % interval, or null.
        control      | DOUBLE  | The same score of the control, or null.
        goal         | VARCHAR | Which value is best: lower, higher, zero, or control.
        images       | BIGINT  | Number of images that the score rests on.
        reason       | VARCHAR | Why it cannot be measured, or empty.
        detail_json  | VARCHAR | Further numbers as JSON.
        """,
        since=3,
    ),
    since=3,
)

SCORECARD_COPIES = Table(
    "scorecard_copies",
    "One row per image that a scorecard calls a copy of a real training image.",
    list_columns(
        """
        scorecard_id         | VARCHAR | Scorecard that found the copy.
        image_id             | VARCHAR | Image that was judged.
        reference_image_id   | VARCHAR | Real image that it is a copy of.
        reference_patient_id | VARCHAR | Patient of the real image.
        score                | DOUBLE  | How alike the two are; 1 is an exact copy.
        """,
        since=3,
    ),
    since=3,
)
