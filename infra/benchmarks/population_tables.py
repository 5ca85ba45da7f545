"""Real records for the comparison of population models, and the way from plain rows back to patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synth.evaluation.records.tables import label_lists, read_records
from synth.population.records import Records, prepare_records
from synth.population.schema import PATIENT, VISIT, Schema
from synth.seeds import stream

IGNORED = ("image_id", "width_px", "height_px", "pixel_spacing_mm")


def read_real(path: Path) -> Records:
    """Return the ChestX-ray14 records: age in years, sex, view and findings by patient and follow-up."""
    return prepare_records(pq.read_table(path), patient="patient_id", order="follow_up", ignore=IGNORED)


def split_patients(records: Records, seed: int) -> tuple[Records, Records]:
    """Return the records of 80 % and of 20 % of the patients, numbered anew."""
    patient = records.table[PATIENT].to_numpy()
    held = stream(seed, -1, -1, "peers/split").permutation(patient.max() + 1) < (patient.max() + 1) // 5
    return _keep(records, ~held[patient]), _keep(records, held[patient])


def _keep(records: Records, rows: np.ndarray) -> Records:
    table = records.table.filter(pa.array(rows))
    _, codes = np.unique(table[PATIENT].to_numpy(), return_inverse=True)
    return replace(records, table=table.set_column(0, PATIENT, pa.array(codes, pa.int64())))


def table_to_frame(table: pa.Table, schema: Schema) -> pd.DataFrame:
    """Return one numeric row for each record: categories as codes, each label 0/1; ``visit`` is a column."""
    found = read_records(table, schema)
    frame = {VISIT: found.visit, **found.numbers, **found.codes}
    for name, bits in found.labels.items():
        frame |= {f"{name}:{label}": bits[:, i] for i, label in enumerate(schema.column(name).categories)}
    return pd.DataFrame(frame).astype(float)


def match_quantiles(frame: pd.DataFrame, real: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return ``frame`` with each column mapped to the real quantiles: exact marginals, the model's dependences.

    For a label this is the threshold that gives its real prevalence. It favours the peer.
    """
    mapped = {}
    for name in frame.columns:
        ties = stream(seed, -1, -1, f"peers/ties/{name}").random(len(frame))
        rank = np.lexsort((ties, frame[name].to_numpy())).argsort()
        mapped[name] = np.sort(real[name].to_numpy())[(rank + 0.5).astype(int) * len(real) // len(frame)]
    return pd.DataFrame(mapped)


def rows_to_table(frame: pd.DataFrame, schema: Schema, seed: int) -> pa.Table:
    """Return rows of a model that knows no patients as a record table.

    Rows are chained at random: each row of visit t follows a chain of t rows with the same static attributes; a row
    that finds none is left out, so a peer that makes too few first visits loses rows, which the row counts show.
    """
    static = [column.name for column in schema.columns if column.static]
    return _to_table(chain_rows(frame, static, seed), schema)


def chain_rows(frame: pd.DataFrame, static: list[str], seed: int) -> pd.DataFrame:
    """Return the rows with a ``patient`` column, sorted by patient and visit; see ``rows_to_table``."""
    rng = stream(seed, -1, -1, "peers/chain")
    frame = frame.iloc[rng.permutation(len(frame))]
    parts, patients = [], 0
    for _, group in frame.groupby(static) if static else [((), frame)]:
        open_chains = np.empty(0, int)
        for visit, rows in group.groupby(VISIT):
            if visit == 0:
                open_chains = patients + np.arange(len(rows))
                patients += len(rows)
            else:
                open_chains = rng.permutation(open_chains)[: len(rows)]
            if not len(open_chains):
                break
            parts.append(rows.iloc[: len(open_chains)].assign(**{PATIENT: open_chains}))
    chained = pd.concat(parts).sort_values([PATIENT, VISIT], kind="stable")
    contiguous = chained[VISIT].to_numpy() == chained.groupby(PATIENT).cumcount().to_numpy()
    return chained[contiguous]


def _to_table(frame: pd.DataFrame, schema: Schema) -> pa.Table:
    _, patient = np.unique(frame[PATIENT].to_numpy(), return_inverse=True)
    columns: dict[str, object] = {
        PATIENT: pa.array(patient, pa.int64()),
        VISIT: pa.array(frame[VISIT].to_numpy().astype(int), pa.int32()),
    }
    for column in schema.columns:
        if column.kind == "set":
            bits = frame[[f"{column.name}:{label}" for label in column.categories]].to_numpy() > 0.5
            columns[column.name] = label_lists(bits, column.categories)
        elif column.kind == "categorical":
            codes = frame[column.name].to_numpy().astype(int)
            columns[column.name] = pa.array([column.categories[code] for code in codes])
        else:
            columns[column.name] = pa.array(frame[column.name].to_numpy().astype(int), pa.int64())
    return pa.table(columns)


def sequences_to_table(frame: pd.DataFrame, schema: Schema) -> pa.Table:
    """Return rows that already have a ``patient`` as a record table; visits count the rows of each patient."""
    frame = frame.sort_values(PATIENT, kind="stable")
    return _to_table(frame.assign(**{VISIT: frame.groupby(PATIENT).cumcount()}), schema)
