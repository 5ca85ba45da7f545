"""The rules of the house, checked on the syntax tree: where randomness, settings, output and pickles may come from.

``RULES`` says where each finder of tests/code_rules.py holds, and carries snippets that it must and must not catch, so
that a rule that stopped working fails as loudly as code that breaks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.code_rules import (
    PACKAGES,
    ROOT,
    Found,
    find_broad_excepts,
    find_environment_reads,
    find_global_randomness,
    find_hidden_imports,
    find_pickle,
    find_prints,
    find_system_randomness,
    parse_package,
)


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


@pytest.mark.parametrize("name", RULES)
def test_code_keeps_the_rule(name: str) -> None:
    rule = RULES[name]
    broken = [
        f"{path}:{line}: {what}"
        for package in rule.packages
        for path, tree in parse_package(package)
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
