"""What is trained for utility scores, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from synth.errors import PermanentError, suggest_nearest

ARMS = ("real", "synthetic", "mixed", "pretrained", "duplicated")
LEAST_HOLDOUT = 5  # patients of each answer, or of each subgroup and answer


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How one network is trained. ``size`` is the pixels along the longest side, ``batch`` the images of a step.

    ``size_3d`` and ``batch_3d`` are those of volumes. ``bfloat16`` saves a third of the time of segmentation on
    processors that have it, and next to nothing in classification.
    Images are moved by up to ``shift`` of their width, turned by up to ``degrees``, and get a gamma of up to
    exp(``gamma``) or its inverse. ``flip`` mirrors half of them: off, as the side of a body carries meaning.
    """

    steps: int = 600
    batch: int = 64
    size: int = 64
    size_3d: int = 32
    batch_3d: int = 16
    widths: tuple[int, ...] = (8, 16, 32, 64)
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    shift: float = 0.06
    degrees: float = 7.0
    gamma: float = 0.3
    zoom: float = 0.1
    flip: bool = False
    device: str = "cpu"
    bfloat16: bool = False


@dataclass(frozen=True, slots=True)
class UtilitySettings:
    """What is trained. ``real_patients`` are the points of the augmentation curves before that of all patients.

    A task needs ``least_patients`` patients of each answer to be trained on (``least_subset`` at those points) and
    ``least_holdout`` to be tested on. ``workers`` networks are trained at a time, a thread each.
    """

    training: TrainingSettings = field(default_factory=TrainingSettings)
    arms: tuple[str, ...] = ARMS
    seeds: int = 3
    real_patients: tuple[int, ...] = (100, 300)
    least_patients: int = 10
    least_subset: int = 3
    least_holdout: int = LEAST_HOLDOUT
    workers: int = 2

    def __post_init__(self) -> None:
        for name in self.arms:
            if name not in ARMS:
                raise PermanentError(f"there is no arm '{name}'; use {', '.join(ARMS)}.{suggest_nearest(name, ARMS)}")
        if min(self.seeds, self.workers) < 1:
            raise PermanentError(f"{self.seeds} seeds and {self.workers} workers were given; use 1 or more of each.")

    @classmethod
    def preset(cls, name: str) -> UtilitySettings:
        """Return the settings called ``name``; raises PermanentError with those there are."""
        if name not in PRESETS:
            raise PermanentError(f"there is no preset '{name}'; use {', '.join(PRESETS)}.")
        return PRESETS[name]


PRESETS = {
    "full": UtilitySettings(),
    "quick": UtilitySettings(
        TrainingSettings(steps=150, size=32),
        arms=("real", "synthetic", "mixed", "duplicated"),
        real_patients=(),
    ),
}
