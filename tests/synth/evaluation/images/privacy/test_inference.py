"""Inference of attributes: a secret that came with a copied image is told; what anybody could guess does not count."""

from __future__ import annotations

import numpy as np
import pytest

from synth.evaluation.images.privacy.inference import (
    AttributeGuess,
    Described,
    guess_attributes,
    scale_block,
    score_guess,
)
from synth.evaluation.images.sets import make_image_set
from synth.evaluation.images.sides import Side
from synth.evaluation.images.tasks import find_tasks
from synth.evaluation.metrics import find_metric
from synth.nouns import Attribute
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import People, copy_images, draw_people, draw_side

SCHEMA = (Attribute("secret", "categorical"), Attribute("age_years", "continuous", "years"))


def describe(side: Side, secret: np.ndarray, age: np.ndarray | None = None) -> Described:
    ages = np.full(len(side), 50.0) if age is None else age
    names = [f"p{number}" for number in side.patient]
    values = {"secret": np.where(secret, "yes", "no").tolist(), "age_years": ages.tolist()}
    return Described(make_image_set("made-up", np.zeros((len(side), 1, 1)), values, SCHEMA, names), side)


def toss(count: int, seed: int) -> np.ndarray:
    return stream(seed, -1, -1, "test/secret").random(count) < 0.5


def guess_secret(people: People, synthetic: Described, train: Described, unseen: Described) -> AttributeGuess:
    tasks = [task for task in find_tasks(train.images) if task.attribute == "secret"]
    (found,) = guess_attributes(synthetic, train, unseen, people.targets, tasks, "made-up")
    return found


@pytest.fixture(scope="module")
def people() -> People:
    return draw_people(200, 140, 40, seed=1)


def test_a_secret_that_no_image_shows_is_told_of_copied_patients(people: People) -> None:
    secret = toss(len(people.train), 1)
    train, unseen = describe(people.train, secret), describe(people.unseen, toss(len(people.unseen), 2))
    copies = describe(copy_images(people.train, 1), np.tile(secret, 3))
    score = score_guess(guess_secret(people, copies, train, unseen))
    assert score.name.startswith("attribute_inference_gap.secret=")
    assert find_metric(score.name).goal == "zero"
    assert score.value == pytest.approx(0.5, abs=0.12)
    assert score.low is not None
    assert score.low > 0.25
    assert score.detail["auc_members"] > 0.95


def test_what_holds_of_everybody_is_no_leak() -> None:
    """The secret shows in every image: guesses are good, and as good of others. One interval in twenty may miss 0."""
    missed = 0
    for seed in range(12):
        people = draw_people(160, 120, 40, seed=seed)
        sides = [people.train, people.unseen, draw_side(250, 900 + seed)]
        train, unseen, synthetic = (describe(side, side.features[:, 0] > 0) for side in sides)
        score = score_guess(guess_secret(people, synthetic, train, unseen), seed=seed)
        assert score.detail["auc_others"] > 0.8
        assert score.low is not None
        assert score.high is not None
        missed += not score.low <= 0 <= score.high
    assert missed <= 3


def test_other_attributes_help_the_attacker(people: People) -> None:
    """The secret is the age's parity of decades: no image tells it, the known age does."""
    rng = stream(3, -1, -1, "test/age")
    ages = [rng.uniform(20, 90, len(side)) for side in (people.train, people.unseen)]
    synthetic = draw_side(900, 8)
    own = rng.uniform(20, 90, len(synthetic))
    found = guess_secret(
        people, describe(synthetic, own > 55, own),
        *(describe(side, age > 55, age) for side, age in zip((people.train, people.unseen), ages, strict=True)),
    )  # fmt: skip
    assert score_guess(found).detail["auc_others"] > 0.85
    blind = guess_secret(
        people, describe(synthetic, own > 55),
        *(describe(side, age > 55) for side, age in zip((people.train, people.unseen), ages, strict=True)),
    )  # fmt: skip
    assert score_guess(blind).detail["auc_others"] < 0.7


def test_interval_joins_two_areas(people: People) -> None:
    secret = toss(len(people.train), 1)
    train, unseen = describe(people.train, secret), describe(people.unseen, toss(len(people.unseen), 2))
    guess = guess_secret(people, describe(draw_side(80, 3), toss(80, 3)), train, unseen)
    score = score_guess(guess, control=guess)
    assert score.value == pytest.approx(score.detail["auc_members"] - score.detail["auc_others"])
    assert score.control == score.value
    assert score.low is not None
    assert score.high is not None
    spread = np.sqrt(2 * (1 / 12) * 2 / 50)  # of the difference of two areas of 0.5, 50 yes and 50 no each
    assert score.high - score.low == pytest.approx(2 * 1.96 * spread / np.sqrt(2), rel=0.35)


def test_subgroups_and_few_answers(people: People) -> None:
    secret = toss(len(people.train), 1)
    train, unseen = describe(people.train, secret), describe(people.unseen, toss(len(people.unseen), 2))
    guess = guess_secret(people, describe(copy_images(people.train, 1), np.tile(secret, 3)), train, unseen)
    half = guess.find_images(np.arange(0, 200, 2), np.arange(0, 140, 2))
    assert 0.3 < half.mean() < 0.7
    assert (score_guess(guess, half, "sex=F").value or 0) > 0.2
    few = score_guess(guess, guess.find_images(np.arange(12), np.arange(140)), "sex=X")
    assert few.value is None
    assert "10 of each are needed" in few.reason


def test_synthetic_images_without_the_answer_say_so(people: People) -> None:
    train = describe(people.train, toss(len(people.train), 1))
    unseen = describe(people.unseen, toss(len(people.unseen), 2))
    side = draw_side(60, 4)
    same = guess_secret(people, describe(side, np.ones(60, bool)), train, unseen)
    assert "one and the same answer" in same.reason
    silent = Described(make_image_set("s", np.zeros((60, 1, 1))), side)
    found = guess_secret(people, silent, train, unseen)
    assert "no answer" in found.reason
    assert score_guess(found).value is None


def test_blocks_have_one_variance_and_missing_values_their_mean() -> None:
    rng = stream(6, -1, -1, "test")
    learned = (rng.standard_normal((500, 3)) * [1, 10, 0]).astype(np.float32)
    asked = np.array([[np.nan, 5, 1]], np.float32)
    kept, _ = scale_block(learned, asked, each=False)
    even, moved = scale_block(learned, asked, each=True)
    assert kept.shape == even.shape == (500, 2), "a constant column tells nothing"
    for found in (kept, even):
        assert (found**2).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)
    assert even.std(axis=0) == pytest.approx([np.sqrt(0.5)] * 2, abs=1e-5)
    assert kept[:, 1].std() / kept[:, 0].std() == pytest.approx(10, rel=0.2)
    assert moved[0, 0] == 0
