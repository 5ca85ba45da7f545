"""``cohortium release`` and ``cohortium withdraw``: signed decisions, what builds make of them, and what is refused."""

from __future__ import annotations

import json

import pytest

from catalog import commit_report, open_catalog
from synth.nouns import GateResult, Report

SIGNED = ("--by", "Ada Steward", "--reason", "lesions look wrong")


def look(home):
    with open_catalog(home) as catalog:
        row = catalog.sql("SELECT status, decision, reasons, decided_by FROM cohort_status").rows()[0]
        images = catalog.sql("SELECT count(*) FROM released_images").scalar()
        return (*row, images, catalog.sql("SELECT count(*) FROM releases").scalar())


RELEASED = ("released", "released", [], "gates", 18, 1)


def test_a_withdrawal_hides_at_once_and_outlasts_builds_until_a_person_undoes_it(
    small_build, small_copy, cohortium, here, prefect
):
    assert look(small_copy) == RELEASED
    done = cohortium("withdraw", "small", *SIGNED, "--home", small_copy, "--json")
    assert done.code == 0, done.err
    assert (done.json()["decision"], done.json()["decided_by"]) == ("withdrawn", "Ada Steward")
    assert done.json()["reasons"] == ["lesions look wrong"]
    withdrawn = ("refused", "withdrawn", ["lesions look wrong"], "Ada Steward", 0, 2)
    assert look(small_copy) == withdrawn
    assert here("withdraw", "small", *SIGNED, "--home", small_copy)[0] == 0
    assert look(small_copy) == withdrawn

    looser = small_copy / "looser.toml"
    looser.write_text(small_build.recipe.read_text() + "adherence_min = 0.5\n")
    built = cohortium("build", looser, "--home", small_copy, "--json", env=prefect)
    assert built.json()["status"] == "refused"
    assert look(small_copy)[1:4] == ("withdrawn", ["withdrawn by Ada Steward: lesions look wrong"], "gates")

    _, back, _ = here(
        "release", built.json()["cohort_id"], "--by", "Bob", "--reason", "they are right", "--home", small_copy
    )
    assert f"{small_build.cohort_id} is released by Bob: they are right" in back
    assert look(small_copy) == ("released", "released", [], "Bob", 18, 4)
    with open_catalog(small_copy) as catalog:
        row = catalog.sql("SELECT reasons, decided_at FROM releases ORDER BY release_number DESC LIMIT 1").rows()[0]
    assert row[0] == ["they are right"]
    assert row[1] is not None
    printed = cohortium("build", looser, "--home", small_copy)
    assert "released, 18 images" in printed.out
    assert "refused:" not in printed.out


def test_a_cohort_whose_gates_do_not_hold_cannot_be_released(small_copy, small_build, here):
    gate = GateResult("adherence.snr", 0.5, 0.95, False, "adherence.snr: 9 of 18 images within tolerance")
    commit_report(small_copy, Report(small_build.cohort_id, "a" * 64, {}, (gate,)))
    before = look(small_copy)
    assert before[1:4] == ("refused", [gate.reason], "gates")
    for extra in ((), ("--dry-run",)):
        code, out, err = here("release", "small", "--by", "Ada", "--reason", "fine", "--home", small_copy, *extra)
        assert (code, out) == (1, "")
        assert gate.reason in err
        assert "nobody can override them" in err
    assert look(small_copy) == before


@pytest.mark.parametrize(("command", "wanted"), [("release", "released"), ("withdraw", "withdrawn")])
def test_dry_run_says_what_would_be_and_changes_nothing(small_home, command, wanted, here):
    _, out, _ = here(command, "small", *SIGNED, "--home", small_home, "--dry-run")
    assert f"is released by gates; it would be {wanted}" in out
    _, out, _ = here(command, "small", *SIGNED, "--home", small_home, "--dry-run", "--json")
    assert json.loads(out)["would_be"] == wanted
    assert look(small_home) == RELEASED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("smal", *SIGNED), "Did you mean 'small'?"),
        (("small", "--by", " ", "--reason", "x"), "a person's name and a reason are needed"),
        (("small", "--by", "gates", "--reason", "x"), "'gates' is no person"),
        (("small", "--by", "Ada", "--reason", ""), "a person's name and a reason are needed"),
    ],
)
@pytest.mark.parametrize("command", ["release", "withdraw"])
def test_what_is_not_signed_or_not_there_is_refused(small_home, command, arguments, words, here):
    for extra in ((), ("--dry-run",)):
        code, out, err = here(command, *arguments, "--home", small_home, *extra)
        assert (code, out) == (1, "")
        assert words in err
    assert look(small_home) == RELEASED


def test_a_signature_is_required(small_home, here):
    assert here("release", "small", "--home", small_home, "--reason", "x")[0] == 2
    assert here("withdraw", "small", "--home", small_home, "--by", "Ada")[0] == 2
