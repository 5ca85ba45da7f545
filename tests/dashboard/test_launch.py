"""``cohortium dashboard``: closed to other machines, clear about what keeps it from starting, gone after Ctrl-C."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from flows.dashboard import APP, OPTIONS, dashboard_command, run_dashboard
from flows.server import find_free_port, is_port_free
from flows.settings import load_settings
from synth.errors import CatalogError, RetryableError

ROOT = Path(__file__).resolve().parents[2]


def test_options_close_the_server():
    assert OPTIONS["server.address"] == "127.0.0.1"
    assert OPTIONS["server.enableCORS"] == OPTIONS["server.enableXsrfProtection"] == "true"
    assert OPTIONS["server.enableStaticServing"] == OPTIONS["browser.gatherUsageStats"] == "false"
    assert OPTIONS["client.showErrorDetails"] == "none"
    assert APP.is_file()


def test_no_catalog_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(CatalogError, match="cohortium build"):
        run_dashboard(load_settings(tmp_path), 8501)


def test_taken_port_is_an_error_that_offers_another(shown):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RetryableError, match=f"port {port} of 127.0.0.1 is taken"):
            run_dashboard(load_settings(shown.home), port)


def test_command_names_the_home(shown):
    command = dashboard_command(load_settings(shown.home), 8600)
    assert command[-2:] == ["--", f"--home={shown.home}"]
    assert "--server.port=8600" in command


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_dashboard_serves_and_ends_cleanly(shown, end):
    port = find_free_port()
    command = [sys.executable, "-m", "flows", "dashboard", "--home", str(shown.home), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        announced = process.stderr.readline()
        assert f"http://127.0.0.1:{port}" in announced
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=10) as answer:
            assert answer.status == 200
        process.send_signal(end)
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert not out
    assert "Traceback" not in err
    deadline = time.monotonic() + 5
    while not is_port_free(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert is_port_free(port)
