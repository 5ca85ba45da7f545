"""The scores of synthetic images: what each one says, its range, which way is better, its cost and source."""

from __future__ import annotations

import math

from synth.evaluation.metric import Family, Goal, Metric, SevenC

INF = math.inf


def _list_metrics(
    family: Family, seven_c: SevenC, goal: Goal, low: float, high: float, rows: dict[str, tuple[str, str, str]]
) -> tuple[Metric, ...]:
    return tuple(
        Metric(name, family, goal, low, high, text, cost, source, seven_c)
        for name, (text, cost, source) in rows.items()
    )


_SAMPLE = "seconds for 10,000 images"
_TRAIN = "minutes: small networks are trained, several seeds each"
_DOMIAS = "van Breugel et al., AISTATS 2023"
_LIRA = (
    "Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022 (true positives at few false)"
)

IMAGE_METRICS = (
    *_list_metrics("fidelity", "congruence", "lower", 0.0, INF, {
        "frechet_distance": (
            "Frechet distance of Gaussians fitted to features, extrapolated to endless samples (FRD with radiomics).",
            _SAMPLE, "Heusel et al., NeurIPS 2017; extrapolation: Chong and Forsyth, CVPR 2020"),
        "sliced_wasserstein": (
            "Wasserstein-2 distance of features averaged over random directions, in standard deviations of the real.",
            _SAMPLE, "Bonneel et al., J Math Imaging Vis 2015"),
    }),
    *_list_metrics("fidelity", "congruence", "lower", -INF, INF, {
        "kernel_distance": (
            "Unbiased squared MMD with the cubic polynomial kernel (KID); 0 is equal.",
            _SAMPLE, "Binkowski et al., ICLR 2018"),
        "mmd_rbf": (
            "Unbiased squared MMD with a Gaussian kernel as wide as the median real distance; 0 is equal.",
            _SAMPLE, "Gretton et al., JMLR 2012"),
    }),
    *_list_metrics("diversity", "coverage", "higher", 0.0, INF, {
        "density": ("How many real neighbourhoods hold a synthetic image, over k; 1 is as real images do.",
                    _SAMPLE, "Naeem et al., ICML 2020"),
        "vendi_score": ("Effective number of different images: exponential entropy of the similarity matrix.",
                        _SAMPLE, "Friedman and Dieng, TMLR 2023"),
    }),
    *_list_metrics("diversity", "coverage", "higher", 0.0, 1.0, {
        "precision": ("Share of synthetic images that lie in a neighbourhood of a real one.",
                      _SAMPLE, "Kynkaanniemi et al., NeurIPS 2019"),
        "recall": ("Share of real images that lie in a neighbourhood of a synthetic one.",
                   _SAMPLE, "Kynkaanniemi et al., NeurIPS 2019"),
        "coverage": ("Share of real images whose neighbourhood holds a synthetic one.",
                     _SAMPLE, "Naeem et al., ICML 2020"),
        "attribute_coverage": ("Share of the reference's combinations of attribute values that occur.",
                               "milliseconds", "Zamzmi et al., Commun Eng 2025 (coverage)"),
    }),
    *_list_metrics("diversity", "coverage", "control", 0.0, 1.0, {
        "ms_ssim_pairs": ("Mean multi-scale structural similarity of random pairs; higher than real means sameness.",
                          "a millisecond a pair", "Wang et al., Asilomar 2003; Odena et al., ICML 2017"),
    }),
    *_list_metrics("adherence", "completeness", "higher", 0.0, 1.0, {
        "usable_images": ("Share of images that could be read: no NaN, not of one single value, right shape.",
                          "none", "by definition"),
    }),
    *_list_metrics("adherence", "constraint", "higher", 0.0, 1.0, {
        "measured_within": ("Share of images whose measured quantity lies within its tolerance of the request.",
                            "none: measured while rendering", "by definition"),
        "attribute_auc": (
            "AUC with which a classifier trained on real training patients finds the stated attribute in the images.",
            _SAMPLE, "by definition; the control is the same on real holdout patients"),
    }),
    *_list_metrics("adherence", "constraint", "higher", -1.0, 1.0, {
        "attribute_correlation": (
            "Correlation of a stated number with its prediction by a regression trained on real training patients.",
            _SAMPLE, "by definition; the control is the same on real holdout patients"),
    }),
    *_list_metrics("utility", "completeness", "higher", 0.0, 1.0, {
        "utility_real": ("Test AUC on real holdout patients of a network trained on real images.",
                         _TRAIN, "the control of all utility scores"),
        "utility_synthetic": ("The same, trained on synthetic images only (TSTR).", _TRAIN, "Esteban et al., 2017"),
        "utility_mixed": ("The same, trained on real and synthetic images together.", _TRAIN, "by definition"),
        "utility_pretrained": ("The same, trained on synthetic and then on real images.", _TRAIN, "by definition"),
        "utility_duplicated": ("The same, trained on real images repeated to the count of the mixed arm.",
                               _TRAIN, "the control of the mixed arm"),
        "utility_augmented": ("The same, from a given number of real patients with and without synthetic images.",
                              _TRAIN, "by definition; the control is the arm without"),
        "segmentation_real": ("Dice on real holdout masks of a network trained on real images.",
                              _TRAIN, "Dice, Ecology 1945"),
        "segmentation_synthetic": ("The same, trained on synthetic images only.", _TRAIN, "by definition"),
        "segmentation_mixed": ("The same, trained on real and synthetic images together.", _TRAIN, "by definition"),
        "segmentation_pretrained": ("The same, trained on synthetic and then on real images.",
                                    _TRAIN, "by definition"),
        "segmentation_duplicated": ("The same, trained on real images repeated to the count of the mixed arm.",
                                    _TRAIN, "the control of the mixed arm"),
    }),
    *_list_metrics("utility", "completeness", "higher", 0.0, INF, {
        "utility_ratio": ("utility_synthetic over utility_real.", _TRAIN, "by definition"),
    }),
    *_list_metrics("utility", "completeness", "higher", -1.0, 1.0, {
        "utility_gain": ("utility_mixed minus utility_duplicated: what synthetic images add beyond their number.",
                         _TRAIN, "by definition"),
    }),
    *_list_metrics("privacy", "compliance", "lower", 0.0, 1.0, {
        "copy_rate": ("Share of images that are altered copies of a training image; the threshold is calibrated.",
                      "minutes for 10,000 against 10,000", "Somepalli et al., CVPR 2023 (the question); docs"),
        "copied_patients": ("Share of training patients of whom an image was copied.", "as copy_rate", "by definition"),
        "membership_nearest_auc": ("AUC of telling training from holdout patients by the nearest synthetic image.",
                                   _SAMPLE, "Chen et al., GAN-Leaks, CCS 2020"),
        "membership_domias_auc": ("AUC of telling them apart by synthetic over reference density.", _SAMPLE, _DOMIAS),
        "membership_classifier_auc": ("AUC of telling them apart by a classifier of synthetic against real images.",
                                      _SAMPLE, "Hayes et al., LOGAN, PoPETs 2019"),
        "membership_loss_auc": ("AUC of telling them apart by the loss of the generator itself (diffusion, flow).",
                                "minutes: the generator is run", "Carlini et al., USENIX Security 2023"),
        "membership_nearest_tpr_01pct": ("Training patients found so when 0.1 % of others are accused.", "none", _LIRA),
        "membership_domias_tpr_01pct": ("Training patients found so when 0.1 % of others are accused.", "none", _LIRA),
        "membership_classifier_tpr_01pct": ("Training patients found so when 0.1 % of others are accused.",
                                            "none", _LIRA),
        "membership_loss_tpr_01pct": ("Training patients found so when 0.1 % of others are accused.", "none", _LIRA),
        "reidentification_auc": (
            "AUC of telling training from holdout patients by their other images: who is recognised in synthetic ones.",
            _SAMPLE, "Packhaeuser et al., Sci Rep 2022 (the threat)"),
    }),
    *_list_metrics("privacy", "compliance", "zero", -1.0, 1.0, {
        "attribute_inference_gap": (
            "How much better a secret attribute of training patients is guessed from synthetic images than of others.",
            _SAMPLE, "Stadler et al., USENIX Security 2022"),
    }),
    *_list_metrics("fairness", "consistency", "control", 0.0, INF, {
        "representation": (
            "Share of a subgroup among the images over its share in the reference; 1 is as in the reference.",
            "none", "Katz et al., Biometrics 1978 (interval)"),
    }),
    *_list_metrics("fairness", "consistency", "lower", 0.0, INF, {
        "gap": ("Largest difference of a score between subgroups of one attribute, or of their intersections.",
                "none", "by definition; the control is the gap of real images"),
        "utility_gap": ("Largest difference of a task's AUC on real holdout patients between subgroups.",
                        "none", "Larrazabal et al., PNAS 2020"),
    }),
)  # fmt: skip
