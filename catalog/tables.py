"""Every table, view and column of the catalog with its one-sentence description; migrations are made from these.

``since`` is the number of the migration that brings a table or column. Tables are append-only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, DuckDB type, description, and the migration that adds it."""

    name: str
    type: str
    description: str
    since: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """One append-only table."""

    name: str
    description: str
    columns: tuple[Column, ...]
    since: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """One view. ``columns`` repeats what the columns mean, because DuckLake keeps no comments on view columns."""

    name: str
    description: str
    query: str
    columns: tuple[Column, ...]


def _columns(text: str, since: int = 1) -> tuple[Column, ...]:
    """Return the columns written one a line as ``name | type | description``."""
    rows = [line.split("|") for line in text.strip().splitlines()]
    return tuple(Column(name.strip(), type_.strip(), description.strip(), since) for name, type_, description in rows)


MIGRATIONS_TABLE = Table(
    "migrations",
    "The migrations that made this catalog, in order; the largest number is the catalog's version.",
    _columns("""
        number     | INTEGER     | Position of the migration, from 1 without gaps.
        name       | VARCHAR     | Short name of what the migration brings.
        sql_sha256 | VARCHAR     | SHA-256 of the SQL text that was run.
        applied_at | TIMESTAMPTZ | Time at which the migration was applied.
    """),
)

COHORTS = Table(
    "cohorts",
    "One row per cohort whose images are registered.",
    _columns("""
        cohort_id            | VARCHAR     | Id of the cohort: recipe name, dash, ten digits of a content hash.
        name                 | VARCHAR     | Name of the recipe.
        spec_hash            | VARCHAR     | SHA-256 of the recipe the cohort was first built from.
        images_hash          | VARCHAR     | SHA-256 of the part of the recipe that decides the images.
        spec_json            | VARCHAR     | The resolved recipe as JSON.
        engine               | VARCHAR     | Name of the engine that rendered the images.
        engine_version       | VARCHAR     | Version of the engine.
        population           | VARCHAR     | Name of the population the subjects were drawn from.
        population_version   | VARCHAR     | Version of the population.
        subjects             | BIGINT      | Number of subjects.
        images               | BIGINT      | Number of images.
        shards               | BIGINT      | Number of shards.
        numeric_profile_json | VARCHAR     | Library versions, instruction set and device behind the last bit, as JSON.
        created_at           | TIMESTAMPTZ | Time at which the cohort was registered.
        mlflow_run_id        | VARCHAR     | Id of the MLflow run of the build, or null.
    """),
)

SUBJECTS = Table(
    "subjects",
    "One row per subject: a made-up person, with everything that holds on all visits.",
    _columns("""
        subject_id         | VARCHAR | Id of the subject: cohort id and subject index.
        cohort_id          | VARCHAR | Cohort the subject belongs to.
        subject_index      | BIGINT  | Position of the subject in the cohort, from 0.
        age_years          | DOUBLE  | Age at the first visit in years.
        age_decade         | INTEGER | Decade of the age at the first visit: 40 stands for 40 to 49 years.
        sex                | VARCHAR | Sex, F or M.
        diagnosis          | VARCHAR | Diagnosis of the subject, or none.
        intracranial_ml    | DOUBLE  | Intracranial volume in millilitres.
        manufacturer       | VARCHAR | Maker of the scanner.
        manufacturer_model | VARCHAR | Model of the scanner.
        field_strength_t   | DOUBLE  | Field strength of the scanner in tesla.
        design_weight      | DOUBLE  | Weight that undoes deliberate oversampling: sums of it estimate the population.
        visits             | INTEGER | Number of visits.
    """)
    + _columns(
        "attributes_json | VARCHAR | What else is known of the subject on all visits, as JSON: name to value; or null.",
        since=4,
    ),
)

SCANS = Table(
    "scans",
    "One row per scan: one acquisition of a subject on one visit, with every drawn parameter.",
    _columns("""
        scan_id            | VARCHAR | Id of the scan: subject id, visit and kind.
        cohort_id          | VARCHAR | Cohort the scan belongs to.
        subject_id         | VARCHAR | Subject who was scanned.
        visit              | INTEGER | Number of the visit, from 0.
        years_since_first  | DOUBLE  | Time since the subject's first visit in years.
        age_years          | DOUBLE  | Age on this visit in years.
        brain_ml           | DOUBLE  | Requested brain volume on this visit in millilitres.
        ventricle_ml       | DOUBLE  | Requested ventricle volume on this visit in millilitres.
        lesion_ml          | DOUBLE  | Requested lesion volume on this visit in millilitres.
        kind               | VARCHAR | Contrast or view, for example T1w.
        engine             | VARCHAR | Name of the engine.
        engine_version     | VARCHAR | Version of the engine.
        manufacturer       | VARCHAR | Maker of the scanner.
        manufacturer_model | VARCHAR | Model of the scanner.
        field_strength_t   | DOUBLE  | Field strength of the scanner in tesla.
        parameters_json    | VARCHAR | Every drawn parameter as JSON; the image can be regenerated from it.
    """)
    + _columns(
        "attributes_json | VARCHAR | What else is known of the subject on this visit, as JSON: name to value; or null.",
        since=4,
    ),
)

IMAGES = Table(
    "images",
    "One row per image, without its pixels.",
    _columns("""
        image_id        | VARCHAR   | Id of the image: scan id and a number.
        cohort_id       | VARCHAR   | Cohort the image belongs to.
        subject_id      | VARCHAR   | Subject shown in the image.
        scan_id         | VARCHAR   | Scan the image was made from.
        shard_id        | VARCHAR   | Shard that holds the pixels.
        kind            | VARCHAR   | Contrast or view, for example T1w.
        visit           | INTEGER   | Number of the visit, from 0.
        pixels_sha256   | VARCHAR   | SHA-256 of the raw pixels: little-endian, C order.
        status          | VARCHAR   | ok, or missed if some measurement lies outside its tolerance.
        dtype           | VARCHAR   | NumPy type of the stored pixels, for example uint16.
        shape           | INTEGER[] | Number of voxels along each axis.
        spacing_mm      | DOUBLE[]  | Distance between voxel centres along each axis in millimetres.
        affine          | DOUBLE[]  | Voxel indices to millimetres (RAS+): the 4 x 4 matrix row by row.
        intensity_scale | DOUBLE    | Factor from stored pixel values to the unit of intensity_unit.
        intensity_unit  | VARCHAR   | Unit of the scaled pixel values.
        mask_names      | VARCHAR[] | Names of the masks stored with the image, sorted.
        mask_sha256     | VARCHAR[] | SHA-256 of each mask's raw bytes, in the order of mask_names.
        row_group       | INTEGER   | Row group of the shard that holds the image, from 0.
        row_in_group    | INTEGER   | Row of the image within its row group, from 0.
    """),
)

MEASUREMENTS = Table(
    "measurements",
    "One row per quantity measured back from an image, beside what was requested.",
    _columns("""
        image_id  | VARCHAR | Image that was measured.
        cohort_id | VARCHAR | Cohort the image belongs to.
        name      | VARCHAR | Name of the measured quantity.
        unit      | VARCHAR | Unit of requested, measured and tolerance.
        requested | DOUBLE  | Value that was asked for.
        measured  | DOUBLE  | Value that was measured.
        tolerance | DOUBLE  | Largest difference that counts as a hit.
        within    | BOOLEAN | Whether the measured value lies within the tolerance of the requested one.
    """),
)

SHARDS = Table(
    "shards",
    "One row per shard: an immutable Parquet file with the images of consecutive subjects.",
    _columns("""
        shard_id  | VARCHAR | Id of the shard.
        cohort_id | VARCHAR | Cohort the shard belongs to.
        path      | VARCHAR | Path of the file, relative to the home folder.
        sha256    | VARCHAR | SHA-256 of the file.
        bytes     | BIGINT  | Size of the file in bytes.
        subjects  | BIGINT  | Number of subjects in the shard.
        images    | BIGINT  | Number of images in the shard.
    """),
)

_MASKS = "STRUCT(name VARCHAR, dtype VARCHAR, sha256 VARCHAR, data BLOB)[]"
_MEASURED = (
    'STRUCT(name VARCHAR, unit VARCHAR, requested DOUBLE, measured DOUBLE, tolerance DOUBLE, "within" BOOLEAN)[]'
)

PIXELS = Table(
    "pixels",
    "The shards themselves: pixels, masks and preview of each image beside its full record.",
    IMAGES.columns
    + _columns(f"""
        subject_index      | BIGINT  | Position of the subject in the cohort, from 0.
        age_first_visit_years | DOUBLE | Age at the first visit in years.
        sex                | VARCHAR | Sex, F or M.
        diagnosis          | VARCHAR | Diagnosis of the subject, or none.
        intracranial_ml    | DOUBLE  | Intracranial volume in millilitres.
        design_weight      | DOUBLE  | Weight that undoes deliberate oversampling.
        visits             | INTEGER | Number of visits of the subject.
        subject_manufacturer       | VARCHAR | Maker of the subject's scanner.
        subject_manufacturer_model | VARCHAR | Model of the subject's scanner.
        subject_field_strength_t   | DOUBLE  | Field strength of the subject's scanner in tesla.
        years_since_first  | DOUBLE  | Time since the subject's first visit in years.
        age_years          | DOUBLE  | Age on this visit in years.
        brain_ml           | DOUBLE  | Requested brain volume on this visit in millilitres.
        ventricle_ml       | DOUBLE  | Requested ventricle volume on this visit in millilitres.
        lesion_ml          | DOUBLE  | Requested lesion volume on this visit in millilitres.
        engine             | VARCHAR | Name of the engine.
        engine_version     | VARCHAR | Version of the engine.
        manufacturer       | VARCHAR | Maker of the scanner used for this scan.
        manufacturer_model | VARCHAR | Model of the scanner used for this scan.
        field_strength_t   | DOUBLE  | Field strength used for this scan in tesla.
        parameters_json    | VARCHAR | Every drawn parameter of the scan as JSON.
        measurements       | {_MEASURED} | Quantities measured back from the image.
        preview            | BLOB    | Small PNG with the middle slices, marked as synthetic.
        pixels             | BLOB    | Pixels: raw bytes with equal-significance bytes brought together, then zstd.
        masks              | {_MASKS} | Masks with name, NumPy type, SHA-256 and data encoded like the pixels.
    """)
    + _columns(
        """
        subject_attributes_json | VARCHAR | What else is known of the subject on all visits, as JSON, or null.
        attributes_json         | VARCHAR | What else is known of the subject on this visit, as JSON, or null.
        """,
        since=4,
    ),
)

REPORTS = Table(
    "reports",
    "One row per scorecard of a cohort.",
    _columns("""
        report_id   | VARCHAR     | Id of the report: cohort id and a hash of its content.
        cohort_id   | VARCHAR     | Cohort the report is about.
        spec_hash   | VARCHAR     | SHA-256 of the recipe whose gates were applied.
        scores_json | VARCHAR     | The scores as JSON: name to number.
        gates       | STRUCT(gate VARCHAR, "value" DOUBLE, threshold DOUBLE, passed BOOLEAN, reason VARCHAR)[] | The gates with value, threshold and outcome; names of a policy's begin with 'scorecard.'.
        passed      | BOOLEAN     | Whether every gate holds.
        created_at  | TIMESTAMPTZ | Time at which the report was registered.
    """)  # noqa: E501
    + _columns(
        "scorecard_id | VARCHAR | Scorecard of images that the report contains, or null; see scorecards.", since=3
    ),
)

RELEASES = Table(
    "releases",
    "One row per decision about a cohort; the latest one counts.",
    _columns("""
        release_id     | VARCHAR     | Id of the decision: cohort id and release number.
        cohort_id      | VARCHAR     | Cohort that was decided about.
        release_number | INTEGER     | Position of the decision among those of the cohort, from 1.
        spec_hash      | VARCHAR     | SHA-256 of the recipe whose gates were applied.
        report_id      | VARCHAR     | Report the decision rests on.
        decision       | VARCHAR     | released, refused or withdrawn.
        reasons        | VARCHAR[]   | Sentences that say why a cohort was refused or withdrawn.
        decided_by     | VARCHAR     | Who or what decided: gates, or a person.
        decided_at     | TIMESTAMPTZ | Time of the decision.
    """)
    + _columns("policy_hash | VARCHAR | SHA-256 of the policy whose gates were applied, or null.", since=3),
)

EVENTS = Table(
    "events",
    "One row per thing worth remembering that happened to the catalog.",
    _columns("""
        event_id    | VARCHAR     | Id of the event.
        cohort_id   | VARCHAR     | Cohort the event is about, or null.
        kind        | VARCHAR     | Kind of event, for example build-started.
        message     | VARCHAR     | What happened, in a sentence.
        at          | TIMESTAMPTZ | Time of the event.
        detail_json | VARCHAR     | Further facts as JSON.
    """),
)

REFERENCE_SETS = Table(
    "reference_sets",
    "One row per reference: real data that cohorts are conditioned on or compared with, and that is never released.",
    _columns(
        """
        reference_id  | VARCHAR     | Id of the reference: its name, dash, ten digits of the hash of source and options.
        name          | VARCHAR     | Name given to the reference; no two references share one.
        real          | BOOLEAN     | Always true: these are records of real persons.
        adapter       | VARCHAR     | Adapter that read the source.
        source_file   | VARCHAR     | Name of the file or folder that was read, without its path.
        source_sha256 | VARCHAR     | SHA-256 of the source: of the names and hashes of all files that were read.
        request_hash  | VARCHAR     | SHA-256 of the source's hash and everything that decides how it was read.
        request_json  | VARCHAR     | How the source was read, as JSON: columns, attributes, seed and shares.
        fingerprint   | VARCHAR     | SHA-256 of the content: attributes, and every record with its pixels and split.
        images        | BIGINT      | Number of images or, in a reference of records only, of records.
        patients      | BIGINT      | Number of patients.
        patients_known | BOOLEAN    | Whether the source names its patients; if not, each image is its own patient.
        has_pixels    | BOOLEAN     | Whether there are images and not records only.
        refused       | BIGINT      | Number of items of the source that were left out.
        notes         | VARCHAR[]   | Sentences about the source that a user should know.
        created_at    | TIMESTAMPTZ | Time at which the reference was registered.
        """,
        since=2,
    ),
    since=2,
)

REFERENCE_TERMS = Table(
    "reference_terms",
    "One row per statement about where a reference comes from and what may be done with it; the latest one counts.",
    _columns(
        """
        reference_id | VARCHAR     | Reference the statement is about.
        statement    | INTEGER     | Position of the statement among those of the reference, from 1.
        licence      | VARCHAR     | Licence of the data, or unknown.
        source       | VARCHAR     | Where the data come from, or unknown.
        stated_at    | TIMESTAMPTZ | Time of the statement.
        """,
        since=2,
    ),
    since=2,
)

REFERENCE_COLUMNS = Table(
    "reference_columns",
    "One row per attribute of a reference: its kind, unit and values.",
    _columns(
        """
        reference_id | VARCHAR   | Reference the attribute belongs to.
        place        | INTEGER   | Position of the attribute, from 0.
        name         | VARCHAR   | Name of the attribute.
        kind         | VARCHAR   | Kind of the values: categorical, integer, continuous or set (several labels at once).
        unit         | VARCHAR   | Unit of a number, or empty.
        description  | VARCHAR   | What the attribute means, where the source says so.
        labels       | VARCHAR[] | Values of a categorical attribute or labels of a set, sorted.
        low          | DOUBLE    | Smallest number.
        high         | DOUBLE    | Largest number.
        missing      | BIGINT    | Number of records in which the attribute is missing.
        """,
        since=2,
    ),
    since=2,
)

REFERENCE_IMAGES = Table(
    "reference_images",
    "One row per image or record of a reference, without pixels and attributes.",
    _columns(
        """
        image_id        | VARCHAR   | Id of the image: reference id and position in the source.
        reference_id    | VARCHAR   | Reference the image belongs to.
        item            | BIGINT    | Position in the source, from 0.
        name            | VARCHAR   | What the source calls the image.
        patient_id      | VARCHAR   | Patient as the source calls them; the name of the image where they are unknown.
        visit           | INTEGER   | Position among the records of the patient, from 0, in the order of visit_order.
        visit_order     | DOUBLE    | What the source orders the records of a patient by, or null.
        split           | VARCHAR   | train, validation or holdout: the same for all records of a patient.
        axes            | VARCHAR   | One letter an axis: x, y and z in space, c for colours; null without pixels.
        dtype           | VARCHAR   | NumPy type of the stored pixels, or null.
        shape           | INTEGER[] | Number of pixels along each axis, or null.
        spacing_mm      | DOUBLE[]  | Distance between pixel centres along each axis in space in millimetres, or null.
        affine          | DOUBLE[]  | Voxel indices to millimetres (RAS+): the 4 x 4 matrix row by row, or null.
        intensity_scale | DOUBLE    | Factor from stored pixel values to the source's values, or null.
        pixels_sha256   | VARCHAR   | SHA-256 of the raw pixels (little-endian, C order), or null.
        content_sha256  | VARCHAR   | SHA-256 of the whole record: names, patient, split, attributes and pixels.
        shard_id        | VARCHAR   | Shard that holds the image.
        row_group       | INTEGER   | Row group of the shard that holds the image, from 0.
        row_in_group    | INTEGER   | Row of the image within its row group, from 0.
        """,
        since=2,
    ),
    since=2,
)

REFERENCE_ATTRIBUTES = Table(
    "reference_attributes",
    "One row per attribute of a record of a reference; a missing value has no row.",
    _columns(
        """
        image_id     | VARCHAR   | Image or record the attribute belongs to.
        reference_id | VARCHAR   | Reference of the image.
        name         | VARCHAR   | Name of the attribute.
        kind         | VARCHAR   | Kind of the value: categorical, integer, continuous or set.
        number       | DOUBLE    | Value of an integer or continuous attribute, in the unit of reference_columns.
        text         | VARCHAR   | Value of a categorical attribute.
        labels       | VARCHAR[] | Labels of a set, sorted; empty if none applies.
        """,
        since=2,
    ),
    since=2,
)

REFERENCE_REFUSALS = Table(
    "reference_refusals",
    "One row per item, or run of items, of a source that was left out of a reference.",
    _columns(
        """
        reference_id | VARCHAR | Reference the item was left out of.
        item         | BIGINT  | Position in the source, from 0.
        items        | BIGINT  | Number of consecutive items that were left out.
        name         | VARCHAR | What the source calls the item.
        reason       | VARCHAR | Why it was left out.
        """,
        since=2,
    ),
    since=2,
)

REFERENCE_SHARDS = Table(
    "reference_shards",
    "One row per shard of a reference: an immutable Parquet file with consecutive images.",
    _columns(
        """
        shard_id     | VARCHAR | Id of the shard.
        reference_id | VARCHAR | Reference the shard belongs to.
        path         | VARCHAR | Path of the file, relative to the home folder.
        sha256       | VARCHAR | SHA-256 of the file.
        bytes        | BIGINT  | Size of the file in bytes.
        first_item   | BIGINT  | Position in the source where the shard begins.
        next_item    | BIGINT  | Position in the source where the next shard begins.
        images       | BIGINT  | Number of images or records in the shard.
        """,
        since=2,
    ),
    since=2,
)

_ATTRIBUTES = "STRUCT(name VARCHAR, kind VARCHAR, number DOUBLE, text VARCHAR, labels VARCHAR[])[]"

REFERENCE_PIXELS = Table(
    "reference_pixels",
    "The shards of references themselves: the pixels of each image beside its record.",
    tuple(column for column in REFERENCE_IMAGES.columns if column.name != "visit")
    + _columns(
        f"""
        attributes | {_ATTRIBUTES} | Attributes that are not missing: name, kind and value.
        pixels     | BLOB | Pixels (bytes of equal significance brought together, then zstd), or null.
        """,
        since=2,
    ),
    since=2,
)

_GATES = next(column.type for column in REPORTS.columns if column.name == "gates")

SCORECARDS = Table(
    "scorecards",
    "One row per scorecard of images against a reference: of a cohort, of images made elsewhere, or of real images.",
    _columns(
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
    _columns(
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
    _columns(
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

TABLES = (
    MIGRATIONS_TABLE, COHORTS, SUBJECTS, SCANS, IMAGES, MEASUREMENTS, SHARDS, PIXELS, REPORTS, RELEASES, EVENTS,
    REFERENCE_SETS, REFERENCE_TERMS, REFERENCE_COLUMNS, REFERENCE_IMAGES, REFERENCE_ATTRIBUTES, REFERENCE_REFUSALS,
    REFERENCE_SHARDS, REFERENCE_PIXELS, SCORECARDS, SCORECARD_METRICS, SCORECARD_COPIES,
)  # fmt: skip
