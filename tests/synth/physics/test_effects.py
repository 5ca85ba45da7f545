"""Drawing of effects: what is in the row, what recipes may ask, and what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synth.errors import SpecError
from synth.physics.effects import EFFECTS
from synth.physics.effects.chain import apply_effects, draw_effects, find_spoilt
from synth.physics.relaxation import RELAXATION
from synth.plan import plan_cohort
from synth.spec import parse_spec
from tests.synth.physics.effects.ellipsoid import phantom, scene

# -------------------------------------------------------------------------------------------------- drawing and recipes

ALL: dict[str, dict[str, float | tuple[float, float]]] = {name: {} for name in EFFECTS}


def test_everything_that_is_drawn_is_in_the_row_and_the_row_alone_gives_the_image() -> None:
    drawn = draw_effects(ALL, 1, 2, 0, "T1w", 3.0)
    assert list(drawn) == list(EFFECTS)
    for name, values in drawn.items():
        assert set(values) >= set(EFFECTS[name].parameters)
    row = json.loads(json.dumps(drawn, sort_keys=True, allow_nan=False))
    np.testing.assert_array_equal(
        apply_effects(phantom(), row, scene(0.02)), apply_effects(phantom(), drawn, scene(0.02))
    )
    assert draw_effects(ALL, 1, 2, 0, "T1w", 3.0) == drawn


def test_an_effect_does_not_change_the_draws_of_another_and_shared_ones_are_the_visit_s() -> None:
    drawn = draw_effects(ALL, 1, 2, 0, "T1w", 3.0)
    for name in EFFECTS:
        assert draw_effects({name: {}}, 1, 2, 0, "T1w", 3.0) == {name: drawn[name]}
        again = draw_effects({name: {}}, 1, 2, 0, "FLAIR", 3.0)[name] == drawn[name]
        assert again == EFFECTS[name].shared
    asked = draw_effects({"ghosts": {"every": 3.0}}, 1, 2, 0, "T1w", 3.0)["ghosts"]
    assert asked == {**drawn["ghosts"], "every": 3.0}


def test_probability_is_the_share_of_scans() -> None:
    struck = [bool(draw_effects({"spikes": {"probability": 0.3}}, 1, n, 0, "T1w", 3.0)) for n in range(400)]
    assert np.mean(struck) == pytest.approx(0.3, abs=0.06)
    assert draw_effects({}, 1, 2, 0, "T1w", 3.0) == {}
    assert find_spoilt({"slices": {}, "gibbs": {}}) == {"snr"}


REFUSED = [
    ("ghost = {}", "imaging.effects: 'ghost' is unknown to engine 'mri'; choose from ['transmit',"),
    ("ghost = {}", "Did you mean 'ghosts'?"),
    ("ghosts = { ever = 2 }", "imaging.effects.ghosts.ever: unknown parameter. Did you mean 'every'? Known: every,"),
    ("ghosts = { every = 1 }", "imaging.effects.ghosts.every: 1 is impossible for the n; allowed is 2 to 12."),
    (
        "slices = { thickness_mm = -5 }",
        "slices.thickness_mm: -5 is impossible for the slice thickness; allowed is 1 to 10",
    ),
    (
        "motion = { probability = 1.5 }",
        "probability: 1.5 is impossible for the share of the scans that have it; allowed is 0",
    ),
    ("motion = { events = [4, 2] }", "imaging.effects.motion.events: [4, 2] must be [lowest, highest]"),
    ("undersampling = { sense = 1 }", "undersampling.sense: 1 needs several coils in every scan, at least 2; add"),
    ("undersampling = { sense = 1 }\ncoils = { probability = 0.5 }", "needs several coils in every scan"),
    (
        "undersampling = { sense = 1, acceleration = 4 }\ncoils = { count = 3 }",
        "at least 4; add effects.coils with count",
    ),
]


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_impossible_effects_are_refused_naming_field_value_and_range(line: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan_cohort(parse_spec(f'name = "t"\nsubjects = 2\n[imaging.effects]\n{line}\n'))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_are_described_and_usual_ranges_lie_within_what_may_be_asked(name: str) -> None:
    assert len(EFFECTS[name].description.split()) >= 3
    for parameter in EFFECTS[name].parameters.values():
        for tesla in RELAXATION:
            usual = parameter.usual_range(tesla)
            assert usual is not None
            assert parameter.lowest <= usual[0] <= usual[1] <= parameter.highest


def test_the_page_lists_every_effect_and_its_parameters() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "mri-effects.md").read_text(encoding="utf-8")
    for name, effect in EFFECTS.items():
        assert f"| `{name}` | {', '.join(effect.parameters)} |" in page
