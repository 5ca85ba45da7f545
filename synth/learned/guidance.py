"""Classifier-free guidance (Ho and Salimans, 2022): what is asked for, exaggerated against nothing asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def guide(network: nn.Module, noisy: Tensor, times: Tensor, codes: Tensor, empty: Tensor, guidance: float) -> Tensor:
    """Return empty + guidance * (asked - empty) of the network's answers, computed as one batch; 1 asks once."""
    if guidance == 1.0:
        return torch.as_tensor(network(noisy, times, codes))
    both = network(torch.cat([noisy, noisy]), torch.cat([times, times]), torch.cat([codes, empty]))
    asked, free = both.chunk(2)
    return torch.as_tensor(free + guidance * (asked - free))
