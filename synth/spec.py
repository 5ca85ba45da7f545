"""CohortSpec: what was asked for. TOML -> frozen, validated models with a stable content hash.

Unknown keys are refused with the nearest known one; impossible values are refused naming field, value and range.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from synth.anatomy_spec import AnatomySpec
from synth.errors import SpecError, suggest_nearest
from synth.imaging_spec import ImagingSpec
from synth.physics.label_files import pin_label_maps
from synth.pins import drop_name, read_pin
from synth.population_spec import PopulationSpec
from synth.recipe_part import MAX_NAME, Probability, RecipePart, Unique, check_name, explain_problems

MAX_SUBJECTS = 1_000_000


class GatesSpec(RecipePart):
    """What must hold before the cohort is released."""

    adherence_min: Probability = Field(0.95, description="least share of images within tolerance, for each measurement")
    adherence: dict[str, Probability] = Field(
        default_factory=dict, description="per-measurement override of adherence_min, e.g. {snr = 0.9}"
    )
    population_error_max: Probability = Field(
        0.02, description="largest difference between a wanted and an obtained share (one subject is always allowed)"
    )
    images_complete: Literal[True] = Field(True, description="every planned image must exist; cannot be switched off")


class EvaluationSpec(RecipePart):
    """How the images are judged against a reference before the cohort is released; see ``cohortium evaluate``."""

    reference: str = Field(description="name of the reference; its recipe cannot be built before it is imported")
    kind: str | None = Field(None, description="contrast or view that is judged; needed if the recipe has several")
    policy: str | dict[str, Any] | None = Field(
        None, description="TOML file of gates beside the recipe, or a shipped policy's name; default: 'default'"
    )
    gates: dict[str, dict[str, float | str]] = Field(
        default_factory=dict, description="other limits of the policy's gates, e.g. {copies = {at_most = 0.001}}"
    )
    features: Annotated[tuple[Literal["encoder", "radiomics", "pixels"], ...], Unique] = Field(
        ("encoder", "radiomics", "pixels"), min_length=1, description="features that images are compared in"
    )
    utility: Literal["off", "quick", "full"] = Field("quick", description="how long networks are trained on the images")


class ScheduleSpec(RecipePart):
    """When ``cohortium serve`` builds the recipe by itself."""

    cron: str = Field(description="five-field cron expression, e.g. '0 3 * * 1'")
    timezone: str = Field("UTC", description="IANA time zone name of the cron expression")


class CohortSpec(RecipePart):
    """A recipe. The same spec and engine version give the same cohort, bit for bit."""

    name: str = Field(description="short name, lower-case letters, digits and dashes", max_length=MAX_NAME)
    description: str = Field("", description="what the cohort is for, in a sentence or two")
    subjects: int = Field(strict=True, ge=1, le=MAX_SUBJECTS, description="number of subjects")
    seed: int = Field(0, strict=True, ge=0, lt=2**63, description="seed of every random draw")
    population: PopulationSpec = Field(default_factory=PopulationSpec)
    imaging: ImagingSpec = Field(default_factory=ImagingSpec)
    gates: GatesSpec = Field(default_factory=GatesSpec)
    evaluation: EvaluationSpec | None = None
    schedule: ScheduleSpec | None = None

    @model_validator(mode="after")
    def _check_evaluation(self) -> CohortSpec:
        asked, known = self.evaluation, self.imaging.contrasts
        if self.imaging.model is not None and read_pin(self.imaging.model) is None:
            return self  # the model, which is looked up before anything is planned, says what it draws
        if asked is not None and asked.kind is None and len(known) > 1:
            raise ValueError(f"evaluation.kind: required where there are several contrasts; one of {', '.join(known)}")
        if asked is not None and asked.kind is not None and asked.kind not in known:
            raise ValueError(
                f"evaluation.kind: '{asked.kind}' is not among the contrasts {', '.join(known)}."
                + suggest_nearest(asked.kind, known)
            )
        return self

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return check_name(name)

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything that was asked for, except the schedule and the description."""
        return _hash_json(_dump_asked(self, {"schedule", "description"}))

    @property
    def images_hash(self) -> str:
        """SHA-256 of what decides the images; recipes that differ only in gates and evaluation share their images."""
        return _hash_json(_dump_asked(self, {"schedule", "description", "gates", "evaluation"}))


def _dump_asked(spec: CohortSpec, exclude: set[str]) -> dict[str, Any]:
    """Return the spec as JSON values; keys younger than stored cohorts are left out unless used, which keeps hashes."""
    asked = spec.model_dump(mode="json", exclude=exclude)
    population = asked["population"]
    if not population["prevalence"]:
        del population["prevalence"]
    if population["twins"] is None:
        del population["twins"]
    if not population["arms"]:
        del population["arms"]
    if population["targets"]["age_years"] is None:
        del population["targets"]["age_years"]
    for part in ("where", "targets"):
        if not population[part]["attributes"]:
            del population[part]["attributes"]
    population["source"] = drop_name(population["source"])
    if asked["imaging"]["model"] is None:
        del asked["imaging"]["model"]
    else:
        asked["imaging"]["model"] = drop_name(asked["imaging"]["model"])
    for key in ("redraws", "field_strength_t", "protocol", "effects", "pairs"):
        if asked["imaging"][key] in (None, {}):
            del asked["imaging"][key]
    if spec.imaging.anatomy == AnatomySpec():
        del asked["imaging"]["anatomy"]
    else:
        asked["imaging"]["anatomy"] = spec.imaging.anatomy.dump_content()
    if asked.get("evaluation", ...) is None:
        del asked["evaluation"]
    return asked


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def parse_spec(text: str, where: str = "recipe", folder: Path | None = None) -> CohortSpec:
    """Return the spec written in the TOML ``text``; ``where`` names it in errors.

    The file of a policy is looked for in ``folder``, and its content becomes part of the spec and its hash; likewise
    label maps, which are named by the hash of their content from then on. Raises SpecError naming the line (malformed
    TOML) or the field, the value given and what is allowed.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where} is not valid TOML: {error}. Correct that place and run the command again.") from error
    try:
        return CohortSpec.model_validate(_pin_labels(_read_policy(data, folder or Path()), folder or Path()))
    except ValidationError as error:
        raise SpecError(f"{where} cannot be used:\n" + "\n".join(explain_problems(error, CohortSpec))) from error


def _read_policy(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the recipe with the content of its policy's file in place of the name."""
    asked = data.get("evaluation")
    if not isinstance(asked, dict):
        return data
    name = asked.get("policy")
    if not isinstance(name, str) or not name.endswith(".toml"):
        return data
    try:
        content = tomllib.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"evaluation.policy: '{name}' cannot be read: {error}. Give a TOML file of gates.") from error
    return {**data, "evaluation": {**asked, "policy": content}}


def _pin_labels(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the recipe with the hashes of its label maps in place of their files."""
    imaging = data.get("imaging")
    anatomy = imaging.get("anatomy") if isinstance(imaging, dict) else None
    asked = anatomy.get("labels") if isinstance(anatomy, dict) else None
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return data
    assert isinstance(imaging, dict)
    assert isinstance(anatomy, dict)
    return {**data, "imaging": {**imaging, "anatomy": {**anatomy, "labels": pin_label_maps(folder, names)}}}


def load_spec(path: Path) -> CohortSpec:
    """Return the spec in the TOML file ``path``; raises SpecError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"recipe '{path}' cannot be read: {error}. Give the path of a TOML file.") from error
    return parse_spec(text, f"recipe '{path}'", path.parent)
