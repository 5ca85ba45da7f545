"""What a recipe may ask of effects: known names, values within limits, and what they need of one another."""

from __future__ import annotations

from collections.abc import Mapping

from synth.errors import SpecError, suggest_nearest
from synth.imaging_spec import ImagingSpec
from synth.physics.effects import EFFECTS
from synth.physics.sequences.base import Parameter, Range, Wanted
from synth.physics.sequences.checking import check_value

PROBABILITY = Parameter("", "share of the scans that have it", 0.0, 1.0, (1.0, 1.0))


def check_effects(effects: Mapping[str, Wanted]) -> None:
    """Raise SpecError naming field, value and range of the first impossible value of ``imaging.effects``."""
    for name, wanted in effects.items():
        if name not in EFFECTS:
            raise SpecError(
                f"imaging.effects: '{name}' is unknown to engine 'mri'; choose from {list(EFFECTS)}."
                + suggest_nearest(name, EFFECTS)
            )
        known = {**EFFECTS[name].parameters, "probability": PROBABILITY}
        for key, value in wanted.items():
            check_value(f"imaging.effects.{name}.{key}", key, value, known)
    check_unfolding(effects, "imaging.effects.undersampling.sense")


def check_unfolding(effects: Mapping[str, Wanted], field: str) -> None:
    """Raise SpecError naming ``field`` unless SENSE has coils, in every scan and at least as many as it unfolds."""
    if _range(effects, "undersampling", "sense")[1] == 0:
        return
    fewest = _range(effects, "coils", "count")[0] if "coils" in effects else 0
    always = "coils" in effects and _range(effects, "coils", "probability")[0] == 1
    most = _range(effects, "undersampling", "acceleration")[1]
    least = 4 if most > 2 else 2
    if fewest < least or not always:
        raise SpecError(
            f"{field}: 1 needs several coils in every scan, at least {least:g}; add "
            f"effects.coils with count = {max(least, 8):g} and no probability, or set sense = 0."
        )


def _range(effects: Mapping[str, Wanted], name: str, key: str) -> Range:
    if name not in effects:
        return (0.0, 0.0)
    parameter = PROBABILITY if key == "probability" else EFFECTS[name].parameters[key]
    usual = parameter.usual
    assert isinstance(usual, tuple)
    given = effects[name].get(key, usual)
    return given if isinstance(given, tuple) else (float(given), float(given))


def thin_most(imaging: ImagingSpec) -> int:
    """Return by how much the thinnest slices that ``imaging`` asks for make an image smaller."""
    if "slices" not in imaging.effects or _range(imaging.effects, "slices", "probability")[0] < 1:
        return 1
    step_mm = sum(_range(imaging.effects, "slices", key)[0] for key in ("thickness_mm", "gap_mm"))
    return max(1, int(step_mm / imaging.resolution_mm))
