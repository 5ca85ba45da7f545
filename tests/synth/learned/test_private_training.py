"""Private training: the budget is kept, the noise is what the accountant counts, and an audit can refute a lie."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from opacus.accountants import RDPAccountant
from scipy import stats

from synth.errors import ModelError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import make_generator
from synth.evaluation.images.sets import join_sets
from synth.evaluation.ranks import Floats
from synth.learned.audit import Audit, audit_losses, audit_model, bound_epsilon, mark_canaries, plant_canaries
from synth.learned.conditions import declare_conditions, list_rows
from synth.learned.families import find_family
from synth.learned.networks import draw_weights
from synth.learned.private_training import PrivacyPlan, PrivateSteps, plan_privacy
from synth.learned.recipe import PrivacySpec
from synth.learned.training import train_model
from synth.seeds import stream
from tests.synth.learned.faces import draw_faces
from tests.synth.learned.test_training import make_spec

PUBLIC = {"sex": ("F", "M"), "age_years": (0.0, 100.0), "findings": ("dot", "line")}


def make_plan(steps: int = 200, epsilon: float = 3.0, patients: int = 400) -> PrivacyPlan:
    spec = make_spec(steps=steps).model_copy(update={"privacy": PrivacySpec(epsilon=epsilon, delta=1e-4)})
    return plan_privacy(spec, patients)


def test_all_steps_together_spend_what_was_asked_for_and_fewer_spend_less() -> None:
    plan = make_plan()
    assert plan.rate == 16 / 400
    assert 2.9 < plan.spend(200) <= 3.0
    assert plan.spend(100) < plan.spend(200)
    assert plan.spend(0) == 0.0
    accountant = RDPAccountant()
    for _ in range(200):
        accountant.step(noise_multiplier=plan.noise, sample_rate=plan.rate)
    assert plan.spend(200) == pytest.approx(accountant.get_epsilon(1e-4), rel=0.02)


def test_a_delta_that_gives_a_patient_away_is_refused() -> None:
    spec = make_spec().model_copy(update={"privacy": PrivacySpec(epsilon=1.0, delta=0.01)})
    with pytest.raises(ModelError, match=r"delta: 0.01 must be below one over the 400 patients"):
        plan_privacy(spec, 400)


def make_steps(network: torch.nn.Module, noise: float, rate: float, clip: float, patient: list[int]) -> PrivateSteps:
    plan = PrivacyPlan(PrivacySpec(epsilon=1, delta=1e-5, clip=clip), rate, noise, max(patient) + 1)
    optimiser = torch.optim.SGD(network.parameters(), 1.0)
    return PrivateSteps(network, optimiser, plan, np.asarray(patient), 1, 7, "cpu")


def test_the_gradient_of_one_image_is_clipped_and_images_of_a_patient_do_not_add_up() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    steps = make_steps(network, 0.0, 1.0, 0.5, [0, 0, 0, 1])
    values = torch.tensor([100.0, 100.0, 100.0, -0.1])
    seen = []

    def measure(model: torch.nn.Module, places: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(places)
        return (model(values[places, None]) * 1.0)[:, 0]

    steps.advance(measure)
    assert len(seen[0]) == 2  # one image of each patient
    assert float(network.weight.detach()) == pytest.approx(-(0.5 - 0.1), abs=1e-4)


def test_the_noise_has_the_deviation_that_is_accounted_for_and_patients_are_taken_by_chance() -> None:
    network = torch.nn.Linear(2000, 1, bias=False)
    steps = make_steps(network, 2.0, 0.3, 0.5, list(range(50)))
    sizes = []

    def measure(model: torch.nn.Module, places: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        sizes.append(len(places))
        return model(torch.zeros(len(places), 2000))[:, 0]

    before = network.weight.detach().clone()
    steps.advance(measure)
    assert float((network.weight.detach() - before).std()) == pytest.approx(2.0 * 0.5, rel=0.08)
    for _ in range(40):
        steps.advance(measure)
    taken = sum(sizes)
    assert stats.binom.sf(abs(taken - 615) - 1 + 615, 41 * 50, 0.3) > 1e-4
    assert len(set(sizes)) > 1


def test_an_empty_step_only_adds_noise() -> None:
    network = torch.nn.Linear(100, 1, bias=False)
    before = network.weight.detach().clone()
    make_steps(network, 1.0, 0.0, 1.0, [0, 1]).advance(lambda *_: torch.zeros(0))
    assert float((network.weight.detach() - before).std()) > 0.5


def test_the_bound_is_the_binomial_one() -> None:
    assert bound_epsilon(50, 100, 150, 1e-6) == 0.0
    found = bound_epsilon(90, 100, 150, 1e-6)
    assert stats.binom.sf(89, 100, 1 / (1 + math.exp(-found))) == pytest.approx(0.05, abs=1e-3)
    assert bound_epsilon(90, 100, 150, 1e-3) == 0.0  # a delta that large explains anything


def test_an_audit_refutes_a_model_that_knows_its_members_and_not_one_that_does_not() -> None:
    rng = stream(0, -1, -1, "test/audit")
    _, member = mark_canaries(np.zeros((120, 8, 8), np.float32), 5)
    assert 40 < member.sum() < 80
    knows = audit_losses(rng.standard_normal(120) - 4.0 * member, member, 1e-6)
    assert knows.contradicts(1.0)
    assert not knows.contradicts(50.0)
    refuted = [audit_losses(rng.standard_normal(120), member, 1e-6).epsilon_low > 0 for _ in range(200)]
    assert np.mean(refuted) < 0.1


def test_canaries_are_marked_each_in_its_own_way() -> None:
    marked, _ = mark_canaries(np.full((4, 10, 12), 0.5, np.float32), 5)
    assert marked.shape == (4, 10, 12)
    assert np.abs(marked[0] - marked[1]).max() > 0.4
    assert np.array_equal(marked, mark_canaries(np.full((4, 10, 12), 0.5, np.float32), 5)[0])


def test_a_canary_is_a_patient_with_one_marked_image_or_left_out() -> None:
    images = draw_faces(90)
    twice = join_sets("twice", [images, images])
    planted, canaries = plant_canaries(twice, 24, 1e-5, 7)
    members = int(canaries.member.sum())
    assert 0 < members < 24
    assert len(planted) == 2 * (90 - 24) + members
    assert len(set(planted.patient.tolist())) == 90 - 24 + members
    inside = [
        bool((np.abs(planted.images(slice(None)) - one).max(axis=(1, 2)) < 1e-4).any()) for one in canaries.images
    ]
    assert inside == canaries.member.tolist()
    assert not any(np.array_equal(a, b) for a, b in zip(canaries.images, canaries.others, strict=True))
    again, _ = plant_canaries(twice, 24, 1e-5, 7)
    assert np.array_equal(again.stored, planted.stored)
    assert not np.array_equal(plant_canaries(twice, 24, 1e-5, 8)[1].images, canaries.images)


def test_a_model_that_knows_its_canaries_is_found_out_and_one_that_does_not_is_not() -> None:
    planted, canaries = plant_canaries(draw_faces(300), 60, 1e-6, 7)
    seen = planted.images(slice(None))

    def remember(images: Floats32, seed: int) -> Floats:
        return np.asarray([np.abs(seen - one).mean(axis=(1, 2)).min() for one in images])

    knows = audit_model(remember, canaries, 1e-6)
    assert knows.right > 0.9 * knows.guesses
    assert 1.0 < knows.epsilon_low <= knows.epsilon_most < 3.0
    blind = audit_model(lambda images, seed: np.asarray(images.std(axis=(1, 2)), float), canaries, 1e-6)
    assert blind.epsilon_low < 0.5


def test_audits_that_could_show_nothing_are_refused() -> None:
    with pytest.raises(ModelError, match="canaries: 24 of 60 patients are too many, a third at most"):
        plant_canaries(draw_faces(60), 24, 1e-5, 0)
    with pytest.raises(
        ModelError, match=r"delta: with 0.002 and 24 canaries no audit could show anything.* below 0.001"
    ):
        plant_canaries(draw_faces(90), 24, 2e-3, 0)


def test_what_can_be_asked_of_a_private_model_is_public_and_not_learned(tmp_path: Path) -> None:
    images = draw_faces(90)
    code = declare_conditions(images, list(PUBLIC), PUBLIC)
    assert [(c.attribute.name, c.values, c.low, c.high) for c in code.conditions] == [
        ("sex", ("F", "M"), 0.0, 0.0), ("age_years", (), 0.0, 100.0), ("findings", ("dot", "line"), 0.0, 0.0),
    ]  # fmt: skip
    narrow = declare_conditions(images, ["age_years"], {"age_years": (30.0, 40.0)})
    assert all(row["age_years"] is None or 30 <= row["age_years"] <= 40 for row in list_rows(images, narrow))
    for wrong, message in (
        ({"age_years": ("F", "M")}, "'age_years' is a number"),
        ({"sex": (0.0, 1.0)}, "'sex' is a categorical attribute; list its values"),
        ({"sex": ()}, "list its values"),
    ):
        with pytest.raises(ModelError, match=message):
            declare_conditions(images, list(wrong), wrong)  # type: ignore[arg-type]
    spec = make_spec("gaussian").model_copy(update={"privacy": PrivacySpec(epsilon=8.0, delta=1e-3, public=PUBLIC)})
    with pytest.raises(ModelError, match="family 'gaussian' is fitted without noise"):
        train_model(spec, images, tmp_path, secret=1)


def test_a_network_of_the_flow_family_can_be_trained_privately() -> None:
    spec = make_spec()
    family = find_family("flow")
    network = family.make_network(spec.architecture, (16, 16), 3)
    draw_weights(network, make_generator(0, "test"))
    steps = make_steps(network, 1.0, 0.5, 1.0, list(range(8)))
    signal = torch.randn(8, 1, 16, 16, generator=make_generator(1, "test"))

    def measure(model: torch.nn.Module, places: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return family.measure_loss(model, signal[places], torch.zeros(len(places), 3), generator)

    before = [parameter.detach().clone() for parameter in network.parameters()]
    assert math.isfinite(steps.advance(measure))
    assert all(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_private_training_goes_from_recipe_to_model_and_says_what_it_spent(tmp_path: Path) -> None:
    spec = make_spec(steps=4).model_copy(update={"privacy": PrivacySpec(epsilon=8.0, delta=1e-3, public=PUBLIC)})
    images = draw_faces(60)
    with pytest.raises(ModelError, match="needs a secret"):
        train_model(spec, images, tmp_path / "none")
    first, second = (train_model(spec, images, tmp_path / str(n), secret=n) for n in (1, 2))
    assert first.privacy is not None
    facts = first.privacy.describe(first.steps, Audit(7.0, 16, 16, 24, 7.0))
    assert 7.5 < facts["epsilon"] <= 8.0
    assert facts["patients"] == 60
    assert facts["audit"]["epsilon_low"] == 7.0
    with pytest.raises(ModelError, match=r"the audit contradicts the accounts: 16 of 16 guesses about 24 canaries"):
        first.privacy.describe(first.steps, Audit(8.1, 16, 16, 24, 9.0))
    pairs = zip(first.generator.network.parameters(), second.generator.network.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
