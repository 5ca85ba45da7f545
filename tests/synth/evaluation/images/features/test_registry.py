"""The registry of features: one contract for all of them, and the folder in which encoders are kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synth.errors import PermanentError
from synth.evaluation.images.features.base import FeatureExtractor, compute_features
from synth.evaluation.images.features.encoder_files import WEIGHTS_FILE, encoder_key, save_encoder
from synth.evaluation.images.features.encoder_lessons import EncoderSettings
from synth.evaluation.images.features.encoder_training import fit_encoder
from synth.evaluation.images.features.local_encoders import FileSettings
from synth.evaluation.images.features.registry import FEATURES, FeatureSettings, default_features, make_extractor
from synth.evaluation.images.layout import Layout
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.seeds import stream

SETTINGS = FeatureSettings(
    EncoderSettings(size=12, widths=(4, 8), embedding=8, steps=3, batch=8), FileSettings(size=12, channels=1)
)
PAGE = Path(__file__).resolve().parents[5] / "docs" / "evaluation" / "features.md"


def make_real(dimensions: int, train: int = 32) -> RealImages:
    shape = (14,) * dimensions
    rng = stream(dimensions, -1, -1, "test/features")
    sides = [
        make_image_set(
            name, np.clip(rng.random((count, 1, *shape[1:])) * 0.5 + rng.random((count, *shape)) * 0.5, 0, 1)
        )
        for name, count in (("train", train), ("validation", 10), ("holdout", 9))
    ]
    return RealImages("made", "0" * 64, *sides, Layout(shape, "absolute"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[2, 3], ids=["pictures", "volumes"])
def real(request: pytest.FixtureRequest) -> RealImages:
    return make_real(request.param)


@pytest.fixture(scope="module", params=[*FEATURES, "file:FOLDER"])
def extractor(
    request: pytest.FixtureRequest, real: RealImages, tmp_path_factory: pytest.TempPathFactory
) -> FeatureExtractor:
    name: str = request.param
    dimensions = len(real.train.shape)
    if name == "file:PATH":
        path = tmp_path_factory.mktemp("script") / "net.pt"
        layer = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dimensions](1, 4, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.trace(layer, torch.zeros(1, 1, *[12] * dimensions)).save(str(path))
        name = f"file:{path}"
    elif name == "file:FOLDER":
        folder = tmp_path_factory.mktemp("own")
        save_encoder(fit_encoder(real, SETTINGS.encoder), folder)
        name = f"file:{folder}"
    return make_extractor(name, real, SETTINGS)


class TestContract:
    """What every kind of features keeps, in 2D and in 3D."""

    def test_shape_and_numbers(self, extractor: FeatureExtractor, real: RealImages) -> None:
        found = compute_features(extractor, real.holdout)
        assert found.shape == (len(real.holdout), extractor.dimensions)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert extractor.dimensions > 1
        assert found.std(axis=0).max() > 0

    def test_an_image_has_its_features_in_any_block(self, extractor: FeatureExtractor, real: RealImages) -> None:
        images = real.holdout.images(slice(None))
        together = extractor.extract(images)
        for places in ([0], [3, 1], [8, 7, 6, 5, 4]):
            np.testing.assert_allclose(extractor.extract(images[places]), together[places], atol=1e-5)

    def test_repeats_itself(self, extractor: FeatureExtractor, real: RealImages) -> None:
        images = real.holdout.images(slice(None))
        np.testing.assert_array_equal(extractor.extract(images), extractor.extract(images))

    def test_black_and_white_images_give_numbers(self, extractor: FeatureExtractor, real: RealImages) -> None:
        for value in (0.0, 1.0):
            assert np.isfinite(extractor.extract(np.full((2, *real.train.shape), value, np.float32))).all()

    def test_is_named(self, extractor: FeatureExtractor) -> None:
        assert extractor.name.partition(":")[0] in {name.partition(":")[0] for name in FEATURES}
        assert len(extractor.fingerprint) == 64


@pytest.mark.parametrize("name", ["pixels", "radiomics", "encoder"])
def test_holdout_images_do_not_decide_features(real: RealImages, name: str) -> None:
    other = replace(real, holdout=make_image_set("holdout", 1 - real.holdout.images(slice(None))))
    assert make_extractor(name, real, SETTINGS).fingerprint == make_extractor(name, other, SETTINGS).fingerprint


def test_encoder_is_kept_and_found_again(tmp_path: Path) -> None:
    real = make_real(2)
    told: list[str] = []

    def make() -> FeatureExtractor:
        told.clear()
        return make_extractor("encoder", real, SETTINGS, lambda what, done, total: told.append(what), tmp_path)

    first = make()
    assert told
    folder = tmp_path / encoder_key(real, SETTINGS.encoder)
    assert folder.is_dir()
    again = make()
    assert not told
    assert again.fingerprint == first.fingerprint
    (folder / WEIGHTS_FILE).write_bytes(b"damaged")
    assert make().fingerprint == first.fingerprint
    assert told[0] == "the kept encoder is damaged: training it again"


def test_small_references_are_not_judged_by_an_encoder() -> None:
    assert default_features(make_real(2)) == ("encoder", "radiomics", "pixels")
    assert default_features(make_real(2, train=20)) == ("radiomics", "pixels")


@pytest.mark.parametrize("name", ["radiomic", "file:", "inception"])
def test_unknown_features_are_refused(name: str) -> None:
    with pytest.raises(PermanentError, match=r"There are encoder, radiomics, pixels, file:PATH\."):
        make_extractor(name, make_real(2))


def test_features_are_streamed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    real = make_real(2)
    extractor = make_extractor("pixels", real)
    whole = compute_features(extractor, real.holdout)
    monkeypatch.setattr(
        ImageSet, "blocks", lambda self: ((slice(i, i + 1), self.images(slice(i, i + 1))) for i in range(9))
    )
    told: list[tuple[str, int, int]] = []
    found = compute_features(extractor, real.holdout, lambda *record: told.append(record))
    np.testing.assert_allclose(found, whole, atol=1e-5)
    assert told[-1] == ("pixels of holdout", 9, 9)


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_documented(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
    assert FEATURES[name].endswith(".")
