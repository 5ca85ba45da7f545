from __future__ import annotations

from pathlib import Path

import pytest

from synth.errors import SpecError
from synth.evaluation.images.report import Control, ImageReport
from synth.evaluation.metric import Score
from synth.evaluation.metrics import METRICS
from synth.evaluation.policy import Policy, apply_policy, list_policies, load_policy

HOLDS = (Control("floor", True, "as it should"),)


def make_report(*scores: Score, controls: tuple[Control, ...] = HOLDS) -> ImageReport:
    empty: tuple = ()
    return ImageReport(
        "a", "b", "0" * 64, 0, {}, {}, {}, scores, controls, empty, empty, empty, empty, empty, empty, {}
    )


def make_policy(**gate: object) -> Policy:
    return Policy.model_validate({"name": "p", "gate": [{"name": "g", **gate}]})


def outcome(policy: Policy, *scores: Score) -> tuple[bool, str]:
    gate = apply_policy(policy, make_report(*scores))[1]
    return gate.passed, gate.reason


@pytest.mark.parametrize("name", list_policies())
def test_shipped_policies_load_and_say_why(name: str) -> None:
    policy = load_policy(name)
    assert policy.name == name
    assert all(gate.why.endswith(".") for gate in policy.gate)
    covered = {
        METRICS[m].family for g in policy.gate for m in METRICS if g.metric.partition(".")[0] in (m, "membership_*_auc")
    }
    assert {"fidelity", "diversity", "adherence", "utility", "privacy", "fairness"} - covered <= {"fidelity"}


@pytest.mark.parametrize(
    ("limit", "value", "control", "passed"),
    [
        ({"at_least": 0.5}, 0.5, None, True),
        ({"at_least": 0.5}, 0.49, None, False),
        ({"at_most": 0.5}, 0.51, None, False),
        ({"at_least_of_control": 0.5}, 0.41, 0.8, True),
        ({"at_least_of_control": 0.5}, 0.39, 0.8, False),
        ({"at_most_of_control": 2.0}, 0.3, 0.1, False),
        ({"control_minus": 0.1}, 0.71, 0.8, True),
        ({"control_minus": 0.1}, 0.69, 0.8, False),
        ({"control_plus": 0.1}, 0.91, 0.8, False),
    ],
)
def test_limits(limit: dict, value: float, control: float | None, passed: bool) -> None:
    policy = make_policy(metric="precision", **limit)
    assert outcome(policy, Score("precision", value, control=control))[0] is passed


def test_interval_gives_the_benefit_of_the_doubt_in_the_right_direction() -> None:
    score = Score("precision", 0.4, low=0.3, high=0.6)
    assert outcome(make_policy(metric="precision", at_least=0.5, judge="interval"), score)[0]
    assert not outcome(make_policy(metric="precision", at_least=0.61, judge="interval"), score)[0]
    assert outcome(make_policy(metric="precision", at_most=0.31, judge="interval"), score)[0]
    assert not outcome(make_policy(metric="precision", at_most=0.29, judge="interval"), score)[0]


def test_the_worst_score_decides_and_is_named() -> None:
    policy = make_policy(metric="attribute_auc.*", at_least=0.7)
    passed, reason = outcome(policy, Score("attribute_auc.view=PA", 0.9), Score("attribute_auc.sex=F", 0.6))
    assert not passed
    assert "attribute_auc.sex=F is 0.6" in reason
    assert "0.7" in reason


def test_subgroups_are_judged_only_when_asked_for() -> None:
    scores = Score("precision", 0.9), Score("precision", 0.1, subgroup="sex=F")
    assert outcome(make_policy(metric="precision", at_least=0.5), *scores)[0]
    assert not outcome(make_policy(metric="precision", at_least=0.5, subgroup="*"), *scores)[0]


def test_missing_scores_fail_only_where_they_are_required() -> None:
    missing = Score.missing("copy_rate", "the reference is too small")
    passed, reason = outcome(make_policy(metric="copy_rate", at_most=0.1), missing)
    assert passed
    assert "too small" in reason
    for scores in ((missing,), ()):
        assert not outcome(make_policy(metric="copy_rate", at_most=0.1, missing="fail"), *scores)[0]


@pytest.mark.parametrize("controls", [(), (*HOLDS, Control("planted", False, "none found"))])
def test_controls_that_do_not_behave_or_are_missing_fail(controls: tuple[Control, ...]) -> None:
    gate = apply_policy(make_policy(metric="precision", at_least=0), make_report(controls=controls))[0]
    assert not gate.passed


def test_overrides_change_the_hash_and_name_unknown_gates() -> None:
    policy = load_policy()
    other = policy.override({"precision": {"at_least_of_control": 0.1}})
    assert other.content_hash != policy.content_hash
    assert policy.override({}).content_hash == policy.content_hash
    with pytest.raises(SpecError, match="precision"):
        policy.override({"precison": {"at_least": 0.1}})
    with pytest.raises(SpecError, match="no limit"):
        policy.override({"precision": {"at_least_of_control": None}})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('name = "x"', "gate"),
        ('name = "x"\n[[gate]]\nname = "g"\nmetric = "precison"\nat_least = 1', "precision"),
        ('name = "x"\n[[gate]]\nname = "g"\nmetric = "precision"', "no limit"),
        ('name = "x"\n' + '[[gate]]\nname = "g"\nmetric = "precision"\nat_least = 1\n' * 2, "twice"),
        ('name = "x"\n[[gate]]\nname = "g"\nmetric = "precision"\nat_lest = 1', "gate.1.at_lest: .*'at_least'"),
        ("name = ", "TOML"),
    ],
)
def test_bad_policies_are_refused(text: str, match: str, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(SpecError, match=match):
        load_policy(file)


def test_unknown_policy_lists_the_shipped_ones() -> None:
    with pytest.raises(SpecError, match="default"):
        load_policy("strictest")
