"""The SQLite databases of Prefect and MLflow come into being whole or not at all, and their making is paid for once.

Both set theirs up in dozens of committed steps. A process killed in between, or two that begin at once, would leave a
database that no later start can use or repair. The steps also take seconds, so an empty database of each version is
kept as a template in the user's cache, and every new home gets a copy.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from catalog.home import make_folder, sync_file, sync_folder
from flows.settings import find_cache_folder
from synth.errors import StorageError


def create_whole(path: Path, set_up: Callable[[Path], None]) -> None:
    """Make the database ``path``, if there is none, by ``set_up`` of a draft that is then copied and moved in place.

    The draft is copied because ``set_up`` may leave connections open. Raises what ``set_up`` raises, OSError and
    sqlite3.Error; then there is still no database.
    """
    if path.is_file():
        return
    make_folder(path.parent)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.is_file():
            return  # made by another process meanwhile
        folder = path.with_name(f".{path.name}.draft")
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        folder.mkdir()
        draft, whole = folder / "draft.db", folder / path.name
        set_up(draft)
        with closing(sqlite3.connect(draft)) as source, closing(sqlite3.connect(whole)) as copy:
            source.backup(copy)
        sync_file(whole)
        whole.replace(path)
        sync_folder(path.parent)
        shutil.rmtree(folder, ignore_errors=True)


def copy_template(name: str, draft: Path, set_up: Callable[[Path], None]) -> None:
    """Make the database ``draft`` as a copy of the template ``name``, which ``set_up`` makes if there is none yet.

    ``name`` spells the version of what ``set_up`` does. Without a writable cache ``set_up`` makes ``draft`` itself.
    """
    template = find_cache_folder() / f"{name}.db"
    try:
        create_whole(template, set_up)
        shutil.copyfile(template, draft)
    except (OSError, StorageError):
        draft.unlink(missing_ok=True)
        set_up(draft)
