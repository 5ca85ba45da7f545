"""A made-up scorecard with everything that can be in one, of pictures and of volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth.evaluation.document.about import read_about
from synth.evaluation.document.facts import Facts
from synth.evaluation.images.layout import Layout
from synth.evaluation.images.report import Control, ImageReport, Pair
from synth.evaluation.images.sets import ImageSet, RealImages, Unusable, make_image_set
from synth.evaluation.metric import Score
from synth.nouns import Attribute, GateResult
from synth.seeds import stream

SCHEMA = (
    Attribute("sex", "categorical"),
    Attribute("age_years", "integer", "years"),
    Attribute("findings", "set"),
)
SCORES = (
    Score("frechet_distance", 12.5, 10.1, 15.2, 3.1, "radiomics", images=40, detail={"biased": 18.25}),
    Score("frechet_distance", 0.8, 0.7, 0.9, 0.2, "encoder", images=40),
    Score("kernel_distance", -0.00002, -0.0004, 0.0005, 0.0001, "encoder", images=40),
    Score.missing("sliced_wasserstein", "radiomics needs at least 64 pixels a side", features="radiomics"),
    Score("precision", 0.81, 0.75, 0.86, 0.9, "encoder", images=40),
    Score("recall", 0.4, 0.31, 0.5, 0.88, "encoder", images=40),
    Score("vendi_score", 21.0, None, None, 33.0, "pixels", images=40),
    Score("ms_ssim_pairs", 0.35, 0.3, 0.4, 0.31, images=200),
    Score("usable_images", 0.95, 0.9, 0.99, images=42),
    Score("attribute_auc.sex=F", 0.91, 0.85, 0.95, 0.93, "encoder", images=40),
    Score.missing("attribute_correlation.age_years", "fewer than 10 patients have an age"),
    Score("utility_ratio.findings=Effusion", 0.93, 0.88, 0.99, 1.0, images=40),
    Score("copy_rate", 0.05, 0.02, 0.12, 0.001, images=40),
    Score("membership_domias_auc", 0.52, 0.44, 0.6, 0.5, "encoder", images=60),
    Score.missing("membership_loss_auc", "the generator was not given"),
    Score("gap.recall", 0.12, 0.0, 0.3, 0.05, "encoder", "sex", 18, detail={"lowest": "sex=M", "highest": "sex=F"}),
    Score("recall", 0.46, 0.3, 0.6, 0.86, "encoder", "sex=F", 22),
    Score("recall", 0.34, 0.2, 0.5, 0.91, "encoder", "sex=M", 18),
    Score("recall", 0.3, 0.1, 0.6, 0.9, "encoder", "sex=M,age_years=40-60", 9),
    Score.missing("recall", "only 3 images; 25 are needed", features="encoder", subgroup="age_years=0-20"),
)
CONTROLS = (
    Control("real_against_real", True, "the distance of two halves is within its interval of 0"),
    Control("planted_copies", True, "50 of 50 planted copies were found, 0 false alarms in 500"),
)
GATES = (
    GateResult("controls", 2.0, 2.0, True, "controls: every control behaves"),
    GateResult("recall", 0.4, 0.53, False, "recall: recall (encoder) is 0.4 (0.31 to 0.5); at least 0.53 is required"),
    GateResult("utility", float("nan"), float("nan"), True, "utility: not measurable (no labels); not required"),
    GateResult("membership", 0.52, 0.6, True, "membership: membership_domias_auc is 0.52; at most 0.6 is required"),
)
ABOUT = {
    "description": "Chest radiographs drawn by a flow model",
    "modality": "chest radiographs",
    "method": "A flow model trained on the training patients of the reference.",
    "intended_use": ["Teaching", "Benchmarks of classifiers"],
    "limits": ["No lateral views"],
    "licence": "https://creativecommons.org/licenses/by/4.0/",
    "command": "judge images.parquet --reference chest --seed 7",
    "evaluated_at": "2026-03-01T12:00:00+00:00",
    "software": {"python": "3.11"},
}


def draw_blobs(count: int, shape: tuple[int, ...], stage: str) -> np.ndarray:
    """Return images of one bright blob each, on a dark ground with noise."""
    rng = stream(3, -1, -1, stage)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    centres = rng.uniform(-0.5, 0.5, (count, len(shape)))
    blobs = [np.exp(-6 * ((grid - c.reshape(-1, *[1] * len(shape))) ** 2).sum(0)) for c in centres]
    return np.clip(np.stack(blobs) + rng.normal(0, 0.02, (count, *shape)), 0, 1).astype(np.float32)


def make_side(name: str, count: int, shape: tuple[int, ...]) -> ImageSet:
    attributes = {
        "sex": [("F", "M")[i % 2] for i in range(count)],
        "age_years": [None if i == 0 else 30 + i for i in range(count)],
        "findings": [["Effusion"] if i % 3 else [] for i in range(count)],
    }
    return make_image_set(name, draw_blobs(count, shape, name), attributes, SCHEMA)


@dataclass(frozen=True)
class MadeUp:
    """Everything that ``write_document`` takes."""

    report: ImageReport
    gates: tuple[GateResult, ...]
    images: ImageSet
    real: RealImages
    about: dict[str, Any] = field(default_factory=dict)

    def facts(self, public: bool = False) -> Facts:
        return Facts(self.report, self.gates, self.images, self.real, read_about(self.about), public)

    def change(self, about: dict[str, Any] | None = None, gates: Any = None, **report: Any) -> MadeUp:
        """Return another one with other fields of the report, other facts or gates."""
        return replace(
            self, report=replace(self.report, **report), about=self.about | (about or {}),
            gates=self.gates if gates is None else tuple(gates),
        )  # fmt: skip

    def passed(self) -> MadeUp:
        return self.change(gates=[gate for gate in self.gates if gate.passed])


def make_everything(shape: tuple[int, ...]) -> MadeUp:
    images = make_side("drawn", 12, shape)
    train, held = make_side("real-train", 10, shape), make_side("real-held", 8, shape)
    real = RealImages("chest", "ab" * 32, train, make_side("real-val", 4, shape), held, Layout(shape, "absolute"))
    closest = tuple(Pair(f"drawn-{i}", f"real-train-{i}", f"patient-of-{i}", 0.9 - 0.05 * i) for i in range(6))
    report = ImageReport(
        images_name="drawn chests", reference_name="chest", reference_fingerprint="ab" * 32, seed=7,
        layout={"shape": list(shape), "intensity": "absolute", "spacing_mm": None},
        counts={"images": 12, "train_patients": 10}, features={"encoder": "cd" * 32, "radiomics": "ef" * 32},
        scores=SCORES, controls=CONTROLS, copies=closest[:2], closest=closest,
        worst=("drawn-3", "drawn-4"), best=("drawn-5", "drawn-0", "gone"),
        unusable=(Unusable("a.png", "it has pixels that are not numbers."), Unusable("b.png", "empty.")),
        notes=("Ages of two images were missing.",), seconds={"features": 12.5, "copies": 200.0},
    )  # fmt: skip
    return MadeUp(report, GATES, images, real, dict(ABOUT))


@pytest.fixture(scope="session")
def pictures() -> MadeUp:
    return make_everything((24, 24))


@pytest.fixture(scope="session")
def volumes() -> MadeUp:
    return make_everything((12, 14, 10))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[MadeUp], dict[str, str]]:
    """Return a function that writes the documents and returns their texts by name."""
    from synth.evaluation.document.write import write_document

    def run(made: MadeUp) -> dict[str, str]:
        paths = write_document(tmp_path / "doc", made.report, made.gates, made.images, made.real, made.about)
        return {path.name: path.read_text(encoding="utf-8") for path in paths}

    return run
