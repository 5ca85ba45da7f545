"""Recipes of training: every shipped one can be used, mistakes are named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth.errors import SpecError
from synth.learned.families import FAMILIES
from synth.learned.recipe import load_train_spec, parse_train_spec

SHIPPED = sorted((Path(__file__).parents[3] / "flows/specs/train").glob("*.toml"))
SHORTEST = 'name = "a"\nreference = "r"\nshape = [32, 32]\n'


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_can_be_used(path: Path) -> None:
    spec = load_train_spec(path)
    assert spec.name == path.stem
    assert spec.architecture.name in FAMILIES


def test_the_hash_is_of_what_decides_the_weights() -> None:
    spec = parse_train_spec(SHORTEST)
    same = parse_train_spec(SHORTEST.replace('"a"', '"b"') + "[sampler]\nsteps = 3")
    other = parse_train_spec(SHORTEST + "[training]\nsteps = 3")
    assert spec.content_hash == same.content_hash != other.content_hash


def test_a_recipe_keeps_its_hash_when_recipes_learn_more_words() -> None:
    assert parse_train_spec(SHORTEST).content_hash.startswith("d482a05f430152963db9a0ff7bd60f50")
    latent = parse_train_spec(SHORTEST + "[architecture]\nname = 'latent-flow'\nchannels = [16]\nautoencoder = {}")
    assert latent.content_hash != parse_train_spec(SHORTEST).content_hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not valid TOML"),
        ("name = 'a'\nshape = [8, 8]", "reference: required"),
        (SHORTEST + "[training]\nstep = 3", r"training.step: unknown key. Did you mean 'steps'"),
        (SHORTEST + "[training]\nbatch = 10\naccumulate = 3", "a batch of 10 cannot be cut into 3 equal parts"),
        (SHORTEST.replace("32, 32", "30, 32"), "must be a multiple of 8"),
        (SHORTEST.replace("32, 32", "4, 4"), "must have 8 pixels a side"),
        (SHORTEST.replace("32, 32", "100000, 100000"), "in all at most"),
        (SHORTEST + "[architecture]\nchannels = [60]", "must be a multiple of 16"),
        (SHORTEST + "[privacy]\nepsilon = 0\ndelta = 1e-5", "greater than 0"),
        (SHORTEST + "[few_steps]\nsteps = 0", "greater than or equal to 1"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_train_spec(text)
