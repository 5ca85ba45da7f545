"""The scorecard: every family of scores of a set of images against a reference, with four controls, in one report.

1. Images, training patients and unseen patients (validation and holdout) are brought to features.
2. Fidelity and diversity compare the images with unseen patients, for all and by subgroup; the control of each score
   is the same score of real training images.
3. Adherence, utility, privacy and fairness follow; whatever cannot be measured says why.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from synth.errors import PermanentError, suggest_nearest
from synth.evaluation.images.adherence import Judges, measure_adherence
from synth.evaluation.images.bench import Bench, explain_too_few, make_bench
from synth.evaluation.images.comparing import (
    attach_controls,
    compare_sides,
    explain_few,
    measure_attribute_coverage,
    measure_sameness,
)
from synth.evaluation.images.controls import check_duplicates, check_floor
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.features.registry import FeatureSettings
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.metrics import IMAGE_METRICS
from synth.evaluation.images.privacy.family import Privacy, measure_privacy
from synth.evaluation.images.privacy.losses import Losses
from synth.evaluation.images.quality.diversity import measure_ms_ssim
from synth.evaluation.images.quality.neighbours import nearest_neighbours
from synth.evaluation.images.report import Control, ImageReport
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.evaluation.images.subgroups import Subgroup, find_subgroups, measure_gaps, measure_representation
from synth.evaluation.images.tasks import find_tasks
from synth.evaluation.images.utility.measure import measure_utility
from synth.evaluation.images.utility.scores import measure_utility_gaps
from synth.evaluation.images.utility.settings import UtilitySettings
from synth.evaluation.metric import Family, Score
from synth.evaluation.ranks import Interval

FAMILIES: tuple[Family, ...] = get_args(Family)
FEATURES = ("encoder", "radiomics", "pixels")
Utility = Literal["off", "quick", "full"]
SHOWN = 12  # best, and worst, images
TYPICAL_NEIGHBOURS = 5


@dataclass(frozen=True)
class ScorecardSettings:
    """What is measured. ``features`` are names or ``file:PATH``, made as ``encoding`` says.

    Trained encoders are kept in ``folder`` for the next time; ``losses`` are those of the generator, if it is at hand.
    """

    features: tuple[str, ...] = FEATURES
    families: tuple[str, ...] = FAMILIES
    utility: Utility | UtilitySettings = "quick"
    seed: int = 0
    folder: Path | None = None
    encoding: FeatureSettings = field(default_factory=FeatureSettings)
    losses: Losses | None = None


def check_settings(settings: ScorecardSettings) -> None:
    """Raise PermanentError for a family or a way of measuring utility that does not exist, or without features."""
    for given, known, what in (
        (settings.families, FAMILIES, "family"),
        ((settings.utility,) if isinstance(settings.utility, str) else (), get_args(Utility), "utility"),
    ):
        for name in given:
            if name not in known:
                raise PermanentError(
                    f"there is no {what} '{name}'; use {', '.join(known)}.{suggest_nearest(name, known)}"
                )
    if not settings.features:
        raise PermanentError(f"no features were given; use some of {', '.join(FEATURES)}, or an encoder's file.")


def evaluate_images(
    images: ImageSet,
    real: RealImages,
    settings: ScorecardSettings | None = None,
    tell: Tell = tell_nobody,
    measured: Sequence[Score] = (),
) -> ImageReport:
    """Return the scorecard of ``images`` against ``real``; ``measured`` are scores that are known already.

    Raises PermanentError for settings that do not exist and for encoder files that cannot be used.
    """
    settings = settings or ScorecardSettings()
    check_settings(settings)
    run = _Run(images, real, settings, tell)
    run.scores += [*measured, _measure_usable(images)]
    reason = explain_too_few(images, real)
    if reason:
        run.leave_out(reason)
    else:
        run.compare()
    return run.report()


class _Run:
    """One evaluation: collects scores, controls, pairs and the time that steps take."""

    def __init__(self, images: ImageSet, real: RealImages, settings: ScorecardSettings, tell: Tell) -> None:
        self.images, self.real, self.settings, self.tell = images, real, settings, tell
        self.scores: list[Score] = []
        self.controls: list[Control] = []
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self.privacy: Privacy | None = None
        self.bench: Bench | None = None
        self.worst: tuple[str, ...] = ()
        self.best: tuple[str, ...] = ()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take the time of a step, and say that it began."""
        self.tell(name, 0, 1)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def wants(self, *families: Family) -> bool:
        """Return whether one of these families was asked for."""
        return any(family in self.settings.families for family in families)

    def compare(self) -> None:
        """Measure all that was asked for."""
        settings, real = self.settings, self.real
        with self.step("features"):
            bench = make_bench(
                self.images, real, settings.features, settings.encoding, settings.folder, settings.seed, self.tell
            )
        self.bench = bench
        subgroups = find_subgroups(bench.unseen, self.images) if self.wants("fairness") else ()
        for family in ("fidelity", "diversity"):
            if self.wants(family):
                with self.step(family):
                    self.scores += compare_sides(bench, family, subgroups)
        if self.wants("diversity"):
            with self.step("diversity of pixels"):
                self.scores += [measure_sameness(bench), measure_attribute_coverage(self.images, real.train)]
        if self.wants("adherence"):
            with self.step("adherence"):
                self.scores += _measure_attributes(bench, subgroups)
        if self.wants("privacy"):
            with self.step("privacy"):
                self.privacy = measure_privacy(bench, subgroups, settings.losses)
                self.scores += self.privacy.scores
                self.controls += self.privacy.controls
        if self.wants("utility") and settings.utility != "off":
            with self.step("utility"):
                self.measure_utility(subgroups)
        if self.wants("fairness"):
            self.scores += measure_gaps(self.scores, subgroups)
            self.scores += measure_representation(subgroups, bench.unseen, self.images)
        with self.step("controls"):
            self.controls = [check_floor(bench), check_duplicates(bench), *self.controls]
        self.worst, self.best = _rank_typical(bench)

    def measure_utility(self, subgroups: Sequence[Subgroup]) -> None:
        """Train networks on the images and test them on real patients."""
        wanted = self.settings.utility
        settings = wanted if isinstance(wanted, UtilitySettings) else UtilitySettings.preset(wanted)
        found = measure_utility(self.images, self.real, seed=self.settings.seed, settings=settings, tell=self.tell)
        self.scores += found.scores
        if self.wants("fairness"):
            masks = {group.name: group.mask(self.real.holdout) for group in subgroups}
            self.scores += measure_utility_gaps(found, masks)

    def leave_out(self, reason: str) -> None:
        """Note that nothing can be compared; what needs no reference is measured all the same."""
        self.notes.append(f"Nothing could be compared with the reference: {reason}.")
        done = {score.name.partition(".")[0] for score in self.scores}
        if self.wants("diversity") and len(self.images) >= 2:
            with self.step("diversity of pixels"):
                self.scores.append(measure_ms_ssim(self.images, seed=self.settings.seed))
                done.add("ms_ssim_pairs")
        wanted = [m for m in IMAGE_METRICS if m.family in self.settings.families and m.name not in done]
        self.scores += [Score.missing(metric.name, reason) for metric in wanted]
        self.controls = [Control(name, False, f"not measurable: {reason}") for name in ("real_floor", "planted_copies")]

    def report(self) -> ImageReport:
        """Return the report of what was measured."""
        real, bench, privacy = self.real, self.bench, self.privacy
        layout = {**asdict(real.layout), "shape": list(real.layout.shape)}
        return ImageReport(
            images_name=self.images.name,
            reference_name=real.name,
            reference_fingerprint=real.fingerprint,
            seed=self.settings.seed,
            layout=layout,
            counts=_count(self.images, real),
            features={name: found.fingerprint for name, found in bench.features.items()} if bench else {},
            scores=tuple(self.scores),
            controls=tuple(self.controls),
            copies=privacy.copies if privacy else (),
            closest=privacy.closest if privacy else (),
            worst=self.worst,
            best=self.best,
            unusable=self.images.unusable,
            notes=tuple(self.notes),
            seconds=self.seconds,
        )


def _measure_usable(images: ImageSet) -> Score:
    given = len(images) + len(images.unusable)
    if not given:
        return Score.missing("usable_images", "there are no images")
    share = len(images) / given
    return Score.of("usable_images", Interval(share, share, share), control=1.0, images=given)


def _measure_attributes(bench: Bench, subgroups: Sequence[Subgroup]) -> list[Score]:
    """Return the adherence of stated attributes in the leading features, with unseen real patients as control."""
    features = bench.leading
    found = bench.features[features]
    judges = Judges(find_tasks(bench.real.train), bench.real.train, found.train)

    def measure(images: ImageSet, rows: Floats32, subgroup: str = "") -> list[Score]:
        return measure_adherence(judges, images, rows, kind=features, seed=bench.seed, subgroup=subgroup)

    scores = attach_controls(measure(bench.images, found.images), measure(bench.unseen, found.unseen))
    for group in subgroups:
        sides = []
        for images, rows in ((bench.images, found.images), (bench.unseen, found.unseen)):
            members = np.flatnonzero(group.mask(images))
            sides.append((images.select(members), rows[members]))
        reason = explain_few(len(sides[0][0]), len(sides[1][0]), group.name)
        if reason:
            names = [score.name for score in scores if not score.subgroup]
            scores += [Score.missing(name, reason, features=features, subgroup=group.name) for name in names]
            continue
        own, control = (measure(*side, group.name) for side in sides)
        scores += attach_controls(own, control)
    return scores


def _rank_typical(bench: Bench) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the images farthest from, and closest to, their nearest unseen real ones; copies left aside."""
    found = bench.features[bench.leading]
    _, distances = nearest_neighbours(found.images, found.unseen, TYPICAL_NEIGHBOURS)
    order = np.argsort(distances.mean(axis=1), kind="stable")
    ids = bench.images.image_ids
    shown = min(SHOWN, len(ids) // 2)
    return tuple(ids[i] for i in order[::-1][:shown]), tuple(ids[i] for i in order[:shown])


def _count(images: ImageSet, real: RealImages) -> dict[str, int]:
    """Return how many images and patients there are on each side."""
    sides = {"images": images, "train": real.train, "validation": real.validation, "holdout": real.holdout}
    counts = {name: len(side) for name, side in sides.items()}
    patients = {f"{name}_patients": len(np.unique(side.patient)) for name, side in sides.items()}
    return {**counts, **patients, "unusable": len(images.unusable)}
