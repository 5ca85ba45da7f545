"""The tables of cohorts: subjects, scans, images, shards, reports, decisions; and those of the catalog itself."""

from __future__ import annotations

from catalog.columns import Table, list_columns

MIGRATIONS_TABLE = Table(
    "migrations",
    "The migrations that made this catalog, in order; the largest number is the catalog's version.",
    list_columns("""
        number     | INTEGER     | Position of the migration, from 1 without gaps.
        name       | VARCHAR     | Short name of what the migration brings.
        sql_sha256 | VARCHAR     | SHA-256 of the SQL text that was run.
        applied_at | TIMESTAMPTZ | Time at which the migration was applied.
    """),
)

COHORTS = Table(
    "cohorts",
    "One row per cohort whose images are registered.",
    list_columns("""
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
    list_columns("""
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
    + list_columns(
        "attributes_json | VARCHAR | What else is known of the subject on all visits, as JSON: name to value; or null.",
        since=4,
    ),
)

SCANS = Table(
    "scans",
    "One row per scan: one acquisition of a subject on one visit, with every drawn parameter.",
    list_columns("""
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
    + list_columns(
        "attributes_json | VARCHAR | What else is known of the subject on this visit, as JSON: name to value; or null.",
        since=4,
    ),
)

IMAGES = Table(
    "images",
    "One row per image, without its pixels.",
    list_columns("""
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
    list_columns("""
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
    list_columns("""
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
    + list_columns(f"""
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
    + list_columns(
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
    list_columns("""
        report_id   | VARCHAR     | Id of the report: cohort id and a hash of its content.
        cohort_id   | VARCHAR     | Cohort the report is about.
        spec_hash   | VARCHAR     | SHA-256 of the recipe whose gates were applied.
        scores_json | VARCHAR     | The scores as JSON: name to number.
        gates       | STRUCT(gate VARCHAR, "value" DOUBLE, threshold DOUBLE, passed BOOLEAN, reason VARCHAR)[] | The gates with value, threshold and outcome; names of a policy's begin with 'scorecard.'.
        passed      | BOOLEAN     | Whether every gate holds.
        created_at  | TIMESTAMPTZ | Time at which the report was registered.
    """)  # noqa: E501
    + list_columns(
        "scorecard_id | VARCHAR | Scorecard of images that the report contains, or null; see scorecards.", since=3
    ),
)

RELEASES = Table(
    "releases",
    "One row per decision about a cohort; the latest one counts.",
    list_columns("""
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
    + list_columns("policy_hash | VARCHAR | SHA-256 of the policy whose gates were applied, or null.", since=3),
)

EVENTS = Table(
    "events",
    "One row per thing worth remembering that happened to the catalog.",
    list_columns("""
        event_id    | VARCHAR     | Id of the event.
        cohort_id   | VARCHAR     | Cohort the event is about, or null.
        kind        | VARCHAR     | Kind of event, for example build-started.
        message     | VARCHAR     | What happened, in a sentence.
        at          | TIMESTAMPTZ | Time of the event.
        detail_json | VARCHAR     | Further facts as JSON.
    """),
)
