"""The loop of a training: one step after the other, each keyed by its number, so that no state is hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from synth.errors import ModelError
from synth.evaluation.images.networks import make_generator
from synth.evaluation.ranks import Ints
from synth.learned.changes import change_images, change_maps
from synth.learned.checkpoints import Checkpoint
from synth.learned.families import Family
from synth.learned.private_training import PrivacyPlan, PrivateSteps, plan_privacy
from synth.learned.recipe import TrainingSpec, TrainSpec
from synth.learned.shapes import to_signal
from synth.learned.stages import Stage
from synth.seeds import stream

BETAS = (0.9, 0.99)
LONGEST_GRADIENT = 1.0
MEASURED = 1024  # images that a stage looks at before it begins


class Share(Protocol):
    """One of several processes that train a model together; each takes some parts of every batch."""

    @property
    def rank(self) -> int:
        """Which process this is, from 0."""

    @property
    def world(self) -> int:
        """How many there are."""

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes."""


@dataclass(frozen=True)
class WholeShare:
    """The only process."""

    rank: int = 0
    world: int = 1

    def add_up(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


@dataclass(frozen=True)
class Lesson:
    """The training images (n, 1, *grid) from 0 to 1, their codes (n, width), whose they are, and their label maps.

    Those are (n, *grid) uint8 as a MapCode encodes them.
    """

    images: Tensor
    codes: Tensor
    places: tuple[slice, ...]
    patient: Ints
    maps: Tensor | None = None


def plan_rate(spec: TrainingSpec, step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: it rises in the warm-up and falls straight to 0 at the end."""
    return min(1.0, (step + 1) / max(1, spec.warm_up), (steps - step) / max(1.0, spec.fade * steps))


class Loop:
    """The state of a training: weights, their average, the optimiser's moments, and the step."""

    def __init__(
        self, spec: TrainSpec, family: Family, network: nn.Module, lesson: Lesson, device: str, share: Share
    ) -> None:
        self.spec, self.family, self.network, self.lesson, self.device = spec, family, network, lesson, device
        self.share = share
        self.step = 0
        self.stages = family.plan_stages(spec.training)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), spec.training.rate, BETAS, weight_decay=spec.training.decay, fused=True
        )
        self.average = {name: values.detach().clone() for name, values in network.state_dict().items()}
        self.plan: PrivacyPlan | None = None
        self._private: PrivateSteps | None = None

    def make_private(self, secret: int | None) -> None:
        """Make all further steps private; raises ModelError without a secret or with a budget that cannot be kept."""
        if secret is None:
            raise ModelError("privacy: a private training needs a secret source of random numbers; none was given.")
        self.plan = plan_privacy(self.spec, int(self.lesson.patient.max()) + 1)
        parts = (self.network, self.optimiser, self.plan, self.lesson.patient, self.spec.training.batch)
        self._private = PrivateSteps(*parts, secret, self.device)

    def advance(self) -> float:
        """Make one step and return its loss. Raises ModelError if it is not a number."""
        stage, place = self.find_stage()
        if place == 0 and self.step > 0:
            self._begin(stage)
        for group in self.optimiser.param_groups:
            group["lr"] = stage.rate * plan_rate(self.spec.training, place, stage.steps)
        self.network.train()
        total = self._private.advance(self._measure) if self._private else self._advance_openly()
        if not math.isfinite(total):
            raise ModelError(
                f"the loss is {total} at step {self.step}; lower {stage.rate_name} ({stage.rate:g}) or use "
                "precision = 'float32'. The last checkpoint is kept."
            )
        self.step += 1
        self._follow(place + 1)
        return total

    def find_stage(self) -> tuple[Stage, int]:
        """Return the stage of the next step, and how many steps of it are made."""
        place = self.step
        for stage in self.stages[:-1]:
            if place < stage.steps:
                return stage, place
            place -= stage.steps
        return self.stages[-1], place

    def _begin(self, stage: Stage) -> None:
        """Settle what was learned before: its average counts, and its moments are forgotten."""
        self.network.load_state_dict(self.average)
        self.optimiser.state.clear()
        if stage.begin is not None:
            order = stream(self.spec.seed, -1, -1, "learned/stage").permutation(len(self.lesson.images))
            seen = to_signal(self.lesson.images[torch.from_numpy(order[:MEASURED])])
            stage.begin(self.network, seen, make_generator(self.spec.seed, "learned/stage"))
        self.average = {name: values.detach().clone() for name, values in self.network.state_dict().items()}

    def _measure(self, network: nn.Module, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each chosen image."""
        images, codes = self._draw_batch(chosen, generator)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, self.spec.training.precision == "bfloat16"):
            return self.find_stage()[0].measure_loss(network, images, codes, generator)

    def agree(self, onward: bool) -> bool:
        """Return whether all processes want to go on."""
        return float(self.share.add_up(torch.tensor(float(not onward)))) == 0.0

    def _advance_openly(self) -> float:
        """Make one step on this process's parts of the batch; gradients are those of all parts."""
        training, share = self.spec.training, self.share
        self.optimiser.zero_grad()
        total = torch.zeros(())
        for number, part in enumerate(self._choose(training.batch).chunk(training.accumulate)):
            if number % share.world == share.rank:
                generator = make_generator(
                    self.spec.seed, f"learned/step/{self.step}" + (f"/{number}" if number else "")
                )
                loss = self._measure(self.network, part, generator).mean() / training.accumulate
                torch.autograd.backward(loss)
                total += loss.detach().cpu()
        if share.world > 1:
            total = share.add_up(total)
            gradients = [each.grad for each in self.network.parameters() if each.grad is not None]
            summed = share.add_up(torch.cat([each.flatten() for each in gradients]))  # one message, not hundreds
            for each, found in zip(gradients, torch.split(summed, [each.numel() for each in gradients]), strict=True):
                each.copy_(found.view_as(each))
        if bool(torch.isfinite(total)):
            nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
            self.optimiser.step()
        return float(total)

    def _draw_batch(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return changed signals and codes, some attributes and label maps hidden."""
        training, lesson = self.spec.training, self.lesson
        changed, told = change_images(lesson.images[chosen], training.change, generator)
        codes = lesson.codes[chosen].clone()
        for place in lesson.places:
            codes[torch.rand(len(codes), generator=generator) < training.leave_out, place] = 0.0
        nothing = torch.rand(len(codes), generator=generator) < training.leave_out_all
        codes[nothing] = 0.0
        parts = [codes, told]
        if lesson.maps is not None:
            maps = change_maps(lesson.maps[chosen], told)
            maps[nothing | (torch.rand(len(maps), generator=generator) < training.leave_out)] = 0.0
            parts.append(maps.flatten(1))
        return to_signal(changed).to(self.device), torch.cat(parts, dim=1).to(self.device)

    def _choose(self, batch: int) -> Tensor:
        """Return the images of this step; in a stage every image is seen once before any is seen again."""
        count, first = len(self.lesson.images), self.find_stage()[1] * batch
        chosen: list[int] = []
        while len(chosen) < batch:
            epoch, place = divmod(first + len(chosen), count)
            order = stream(self.spec.seed, -1, -1, f"learned/order/{epoch}").permutation(count)
            chosen += order[place : place + batch - len(chosen)].tolist()
        return torch.tensor(chosen)

    @torch.no_grad()
    def _follow(self, steps: int) -> None:
        """Move the average: quickly at first (Karras et al., CVPR 2024, section 3.1, find the first steps harmful)."""
        share = min(self.spec.training.average, steps / (steps + 10))
        for name, values in self.network.state_dict().items():
            self.average[name].lerp_(values, 1 - share)

    def averages(self) -> dict[str, Tensor]:
        """Return the average of the weights, which is the model."""
        return self.average

    def capture(self, losses: list[float]) -> Checkpoint:
        """Return everything that the next step needs."""
        tensors = {f"network/{name}": values for name, values in self.network.state_dict().items()}
        tensors |= {f"average/{name}": values for name, values in self.average.items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{name}/{key}"] = value
        plain = {name: values.detach().cpu().contiguous() for name, values in tensors.items()}
        return Checkpoint(self.step, plain, tuple(losses))

    def restore(self, checkpoint: Checkpoint | None) -> list[float]:
        """Go on where a checkpoint ends; return the losses so far."""
        if checkpoint is None:
            return []
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}}
        for name, values in checkpoint.tensors.items():
            part, _, rest = name.partition("/")
            if part in parts:
                parts[part][rest] = values
        self.network.load_state_dict(parts["network"])
        self.average = {name: values.to(self.device) for name, values in parts["average"].items()}
        for name, parameter in self.network.named_parameters():
            prefix = f"optimiser/{name}/"
            found = {key[len(prefix) :]: v for key, v in checkpoint.tensors.items() if key.startswith(prefix)}
            if found:
                self.optimiser.state[parameter] = {key: value.to(self.device) for key, value in found.items()}
        self.step = checkpoint.step
        return list(checkpoint.losses)
