"""Plain words for what the catalog stores: names, units, diagnoses, tissues, gates and statuses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synth.nouns import AttributeValue

SYNTHETIC = "Synthetic data"
SCORECARD_GATE = "scorecard."  # begins the names of gates that look at a scorecard of images
STATUS = {"released": "Released", "refused": "Refused", "built": "Built"}
STATUS_MEANING = {
    "released": "every gate holds: readers see this cohort",
    "refused": "hidden from readers, kept for inspection",
    "built": "registered, not decided yet",
}
STATUS_COLOUR = {"released": "green", "refused": "red", "built": "gray"}
STATUS_MARK = {"released": "✓ Released", "refused": "✗ Refused", "built": "○ Built"}
SEX = {"F": "Female", "M": "Male"}
DIAGNOSIS = {"none": "No diagnosis"}
PLANES = {"axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal"}
TISSUES = {1: "Cerebrospinal fluid", 2: "Grey matter", 3: "White matter", 4: "Ventricles"}
TISSUE_COLOUR = {1: (62, 143, 208), 2: (232, 166, 52), 3: (108, 190, 132), 4: (150, 110, 220)}
LESION_COLOUR = (255, 59, 48)
MEASUREMENTS = {
    "intracranial_volume": "Intracranial volume",
    "brain_volume": "Brain volume",
    "grey_matter_volume": "Grey-matter volume",
    "white_matter_volume": "White-matter volume",
    "ventricle_volume": "Ventricle volume",
    "lesion_volume": "Lesion volume",
    "snr": "Signal-to-noise ratio",
    "gm_wm_ratio": "Grey / white matter signal",
    "csf_wm_ratio": "CSF / white matter signal",
}
_PARAMETERS = {
    "tr_ms": "Repetition time TR (ms)",
    "te_ms": "Echo time TE (ms)",
    "ti_ms": "Inversion time TI (ms)",
    "flip_angle_deg": "Flip angle (°)",
}
_UNITS = {"ms": "ms", "mm": "mm", "deg": "°", "ml": "mL", "t": "T", "years": "years"}
_SHORT_UNIT = {"1": ""}


def name_diagnosis(diagnosis: str | None) -> str:
    """Return a diagnosis as one writes it; a dash where it is not known."""
    if not isinstance(diagnosis, str):  # None, or pandas' NaN
        return "—"
    return DIAGNOSIS.get(diagnosis, _capitalise(diagnosis.replace("-", " ").replace("alzheimer ", "Alzheimer ")))


def name_measurement(name: str) -> str:
    """Return a measurement as one writes it, without its unit."""
    return MEASUREMENTS.get(name, _capitalise(name.replace("_", " ")))


def name_unit(unit: str) -> str:
    """Return a unit as it stands behind a number; nothing for plain numbers."""
    return _SHORT_UNIT.get(unit, unit)


def name_parameter(name: str) -> str:
    """Return a scan parameter as one writes it, with its unit in brackets."""
    if name in _PARAMETERS:
        return _PARAMETERS[name]
    stem, _, unit = name.rpartition("_")
    if stem and unit in _UNITS:
        return f"{_capitalise(stem.replace('_', ' '))} ({_UNITS[unit]})"
    return _capitalise(name.replace("_", " "))


def name_value(value: AttributeValue) -> str:
    """Return the value of an attribute as one writes it."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "—" if value is None else number(value) if isinstance(value, int | float) else value


def name_visit(visit: int) -> str:
    """Return a visit as one speaks of it; visits are counted from 0."""
    return "Baseline" if visit == 0 else f"Follow-up {visit}"


def name_gate(gate: str) -> str:
    """Return what a gate is about."""
    family, _, subject = gate.partition(".")
    if family == "images_complete":
        return "All images exist"
    if family == "population":
        return f"Mix by {_name_mix(subject)}" if subject != "prevalence" else "Prevalence within strata"
    if family == "adherence":
        return f"{name_measurement(subject)} as requested"
    return _capitalise(gate.replace("_", " ").replace(".", ": "))


def _name_mix(attribute: str) -> str:
    return "age band" if attribute == "age_years" else attribute.replace("_", " ")


def explain_gate(gate: Mapping[str, Any], named: bool = True) -> str:
    """Return one sentence that says, in plain words, what a gate found; ``named`` begins it with the measurement."""
    if str(gate["gate"]).startswith(SCORECARD_GATE):  # its value may be null: not measurable
        return str(gate["reason"]).removeprefix(SCORECARD_GATE)
    value, threshold, passed = float(gate["value"]), float(gate["threshold"]), bool(gate["passed"])
    family, _, subject = str(gate["gate"]).partition(".")
    if family == "images_complete":
        return "Every planned image exists." if passed else f"Only {share(value)} of the planned images exist."
    if family == "population":
        ending = f"{share(threshold)} is allowed." if passed else f"only {share(threshold)} is allowed."
        if subject == "prevalence":
            return f"A prevalence is off by {share(value)} of the subjects in its stratum; {ending}"
        return f"The mix by {_name_mix(subject)} is off by {share(value)} of the subjects; {ending}"
    if family == "adherence":
        sentence = (
            f"{'' if passed else 'only '}{share(value)} of the images show what was requested; {share(threshold)} must."
        )
        return f"{name_measurement(subject)}: {sentence}" if named else _capitalise(sentence)
    return str(gate["reason"])


def explain_refusal(status: str, reasons: Iterable[str], gates: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the sentences that say why a cohort is not released: those of its failed gates, else those stored."""
    if status != "refused":
        return []
    stored = list(reasons)
    failed = {str(gate["reason"]): explain_gate(gate) for gate in gates if not gate["passed"]}
    return [failed.get(reason, reason) for reason in stored] or list(failed.values())


def summarise_reasons(reasons: Sequence[str]) -> str:
    """Return in a few words why a cohort is not released: the gates that failed, or what a person wrote."""
    if not reasons:
        return ""
    gates = [reason.partition(": ")[0] for reason in reasons]
    if any(" " in gate or ("." not in gate and gate != "images_complete") for gate in gates):
        return " ".join(reasons)
    names = [name_measurement(gate.partition(".")[2]) if "adherence." in gate else name_gate(gate) for gate in gates]
    return f"{len(gates)} gate{'s' if len(gates) > 1 else ''} failed: {', '.join(names)}"


def share(value: float) -> str:
    """Return a share (0 to 1) as a percentage that is 100 % only if it is whole."""
    if math.isnan(value):
        return "an unknown share"
    percent = 100 * value
    digits = 0 if abs(percent - round(percent)) < 1e-9 else 1
    if digits and round(percent, 1) in (0.0, 100.0):
        digits = 2
    return f"{percent:.{digits}f} %"


def number(value: float | None, significant: int = 4) -> str:
    """Return a number with about four significant digits and no exponent in the everyday range."""
    if value is None or math.isnan(value):
        return "—"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        decimals = max(0, significant - 1 - (math.floor(math.log10(abs(value))) if value else 0))
        text = f"{value:.{min(decimals, significant)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{significant - 1}g}"


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]
