"""Training on several devices: the model of one, up to the order of sums."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from synth.errors import ModelError, RetryableError, StorageError
from synth.learned import devices
from synth.learned.checkpoints import find_newest_step
from synth.learned.devices import Devices, explain_end, find_devices, train_on_devices
from synth.learned.recipe import PrivacySpec
from synth.learned.training import train_model
from tests.synth.learned.faces import draw_faces
from tests.synth.learned.test_training import make_spec


def test_two_processes_give_the_model_of_one(tmp_path: Path) -> None:
    images = draw_faces(24)
    spec = make_spec(steps=3, accumulate=2, precision="float32", checkpoint_minutes=9.0)
    alone = train_model(spec, images, tmp_path / "alone")
    seconds = itertools.count()
    first = train_model(spec, images, tmp_path / "together", minutes=3 / 60, clock=lambda: float(next(seconds)))
    assert 0 < first.steps < 3  # the processes go on where one was stopped
    seen: list[int] = []
    together = train_on_devices(
        spec, images, tmp_path / "together", Devices("cpu", 2), tell=lambda what, done, total: seen.append(done)
    )
    assert together.steps == 3
    assert together.finished
    assert together.losses == pytest.approx(alone.losses, rel=1e-5)
    for name, weights in alone.generator.network.state_dict().items():
        assert torch.allclose(together.generator.network.state_dict()[name], weights, atol=2e-4), name


def test_parts_that_cannot_be_shared_and_private_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 parts of a batch cannot be shared by 2 devices; make it a multiple of 2"):
        train_on_devices(make_spec(accumulate=3, batch=15), draw_faces(24), tmp_path, Devices("cpu", 2))
    private = make_spec().model_copy(update={"privacy": PrivacySpec(epsilon=1.0, delta=1e-3)})
    with pytest.raises(ModelError, match="runs on one device"):
        train_on_devices(private, draw_faces(24), tmp_path, Devices("cpu", 2))


def test_devices_are_found_by_word_or_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [find_devices(asked) for asked in ("auto", "cpu", "1", "3")] == [
        Devices(), Devices(), Devices(), Devices("cpu", 3),
    ]  # fmt: skip
    for wrong in ("gpu", "0", "-1", "2.5", ""):
        with pytest.raises(ModelError, match=f"--devices: '{wrong}' is not known; give auto, cpu, or a number"):
            find_devices(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [find_devices(asked) for asked in ("auto", "cpu", "1")] == [Devices("cuda", 2), Devices(), Devices("cuda")]
    with pytest.raises(ModelError, match="3 are more than the 2 GPUs"):
        find_devices("3")


def test_a_process_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    alone = SimpleNamespace(global_rank=0, world_size=1, device="cpu", all_reduce=lambda values, reduce_op: values)
    asked = (make_spec(steps=3), draw_faces(24), tmp_path, None, None)
    with pytest.raises(RetryableError, match="has ended"):
        devices._train_share(alone, os.getppid() + 1, *asked)
    assert find_newest_step(tmp_path) == 0
    devices._train_share(alone, os.getppid(), *asked)
    assert find_newest_step(tmp_path) == 3


@pytest.mark.parametrize(
    ("last", "kind", "words"),
    [
        ("synth.errors.ModelError: the loss is nan at step 3", ModelError, "^the loss is nan at step 3$"),
        ("synth.errors.StorageError: the checkpoint of step 9", StorageError, "^the checkpoint of step 9$"),
        ("process 1 terminated with signal SIGKILL", RetryableError, r"SIGKILL\). Run the command again: it goes on"),
        ("", RetryableError, "no reason was given"),
    ],
)
def test_what_ended_a_process_is_told_as_from_this_one(last: str, kind: type[Exception], words: str) -> None:
    report = f"-- Process 0 terminated with the following error:\nTraceback (most recent call last):\n{last}\n"
    with pytest.raises(kind, match=words):
        raise explain_end(report if last else "")
