"""The scores of synthetic records: what each one says, its range, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping

from synth.evaluation.metric import Family, Goal, Metric, SevenC

_SOURCES = {
    "fidelity": "Lopez-Paz and Oquab, ICLR 2017 (classifier two-sample test); others by definition",
    "privacy": "van Breugel et al., Membership inference attacks against synthetic data, AISTATS 2023 (density)",
}


def _list_metrics(
    family: Family, descriptions: Mapping[str, str], goal: Goal = "lower", low: float = 0.0, high: float = 1.0
) -> tuple[Metric, ...]:
    seven_c: SevenC = "compliance" if family == "privacy" else "congruence"
    return tuple(
        Metric(name, family, goal, low, high, text, "seconds", _SOURCES[family], seven_c)
        for name, text in descriptions.items()
    )


RECORD_METRICS = (
    *_list_metrics(
        "fidelity",
        {
            "classifier_auc": "AUC of a classifier that tells synthetic from real rows; its folds split rows.",
            "classifier_auc_by_patient": "The same with folds that split patients: 0.5 for real against real.",
            "set_variation": "Total variation distance between the distributions of whole label sets.",
            "marginal_variation": "Total variation distance of one column or label, numbers in bands.",
            "marginal_variation_mean": "The same, averaged over columns and labels.",
            "pairwise_variation": "Total variation distance of two columns together, averaged over all pairs.",
            "pairwise_variation_worst": "Total variation distance of two columns together, for the worst pair.",
        },
    ),
    *_list_metrics(
        "fidelity",
        {
            "correlation_error": "Largest absolute difference between entries of the two Pearson correlation matrices.",
            "association_error": "Distance of p(a, b) - p(a) p(b), real against synthetic, averaged over all pairs.",
        },
        high=2.0,
    ),
    *_list_metrics(
        "fidelity",
        {
            "prevalence_coverage": "Share of label x cell prevalences within the 95 % interval of the holdout's.",
            "prevalence_coverage_informative": "The same where 5 rows with and without the label are expected.",
            "prevalence_coverage_train": "Share of label x cell prevalences within the 95 % interval of training's.",
            "prevalence_coverage_train_informative": "The same where 5 rows with and without it are expected.",
        },
        goal="higher",
    ),
    *_list_metrics(
        "fidelity",
        {
            "prevalence_z": "Root mean square informative prevalence difference from holdout, in errors: 1 is even.",
            "prevalence_z_train": "The same from the training patients.",
        },
        high=math.inf,
    ),
    *_list_metrics(
        "fidelity",
        {
            "visits_ks": "Kolmogorov-Smirnov distance of the number of visits of a patient.",
            "visits_variation": "Total variation distance of the number of visits of a patient, 30 and more together.",
            "span_ks": "Kolmogorov-Smirnov distance of a number's last minus first value, patients of several visits.",
            "decrease_error": "Difference in the share of steps to the next visit on which a number goes down.",
            "static_violation": "Share of patients of several visits in whom what must not change does.",
            "transition_error": "Total variation distance of the next visit's category given this one's, weighted.",
            "persistence_error": "Absolute difference of P(label on the next visit | label now).",
            "persistence_error_mean": "The same averaged over labels, weighted by how often the real one could stay.",
            "onset_error": "Absolute difference of P(label on the next visit | label absent now).",
            "onset_error_mean": "The same averaged over labels.",
        },
    ),
    *_list_metrics(
        "privacy",
        {
            "row_exact_train": "Share of synthetic rows equal in every attribute to a row of a training patient.",
            "row_exact_holdout": "The same for as many holdout patients.",
            "row_near_train": "Share of synthetic rows within Gower distance 0.02 of a row of a training patient.",
            "row_near_holdout": "The same for as many holdout patients.",
            "patient_near_train": "Share of synthetic patients within Gower distance 0.02 of a training patient.",
            "patient_near_holdout": "The same for as many holdout patients.",
            "sequence_exact_train": "Share of synthetic patients of several visits that equal a training patient.",
            "sequence_exact_holdout": "The same for as many holdout patients.",
            "membership_distance_auc": "AUC of telling training from holdout patients by the closest synthetic one.",
            "membership_density_auc": "AUC of telling them apart by synthetic over reference density (DOMIAS).",
            "membership_sequence_auc": "AUC of telling them apart by the rarity of leading visits that came out.",
            "membership_distance_tpr_1pct": "Training patients found by distance when 1 % of others are accused.",
            "membership_density_tpr_1pct": "Training patients found by density when 1 % of others are accused.",
            "membership_sequence_tpr_1pct": "Training patients found by sequence when 1 % of others are accused.",
            "membership_distance_tpr_01pct": "Training patients found by distance when 0.1 % of others are accused.",
            "membership_density_tpr_01pct": "Training patients found by density when 0.1 % of others are accused.",
            "membership_sequence_tpr_01pct": "Training patients found by sequence when 0.1 % of others are accused.",
        },
    ),
    *_list_metrics(
        "privacy",
        {
            "row_exact_gap": "row_exact_train minus row_exact_holdout; above zero, training rows are repeated.",
            "row_near_gap": "row_near_train minus row_near_holdout.",
            "patient_near_gap": "patient_near_train minus patient_near_holdout.",
            "sequence_exact_gap": "sequence_exact_train minus sequence_exact_holdout.",
        },
        goal="zero",
        low=-1.0,
    ),
    *_list_metrics("privacy", {"planted_found": "How many planted, unique records came out."}, high=math.inf),
)
