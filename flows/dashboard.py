"""Starts the dashboard: Streamlit as a child process on 127.0.0.1, closed to everything but this machine."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from flows.server import HOST, is_port_free
from flows.settings import Settings
from synth.errors import CatalogError, RetryableError

APP = Path(__file__).resolve().parents[1] / "dashboard" / "app.py"
START_TIMEOUT_S = 60.0
OPTIONS: dict[str, str | tuple[str, ...]] = {  # a list is given as one flag for each of its values
    "server.address": HOST,
    "server.allowedHosts": (HOST, "localhost"),  # a foreign page cannot reach it through another name (DNS rebinding)
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "1",  # nothing is uploaded
    "browser.gatherUsageStats": "false",
    "browser.serverAddress": HOST,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "client.disableDataExport": "true",  # exports come with their own marking; tables here are for looking
    "runner.magicEnabled": "false",
    "logger.level": "warning",
    "theme.base": "light",
    "theme.primaryColor": "#14708a",
    "theme.backgroundColor": "#ffffff",
    "theme.secondaryBackgroundColor": "#f4f6f8",
    "theme.textColor": "#1f2933",
    "theme.borderColor": "#dfe5ea",
    "theme.linkColor": "#14708a",
    "theme.linkUnderline": "false",
    "theme.codeFontSize": "0.85rem",
    "theme.codeTextColor": "#44525f",
    "theme.codeBackgroundColor": "#f4f6f8",
    "theme.baseRadius": "6px",
    "theme.headingFontSizes": ("1.75rem", "1.4rem", "1.2rem"),
    "theme.headingFontWeights": ("650", "600", "600"),
    "theme.metricValueFontSize": "1.5rem",
}


def dashboard_command(settings: Settings, port: int) -> list[str]:
    """Return the command that serves the dashboard of ``settings.home`` on ``port``; the home is its argument."""
    options = [
        f"--{name}={value}"
        for name, values in OPTIONS.items()
        for value in (values if isinstance(values, tuple) else (values,))
    ]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}", *options]
    return [*command, "--", f"--home={settings.home.root}"]


def check_start(settings: Settings, port: int) -> None:
    """Raise CatalogError if there is nothing to show, RetryableError if ``port`` is taken."""
    if importlib.util.find_spec("streamlit") is None:
        raise CatalogError("the dashboard needs the package 'streamlit'. Run: pip install 'streamlit>=1.67,<2'")
    if not settings.home.metadata.is_file():
        raise CatalogError(
            f"there is no catalog in '{settings.home.root}', so there is nothing to show. Run "
            "'cohortium build flows/specs/demo.toml' first, or name another folder with --home or COHORTIUM_HOME."
        )
    if not is_port_free(port):
        raise RetryableError(
            f"port {port} of {HOST} is taken, perhaps by another dashboard. Choose another one, for example: "
            f"cohortium dashboard --port {port + 1 if port < 65535 else port - 1}"
        )


def run_dashboard(settings: Settings, port: int) -> None:
    """Serve the dashboard until Ctrl-C or SIGTERM; raises CatalogError or RetryableError if it cannot start."""
    check_start(settings, port)
    with _stop_on_signals(), subprocess.Popen(dashboard_command(settings, port), stdout=subprocess.DEVNULL) as child:
        try:
            _wait_until_served(child, port)
            print(
                f"Cohortium dashboard of '{settings.home.root}': http://{HOST}:{port}  (Ctrl-C ends it)",
                file=sys.stderr,
                flush=True,
            )
            code = child.wait()
        except KeyboardInterrupt:
            _stop_child(child)
            print("dashboard ended", file=sys.stderr)
            return
    raise RetryableError(f"the dashboard ended by itself (exit code {code}); its messages are above")


def _wait_until_served(child: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while is_port_free(port):
        if child.poll() is not None:
            raise RetryableError(f"the dashboard ended while starting (exit code {child.returncode}); see above")
        if time.monotonic() > deadline:
            _stop_child(child)
            raise RetryableError(f"the dashboard gave no answer on port {port} in {START_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


def _stop_child(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, also where a shell starts its background jobs deaf to that."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
