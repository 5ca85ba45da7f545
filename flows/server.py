"""The local Prefect server: one child process on 127.0.0.1 that ends with its parent, even after kill -9.

``python -m flows.server PORT KIND`` is that child. It watches its standard input, which closes when the parent is gone.
KIND ``api`` is enough for one build; ``full`` adds the UI and the scheduler for ``cohortium serve``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.databases import copy_template, create_whole
from flows.settings import Settings, point_prefect_at, server_environment
from synth.errors import RetryableError, StorageError

START_TIMEOUT_S = 180.0
NEARLY_FULL = 16 << 20  # bytes; databases refuse to grow some time before the last byte is taken
HOST = "127.0.0.1"
_SQLITE = "sqlite+aiosqlite:///"


def find_free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_port_free(port: int) -> bool:
    """Return whether nothing listens on ``port`` of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def is_healthy(api_url: str) -> bool:
    """Return whether a Prefect server answers at ``api_url``."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=2) as answer:  # our own server, or the user's choice
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _find_running_server(folder: Path) -> str | None:
    """Return the address that ``cohortium serve`` left in ``folder``, if its server still answers."""
    try:
        url = str(json.loads((folder / "server.json").read_text())["api_url"])
    except (OSError, ValueError, KeyError):
        return None
    return url if is_healthy(url) else None


def start_child(module: str, arguments: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start ``python -m module arguments`` with a pipe to watch and its output in ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then closes the pipe
        )


def _start_server(settings: Settings, port: int, kind: str) -> subprocess.Popen[bytes]:
    environment = server_environment(settings.prefect_folder, f"http://{HOST}:{port}/api")
    return start_child("flows.server", [str(port), kind], settings.prefect_folder / "server.log", environment)


def wait_until_healthy(child: subprocess.Popen[bytes], api_url: str, log: Path) -> None:
    """Wait for the server; raises RetryableError if it ends or does not answer in time."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_healthy(api_url):
        if child.poll() is not None:
            raise RetryableError(f"the local Prefect server ended while starting; its last words are in '{log}'")
        if time.monotonic() > deadline:
            raise RetryableError(f"the local Prefect server gave no answer in {START_TIMEOUT_S:.0f} s; see '{log}'")
        time.sleep(0.1)


def explain_server_failure(settings: Settings, error: Exception) -> RetryableError:
    """Return our error for a Prefect server that failed or cannot be reached; most often the disk is full."""
    if shutil.disk_usage(settings.home.root).free < NEARLY_FULL:
        return StorageError(
            f"'{settings.home.root}' cannot be written: the disk is full; free some space and run the command again. "
            "Finished shards are kept."
        )
    return RetryableError(
        f"the Prefect server failed: {error}. Finished shards are kept; run the same command again. The log of the "
        f"local server is '{settings.prefect_folder / 'server.log'}'."
    )


@contextmanager
def local_server(settings: Settings, meanwhile: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Yield the address of a Prefect API: the one configured, one that already runs for this home, or a new child.

    ``meanwhile`` is called while a new one starts, with Prefect's settings in place.
    """
    url = settings.prefect_api_url or _find_running_server(settings.prefect_folder)
    if url is not None:
        point_prefect_at(url, settings.prefect_folder)
        yield url
        return
    with own_server(settings, find_free_port(), "api", meanwhile) as url:
        yield url


@contextmanager
def own_server(
    settings: Settings, port: int, kind: str, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """Yield the address of a new Prefect server on ``port`` that ends with the block or with this process."""
    url = f"http://{HOST}:{port}/api"
    child = _start_server(settings, port, kind)
    try:
        point_prefect_at(url, settings.prefect_folder)
        meanwhile()
        wait_until_healthy(child, url, settings.prefect_folder / "server.log")
        yield url
    finally:
        stop_child(child)


def stop_child(child: subprocess.Popen[bytes]) -> None:
    """End the server by closing its pipe, and make sure it has gone."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_for_parent() -> None:
    """Return when standard input closes, which it does when the parent is gone."""
    while os.read(0, 1024):
        pass


def _exit_with_parent() -> None:
    wait_for_parent()
    os._exit(0)


def watch_parent() -> None:
    """End this process as soon as its parent is gone."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _set_up_database(path: Path) -> None:
    copy_template(f"prefect-{prefect.__version__}", path, _migrate_database)


def _migrate_database(path: Path) -> None:
    """Run Prefect's migrations on ``path`` instead of the database it is set to."""
    draft = temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"{_SQLITE}{path}"})
    with draft, temporary_database_config(None):
        asyncio.run(provide_database_interface().create_db())


def main(port: int, kind: str) -> None:
    """Serve Prefect's API (and UI and scheduler) on the loopback interface until the parent goes away."""
    url = str(PREFECT_API_DATABASE_CONNECTION_URL.value())
    create_whole(Path(url.removeprefix(_SQLITE)), _set_up_database)
    uvicorn.run(create_app(ephemeral=kind == "api", final=True), host=HOST, port=port, log_level="error")


if __name__ == "__main__":
    watch_parent()  # before the imports, which take seconds
    # Only the child loads these: importing Prefect before point_prefect_at would fix its settings too early.
    import prefect
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.server.database.dependencies import provide_database_interface, temporary_database_config
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

    main(int(sys.argv[1]), sys.argv[2])
