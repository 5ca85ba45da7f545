"""Training with differential privacy for every patient (DP-SGD: Abadi et al., CCS 2016), all images of one together.

Each step takes each patient with the same small chance (Poisson), one image of each, clips that image's gradient and
adds Gaussian noise; Opacus does both and accounts for them. Ranges and values of attributes are given by the recipe
as public, not learned; the number of patients is taken as public, too.
Whoever knows the random numbers can undo the noise, so they come from ``secret``, which nobody may keep: a private
training cannot be repeated bit for bit, drawing from its model can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synth.errors import ModelError
from synth.evaluation.ranks import Ints
from synth.learned.audit import Audit
from synth.learned.recipe import PrivacySpec, TrainSpec
from synth.seeds import stream_from_key

ACCOUNTANT = "Renyi differential privacy of the subsampled Gaussian mechanism (Mironov et al., 2019), by Opacus"
RANDOM_SOURCE = "a 128-bit secret of the operating system, not kept; normal numbers by torch's Mersenne Twister"
PHYSICAL = 16  # images whose own gradients are in memory at once
ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(12, 64), 80, 96, 128, 192, 256)


@dataclass(frozen=True)
class PrivacyPlan:
    """How much noise a recipe needs: ``rate`` is the chance of a patient in a step, ``noise`` in units of the clip."""

    spec: PrivacySpec
    rate: float
    noise: float
    patients: int

    def spend(self, steps: int) -> float:
        """Return the epsilon that ``steps`` steps spent."""
        from opacus.accountants import RDPAccountant

        accountant = RDPAccountant()
        accountant.history = [(self.noise, self.rate, steps)]
        return float(accountant.get_epsilon(self.spec.delta, alphas=list(ORDERS))) if steps else 0.0

    def describe(self, steps: int, audit: Audit) -> dict[str, Any]:
        """Return the facts for readers: epsilon of the steps that were made, beside what the audit shows.

        Raises ModelError if the audit contradicts it.
        """
        spent = self.spend(steps)
        if audit.contradicts(spent):
            raise ModelError(
                f"privacy: the audit contradicts the accounts: {audit.right} of {audit.guesses} guesses about "
                f"{audit.canaries} canaries were right, so the training gave away more than was counted. No epsilon is "
                "stated and the model is not kept. By chance that happens in 5 % of sound trainings at most: train "
                "again with another seed; if it happens again, report it."
            )
        return {
            "epsilon": round(spent, 4), "audit": audit.describe(), "delta": self.spec.delta,
            "unit": "all images of a patient",
            "noise_multiplier": self.noise, "clip": self.spec.clip, "sampling": f"Poisson, {self.rate:.5f} a step",
            "steps": steps, "patients": self.patients, "accountant": ACCOUNTANT, "random_source": RANDOM_SOURCE,
        }  # fmt: skip


def plan_privacy(spec: TrainSpec, patients: int) -> PrivacyPlan:
    """Return the noise that keeps ``spec.privacy`` over all its steps.

    Raises ModelError if delta is not below one over the patients, or no noise is enough.
    """
    from opacus.accountants.utils import get_noise_multiplier  # loads torch.distributed, which other trainings need not

    asked = spec.privacy
    if asked is None:
        raise ModelError("privacy: the recipe asks for none.")
    if asked.delta >= 1 / patients:
        raise ModelError(
            f"privacy.delta: {asked.delta:g} must be below one over the {patients} patients ({1 / patients:.2g}); "
            "with more, a whole patient could be given away."
        )
    rate = min(1.0, spec.training.batch / patients)
    try:
        noise = get_noise_multiplier(
            target_epsilon=asked.epsilon, target_delta=asked.delta, sample_rate=rate, steps=spec.training.steps,
            accountant="rdp", alphas=list(ORDERS),
        )  # fmt: skip
    except ValueError as error:
        raise ModelError(
            f"privacy.epsilon: {asked.epsilon:g} cannot be kept over {spec.training.steps} steps of "
            f"{spec.training.batch} of {patients} patients ({error}); ask for more, or for fewer steps."
        ) from error
    return PrivacyPlan(asked, rate, float(noise), patients)


Loss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]  # network, places of images -> loss of each


class PrivateSteps:
    """Private updates of a network. ``patient`` (n,) says whose the training images are."""

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, plan: PrivacyPlan, patient: Ints, batch: int,
        secret: int, device: str,
    ) -> None:  # fmt: skip
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        self._own = GradSampleModule(network)
        self._plan, self._patient, self._device = plan, patient, device
        self._rng = stream_from_key(secret)
        self._noise = torch.Generator(device)
        self._noise.manual_seed(int(self._rng.integers(2**63)))
        self._changes = torch.Generator()
        self._changes.manual_seed(int(self._rng.integers(2**63)))
        self._optimiser = DPOptimizer(
            optimiser, noise_multiplier=plan.noise, max_grad_norm=plan.spec.clip, expected_batch_size=batch,
            generator=self._noise,
        )  # fmt: skip

    def advance(self, measure: Loss) -> float:
        """Make one step; return the mean loss of its images (not private: it is for whoever trains)."""
        chosen = self._choose()
        parts = np.array_split(chosen, max(1, math.ceil(len(chosen) / PHYSICAL)))
        total = 0.0
        for number, part in enumerate(parts):
            self._optimiser.zero_grad()
            if number < len(parts) - 1:
                self._optimiser.signal_skip_step()
            if len(part):
                losses = measure(self._own, torch.from_numpy(part), self._changes)
                torch.autograd.backward(losses.mean())
                total += float(losses.detach().sum())
            else:
                for parameter in self._own.parameters():
                    parameter.grad_sample = torch.zeros(0, *parameter.shape)
            self._optimiser.step()
        return total / max(1, len(chosen))

    def _choose(self) -> Ints:
        """Return the places of one image of each patient that is taken."""
        taken = np.flatnonzero(self._rng.random(self._plan.patients) < self._plan.rate)
        own = [np.flatnonzero(self._patient == patient) for patient in taken]
        return np.asarray([places[self._rng.integers(len(places))] for places in own], np.int64)
