"""The largest memory that a benchmark's own process has had."""

from __future__ import annotations

from pathlib import Path


def read_peak_mb() -> float:
    """Return the largest resident size of this process so far (Linux; that of getrusage may be a parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
