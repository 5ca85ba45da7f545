"""The rules of the house, checked on the syntax tree: where imports point, where randomness and settings come from.

Each rule is a function from a module to the places that break it. ``RULES`` says where it holds, and carries snippets
that it must and must not catch, so that a rule that stopped working fails as loudly as code that breaks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("synth", "catalog", "flows", "dashboard")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

Found = Iterator[tuple[int, str]]


# ---------------------------------------------------------------------------------------------- names and the tree


def _imported_names(tree: ast.AST) -> dict[str, str]:
    """Return local name -> dotted name, for every import anywhere in the module."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """Return the full dotted name of ``a.b.c`` if ``a`` was imported, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return None
    return ".".join([names[node.id], *reversed(parts)])


def _used_names(tree: ast.AST) -> Found:
    """Yield every longest dotted use of an imported name, and every imported name itself."""
    names = _imported_names(tree)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            dotted = _dotted(node, names)
            if dotted:
                yield node.lineno, dotted
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def _imported_modules(tree: ast.AST) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def _is_under(dotted: str, prefix: str) -> bool:
    return dotted == prefix or dotted.startswith(prefix + ".")


# ----------------------------------------------------------------------------------------------------------- rules

NUMPY_RANDOM_TYPES = (["Generator"], ["Philox"], ["SeedSequence"], ["BitGenerator"])
TORCH_SAMPLERS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
TORCH_IN_PLACE = {
    "normal_",
    "uniform_",
    "random_",
    "bernoulli_",
    "exponential_",
    "cauchy_",
    "geometric_",
    "log_normal_",
}
TORCH_GLOBAL = ("torch.manual_seed", "torch.seed", "torch.random", "torch.rand_like", "torch.randn_like")


def find_global_randomness(tree: ast.AST) -> Found:
    """Randomness that is not a generator passed as an argument; ``default_rng`` included, for it is not Philox."""
    for line, module in _imported_modules(tree):
        if _is_under(module, "random"):
            yield line, "import of 'random'"
    for line, dotted in _used_names(tree):
        in_numpy = _is_under(dotted, "numpy.random") and dotted.split(".")[2:3] not in NUMPY_RANDOM_TYPES
        in_torch = any(_is_under(dotted, name) for name in TORCH_GLOBAL)
        if in_numpy or in_torch or re.match(r"torch\.cuda\.(manual_)?seed", dotted):
            yield line, f"use of '{dotted}'"
    yield from _find_torch_draws(tree)


def _find_torch_draws(tree: ast.AST) -> Found:
    names = _imported_names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg == "generator" for keyword in node.keywords):
            continue
        dotted = _dotted(node.func, names) or ""
        if dotted in {f"torch.{name}" for name in TORCH_SAMPLERS}:
            yield node.lineno, f"'{dotted}' without generator="
        elif isinstance(node.func, ast.Attribute) and node.func.attr in TORCH_IN_PLACE:
            yield node.lineno, f"'.{node.func.attr}()' without generator="


def find_system_randomness(tree: ast.AST) -> Found:
    """Randomness that no seed can bring back."""
    for line, dotted in _used_names(tree):
        if dotted in {"os.urandom", "uuid.uuid1", "uuid.uuid4"} or _is_under(dotted, "secrets"):
            yield line, f"use of '{dotted}'"


def find_environment_reads(tree: ast.AST) -> Found:
    """Reads and writes of environment variables."""
    for line, dotted in _used_names(tree):
        if any(_is_under(dotted, f"os.{name}") for name in ("environ", "environb", "getenv", "putenv", "unsetenv")):
            yield line, f"use of '{dotted}'"


def find_prints(tree: ast.AST) -> Found:
    """Output to the terminal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno, "call of print()"
    for line, dotted in _used_names(tree):
        if _is_under(dotted, "sys.stdout") or _is_under(dotted, "sys.stderr"):
            yield line, f"use of '{dotted}'"


def find_broad_excepts(tree: ast.AST) -> Found:
    """``except:``, ``except Exception``, ``except BaseException`` and their spelling with ``suppress``."""
    names = _imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield node.lineno, "bare except"
            elif _names_broad(node.type, names):
                yield node.lineno, f"except {ast.unparse(node.type)}"
        elif (
            isinstance(node, ast.Call)
            and _dotted(node.func, names) == "contextlib.suppress"
            and any(_names_broad(argument, names) for argument in node.args)
        ):
            yield node.lineno, ast.unparse(node)


def _names_broad(node: ast.AST, names: dict[str, str]) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_names_broad(element, names) for element in node.elts)
    name = node.id if isinstance(node, ast.Name) else _dotted(node, names)
    return name in {"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"}


def find_hidden_imports(tree: ast.AST) -> Found:
    """Imports by name, which import-linter cannot see."""
    for line, dotted in _used_names(tree):
        if dotted in {"importlib.import_module", "runpy.run_module", "runpy.run_path"}:
            yield line, f"use of '{dotted}'"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
            yield node.lineno, "call of __import__()"


PICKLING_MODULES = ("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")


def find_pickle(tree: ast.AST) -> Found:
    """Anything that reads or writes pickles: a file that can run code is not data."""
    for line, module in _imported_modules(tree):
        if any(_is_under(module, name) for name in PICKLING_MODULES):
            yield line, f"import of '{module}'"
    for line, dotted in _used_names(tree):
        if dotted in {"torch.load", "torch.save", "pandas.read_pickle", "pandas.to_pickle"}:
            yield line, f"use of '{dotted}'"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "to_pickle":
                yield node.lineno, "'.to_pickle()'"
            for keyword in node.keywords:
                refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not refused:
                    yield node.lineno, "allow_pickle that is not False"


@dataclass(frozen=True)
class Rule:
    """One rule: where it holds, where it does not, and snippets it must and must not catch."""

    find: Callable[[ast.AST], Found]
    packages: tuple[str, ...]
    caught: tuple[str, ...]
    passed: tuple[str, ...]
    exempt: frozenset[str] = frozenset()


RULES = {
    "no global randomness": Rule(
        find_global_randomness,
        PACKAGES,
        caught=(
            "import numpy as np\nnp.random.seed(0)",
            "import numpy as np\nx = np.random.normal(size=3)",
            "import numpy\nrng = numpy.random.default_rng()",
            "import numpy as np\nrng = np.random.default_rng(7)",
            "from numpy.random import default_rng",
            "from numpy import random as r\nr.rand(3)",
            "from numpy import random",
            "import numpy.random as r\nr.shuffle([1])",
            "import numpy as np\nr = np.random\n",
            "import numpy as np\ng = np.random.RandomState(0)",
            "import numpy as np\ng = np.random.Generator(np.random.PCG64(0))",
            "import random",
            "from random import choice",
            "def f():\n    import random as dice\n    return dice.random()",
            "import torch\ntorch.manual_seed(0)",
            "import torch\ntorch.cuda.manual_seed_all(0)",
            "from torch import manual_seed",
            "import torch\nx = torch.randn(3)",
            "import torch\nx = torch.randn_like(y)",
            "x.normal_()",
        ),
        passed=(
            "import numpy as np\ng = np.random.Generator(np.random.Philox(key=3))",
            "import numpy as np\ndef f(generator: np.random.Generator) -> float:\n    return generator.normal()",
            "from numpy.random import Generator, Philox, SeedSequence",
            "def f(random):\n    return random.normal()",
            "from synth.seeds import stream\nx = stream(1, 2, 3, 'a').random()",
            "import torch\nx = torch.randn(3, generator=g)\nx.normal_(generator=g)",
            "'''np.random.seed(0) and import random'''  # np.random.rand()",
        ),
    ),
    "no system randomness": Rule(
        find_system_randomness,
        ("synth",),
        caught=("import os\nos.urandom(4)", "import uuid\nuuid.uuid4()", "from secrets import token_hex"),
        passed=("import os\nos.fsync(3)", "import uuid\nuuid.UUID(int=3)"),
    ),
    "settings are read in one place": Rule(
        find_environment_reads,
        PACKAGES,
        caught=(
            "import os\nx = os.environ['HOME']",
            "import os\nx = os.environ.get('HOME')",
            "import os as o\nx = o.getenv('HOME')",
            "from os import environ",
            "from os import getenv as g",
            "def f():\n    import os\n    os.environ['A'] = 'b'",
        ),
        passed=("import os\nos.replace('a', 'b')", "environ = {}\nenviron['x'] = 1", "'os.environ'"),
        exempt=frozenset({"flows/settings.py", "catalog/home.py"}),
    ),
    "no prints": Rule(
        find_prints,
        ("synth", "catalog"),
        caught=("print('x')", "import sys\nsys.stdout.write('x')", "from sys import stderr"),
        passed=("console.print('x')", "'print(x)'", "def describe(print_it): ...", "import sys\nsys.exit(1)"),
    ),
    "no broad except": Rule(
        find_broad_excepts,
        PACKAGES,
        caught=(
            "try:\n    f()\nexcept:\n    pass",
            "try:\n    f()\nexcept Exception:\n    pass",
            "try:\n    f()\nexcept BaseException as error:\n    raise",
            "try:\n    f()\nexcept (ValueError, Exception):\n    pass",
            "import builtins\ntry:\n    f()\nexcept builtins.Exception:\n    pass",
            "from contextlib import suppress\nwith suppress(Exception):\n    f()",
        ),
        passed=(
            "try:\n    f()\nexcept ValueError:\n    pass",
            "try:\n    f()\nexcept (OSError, KeyError) as error:\n    raise",
            "import contextlib\nwith contextlib.suppress(OSError):\n    f()",
            "class Broken(Exception): ...",
        ),
    ),
    "no hidden imports": Rule(
        find_hidden_imports,
        ("synth", "catalog", "dashboard"),
        caught=(
            "import importlib\nimportlib.import_module('flows.build')",
            "from importlib import import_module",
            "__import__('flows')",
        ),
        passed=("import importlib.util\nimportlib.util.find_spec('nilearn')", "import importlib.metadata"),
    ),
    "no pickle": Rule(
        find_pickle,
        PACKAGES,
        caught=(
            "import pickle",
            "from pickle import loads",
            "import joblib",
            "import torch\nx = torch.load('a')",
            "from torch import load",
            "import numpy as np\nx = np.load('a', allow_pickle=True)",
            "import pandas as pd\nx = pd.read_pickle('a')",
            "frame.to_pickle('a')",
        ),
        passed=(
            "import numpy as np\nx = np.load('a', allow_pickle=False)",
            "from safetensors.torch import load",
            "'pickle'",
        ),
    ),
}


@lru_cache
def _modules(package: str) -> tuple[tuple[str, ast.Module], ...]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return tuple(
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"), str(path))) for path in paths
    )


@pytest.mark.parametrize("name", RULES)
def test_code_keeps_the_rule(name: str) -> None:
    rule = RULES[name]
    broken = [
        f"{path}:{line}: {what}"
        for package in rule.packages
        for path, tree in _modules(package)
        if path not in rule.exempt
        for line, what in rule.find(tree)
    ]
    assert not broken, f"rule '{name}' is broken:\n" + "\n".join(broken)


@pytest.mark.parametrize(("name", "source"), [(name, source) for name, rule in RULES.items() for source in rule.caught])
def test_rule_catches_a_planted_violation(name: str, source: str) -> None:
    assert list(RULES[name].find(ast.parse(source)))


@pytest.mark.parametrize(("name", "source"), [(name, source) for name, rule in RULES.items() for source in rule.passed])
def test_rule_lets_honest_code_pass(name: str, source: str) -> None:
    assert not list(RULES[name].find(ast.parse(source)))


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


# -------------------------------------------------------------------------------------------------- light to import


def test_synth_init_is_empty() -> None:
    assert (ROOT / "synth" / "__init__.py").read_bytes() == b""


@pytest.mark.parametrize("module", ["synth.nouns", "synth.errors", "synth.seeds", "synth.spec"])
def test_words_load_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'prefect', 'numba', 'mlflow', 'duckdb', 'streamlit', 'pyarrow', 'pandas', 'nilearn', 'scipy'}"
    code = f"import sys; import {module}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"importing {module} loads {result.stderr}"


# ----------------------------------------------------------------------------------------- nothing tied to a machine

# Written in pieces so that this file does not match itself.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/$}-])(?:"
    + "|".join(
        [
            "/" + "work/(?:main|shared)",
            "/" + "root/",
            "/" + "home/[a-z]",
            "/" + "Users/",
            "/" + r"tmp/w\b",
            "/" + "opt/wheels",
            r"[A-Z]:\\+" + "Users",
        ]
    )
    + ")"
)


def _tracked_files() -> list[Path]:
    try:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so nothing says which files are ours")
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_paths_in_tracked_files() -> None:
    found = []
    for path in _tracked_files():
        content = path.read_bytes()
        if b"\0" not in content[:8000]:
            for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
                if MACHINE_PATH.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "paths of one machine:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "pieces", [("/", "work/main/x"), ("/", "root/.cache"), ("at '/", "home/ann/x'"), ("/", "tmp/w/v")]
)
def test_machine_paths_are_caught(pieces: tuple[str, str]) -> None:
    assert MACHINE_PATH.search("".join(pieces))


@pytest.mark.parametrize("text", ["https://x.org/home/page", "a/work/main", "/tmp/walk", "$HOME/root/x", "../home/x"])
def test_other_paths_pass(text: str) -> None:
    assert not MACHINE_PATH.search(text)


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
        for path, tree in _modules(package)
        for line, module in _imported_modules(tree)
        if (top := module.partition(".")[0]) not in {*sys.stdlib_module_names, *PACKAGES}
        and not declared & {canonicalize_name(name) for name in providers.get(top, [top])}
    }
    assert not missing, "imported, but not in pyproject.toml's dependencies:\n" + "\n".join(sorted(missing))
