"""Checks made before a byte is decoded: where a path leads, what kind of file it is, how large things say they are."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from synth.references.plan import BadItemError, Budget, ReferenceError, show_size

DEEPEST = 12  # levels of folders
HIDDEN = (".", "__MACOSX")


def check_size(shape: Sequence[int], itemsize: int, budget: Budget) -> int:
    """Return the bytes an array takes; raises BadItemError if a length is not positive or a budget is exceeded."""
    if any(length < 1 for length in shape):
        raise BadItemError(f"it declares the shape {tuple(shape)}, which has a length below 1")
    pixels = math.prod(shape)  # Python's integers do not overflow
    if pixels > budget.pixels:
        raise BadItemError(
            f"it declares {' x '.join(map(str, shape))} pixels; {budget.pixels} are allowed (--max-pixels)"
        )
    if pixels * itemsize > budget.image_bytes:
        raise BadItemError(f"it declares {show_size(pixels * itemsize)}; {show_size(budget.image_bytes)} are allowed")
    return pixels * itemsize


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the regular file called ``name`` below ``folder``; raises BadItemError if it is or leads elsewhere."""
    if "\0" in name or "\\" in name:
        raise BadItemError("its name has a backslash or a zero byte; use forward slashes")
    pure = PurePosixPath(name)
    if pure.is_absolute() or (len(name) > 1 and name[1] == ":"):
        raise BadItemError("its name is absolute; names must be relative to the folder")
    if ".." in pure.parts:
        raise BadItemError("its name has '..'; names must stay within the folder")
    path = folder / pure
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise BadItemError(f"there is no such file ({type(error).__name__})") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise BadItemError("it is a link that leads out of the folder")
    if not stat.S_ISREG(mode):
        raise BadItemError("it is no regular file")
    return resolved


def read_bytes(path: Path, limit: int) -> bytes:
    """Return a file's content; raises BadItemError if it is larger than ``limit``."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise BadItemError(f"it has {show_size(size)}; {show_size(limit)} are allowed")
            return file.read(limit)
    except OSError as error:
        raise BadItemError(f"it cannot be read: {error.strerror}") from error


def list_files(folder: Path, budget: Budget) -> list[str]:
    """Return the files below ``folder``, relative and sorted; links to folders are not followed, hidden ones left out.

    Raises ReferenceError if there are too many.
    """
    found: list[str] = []
    for name in _walk(folder, "", 0):
        found.append(name)
        if len(found) > budget.files:
            raise ReferenceError(f"'{folder.name}' holds more than {budget.files} files; import a part of it.")
    return sorted(found)


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ReferenceError(f"folder '{folder.name}' cannot be listed: {error.strerror}.") from error
    for entry in entries:
        if entry.name.startswith(HIDDEN):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < DEEPEST:
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", depth + 1)
        else:
            yield prefix + entry.name
