"""Where imports point, checked by import-linter on planted violations; and what the project says it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.code_rules import PACKAGES, ROOT, list_imports, parse_package

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# ------------------------------------------------------------------------------------------ the direction of imports

LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"

# Planted file -> (its source, the contract that must break, and the chain that must be named).
PLANTED_IMPORTS = {
    "synth/reaches_catalog.py": (
        "import catalog.home",
        "Imports point one way",
        "synth.reaches_catalog -> catalog.home",
    ),
    "synth/reaches_flows.py": ("import flows.build", "Imports point one way", "synth.reaches_flows -> flows.build"),
    "catalog/reaches_flows.py": ("import flows.build", "Imports point one way", "catalog.reaches_flows -> flows.build"),
    "catalog/reaches_pages.py": ("import dashboard.app", "Imports point one way", "catalog.reaches_pages -> dashboard"),
    "flows/reaches_pages.py": ("import dashboard.app", "Imports point one way", "flows.reaches_pages -> dashboard.app"),
    "dashboard/reaches_flows.py": ("import flows.build", "Imports point one way", "dashboard.reaches_flows -> flows"),
    "synth/uses_prefect.py": ("import prefect", "synth is pure", "synth.uses_prefect -> prefect"),
    "synth/uses_duckdb.py": ("def f():\n    import duckdb", "synth is pure", "synth.uses_duckdb -> duckdb"),
    "synth/uses_mlflow.py": ("import mlflow", "synth is pure", "synth.uses_mlflow -> mlflow"),
    "synth/uses_streamlit.py": ("import streamlit", "synth is pure", "synth.uses_streamlit -> streamlit"),
    "catalog/reads_spec.py": ("import synth.spec", "catalog knows of synth only", "catalog.reads_spec -> synth.spec"),
    "catalog/uses_prefect.py": ("import prefect", "catalog is storage", "catalog.uses_prefect -> prefect"),
    "dashboard/draws.py": ("import synth.seeds", "dashboard knows of synth only", "dashboard.draws -> synth.seeds"),
    "dashboard/queries.py": ("import duckdb", "dashboard reads through catalog", "dashboard.queries -> duckdb"),
    "flows/build.py": ("import mlflow.data", "MLflow is imported by flows.tracking and", "flows.build -> mlflow"),
    "flows/shows.py": ("import streamlit", "Streamlit is imported by dashboard", "flows.shows -> streamlit"),
}

HONEST_IMPORTS = {
    "synth/__init__.py": "",
    "synth/nouns.py": "import numpy",
    "synth/errors.py": "",
    "synth/seeds.py": "",
    "synth/spec.py": "import pydantic\nfrom synth.errors import SpecError",
    "catalog/__init__.py": "from synth.errors import CatalogError",
    "catalog/home.py": "import duckdb\nfrom synth import nouns",
    "dashboard/__init__.py": "",
    "dashboard/app.py": "import streamlit\nimport catalog\nimport synth.nouns\nfrom synth.spec import CohortSpec",
    "flows/__init__.py": "",
    "flows/build.py": "import prefect\nimport flows.tracking\nimport synth.seeds\nimport catalog.home",
    "flows/tracking.py": "import mlflow",
    "flows/model_registry.py": "import mlflow",
    "flows/population_pyfunc.py": "import mlflow.pyfunc",
    "flows/images_pyfunc.py": "import mlflow.pyfunc",
}


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def _lint_tree(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source + "\n", encoding="utf-8")
    return _lint_imports(folder)


def test_imports_point_one_way() -> None:
    result = _lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_import_contracts_let_honest_code_pass(tmp_path: Path) -> None:
    result = _lint_tree(tmp_path, HONEST_IMPORTS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def planted_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    planted = {name: source for name, (source, _, _) in PLANTED_IMPORTS.items()}
    result = _lint_tree(tmp_path_factory.mktemp("planted"), HONEST_IMPORTS | planted)
    assert result.returncode != 0
    return result.stdout


@pytest.mark.parametrize("planted", PLANTED_IMPORTS)
def test_import_contracts_catch_a_planted_import(planted: str, planted_report: str) -> None:
    _, contract, chain = PLANTED_IMPORTS[planted]
    assert re.search(rf"^{re.escape(contract)}.* BROKEN", planted_report, re.MULTILINE), planted_report
    assert chain in planted_report


def test_every_import_contract_has_a_planted_violation() -> None:
    names = [contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]]
    untested = [name for name in names if not any(name.startswith(start) for _, start, _ in PLANTED_IMPORTS.values())]
    assert not untested


# -------------------------------------------------------------------------------------------- what gets installed


def _requirements(*extras: str) -> dict[str, Requirement]:
    texts = [*PROJECT["project"]["dependencies"]]
    for extra in extras:
        texts += PROJECT["project"]["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(text).name): Requirement(text) for text in texts}


def _locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    loose = [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)]
    assert not loose, f"not a plain 'name==version' pin: {loose}"
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in pins)}


def test_lock_fulfils_every_requirement() -> None:
    locked = _locked()
    wrong = [
        f"{requirement} but locked is {locked.get(name)}"
        for name, requirement in _requirements("dev").items()
        if name not in locked or not requirement.specifier.contains(locked[name])
    ]
    assert not wrong
    assert "setuptools" in locked, "needed by pip install --no-build-isolation"


def test_lock_has_no_gpu_packages() -> None:
    assert not [name for name in _locked() if re.match(r"nvidia|cuda|triton", name)]


def test_every_import_is_declared() -> None:
    declared = set(_requirements("onnx")) | {"packaging"}  # packaging comes with several of them
    providers = packages_distributions()
    missing = {
        f"{path}:{line}: {module}"
        for package in PACKAGES
        for path, tree in parse_package(package)
        for line, module in list_imports(tree)
        if (top := module.partition(".")[0]) not in {*sys.stdlib_module_names, *PACKAGES}
        and not declared & {canonicalize_name(name) for name in providers.get(top, [top])}
    }
    assert not missing, "imported, but not in pyproject.toml's dependencies:\n" + "\n".join(sorted(missing))
