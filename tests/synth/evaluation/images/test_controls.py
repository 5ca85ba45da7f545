"""Controls on features whose answer is known: independent normal draws, one to a patient."""

from __future__ import annotations

import numpy as np
import pytest

from synth.evaluation.images.bench import Bench, Features
from synth.evaluation.images.controls import check_duplicates, check_floor
from synth.evaluation.images.features.base import tell_nobody
from synth.evaluation.images.layout import Layout
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.seeds import stream


def make_bench(train: int, unseen: int, shift: float = 0.0) -> Bench:
    """Return a bench of normal draws in 8 dimensions; ``shift`` moves the second half of the unseen patients."""

    def make_set(name: str, count: int) -> ImageSet:
        return make_image_set(name, np.zeros((count, 2, 2)), {}, ())

    rng = stream(4, -1, -1, "test/controls")
    rows = {name: rng.normal(size=(count, 8)).astype(np.float32) for name, count in (("t", train), ("u", unseen))}
    sets = make_set("train", train), make_set("validation", 0), make_set("unseen", unseen)
    real = RealImages("normal", "0" * 64, *sets, Layout((2, 2), "absolute"))
    halves = stream(0, -1, -1, "images/controls/floor").permutation(unseen)
    moved = np.unique(sets[2].patient)[halves[unseen // 2 :]]
    rows["u"][np.isin(sets[2].patient, moved)] += shift
    features = {"pixels": Features("", rows["t"], rows["t"], rows["u"])}
    return Bench(sets[0], real, sets[2], features, 0, tell_nobody)


@pytest.mark.parametrize(("train", "unseen", "few"), [(200, 200, 20), (2000, 200, 20), (94, 46, 4), (30, 30, 3)])
def test_repeated_images_are_noticed_however_many_there_are(train: int, unseen: int, few: int) -> None:
    control = check_duplicates(make_bench(train, unseen))
    assert control.behaves, control.reason
    assert control.reason.startswith(f"{few} real images repeated 10 times: coverage ")


def test_what_cannot_be_measured_says_why() -> None:
    control = check_duplicates(make_bench(train=15, unseen=40))
    assert not control.behaves
    assert "coverage not measurable (there are images of 15" in control.reason


def test_the_floor_behaves_unless_the_unseen_patients_differ() -> None:
    assert check_floor(make_bench(100, unseen=200)).behaves
    assert not check_floor(make_bench(100, unseen=200, shift=1.0)).behaves
