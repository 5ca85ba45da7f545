"""The mix of scanners: maker, model and field strength, from the real brain MR series of NCI Imaging Data Commons.

Source: ``idc_index.parquet`` and ``collections_index.parquet`` of the package idc-index-data (one row per series).
A series shows a brain if its species is human and either BodyPartExamined says BRAIN, HEAD or SKULL, or it is
missing or vague (HEADNECK, IAC) and the collection's tumour location is "Brain" or StudyDescription names it.
A scanner weighs as many as the distinct patients seen on it: one patient's many series, or (UPENN-GBM) studies that
were split into one per series, count once.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synth.errors import PopulationError
from synth.population.scanner_models import MISSING, MODEL_BY_KEY, SOFTWARE, ScannerModel, maker_name, model_key

IDC_VERSION = importlib.metadata.version("idc-index-data")
FIELD_STRENGTHS_T = (1.5, 3.0)  # those for which the MRI engine has relaxation values (PHYSICS.md)
BRAIN_PARTS = frozenset({"BRAIN", "HEAD", "SKULL"})
VAGUE_PARTS = frozenset({"", "HEADNECK", "IAC", "UNKNOWN", "OTHER"})
BRAIN_WORDS = re.compile(r"\b(brain|head|cranial|iams?)\b(?!.?neck)", re.IGNORECASE)
COLUMNS = [
    "collection_id",
    "PatientID",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "StudyDescription",
]


@dataclass(frozen=True, slots=True)
class Scanner:
    """One entry of the mix; ``weight`` is its probability."""

    manufacturer: str
    model: str
    field_strength_t: float
    weight: float


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """What cleaning did: ``series_in`` = ``series_kept`` + the sum of ``dropped`` (reason -> series)."""

    source: str
    series_in: int
    series_kept: int
    patients_kept: int
    dropped: Mapping[str, int]
    maker_spellings: Mapping[str, tuple[str, ...]]
    model_spellings: Mapping[str, tuple[str, ...]]
    ambiguous_patients: int


Row = dict[str, str | int]


def _find_index() -> Path:
    import idc_index_data  # with HTTP clients that nothing here needs

    return Path(str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH))


def read_mr_rows() -> list[Row]:
    """Return the MR series of the index as counted groups: text of ``COLUMNS`` (missing = "") and ``series``."""
    batches = []
    index = pq.ParquetFile(str(_find_index()))
    for batch in index.iter_batches(batch_size=65_536, columns=["Modality", *COLUMNS], use_threads=False):
        modality = batch.column("Modality")
        # a scalar of its own would import pandas (45 MB)
        wanted = next((one for one in pc.unique(modality) if one.as_py() == "MR"), None)
        if wanted is not None:
            batches.append(batch.filter(pc.equal(modality, wanted)).drop_columns(["Modality"]))
    grouped = pa.Table.from_batches(batches).group_by(COLUMNS).aggregate([([], "count_all")])
    rows = [{**{name: row[name] or "" for name in COLUMNS}, "series": row["count_all"]} for row in grouped.to_pylist()]
    del index, batches, grouped
    pa.default_memory_pool().release_unused()  # which otherwise keeps 90 MB for what it may read next
    return rows


def read_collections() -> dict[str, tuple[str, str]]:
    """Return collection -> (species, tumour locations) of the index's collections."""
    path = _find_index().with_name("collections_index.parquet")
    rows = pq.read_table(str(path), columns=["collection_id", "species", "tumor_locations"]).to_pylist()
    return {row["collection_id"]: (row["species"] or "", row["tumor_locations"] or "") for row in rows}


def drop_reason(row: Row, species: str, locations: str) -> tuple[str | None, ScannerModel | None]:
    """Return (reason to drop, None) or (None, reviewed model) for one group of series."""
    part, maker_raw, model_raw = (
        str(row[name]).strip() for name in ("BodyPartExamined", "Manufacturer", "ManufacturerModelName")
    )
    if species != "Human":
        return "not a human patient (animal or phantom collection)", None
    vague = part.upper() in VAGUE_PARTS
    hinted = locations.strip() == "Brain" or BRAIN_WORDS.search(str(row["StudyDescription"]).replace("_", " "))
    if not (part.upper() in BRAIN_PARTS or (vague and hinted)):
        return "not a brain", None
    return _scanner_reason(maker_raw, model_raw)


def _scanner_reason(maker_raw: str, model_raw: str) -> tuple[str | None, ScannerModel | None]:
    if maker_raw.lower() in MISSING:
        return "maker missing", None
    if model_raw.lower() in MISSING:
        return "model missing", None
    if SOFTWARE.search(model_raw.lower()):
        return "model is post-processing software", None
    maker = maker_name(maker_raw)
    if maker is None:
        return "maker makes no MR scanners", None
    model = MODEL_BY_KEY.get(model_key(model_raw))
    if model is None:
        return "model not in the reviewed table", None
    if model.maker != maker:
        return "model belongs to another maker", None
    if not any(field in FIELD_STRENGTHS_T for field, _ in model.fields_t):
        return "field strength other than 1.5 or 3 T", None
    return None, model


def clean_rows(
    rows: list[Row], collections: Mapping[str, tuple[str, str]]
) -> tuple[tuple[Scanner, ...], CleaningReport]:
    """Return the scanner mix (sorted, weights sum to 1) and the report of what was dropped and merged."""
    dropped: Counter[str] = Counter()
    patients: dict[tuple[str, str], set[str]] = defaultdict(set)
    makers: dict[str, set[str]] = defaultdict(set)
    spellings: dict[str, set[str]] = defaultdict(set)
    kept = 0
    for row in rows:
        reason, model = drop_reason(row, *collections.get(str(row["collection_id"]), ("Human", "")))
        if model is None:
            dropped[str(reason)] += int(row["series"])
            continue
        kept += int(row["series"])
        patients[model.maker, model_key(model.model)].add(f"{row['collection_id']}/{row['PatientID']}")
        makers[model.maker].add(str(row["Manufacturer"]).strip())
        spellings[f"{model.maker} {model.model}"].add(str(row["ManufacturerModelName"]).strip())
    report = CleaningReport(
        source=f"idc-index-data {IDC_VERSION}",
        series_in=sum(int(row["series"]) for row in rows),
        series_kept=kept,
        patients_kept=len(set().union(*patients.values())),
        dropped=dict(sorted(dropped.items())),
        maker_spellings={name: tuple(sorted(makers[name])) for name in sorted(makers)},
        model_spellings={name: tuple(sorted(spellings[name])) for name in sorted(spellings)},
        ambiguous_patients=sum(len(who) for key, who in patients.items() if len(MODEL_BY_KEY[key[1]].fields_t) > 1),
    )
    return _weigh(patients), report


def _weigh(patients: Mapping[tuple[str, str], set[str]]) -> tuple[Scanner, ...]:
    total = sum(len(who) for who in patients.values())
    entries = [
        Scanner(maker, MODEL_BY_KEY[key].model, field, len(who) * share / total)
        for (maker, key), who in patients.items()
        for field, share in MODEL_BY_KEY[key].fields_t
    ]
    return tuple(sorted(entries, key=lambda scanner: (scanner.manufacturer, scanner.model, scanner.field_strength_t)))


@functools.cache
def load_scanner_mix() -> tuple[tuple[Scanner, ...], CleaningReport]:
    """Return the mix of the installed index and its cleaning report; about 0.5 s once per process."""
    return clean_rows(read_mr_rows(), read_collections())


def restrict_mix(
    manufacturers: tuple[str, ...] | None = None,
    field_strengths_t: tuple[float, ...] | None = None,
    place: str = "population.where",
) -> tuple[Scanner, ...]:
    """Return the scanners of these makers and field strengths with weights that sum to 1.

    Raises PopulationError, naming the ``place`` in the recipe, if no scanner is left.
    """
    mix, _ = load_scanner_mix()
    left = [
        scanner
        for scanner in mix
        if (manufacturers is None or scanner.manufacturer in manufacturers)
        and (field_strengths_t is None or scanner.field_strength_t in field_strengths_t)
    ]
    total = sum(scanner.weight for scanner in left)
    if not left:
        known = sorted({f"{scanner.manufacturer} {scanner.field_strength_t:g} T" for scanner in mix})
        raise PopulationError(
            f"{place} leaves no scanner: manufacturer {manufacturers}, field_strength_t {field_strengths_t}. "
            f"Known combinations: {', '.join(known)}."
        )
    return tuple(Scanner(s.manufacturer, s.model, s.field_strength_t, s.weight / total) for s in left)


def draw_scanner(mix: tuple[Scanner, ...], rng: np.random.Generator) -> Scanner:
    """Return one scanner drawn from ``mix`` by its weights."""
    cumulated = np.cumsum([scanner.weight for scanner in mix])
    position = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
    return mix[min(position, len(mix) - 1)]
