"""Addresses of models with the hash of what they named when they were looked up: ``NAME@sha256:<64 hex digits>``.

A recipe may name a model by an address that means another one tomorrow. Before anything is planned the hash is added,
and from then on it alone decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PIN = re.compile(r"(?P<name>.*)@sha256:(?P<sha256>[0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pin:
    """An address and the hash of what it named."""

    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}@sha256:{self.sha256}"


def read_pin(text: str | None) -> Pin | None:
    """Return the pin that ``text`` is, or None if it is an address without a hash."""
    found = _PIN.fullmatch(text) if text else None
    return Pin(found["name"], found["sha256"]) if found else None


def drop_name(text: str) -> str:
    """Return what of an address counts: of a pinned one the hash, for its name does not change what it is."""
    pin = read_pin(text)
    return f"sha256:{pin.sha256}" if pin else text
