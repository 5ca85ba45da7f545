"""Nothing that a user meets is undocumented: commands, options, recipe keys, tables, columns, engines, measurements."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from catalog.tables import TABLES
from catalog.views import VIEWS
from flows.cli import app
from synth.engines import ENGINES
from synth.measure import MEASURES
from synth.population import POPULATIONS
from synth.spec import CohortSpec

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST_DESCRIPTION = 250


def _commands(command: Any, name: str = "cohortium") -> Iterator[tuple[str, Any]]:
    """Yield (full name, command) of the app, its groups and their commands."""
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _commands(child, f"{name} {child_name}")


COMMANDS = dict(_commands(get_command(app)))


def _is_sentence(text: str | None) -> bool:
    """Whether ``text`` says something: several words, a capital (or a name) first, a full stop last."""
    words = (text or "").split()
    return len(words) >= 2 and len(text or "") <= LONGEST_DESCRIPTION and (text or "")[-1] == "."


# -------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_help(name: str) -> None:
    help_text = (COMMANDS[name].help or "").strip()
    assert len(help_text.split()) >= 3, f"'{name} --help' explains nothing"


@pytest.mark.parametrize("name", COMMANDS)
def test_parameters_have_help(name: str) -> None:
    silent = [p.name for p in COMMANDS[name].params if p.name != "help" and not (getattr(p, "help", "") or "").strip()]
    assert not silent, f"'{name} --help' leaves these unexplained: {silent}"


# ------------------------------------------------------------------------------------------------------- catalog


@pytest.mark.parametrize("table", [*TABLES, *VIEWS], ids=lambda table: table.name)
def test_table_and_columns_are_described(table: Any) -> None:
    assert _is_sentence(table.description), f"table {table.name}: {table.description!r}"
    silent = [column.name for column in table.columns if not _is_sentence(column.description)]
    assert not silent, f"columns of {table.name} without a sentence: {silent}"


# -------------------------------------------------------------------------- recipes, engines, measures, populations


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str | None, bool]]:
    """Yield (dotted key, description, whether the key opens a table of further keys)."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        yield f"{prefix}{name}", field.description, bool(inner)
        for part in inner:
            yield from _keys(part, f"{prefix}{name}.")


def test_recipe_keys_are_described() -> None:
    assert not [key for key, text, is_table in _keys(CohortSpec) if not is_table and len((text or "").split()) < 2]


def _parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for kind in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _parts(kind)


@pytest.mark.parametrize("part", list(_parts(CohortSpec)), ids=lambda part: part.__name__)
def test_recipe_tables_are_described(part: type[BaseModel]) -> None:
    assert (part.__doc__ or "").strip()


@pytest.mark.parametrize("name", ENGINES)
def test_engine_is_described(name: str) -> None:
    assert len(ENGINES[name].description.split()) >= 3


@pytest.mark.parametrize("name", MEASURES)
def test_measure_is_described(name: str) -> None:
    assert MEASURES[name].unit
    assert len(MEASURES[name].description.split()) >= 3


@pytest.mark.parametrize("name", POPULATIONS)
def test_population_names_its_sources(name: str) -> None:
    assert POPULATIONS[name].describe_sources()


# --------------------------------------------------------------------------------------- what the pages tell to type

CODE_BLOCK = re.compile(r"^```(?:\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMAND_START = re.compile(r"^\$?\s*((?:\S*/)?cohortium|make)\s+(.*)$")


def _typed_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield ('make' or 'cohortium', arguments) for every such command in the code of a Markdown page."""
    blocks = CODE_BLOCK.findall(text)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += CODE_INLINE.findall(CODE_BLOCK.sub("", text))
    for line in lines:
        for piece in _split_pipeline(line):
            if (match := COMMAND_START.match(piece.strip())) is not None:
                yield match[1].rpartition("/")[2], _split_words(match[2])


def _split_pipeline(line: str) -> list[str]:
    """Split at ``|``, ``;`` and ``&&`` outside quotes; what follows a ``#`` is a comment."""
    pieces = re.split(r"""((?:"[^"]*"|'[^']*'|[^"'|;&#])+)|(&&|[|;])|(#.*$)""", line)
    return [piece for piece in pieces if piece and piece.strip() and not piece.startswith(("#", "&&", "|", ";"))]


def _split_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an apostrophe in a placeholder
        return text.split()


def _problem(program: str, words: list[str]) -> str | None:
    """Return what is wrong with a typed command, or None."""
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        wrong = [w for w in words if "=" not in w and not re.search(rf"^{re.escape(w)}:", makefile, re.MULTILINE)]
        return f"no target {wrong}" if wrong else None
    name = "cohortium"
    for word in words:
        if f"{name} {word}" in COMMANDS:
            name = f"{name} {word}"
        elif not word.startswith("-") and getattr(COMMANDS[name], "commands", {}):
            return f"'{name}' has no command '{word}'"
        elif word.startswith("--"):
            known = {"--help", *(o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts))}
            if word.partition("=")[0] not in known:
                return f"'{name}' has no option '{word}'"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_the_page_exist(page: Path) -> None:
    wrong = [
        f"{program} {' '.join(words)}: {problem}"
        for program, words in _typed_commands(page.read_text(encoding="utf-8"))
        if (problem := _problem(program, words)) is not None
    ]
    assert not wrong


def test_readme_names_its_two_commands() -> None:
    typed = list(_typed_commands((ROOT / "README.md").read_text(encoding="utf-8")))
    assert ("make", ["demo"]) in typed
    assert ("make", ["test"]) in typed


@pytest.mark.parametrize("line", ["make nonsense", "cohortium nonsense x", ".venv/bin/cohortium build --nonsense"])
def test_page_check_catches_a_planted_command(line: str) -> None:
    for page in (f"```bash\n$ {line}  # x\n```\n", f"Run `{line}`.", f"```\nmake test && {line} | head\n```\n"):
        assert any(_problem(program, words) for program, words in _typed_commands(page)), page


def test_page_check_lets_honest_commands_pass() -> None:
    page = (
        "Run `make test`, or:\n```bash\nmake demo PYTHON=python3.12\n"
        'cohortium sql "SELECT 1; -- make nonsense | x" --help\n```\n'
    )
    typed = list(_typed_commands(page))
    assert len(typed) == 3
    assert not [words for program, words in typed if _problem(program, words)]


def test_makefile_targets_have_help() -> None:
    targets = re.findall(r"^([a-z][a-z-]*):(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert not [name for name, rest in targets if "## " not in rest]
