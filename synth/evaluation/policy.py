"""Policies: which scores must hold before images are released. TOML -> frozen, validated, with a content hash."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synth.errors import SpecError, suggest_nearest
from synth.evaluation.images.report import ImageReport
from synth.evaluation.metric import Score
from synth.evaluation.metrics import METRICS
from synth.nouns import GateResult

SHIPPED = Path(__file__).with_name("policies")
DEFAULT = "default"
Model = TypeVar("Model", bound=BaseModel)
_LIMITS = ("at_least", "at_most", "at_least_of_control", "at_most_of_control", "control_minus", "control_plus")


class PolicyGate(BaseModel):
    """One gate: which scores it looks at, and one or more limits; ``control`` limits are relative to the control."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="name of the gate, for reasons and overrides", min_length=1)
    metric: str = Field(description="score or pattern, e.g. 'precision' or 'attribute_auc.*'")
    features: str = Field("*", description="features or pattern, e.g. 'encoder'")
    subgroup: str = Field("", description="subgroup or pattern; empty: all images together")
    at_least: float | None = Field(None, description="lowest value allowed")
    at_most: float | None = Field(None, description="highest value allowed")
    at_least_of_control: float | None = Field(None, description="lowest allowed ratio to the control")
    at_most_of_control: float | None = Field(None, description="highest allowed ratio to the control")
    control_minus: float | None = Field(None, description="how far below the control the score may be")
    control_plus: float | None = Field(None, description="how far above the control the score may be")
    judge: Literal["value", "interval"] = Field(
        "value", description="value: the estimate decides; interval: fails only if the whole 95 % interval is beyond"
    )
    missing: Literal["fail", "ignore"] = Field("ignore", description="what a score that is not measurable means")
    why: str = Field("", description="what the gate protects from, in a sentence")

    @model_validator(mode="after")
    def _check_limits(self) -> PolicyGate:
        if all(getattr(self, limit) is None for limit in _LIMITS):
            raise ValueError(f"gate '{self.name}' has no limit; give one of {', '.join(_LIMITS)}")
        metric = self.metric.partition(".")[0]
        if not any(fnmatchcase(name, metric) for name in METRICS):
            raise ValueError(f"gate '{self.name}': there is no metric '{metric}'.{suggest_nearest(metric, METRICS)}")
        return self

    def concerns(self, score: Score) -> bool:
        """Return whether the gate looks at this score."""
        pairs = ((score.name, self.metric), (score.features, self.features), (score.subgroup, self.subgroup))
        return all(fnmatchcase(text, pattern) for text, pattern in pairs)


class Policy(BaseModel):
    """Gates with a name. ``content_hash`` is stored with every decision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name of the policy")
    description: str = Field("", description="whom it is for, in a sentence")
    gate: tuple[PolicyGate, ...] = Field(description="the gates")

    @model_validator(mode="after")
    def _check_names(self) -> Policy:
        names = [gate.name for gate in self.gate]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each gate needs its own name; given twice: {', '.join(twice)}")
        return self

    @property
    def content_hash(self) -> str:
        """SHA-256 of the gates."""
        gates = [gate.model_dump(mode="json") for gate in self.gate]
        return hashlib.sha256(json.dumps(gates, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def override(self, changes: Mapping[str, Mapping[str, Any]]) -> Policy:
        """Return the policy with other limits of some gates, by gate name.

        Raises SpecError if there is no such gate or the change is not allowed; a gate cannot be removed.
        """
        known = {gate.name: gate for gate in self.gate}
        for name, change in changes.items():
            if name not in known:
                raise SpecError(
                    f"policy '{self.name}' has no gate '{name}'; its gates are {', '.join(known)}."
                    + suggest_nearest(name, known)
                )
            known[name] = _validate(PolicyGate, {**known[name].model_dump(), **change}, f"gate '{name}'")
        return self.model_copy(update={"gate": tuple(known.values())})


def list_policies() -> list[str]:
    """Return the names of the shipped policies."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_policy(path: Path | str | None = None) -> Policy:
    """Return the policy of a TOML file, or a shipped one by name; the default one without an argument.

    Raises SpecError if there is none or it is not a policy.
    """
    file = Path(path) if path is not None else Path(DEFAULT)
    if not file.suffix and file.name in list_policies():
        file = SHIPPED / f"{file.name}.toml"
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"policy '{path}' cannot be read: {error}. Give a TOML file, or one of {', '.join(list_policies())}."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"policy '{path}' is not valid TOML: {error}.") from error
    return _validate(Policy, data, f"policy '{path}'")


def parse_policy(data: Any, where: str = "policy") -> Policy:
    """Return the policy that ``data`` holds, as TOML gives it; raises SpecError, naming ``where``, if it is none."""
    return _validate(Policy, data, where)


def apply_policy(policy: Policy, report: ImageReport) -> tuple[GateResult, ...]:
    """Return what each gate says of a report. The first gate is that the controls behave: otherwise nothing is proven.

    A gate that several scores concern shows the worst of them.
    """
    bad = [control for control in report.controls if not control.behaves]
    reason = "every control behaves" if not bad else "; ".join(f"{c.name} misbehaves: {c.reason}" for c in bad)
    if not report.controls:
        reason = "no control was run"
    held = len(report.controls) - len(bad)
    controls = GateResult("controls", float(held), float(max(1, len(report.controls))),
                          bool(report.controls) and not bad, f"controls: {reason}")  # fmt: skip
    return (controls, *(_apply_gate(gate, report) for gate in policy.gate))


def _apply_gate(gate: PolicyGate, report: ImageReport) -> GateResult:
    scores = [score for score in report.scores if gate.concerns(score)]
    limits = [limit for limit in _LIMITS if getattr(gate, limit) is not None]
    outcomes = [_judge(gate, limit, score) for score in scores if score.value is not None for limit in limits]
    judged = [outcome for outcome in outcomes if outcome is not None]
    missing = [score for score in scores if score.value is None]
    if gate.missing == "fail" and (missing or not scores):
        first = f"{_name(missing[0])}: {missing[0].reason}" if missing else "it was not computed"
        return GateResult(gate.name, math.nan, math.nan, False, f"{gate.name}: not measurable ({first})")
    if not judged:
        why = missing[0].reason if missing else "it was not computed, or has no control"
        return GateResult(gate.name, math.nan, math.nan, True, f"{gate.name}: not measurable ({why}); not required")
    passed, _, value, threshold, text = min(judged, key=lambda outcome: (outcome[0], outcome[1]))
    return GateResult(gate.name, value, threshold, passed, f"{gate.name}: {text}")


def _judge(gate: PolicyGate, limit: str, score: Score) -> tuple[bool, float, float, float, str] | None:
    """Return (passed, room left relative to the threshold, value, threshold, sentence), or None without a control."""
    bound = float(getattr(gate, limit))
    if "control" in limit:
        if score.control is None:
            return None
        control = score.control
        shifted = {"control_minus": control - bound, "control_plus": control + bound}
        bound = shifted.get(limit, bound * control)
    at_least = limit in ("at_least", "at_least_of_control", "control_minus")
    value = float(score.value if score.value is not None else math.nan)
    edge = value
    if gate.judge == "interval":
        kind = score.high if at_least else score.low
        edge = value if kind is None else float(kind)
    room = (edge - bound if at_least else bound - edge) / max(abs(bound), 1e-12)
    word = "at least" if at_least else "at most"
    text = f"{_name(score)} is {value:.4g}{_describe_interval(score)}; {word} {bound:.4g} is required"
    return room >= 0, room, value, bound, text


def _name(score: Score) -> str:
    where = [part for part in (score.features, score.subgroup) if part]
    return f"{score.name} ({', '.join(where)})" if where else score.name


def _describe_interval(score: Score) -> str:
    return "" if score.low is None or score.high is None else f" ({score.low:.4g} to {score.high:.4g})"


def _validate(model: type[Model], data: Any, where: str) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [f"  {_explain(dict(problem))}" for problem in error.errors()]
        raise SpecError(f"{where} cannot be used:\n" + "\n".join(lines)) from error


def _explain(problem: Mapping[str, Any]) -> str:
    """Return where a problem is and what is allowed there; places of gates count from 1."""
    *above, key = problem["loc"] or ("policy",)
    field = ".".join(str(part + 1 if isinstance(part, int) else part) for part in (*above, key))
    if problem["type"] == "extra_forbidden":
        known = (PolicyGate if above else Policy).model_fields
        hint = suggest_nearest(str(key), known) or f" Known keys here: {', '.join(known)}."
        return f"{field}: unknown key.{hint}"
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"
