"""The numeric profile: what decides the last bit of an image besides its parameters."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

import llvmlite.binding as llvm


@functools.cache
def numeric_profile() -> dict[str, str]:
    """Return library versions, instruction set, device and precision; equal profiles give equal bits."""
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "numba", "llvmlite")}
    return {
        **versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libc": "-".join(platform.libc_ver()),
        "cpu": str(llvm.get_host_cpu_name()),
        "device": "cpu",
        "precision": "float32",
    }
