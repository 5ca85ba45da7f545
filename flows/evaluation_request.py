"""What is judged against what, and how: one evaluation as it was asked for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.source_images import Choice
from synth.evaluation.images.scorecard import FAMILIES, ScorecardSettings
from synth.evaluation.policy import Policy
from synth.references.plan import Budget, Options


@dataclass(frozen=True)
class EvaluationRequest:
    """What is judged against what, and how. ``images`` is a path, a cohort, or ``reference:NAME/SPLIT``."""

    images: str
    reference: str
    policy: Policy
    settings: ScorecardSettings
    choice: Choice = field(default_factory=Choice)
    options: Options = field(default_factory=Options)
    budget: Budget = field(default_factory=Budget)
    output: Path | None = None

    def describe(self) -> dict[str, Any]:
        """Return what was asked for as plain JSON values, without paths."""
        chosen = self.settings
        return {
            "images": Path(self.images).name if "/" in self.images and ":" not in self.images else self.images,
            "reference": self.reference,
            "features": [_name_features(name) for name in chosen.features],
            "families": list(chosen.families),
            "utility": chosen.utility,
            "kind": self.choice.kind,
            "limit": self.choice.limit,
            "seed": chosen.seed,
            "patient": self.options.patient,
            "image": self.options.image,
            "attributes": None if self.options.attributes is None else list(self.options.attributes),
        }

    @property
    def is_whole(self) -> bool:
        """Whether all images are judged in all families; a part of that decides about no cohort."""
        return self.choice.limit is None and set(self.settings.families) == set(FAMILIES)

    @property
    def command(self) -> str:
        """The command line that repeats the evaluation."""
        asked = self.describe()
        words = ["cohortium", "evaluate", str(asked["images"]), "--reference", self.reference]
        words += ["--features", ",".join(asked["features"]), "--families", ",".join(asked["families"])]
        words += ["--utility", asked["utility"], "--seed", str(asked["seed"])]
        words += [
            f"--{name}={asked[name]}" for name in ("kind", "limit", "patient", "image") if asked[name] is not None
        ]
        return shlex.join(words)


def _name_features(name: str) -> str:
    """Return features without the path of their file."""
    kind, colon, path = name.partition(":")
    return f"{kind}:{Path(path).name}" if colon else name
