"""Finders of what the house does not allow, each a function from a syntax tree to the places that break its rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("synth", "catalog", "flows", "dashboard")

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


def list_imports(tree: ast.AST) -> Found:
    """Yield every module that is imported anywhere in the module."""
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
    for line, module in list_imports(tree):
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
    for line, module in list_imports(tree):
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


@lru_cache
def parse_package(package: str) -> tuple[tuple[str, ast.Module], ...]:
    """Return (path, syntax tree) of every module of a package."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return tuple(
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"), str(path))) for path in paths
    )
