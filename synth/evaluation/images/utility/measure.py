"""Utility of synthetic images: how well networks trained on them, alone or with real ones, read real holdout images.

Every arm trains networks of the same design for the same number of steps, so that arms differ in their data alone; one
network answers all tasks. A score is the mean AUC over seeds, its interval resamples holdout patients and seeds, and
differences between arms are taken on the same resampled patients.
"""

from __future__ import annotations

from dataclasses import replace

from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.evaluation.images.tasks import find_tasks
from synth.evaluation.images.utility.arms import train_arms
from synth.evaluation.images.utility.plan import collect_answers, explain_nothing, plan_study
from synth.evaluation.images.utility.scores import UtilityResult, score_arms, score_curves
from synth.evaluation.images.utility.settings import UtilitySettings
from synth.evaluation.metric import Score


def measure_utility(
    synthetic: ImageSet,
    real: RealImages,
    *,
    seed: int,
    settings: UtilitySettings | None = None,
    tell: Tell = tell_nobody,
) -> UtilityResult:
    """Return the utility scores of ``synthetic`` for all yes-no tasks that the real training patients answer.

    What cannot be measured has a score with the reason, and every arm that can be trained is trained.
    """
    settings = settings or UtilitySettings()
    asked = find_tasks(real.train, settings.least_patients) if len(real.train) else ()
    tasks = tuple(task for task in asked if task.kind == "binary")
    reason = explain_nothing(synthetic, real, tasks, settings)
    if reason:
        return UtilityResult([Score.missing(name, reason) for name in _list_names(settings)])
    study = plan_study(synthetic, real, tasks, seed, settings)
    predictions = train_arms(study.phases, study.holdout, seed, settings, tell)
    answers = collect_answers(real.holdout, tasks)
    found = UtilityResult([], tasks, answers, real.holdout.patient, predictions, study.reasons, seed)
    return replace(found, scores=[*score_arms(found, settings.arms), *score_curves(found, study.points)])


def _list_names(settings: UtilitySettings) -> list[str]:
    names = [*settings.arms, "ratio", "gain"] + (["augmented"] if settings.real_patients else [])
    return [f"utility_{name}" for name in names]
