"""How a scorecard speaks: names of scores, numbers, goals, families, the seven questions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from synth.evaluation.metric import Family, Goal, Score, SevenC

FAMILIES: Mapping[Family, tuple[str, str]] = {
    "fidelity": (
        "Fidelity",
        "Do the images, taken together, look like those of real patients? Distances between the two sides; the "
        "control is the distance between real patients and other real patients.",
    ),
    "diversity": (
        "Diversity",
        "Do the images differ from each other as patients do, or are they variations of a few?",
    ),
    "adherence": (
        "Adherence",
        "Does an image show what its record says: the sex, the age, the finding, the volume that was asked for?",
    ),
    "utility": (
        "Utility",
        "Is what a network learns from the images true for real patients it never saw?",
    ),
    "privacy": (
        "Privacy",
        "Can an image, or all of them together, give away who was in the training data? An area under the curve of 0.5 "
        "is guessing.",
    ),
    "fairness": (
        "Fairness",
        "Is all of this as true for women as for men, for the old as for the young, at one scanner as at another?",
    ),
}
SEVEN_CS: Mapping[SevenC, str] = {
    "congruence": "Are the images distributed as those of real patients?",
    "coverage": "Do they reach the whole variety of real patients, and are they new?",
    "constraint": "Do they obey anatomy, physics and the record they were made from?",
    "completeness": "Is everything there that the task needs: usable images, enough to learn from?",
    "compliance": "Do they keep the privacy of the patients behind the training data?",
    "comprehension": "Can people understand what they are, and what they are not?",
    "consistency": "Does all of that hold in every subgroup alike?",
}
GOALS: Mapping[Goal, str] = {
    "lower": "lower is better",
    "higher": "higher is better",
    "zero": "0 is best",
    "control": "as the control is best",
}
GOAL_SIGNS: Mapping[Goal, str] = {"lower": "↓", "higher": "↑", "zero": "→ 0", "control": "→ ◇"}
_NAMES = {
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "Kernel distance (KID)",
    "mmd_rbf": "MMD, Gaussian kernel",
    "sliced_wasserstein": "Sliced Wasserstein distance",
    "reidentification_auc": "Re-identification AUC",
    "ms_ssim_pairs": "MS-SSIM between pairs",
    "utility_synthetic": "Utility, synthetic only",
    "utility_real": "Utility, real only",
    "utility_mixed": "Utility, real + synthetic",
    "utility_pretrained": "Utility, pretrained",
    "utility_duplicated": "Utility, real repeated",
} | {
    f"membership_{attack}_{end}": f"Membership {what} ({name})"
    for attack, name in (("nearest", "nearest"), ("domias", "DOMIAS"), ("classifier", "classifier"), ("loss", "loss"))
    for end, what in (("auc", "AUC"), ("tpr_01pct", "TPR"))
}
_WORDS = {"auc": "AUC", "tpr": "TPR", "mmd": "MMD", "ssim": "SSIM"}
_POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MISSING = "not measurable"


def name_metric(name: str) -> str:
    """Return a metric's name for people."""
    if name in _NAMES:
        return _NAMES[name]
    words = [_WORDS.get(word, word) for word in name.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def name_score(name: str) -> str:
    """Return a score's name for people: ``attribute_auc.view=PA`` becomes "Attribute AUC: view = PA"."""
    metric, _, what = name.partition(".")
    if metric == "gap" and what:
        return f"Gap of {_lower(name_score(what))}"
    return name_metric(metric) + (f": {what.replace('=', ' = ').replace('_', ' ')}" if what else "")


def name_subgroup(subgroup: str) -> str:
    """Return a subgroup for people: ``sex=F,age_years=40-60`` becomes "sex F, age 40-60"."""
    parts = []
    for part in subgroup.split(","):
        attribute, _, value = part.partition("=")
        attribute = re.sub(r"_years$", "", attribute).replace("_", " ")
        parts.append(f"{attribute} {value}".strip())
    return ", ".join(parts)


def format_value(value: float | None) -> str:
    """Return a number with about three significant digits; "none" where there is none."""
    if value is None or not math.isfinite(value):
        return "none"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-4 or size >= 1e7:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(_POWERS)}"
    elif size < 0.01:
        text = f"{value:.2g}"
    elif size < 10:
        text = f"{value:.3f}"
    else:
        text = f"{value:.2f}" if size < 100 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def format_interval(score: Score) -> str:
    """Return the 95 % interval, or an empty string."""
    if score.low is None or score.high is None:
        return ""
    return f"{format_value(score.low)} to {format_value(score.high)}"


def format_count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 image" or "2 images"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def format_seconds(seconds: float) -> str:
    """Return a duration: "0.8 s", "3 min 20 s", "1 h 05 min"."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def shorten(text: str, length: int) -> str:
    """Return ``text`` cut to ``length`` characters, with an ellipsis if something was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _lower(text: str) -> str:
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
