"""Settings: arguments, then COHORTIUM_* variables, then defaults; quiet and offline by default."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flows.settings import load_settings, server_environment
from synth.errors import SpecError


@pytest.fixture
def bare_environment(monkeypatch):
    for name in ("COHORTIUM_HOME", "COHORTIUM_WORKERS", "COHORTIUM_SHARD_SUBJECTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_defaults(bare_environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.home.root == tmp_path / "cohortium-data"
    assert settings.workers >= 1
    assert settings.shard_subjects is None
    assert settings.prefect_api_url is None
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'cohortium-data' / 'mlflow.db'}"
    assert list(tmp_path.iterdir()) == []


def test_arguments_win_over_the_environment(bare_environment, tmp_path, monkeypatch):
    monkeypatch.setenv("COHORTIUM_HOME", str(tmp_path / "from-environment"))
    monkeypatch.setenv("COHORTIUM_WORKERS", "3")
    monkeypatch.setenv("COHORTIUM_SHARD_SUBJECTS", "5")
    settings = load_settings()
    assert (settings.home.root.name, settings.workers, settings.shard_subjects) == ("from-environment", 3, 5)
    settings = load_settings(tmp_path / "given", 2, 7)
    assert (settings.home.root.name, settings.workers, settings.shard_subjects) == ("given", 2, 7)


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5"])
@pytest.mark.parametrize("name", ["COHORTIUM_WORKERS", "COHORTIUM_SHARD_SUBJECTS"])
def test_numbers_in_the_environment_are_checked(name, text, bare_environment, monkeypatch):
    monkeypatch.setenv(name, text)
    with pytest.raises(SpecError, match=rf"{name}='{text}' is not allowed; give a whole number of 1 or more"):
        load_settings()


def test_shared_services_by_their_urls(bare_environment, monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    settings = load_settings(tmp_path)
    assert settings.prefect_api_url == "http://prefect.example/api"
    assert settings.tracking_uri == "http://mlflow.example"


def test_local_server_keeps_its_files_in_the_home(tmp_path):
    environment = server_environment(tmp_path, "http://127.0.0.1:1/api")
    assert environment["PREFECT_HOME"] == str(tmp_path)
    assert environment["PREFECT_API_DATABASE_CONNECTION_URL"].endswith(f"{tmp_path}/prefect.db")


def test_quiet_and_offline_by_default_but_the_user_may_choose():
    """No telemetry, no server that Prefect starts by itself: that one would outlive a killed build."""
    code = (
        "import flows.settings, os, prefect.settings as s; "
        "print(s.PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value(), s.PREFECT_SERVER_ANALYTICS_ENABLED.value(), "
        "os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['PREFECT_LOGGING_LEVEL'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    for extra, level in (({}, "CRITICAL"), ({"PREFECT_LOGGING_LEVEL": "INFO"}, "INFO")):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**environment, **extra})
        assert done.stdout.split() == ["False", "False", "true", level]
