"""Encoders in files of the user's own: TorchScript, ONNX, and what is refused."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from synth.evaluation.images.features.encoder_files import EncoderFileError
from synth.evaluation.images.features.fitting import resize_images
from synth.evaluation.images.features.local_encoders import FileSettings, load_local_encoder
from synth.evaluation.images.layout import Floats32
from synth.seeds import stream


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(shape: tuple[int, ...]) -> Floats32:
    return stream(1, -1, -1, "test/local").random(shape).astype(np.float32)


def make_convolution(dimensions: int, channels: int, width: int = 5) -> nn.Module:
    layer = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions](channels, width, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(draw(tuple(layer.weight.shape))))
        layer.bias.zero_()
    return layer


def save_script(path: Path, model: nn.Module, example: torch.Tensor) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(model, example, strict=False).save(str(path))
    return path


def save_onnx(path: Path, shape: list[int | str], kernel: tuple[int, ...], last: bool = False) -> Path:
    """A convolution and the mean over space; ``last`` takes channels last."""
    weights = numpy_helper.from_array(draw(kernel), "w")
    nodes = [
        helper.make_node("Conv", ["c" if last else "x", "w"], ["y"]),
        helper.make_node("GlobalAveragePool", ["y"], ["z"]),
    ]
    if last:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["c"], perm=[0, 3, 1, 2]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    returned = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "encoder", [given], [returned], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def convolve(images: Floats32, kernel: Floats32) -> Floats32:
    """The same by hand: the convolution's mean over space of (n, c, y, x) images."""
    return nn.functional.conv2d(torch.from_numpy(images), torch.from_numpy(kernel)).mean(dim=(2, 3)).numpy()


def test_torchscript_of_colour_images(tmp_path: Path) -> None:
    model = make_convolution(2, 3)
    path = save_script(tmp_path / "colour.pt", model, torch.zeros(2, 3, 32, 32))
    settings = FileSettings(size=32, mean=(0.4, 0.5, 0.6), spread=(0.2, 0.2, 0.25))
    extractor = load_local_encoder(path, 2, settings)
    assert (extractor.name, extractor.dimensions) == ("file:colour", 5)
    images = draw((21, 20, 28))  # more than a batch, and neither the right size nor square
    found = extractor.extract(images)
    resized = np.repeat(resize_images(images, (32, 32))[:, None], 3, axis=1)
    scaled = (resized - np.reshape(settings.mean, (3, 1, 1))) / np.reshape(settings.spread, (3, 1, 1))
    expected = convolve(scaled.astype(np.float32), model.weight.detach().numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    alone = np.concatenate([extractor.extract(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_allclose(alone, found, atol=1e-5)


def test_torchscript_of_volumes(tmp_path: Path) -> None:
    path = save_script(tmp_path / "volumes.ts", make_convolution(3, 1), torch.zeros(1, 1, 8, 8, 8))
    extractor = load_local_encoder(path, 3, FileSettings(size=8))
    assert extractor.extract(draw((3, 9, 10, 11))).shape == (3, 5)


class Several(nn.Module):
    """Returns tokens and a pooled vector, as transformers do."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = images[:, 0]
        return (tokens, 2 * tokens[:, 0]) if self.pooled else (tokens,)


@pytest.mark.parametrize("pooled", [True, False])
def test_of_several_outputs_the_pooled_one_is_taken(tmp_path: Path, pooled: bool) -> None:
    path = save_script(tmp_path / "tokens.pt", Several(pooled), torch.zeros(2, 3, 12, 12))
    images = draw((2, 12, 12))
    found = load_local_encoder(path, 2, FileSettings(size=12)).extract(images)
    np.testing.assert_allclose(found, 2 * images[:, 0] if pooled else images.mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "last"), [(["n", 3, 24, 24], False), ([1, 3, "y", "x"], False), (["n", 24, 24, 3], True)]
)
def test_onnx_says_its_own_size(tmp_path: Path, shape: list[int | str], last: bool) -> None:
    path = save_onnx(tmp_path / "net.onnx", shape, (4, 3, 3, 3), last)
    extractor = load_local_encoder(path, 2, FileSettings() if 24 in shape else FileSettings(size=24))
    images = draw((19, 24, 24))
    expected = convolve(np.repeat(images[:, None], 3, axis=1), draw((4, 3, 3, 3)))
    np.testing.assert_allclose(extractor.extract(images), expected, rtol=1e-4, atol=1e-4)


def test_fingerprint_follows_file_and_settings(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "a.onnx", ["n", 1, 16, 16], (2, 1, 3, 3))
    first = load_local_encoder(path, 2)
    assert first.fingerprint == load_local_encoder(path, 2).fingerprint
    assert first.fingerprint != load_local_encoder(path, 2, FileSettings(mean=(0.5,))).fingerprint
    other = save_onnx(tmp_path / "b.onnx", ["n", 1, 16, 16], (3, 1, 3, 3))
    assert first.fingerprint != load_local_encoder(other, 2).fingerprint


def test_refuses_what_is_no_encoder(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("nonsense")
    (tmp_path / "text.onnx").write_text("nonsense")
    (tmp_path / "weights.safetensors").write_text("nonsense")
    torch.save({"w": torch.zeros(2)}, tmp_path / "pickled.pt")
    for name, reason in {
        "text.pt": "not a TorchScript file", "pickled.pt": "can run code; export the model with torch.jit.trace",
        "text.onnx": "not an ONNX model", "weights.safetensors": "without the network they belong to",
        "missing.pt": "cannot be read: No such file", "model.keras": "its name must end in .pt",
        ".": "no encoder can be read",
    }.items():  # fmt: skip
        with pytest.raises(EncoderFileError, match=reason):
            load_local_encoder(tmp_path / name, 2)


def test_wrong_shapes_are_named(tmp_path: Path) -> None:
    grey = save_script(tmp_path / "grey.pt", make_convolution(2, 1), torch.zeros(1, 1, 8, 8))
    with pytest.raises(
        EncoderFileError, match=r"grey.pt does not take images of shape \(16, 3, 8, 8\).*expected input"
    ):
        load_local_encoder(grey, 2, FileSettings(size=8, channels=3))
    with pytest.raises(EncoderFileError, match="mean has 2 numbers"):
        load_local_encoder(grey, 2, FileSettings(size=8, mean=(0.1, 0.2)))
    with pytest.raises(EncoderFileError, match="spread must be above 0"):
        load_local_encoder(grey, 2, FileSettings(size=8, spread=(0.0,)))
    square = save_onnx(tmp_path / "square.onnx", ["n", 1, 16, 16], (2, 1, 3, 3))
    with pytest.raises(EncoderFileError, match="size 32 was given"):
        load_local_encoder(square, 2, FileSettings(size=32))
    with pytest.raises(EncoderFileError, match="with 5 axes: images, channels and 3 in space"):
        load_local_encoder(square, 3)


class Returns(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)
        return flat.sum() if self.kind == "number" else torch.log(flat[:, :4] - 2)


@pytest.mark.parametrize(("kind", "reason"), [("number", "one vector of at most"), ("nan", "not numbers")])
def test_refuses_outputs_that_are_no_features(tmp_path: Path, kind: str, reason: str) -> None:
    path = save_script(tmp_path / "odd.pt", Returns(kind), torch.zeros(2, 3, 4, 4))
    with pytest.raises(EncoderFileError, match=reason):
        load_local_encoder(path, 2, FileSettings(size=4))


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_onnx(tmp_path / "net.onnx", ["n", 1, 16, 16], (2, 1, 3, 3))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderFileError, match=r"pip install 'cohortium\[onnx\]'"):
        load_local_encoder(path, 2)
