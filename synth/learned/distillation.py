"""Few-step samplers: a student walks in one look what its guided teacher walks in several.

The teacher's guided path from noise to image is cut into as many equal parts of time as the student has steps. The
student begins as the teacher and learns the mean velocity of each part, guidance included (guidance distillation of
Meng et al., CVPR 2023; the mean velocity of Geng et al., 2025), so that Euler's method walks the teacher's path.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.networks import make_generator
from synth.evaluation.ranks import Ints
from synth.learned.flow import list_times
from synth.learned.generator import Generator
from synth.learned.guidance import guide
from synth.learned.maps import Labels
from synth.learned.recipe import FLOWS, FewStepsSpec, SamplerSpec
from synth.nouns import AttributeValue
from synth.seeds import stream

LONGEST_GRADIENT = 1.0
BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Paths:
    """Where images were along the teacher's way: ``places`` (n, steps + 1, *place) in half precision, noise first."""

    places: Tensor
    codes: Tensor


def distil_model(
    teacher: Generator,
    rows: Sequence[Mapping[str, AttributeValue]],
    spec: FewStepsSpec,
    seed: int,
    tell: Tell = tell_nobody,
    maps: Labels | None = None,
) -> Generator:
    """Return a student of ``spec.steps`` Euler steps without guidance; ``rows`` and ``maps`` are of training images.

    Raises ModelError if the teacher is no flow, or the student's loss is not a number.
    """
    if teacher.description.architecture.name not in FLOWS:
        raise ModelError(f"few_steps: only a flow can be distilled, not {teacher.description.architecture.name}.")
    paths = walk_paths(teacher, rows, spec, seed, tell, maps)
    network = copy.deepcopy(teacher.network).train()
    average = {name: values.detach().clone() for name, values in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), spec.rate, BETAS, weight_decay=0.0, fused=True)
    for step in range(spec.updates):
        for group in optimiser.param_groups:  # falls to 0, so that the last weights are quiet
            group["lr"] = spec.rate * min(1.0, (step + 1) / 50) * (1 - step / spec.updates)
        loss = _measure(network, paths, spec, make_generator(seed, f"distillation/step/{step}"), teacher.device)
        if not bool(torch.isfinite(loss)):
            raise ModelError(f"few_steps: the loss is not a number at update {step}; lower few_steps.rate.")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), LONGEST_GRADIENT)
        optimiser.step()
        with torch.no_grad():
            share = min(spec.average, step / (step + 10))
            for name, values in network.state_dict().items():
                average[name].lerp_(values, 1 - share)
        tell("distilling", step + 1, spec.updates)
    network.load_state_dict(average)
    sampler = SamplerSpec(steps=spec.steps, solver="euler", guidance=1.0)
    about = dict(teacher.description.about) | {"distilled": describe_distillation(teacher, spec)}
    return Generator(replace(teacher.description, sampler=sampler, about=about), network, device=teacher.device)


def describe_distillation(teacher: Generator, spec: FewStepsSpec) -> dict[str, Any]:
    """Return the facts of a distillation for readers."""
    return spec.model_dump() | {"teacher": teacher.hash, "teacher_sampler": teacher.description.sampler.model_dump()}


def draw_requests(
    rows: Sequence[Mapping[str, AttributeValue]], count: int, leave_out: float, seed: int
) -> list[dict[str, AttributeValue]]:
    """Return what is asked for on each path: what some training image shows, now and then without an attribute."""
    rng, chosen = _choose_images(len(rows), count, seed)
    return [{name: value for name, value in rows[place].items() if rng.random() >= leave_out} for place in chosen]


def _choose_images(images: int, count: int, seed: int) -> tuple[np.random.Generator, Ints]:
    rng = stream(seed, -1, -1, "distillation/requests")
    return rng, rng.integers(images, size=count)


def encode_requests(
    teacher: Generator,
    rows: Sequence[Mapping[str, AttributeValue]],
    maps: Labels | None,
    spec: FewStepsSpec,
    seed: int,
) -> Tensor:
    """Return (spec.images, told) of what is asked for on each path; a label map, too, is left out now and then."""
    asked = draw_requests(rows, spec.images, spec.leave_out, seed)
    if maps is None:
        return teacher.encode(asked)
    codes = teacher.encode(asked, maps[_choose_images(len(rows), spec.images, seed)[1]])
    hidden = stream(seed, -1, -1, "distillation/maps").random(spec.images) < spec.leave_out
    codes[torch.from_numpy(hidden), teacher.description.width :] = 0.0
    return codes


@torch.no_grad()
def walk_paths(
    teacher: Generator,
    rows: Sequence[Mapping[str, AttributeValue]],
    spec: FewStepsSpec,
    seed: int,
    tell: Tell,
    maps: Labels | None = None,
) -> Paths:
    """Return the teacher's ways from noise to images, walked with Heun's method and its own guidance."""
    sampler = teacher.description.sampler
    inner = max(1, round(sampler.steps / spec.steps))  # the teacher's steps in one of the student's
    times = list_times(inner * spec.steps, teacher.description.architecture.shift)
    codes = encode_requests(teacher, rows, maps, spec, seed)
    shape, size = teacher.place, teacher.description.batch
    places = torch.empty(spec.images, spec.steps + 1, *shape, dtype=torch.float16)
    for start in range(0, spec.images, size):
        part = slice(start, min(start + size, spec.images))
        noise = _draw_noise(part, shape, seed)
        asked = codes[part].to(teacher.device)
        signal = torch.from_numpy(noise).to(teacher.device)
        places[part, 0] = signal.half().cpu()
        for step in range(spec.steps):
            signal = _walk(teacher, signal, asked, times[step * inner : (step + 1) * inner + 1])
            places[part, step + 1] = signal.half().cpu()
        tell("walking the teacher's paths", part.stop, spec.images)
    return Paths(places, codes)


def _draw_noise(part: slice, shape: tuple[int, ...], seed: int) -> Floats32:
    drawn = [stream(seed, index, -1, "distillation/noise").standard_normal(shape, np.float32)
             for index in range(part.start, part.stop)]  # fmt: skip
    return np.stack(drawn)


def _walk(teacher: Generator, signal: Tensor, codes: Tensor, edges: Sequence[float]) -> Tensor:
    """Return the signal after the steps of Heun's method between ``edges``, which are times."""
    device, empty = teacher.device.split(":")[0], torch.zeros_like(codes)
    guidance = teacher.description.sampler.guidance

    def look(place: Tensor, time: float) -> Tensor:
        times = torch.full((len(place),), time, device=place.device)
        with torch.autocast(device, torch.bfloat16):
            return guide(teacher.network, place, times, codes, empty, guidance).float()

    for now, later in itertools.pairwise(edges):
        velocity = look(signal, now)
        if later > 0:
            velocity = (velocity + look(signal + (now - later) * velocity, later)) / 2
        signal = signal + (now - later) * velocity
    return signal


def _measure(network: nn.Module, paths: Paths, spec: FewStepsSpec, generator: torch.Generator, device: str) -> Tensor:
    """Return the mean squared error of the mean velocity of random parts of random paths."""
    count = len(paths.places)
    chosen = torch.randint(0, count, (spec.batch,), generator=generator)
    part = torch.randint(0, spec.steps, (spec.batch,), generator=generator)
    before = paths.places[chosen, part].float().to(device)
    after = paths.places[chosen, part + 1].float().to(device)
    edges = torch.tensor(list_times(spec.steps, float(cast(Any, network).shift)))
    times, long = edges[part].to(device), (edges[part] - edges[part + 1]).to(device)
    with torch.autocast(device.split(":")[0], torch.bfloat16):
        velocity = network(before, times, paths.codes[chosen].to(device))
    return torch.as_tensor(
        (velocity.float() - (after - before) / long.reshape(-1, *[1] * (before.ndim - 1))).square().mean()
    )
