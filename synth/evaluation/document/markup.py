"""HTML that escapes by construction: text becomes markup only through ``tag``, so no name can smuggle in a script."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# Control characters are no HTML; marks that turn the direction of writing can make text read as something else.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
_VOID = frozenset({"img", "meta"})
_DRAWN = frozenset({"line", "circle", "path"})  # SVG without content: closed as XML
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Markup | str | int | None


def clean_text(value: object) -> str:
    """Return a value as one string without control characters, marks of writing direction and lone surrogates."""
    return _UNWANTED.sub("", str(value).encode("utf-8", "replace").decode("utf-8"))


def escape(value: object) -> Markup:
    """Return a value as HTML text; markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(clean_text(value), quote=True))


def join(children: Iterable[Child]) -> Markup:
    """Return the children one after another."""
    return Markup("".join(escape(child) for child in children if child is not None))


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """Return an element. ``class_`` is class, ``aria_label`` is aria-label; None and False leave an attribute out."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.removesuffix("_").replace("_", "-")
        if not _NAME.fullmatch(word):
            raise ValueError(f"'{word}' is no name of an attribute")
        parts.append(word if value is True else f'{word}="{escape(value)}"')
    opening = " ".join(parts)
    if name in _VOID or name in _DRAWN:
        return Markup(f"<{opening}>" if name in _VOID else f"<{opening}/>")
    return Markup(f"<{opening}>{join(children)}</{name}>")


def link(url: str, label: str) -> Markup:
    """Return a link if ``url`` is a web address, else plain text."""
    if re.fullmatch(r"https?://[^\s\"'<>]+", url):
        return tag("a", label, href=url, rel="noreferrer noopener")
    return escape(label)
