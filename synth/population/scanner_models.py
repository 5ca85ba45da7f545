"""Reviewed table of MR makers and models: one spelling each, and the field strength in tesla.

Field strengths are those of the makers' product pages and 510(k) summaries, from general knowledge of the products;
``approximate`` marks the entries that are a judgement. Rule for models sold at more than one field strength, which
the index does not record: half of their patients count as 1.5 T and half as 3 T, because nothing says otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

AMBIGUOUS = ((1.5, 0.5), (3.0, 0.5))


@dataclass(frozen=True, slots=True)
class ScannerModel:
    """One model: its maker, its spelling, and the share of it at each field strength (tesla)."""

    maker: str
    model: str
    fields_t: tuple[tuple[float, float], ...]
    approximate: bool = False


MAKER_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"^siemens\b", "Siemens"),
    (r"^(ge|general electric)\b", "GE"),
    (r"^philips\b", "Philips"),
    (r"^(canon|toshiba)\b", "Canon"),
    (r"^hitachi\b", "Hitachi"),
    (r"^(picker|marconi)\b", "Picker"),
)
SOFTWARE = re.compile(r"syngo|numaris|osirix|captk|slicer|\bvia\b")
MISSING = frozenset({"", "unknown", "unknown manufacturer", "unknown model", "none", "n/a", "na", "anonymized"})


def _same(maker: str, field_t: float, *models: str) -> list[ScannerModel]:
    return [ScannerModel(maker, model, ((field_t, 1.0),)) for model in models]


MODELS: tuple[ScannerModel, ...] = (
    *_same("Siemens", 1.5, "Avanto", "Aera", "Espree", "Symphony", "Sonata", "Sola", "Amira", "Altea", "Essenza"),
    *_same("Siemens", 3.0, "Skyra", "Verio", "Trio", "Prisma", "Biograph mMR", "Vida", "Spectra", "Allegra", "Lumina"),
    *_same("Siemens", 1.0, "Expert", "Harmony"),
    *_same("GE", 1.5, "Optima MR360", "Optima MR450w", "Discovery MR450"),
    *_same("GE", 1.5, "Signa Artist", "Signa Voyager", "Signa Explorer"),
    *_same("GE", 3.0, "Discovery MR750", "Discovery MR750w", "Signa Architect", "Signa Premier", "Signa Pioneer"),
    ScannerModel("GE", "Genesis Signa", ((1.5, 1.0),), approximate=True),  # a few were 1.0 or 3 T
    ScannerModel("GE", "Signa Excite", AMBIGUOUS, approximate=True),
    ScannerModel("GE", "Signa HDx", AMBIGUOUS, approximate=True),
    ScannerModel("GE", "Signa HDxt", AMBIGUOUS, approximate=True),
    ScannerModel("Philips", "Achieva", AMBIGUOUS, approximate=True),
    ScannerModel("Philips", "Ingenia", AMBIGUOUS, approximate=True),
    ScannerModel("Philips", "Intera", ((1.5, 1.0),), approximate=True),  # a few were 1.0 or 3 T
    *_same("Philips", 1.5, "Gyroscan", "Ingenia Ambition", "Multiva", "Infinion"),
    *_same("Philips", 3.0, "Ingenia Elition"),
    *_same("Philips", 1.0, "Panorama"),
    *_same("Canon", 3.0, "Vantage Galan", "Vantage Titan 3T"),
    *_same("Canon", 1.5, "Vantage Titan", "Vantage Orian", "Vantage Elan", "Excelart Vantage"),
    *_same("Hitachi", 1.5, "Echelon", "Echelon Oval"),
    *_same("Hitachi", 1.2, "Oasis"),
    *_same("Hitachi", 0.3, "Airis"),
    *_same("Picker", 1.0, "Vista"),
)

# spellings that the general rule of ``model_key`` does not reach -> key of the model
ALIASES = {
    "triotim": "trio",
    "trio tim": "trio",
    "symphonytim": "symphony",
    "symphony tim": "symphony",
    "avantotim": "avanto",
    "expert plus": "expert",
    "signa genesis": "genesis signa",
    "signa artist evo": "signa artist",
    "gyroscan intera": "intera",
    "gyroscan nt": "gyroscan",
    "achieva dstream": "achieva",
    "ingenia ambition x": "ingenia ambition",
    "ingenia elition x": "ingenia elition",
    "infinion 1.5t": "infinion",
    "vista 1.0t": "vista",
    "galan 3t": "vantage galan",
    "titan": "vantage titan",
    "titan 3t": "vantage titan 3t",
}


def maker_name(raw: str) -> str | None:
    """Return the one spelling of a maker, or None if it makes no MR scanners that we know of."""
    text = re.sub(r"[^a-z0-9]+", " ", raw.lower()).strip()
    return next((name for pattern, name in MAKER_PATTERNS if re.search(pattern, text)), None)


def model_key(raw: str) -> str:
    """Return the comparable form of a model: lower case, single spaces, no family name, no upgrade suffix."""
    text = re.sub(r"[^a-z0-9.]+", " ", raw.lower()).strip()
    text = re.sub(r"^magnetom ", "", text)
    text = re.sub(r" fit$", "", text)  # "Skyra_fit": an older magnet upgraded to the electronics of that model
    return ALIASES.get(text, text)


MODEL_BY_KEY: dict[str, ScannerModel] = {model_key(entry.model): entry for entry in MODELS}
