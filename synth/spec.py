"""CohortSpec: what was asked for. TOML -> frozen, validated models with a stable content hash.

Unknown keys are refused with the nearest known one; impossible values are refused naming field, value and range.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from synth.anatomy_spec import AnatomySpec
from synth.arm_spec import ArmSpec, check_arms
from synth.errors import SpecError, suggest_nearest
from synth.physics.label_files import pin_label_maps
from synth.pins import drop_name, read_pin

MAX_SUBJECTS = 1_000_000
MAX_NAME = 40
BRAIN = "adult-brain"  # the population whose attributes are keys of their own; others know theirs themselves
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Unique = AfterValidator(lambda values: _refuse_repeats(values))


def _refuse_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"each value may be listed once, got {list(values)}")
    return values


def _read_pairs(given: Any) -> Any:
    """Return pairs that are listed by name as a table of them."""
    if isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
        return {name: {} for name in _refuse_repeats(tuple(given))}
    return given


class RecipePart(BaseModel):
    """A part of a recipe: frozen, with no unknown keys and no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_name(name: str) -> str:
    """Return the name of a recipe; raises ValueError if it is not one that files and tables can carry."""
    ok = name and all(c.isascii() and (c.islower() or c.isdigit() or c == "-") for c in name)
    if not ok or name.startswith("-"):
        raise ValueError(
            f"name '{name}' is not allowed; use a-z, 0-9 and '-', starting with a letter or digit, "
            f"{MAX_NAME} characters at most"
        )
    return name


class LabelsSpec(RecipePart):
    """Which labels of a set a subject must have, and which not."""

    all: tuple[str, ...] = Field((), description="labels that must all be there")
    without: tuple[str, ...] = Field((), description="labels that must not be there")


Wanted = LabelsSpec | Annotated[tuple[str, ...], Field(min_length=1)] | tuple[float, float]


class WhereSpec(RecipePart):
    """Restricts the population before anything is drawn. A list means "any of these"."""

    age_years: tuple[float, float] | None = Field(None, description="youngest and oldest age at the first visit")
    sex: tuple[str, ...] | None = Field(None, description="sexes to include: F, M")
    diagnosis: tuple[str, ...] | None = Field(None, description="diagnoses to include")
    manufacturer: tuple[str, ...] | None = Field(None, description="scanner makers to include")
    field_strength_t: tuple[float, ...] | None = Field(None, description="field strengths in tesla to include")
    attributes: dict[str, Wanted] = Field(
        default_factory=dict,
        description="of a learned population: any attribute and its values, [lowest, highest], or labels of a set; "
        "may be written beside the keys above",
    )

    @model_validator(mode="after")
    def _check_range(self) -> WhereSpec:
        if self.age_years is not None and not self.age_years[0] < self.age_years[1]:
            raise ValueError(f"age_years must be [youngest, oldest] with youngest < oldest, got {list(self.age_years)}")
        return self


def parse_band(text: str) -> tuple[float, float]:
    """Return (youngest, oldest) of an age band such as "20-40", which holds ages from 20 to just below 40 years.

    Raises ValueError, saying how to write it.
    """
    youngest, dash, oldest = text.partition("-")
    try:
        low, high = float(youngest), float(oldest)
    except ValueError:
        low, high = 0.0, 0.0
    if not dash or not 0 <= low < high < math.inf:
        raise ValueError(f"age band '{text}' must be written 'youngest-oldest' in years, such as '20-40'")
    return low, high


class TargetsSpec(RecipePart):
    """Wanted shares of the cohort by category; what the shares of an attribute leave over keeps its natural mix."""

    sex: dict[str, Probability] | None = Field(None, description="wanted share by sex, e.g. {F = 0.5}")
    diagnosis: dict[str, Probability] | None = Field(None, description="wanted share by diagnosis")
    age_years: dict[str, Probability] | None = Field(
        None, description="wanted share by age at the first visit, in bands that do not overlap, e.g. {'20-40' = 0.5}"
    )
    attributes: dict[str, dict[str, Probability]] = Field(
        default_factory=dict,
        description="of a learned population: wanted shares by any attribute; may be written beside the keys above",
    )

    @model_validator(mode="after")
    def _check_sums(self) -> TargetsSpec:
        bands = sorted((parse_band(name), name) for name in self.age_years or ())
        for (before, first), (after, second) in itertools.pairwise(bands):
            if after[0] < before[1]:
                raise ValueError(f"targets.age_years: the bands '{first}' and '{second}' overlap; let them only touch")
        for attribute in ("sex", "diagnosis", "age_years"):
            shares = getattr(self, attribute)
            if shares is not None and sum(shares.values()) > 1 + 1e-9:
                raise ValueError(f"targets.{attribute} sum to {sum(shares.values()):g}; shares must sum to 1 at most")
        return self


class StratumSpec(RecipePart):
    """The part of the cohort that a prevalence is a share of."""

    sex: tuple[str, ...] | None = Field(None, description="sexes of the stratum")
    age_years: tuple[float, float] | None = Field(
        None, description="ages at the first visit, from the first to just below the second"
    )

    @model_validator(mode="after")
    def _check_range(self) -> StratumSpec:
        if self.age_years is not None and not self.age_years[0] < self.age_years[1]:
            raise ValueError(f"age_years must be [youngest, oldest] with youngest < oldest, got {list(self.age_years)}")
        return self


class PrevalenceSpec(RecipePart):
    """A conditional prevalence: ``share`` of the subjects in ``where`` have ``diagnosis``."""

    diagnosis: str = Field(description="the diagnosis")
    share: Probability = Field(description="share of the stratum that has it")
    where: StratumSpec = Field(default_factory=StratumSpec, description="the stratum; without it, the whole cohort")

    @property
    def label(self) -> str:
        """The prevalence in words, such as "multiple-sclerosis where sex F, age_years 20-40"."""
        parts = [f"sex {'/'.join(self.where.sex)}"] if self.where.sex is not None else []
        if self.where.age_years is not None:
            parts.append(f"age_years {self.where.age_years[0]:g}-{self.where.age_years[1]:g}")
        return f"{self.diagnosis} where {', '.join(parts)}" if parts else self.diagnosis


class TwinsSpec(RecipePart):
    """What the twins of a recipe's people have instead; at least one thing."""

    diagnosis: Literal["none"] | None = Field(None, description="none: the disease is absent")
    sex: Literal["F", "M", "other"] | None = Field(None, description="sex of the twins; other: not their original's")
    manufacturer: str | None = Field(None, description="maker of the twins' scanners")
    field_strength_t: float | None = Field(None, description="field strength in tesla of the twins' scanners")

    @model_validator(mode="after")
    def _check_some(self) -> TwinsSpec:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("twins differ in something: give one of " + ", ".join(type(self).model_fields))
        return self


class PopulationSpec(RecipePart):
    """Who is in the cohort."""

    source: str = Field(
        BRAIN, min_length=1, description="name of the population model, the folder of one, or models:/NAME@ALIAS"
    )
    where: WhereSpec = Field(default_factory=WhereSpec, description="restriction of the population")
    targets: TargetsSpec = Field(default_factory=TargetsSpec, description="wanted shares by category")
    prevalence: tuple[PrevalenceSpec, ...] = Field((), description="wanted shares of a diagnosis within strata")
    twins: TwinsSpec | None = Field(
        None, description="the cohort is made of the twins of the people it would have without this key"
    )
    arms: Annotated[dict[str, ArmSpec], AfterValidator(check_arms)] = Field(
        {}, description="of a trial: its arms by name, e.g. {placebo = {share = 0.5}, drug = {share = 0.5}}"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_attributes(cls, data: Any) -> Any:
        """Move attributes that only a learned population can know below ``attributes``."""
        if not isinstance(data, dict) or data.get("source", BRAIN) == BRAIN:
            return data
        parts: dict[str, type[RecipePart]] = {"where": WhereSpec, "targets": TargetsSpec}
        moved = {name: _move_unknown(data[name], part) for name, part in parts.items() if name in data}
        return {**data, **moved}

    @model_validator(mode="after")
    def _check_prevalence(self) -> PopulationSpec:
        labels = [wanted.label for wanted in self.prevalence]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"prevalence: '{label}' is given {labels.count(label)} times; give it once")
        if self.twins is not None and self.source != BRAIN:
            raise ValueError(f"twins: only '{BRAIN}' has them here; of other models, 'cohortium population twins' has")
        return self


def _move_unknown(given: Any, part: type[RecipePart]) -> Any:
    if not isinstance(given, dict) or not isinstance(given.get("attributes", {}), dict):
        return given
    own = {name: value for name, value in given.items() if name not in part.model_fields}
    kept = {name: value for name, value in given.items() if name not in own}
    return {**kept, "attributes": {**kept.get("attributes", {}), **own}} if own else given


class VisitsSpec(RecipePart):
    """Follow-up: ``share`` of the subjects come back ``count - 1`` times, about ``interval_years`` apart."""

    count: int = Field(
        1, strict=True, ge=1, le=20, description="visits of a subject with follow-up, the first included"
    )
    interval_years: float = Field(1.0, gt=0, le=30, description="mean time between visits")
    share: Probability = Field(1.0, description="share of the subjects that have follow-up visits")


class ImagingSpec(RecipePart):
    """Which images are made of each subject, and by which engine."""

    engine: str = Field("mri", description="name of the engine")
    model: str | None = Field(
        None,
        min_length=1,
        description="of learned engines: the model that draws, a shipped one's name, a folder, or models:/NAME@ALIAS",
    )
    contrasts: Annotated[tuple[str, ...], Unique] = Field(
        ("T1w",), min_length=1, description="contrasts or views; a model draws its own kind"
    )
    redraws: int | None = Field(
        None,
        strict=True,
        ge=0,
        le=20,
        description="of learned engines: how often an image that misses what was asked for is drawn again (default 2)",
    )
    resolution_mm: float = Field(2.0, description="isotropic voxel size in millimetres")
    snr: tuple[float, float] = Field((20.0, 60.0), description="range of the drawn white-matter signal-to-noise ratio")
    field_strength_t: float | None = Field(
        None,
        gt=0,
        le=7,
        description="of engine mri: the field in tesla that everybody is scanned at; default: their own",
    )
    protocol: dict[str, dict[str, float | tuple[float, float]]] = Field(
        {},
        description="of engine mri: parameters of a contrast, a value or [lowest, highest], e.g. {T1w = {te_ms = 3}}",
    )
    effects: dict[str, dict[str, float | tuple[float, float]]] = Field(
        {},
        description="of engine mri: what the scanner adds, e.g. {motion = {probability = 0.2}, slices = {}}",
    )
    anatomy: AnatomySpec = Field(AnatomySpec(), description="of engine mri: whose anatomy is rendered")
    pairs: Annotated[dict[str, dict[str, float | tuple[float, float]]], BeforeValidator(_read_pairs)] = Field(
        {},
        description="of engine mri: what each contrast is paired with, e.g. ['motion'] or {low-field = {snr = 8}}",
    )
    visits: VisitsSpec = Field(default_factory=VisitsSpec, description="follow-up")

    @model_validator(mode="after")
    def _check_snr(self) -> ImagingSpec:
        if not 2.0 <= self.snr[0] <= self.snr[1] <= 1000.0:
            raise ValueError(f"snr must be [lowest, highest] with 2 <= lowest <= highest <= 1000, got {list(self.snr)}")
        return self


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


def explain_problems(error: ValidationError, recipe: type[BaseModel]) -> list[str]:
    """Return a line for each problem of a recipe: the field, what was given, what is allowed."""
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        field = ".".join(location) or "recipe"
        if problem["type"] == "extra_forbidden":
            known = sorted(_known_keys(recipe, location[:-1]))
            hint = suggest_nearest(location[-1], known) or f" Known keys here: {', '.join(known)}."
            lines.append(f"  {field}: unknown key.{hint}")
        elif problem["type"] == "missing":
            lines.append(f"  {field}: required, but not given.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
            lines.append(f"  {field}: {message}{given}")
    return lines


def _known_keys(recipe: type[BaseModel], location: list[str]) -> set[str]:
    model = recipe
    for part in location:
        if part.isdecimal():
            continue  # a place in a list
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return set()
        model = inner[0]
    return set(model.model_fields)
