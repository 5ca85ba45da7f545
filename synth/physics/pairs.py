"""Paired scans: a contrast acquired once more, so that the two differ in what their pair is about and in nothing else.

A partner has the subject, anatomy, pose, receive bias and voxels of its original. A new pair is one entry of PAIRS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from synth.errors import SpecError, suggest_nearest
from synth.imaging_spec import ImagingSpec
from synth.nouns import Scan
from synth.physics.acquisition import draw_acquisition
from synth.physics.effects import EFFECTS
from synth.physics.effects.checking import check_unfolding
from synth.physics.relaxation import RELAXATION, Tissue
from synth.physics.sequences.base import Parameter, Wanted
from synth.physics.sequences.checking import check_value
from synth.seeds import stream_key
from synth.spec import CohortSpec

LOWEST_FIELD_T = min(RELAXATION)
TissuesAt = Callable[[float], Mapping[str, Tissue]]


@dataclass(frozen=True, slots=True)
class Pair:
    """What a partner has instead: ``effects`` of the scanner besides its original's, SNR, field strength.

    It may have ``optional`` effects, if a recipe gives a parameter of them. ``snr`` and ``field_strength_t`` are the
    ranges they are drawn from. Its noise is its original's (``same_noise``: the same samples of k-space), its own, or
    none (``noiseless``).
    """

    description: str
    effects: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    own: Mapping[str, Parameter] = field(default_factory=dict)
    same_noise: bool = False
    noiseless: bool = False

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What a recipe may set of the partner."""
        effects = {key: one for name in self.effects + self.optional for key, one in EFFECTS[name].parameters.items()}
        return {**effects, **self.own}

    def list_effects(self, wanted: Wanted) -> dict[str, dict[str, Any]]:
        """Return the effects of the partner with the parameters that are ``wanted`` of them."""
        found = {
            name: {key: wanted[key] for key in EFFECTS[name].parameters if key in wanted}
            for name in self.effects + self.optional
        }
        return {name: asked for name, asked in found.items() if asked or name in self.effects}


def _snr(lowest: float, highest: float) -> Parameter:
    return Parameter("", "white-matter signal over noise", 2, 1000, (lowest, highest))


# The SNR of low field is approximate: images of 0.064 T in the literature have 5 to 20 in voxels that are larger.
PAIRS: dict[str, Pair] = {
    "motion": Pair("the head moves between lines of k-space", effects=("motion",), same_noise=True),
    "undersampled": Pair("lines of k-space are left out", effects=("undersampling",), same_noise=True),
    "thick-slices": Pair("slices are thick", effects=("slices",)),
    "low-field": Pair(
        "0.064 T: its relaxation times, protocols and noise; thick slices if their parameters are given",
        optional=("slices",),
        own={
            "field_strength_t": Parameter(
                "T", "field strength", LOWEST_FIELD_T, max(RELAXATION), (LOWEST_FIELD_T,) * 2
            ),
            "snr": _snr(6, 15),
        },
    ),
    "noisy": Pair("more noise", own={"snr": _snr(5, 12)}),
    "noise-free": Pair("no noise", noiseless=True),
}


def check_pairs(imaging: ImagingSpec) -> None:
    """Raise SpecError naming field, value and range of the first impossible value of ``imaging.pairs``."""
    for name, wanted in imaging.pairs.items():
        if name not in PAIRS:
            raise SpecError(
                f"imaging.pairs: '{name}' is unknown to engine 'mri'; choose from {list(PAIRS)}."
                + suggest_nearest(name, PAIRS)
            )
        pair, place = PAIRS[name], f"imaging.pairs.{name}"
        for key, value in wanted.items():
            check_value(f"{place}.{key}", key, value, pair.parameters)
        _check_field(place, wanted)
        effects = pair.list_effects(wanted)
        for effect in effects:
            if effect in imaging.effects:
                raise SpecError(
                    f"{place}: all scans of the recipe have effects.{effect}, so partners would not differ in it; take "
                    f"it out of imaging.effects or of imaging.pairs."
                )
        check_unfolding({**imaging.effects, **effects}, f"{place}.sense")


def _check_field(place: str, wanted: Wanted) -> None:
    given = wanted.get("field_strength_t", LOWEST_FIELD_T)
    if given not in RELAXATION:
        known = ", ".join(f"{tesla:g}" for tesla in sorted(RELAXATION))
        raise SpecError(f"{place}.field_strength_t: {given} has no relaxation values; choose one of {known} T.")


def list_pair_fields(imaging: ImagingSpec) -> tuple[float, ...]:
    """Return the field strengths (tesla) that partners are scanned at."""
    found = (_find_field(name, wanted) for name, wanted in imaging.pairs.items())
    return tuple(field for field in found if field is not None)


def _find_field(name: str, wanted: Wanted) -> float | None:
    if "field_strength_t" not in PAIRS[name].own:
        return None
    given = wanted.get("field_strength_t", LOWEST_FIELD_T)
    assert isinstance(given, int | float)  # as checked
    return float(given)


def shares_noise(pairs: Iterable[str]) -> bool:
    """Return whether some of ``pairs`` have the noise of their original, which then is that of its k-space."""
    return any(PAIRS[name].same_noise for name in pairs)


def draw_partners(
    spec: CohortSpec, subject_index: int, original: Scan, head: Mapping[str, Any], tissues_at: TissuesAt
) -> list[Scan]:
    """Draw the partners of ``original``, whose row without its acquisition is ``head``, in the order of PAIRS.

    ``tissues_at(tesla)`` gives the tissues of the subject in another field. The row of a partner says of which pair it
    is (``pair``) and whose partner (``pair_of``, a scan's id).
    """
    found = []
    for name in PAIRS:
        if name not in spec.imaging.pairs:
            continue
        field_strength_t = _find_field(name, spec.imaging.pairs[name]) or original.field_strength_t
        assert field_strength_t is not None  # a subject of engine 'mri' has a scanner
        same = field_strength_t == original.field_strength_t
        row = _draw_row(spec, subject_index, original, head, name, (field_strength_t, tissues_at(field_strength_t)))
        found.append(
            replace(
                original,
                scan_id=f"{original.scan_id}-{name}",
                manufacturer=original.manufacturer if same else None,
                manufacturer_model=original.manufacturer_model if same else None,
                field_strength_t=field_strength_t,
                parameters={**row, "pair": name, "pair_of": original.scan_id},
            )
        )
    return found


def _draw_row(
    spec: CohortSpec,
    subject_index: int,
    original: Scan,
    head: Mapping[str, Any],
    name: str,
    at: tuple[float, Mapping[str, Tissue]],
) -> dict[str, Any]:
    pair = PAIRS[name]
    tesla, tissues = at
    asked = spec.model_copy(update={"imaging": _ask_partner(spec.imaging, name)})
    own = draw_acquisition(asked, subject_index, original.visit, original.kind, tissues, tesla)
    row = {**head, "relaxation": {tissue: values.to_json() for tissue, values in tissues.items()}, **own}
    if not (pair.same_noise or pair.noiseless):
        row.pop("noise_in", None)
    if pair.same_noise:
        return row

    def change(kind: str) -> dict[str, Any]:
        key = stream_key(spec.seed, subject_index, original.visit, f"mri/pairs/{name}/noise/{kind}")
        return {"snr": None} if pair.noiseless else {"noise_key": hex(key)}

    if "parts" in row:  # the noise of a map is that of its parts
        return {**row, "parts": [{**part, **change(part["kind"])} for part in row["parts"]]}
    return {**row, **change(original.kind)}


def _ask_partner(imaging: ImagingSpec, name: str) -> ImagingSpec:
    """Return what a recipe that asked for the partner alone would say."""
    pair, wanted = PAIRS[name], imaging.pairs[name]
    changed: dict[str, Any] = {"effects": {**imaging.effects, **pair.list_effects(wanted)}}
    if "snr" in pair.own:
        asked = wanted.get("snr", pair.own["snr"].usual)
        changed["snr"] = asked if isinstance(asked, tuple) else (asked, asked)
    return imaging.model_copy(update=changed)
