"""The tables of references: real data, which is never released."""

from __future__ import annotations

from catalog.columns import Table, list_columns

REFERENCE_SETS = Table(
    "reference_sets",
    "One row per reference: real data that cohorts are conditioned on or compared with, and that is never released.",
    list_columns(
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
    list_columns(
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
    list_columns(
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
    list_columns(
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
    list_columns(
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
    list_columns(
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
    list_columns(
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
    + list_columns(
        f"""
        attributes | {_ATTRIBUTES} | Attributes that are not missing: name, kind and value.
        pixels     | BLOB | Pixels (bytes of equal significance brought together, then zstd), or null.
        """,
        since=2,
    ),
    since=2,
)
