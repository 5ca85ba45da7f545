"""The numeric profile: what decides the last bit of an image besides its parameters."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

import llvmlite.binding as llvm


@functools.cache
def numeric_profile(network: str | None = None) -> dict[str, str]:
    """Return library versions, instruction set, device and precision; equal profiles give equal bits.

    ``network`` is the precision of the network that draws, if one does: what torch computes with is told then, too.
    """
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "numba", "llvmlite")}
    common = {
        **versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libc": "-".join(platform.libc_ver()),
        "cpu": str(llvm.get_host_cpu_name()),
        "device": "cpu",
        "precision": "float32",
    }
    return common if network is None else common | _profile_torch(network)


def _profile_torch(precision: str) -> dict[str, str]:
    """Return what decides the last bit of a network's answer; it is loaded with torch in any case."""
    import torch  # here, as builds by physics do without it

    return {
        "torch": str(torch.__version__),
        "monai": importlib.metadata.version("monai"),
        "torch_instructions": str(torch.backends.cpu.get_cpu_capability()),
        "torch_onednn": str(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        "torch_threads": "1",  # of each worker, whatever the machine has: see flows.shelf
        "precision": precision,
    }
