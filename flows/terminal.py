"""What commands say and how: answers on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True, highlight=False)
SHOW_EVERY_S = 0.1

Home = Annotated[Path | None, typer.Option(help="Folder of the catalog (default: COHORTIUM_HOME or ./cohortium-data).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; everything else on stderr.")]


def say(message: str) -> None:
    """Print a remark for the user on stderr."""
    console.print(message, markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    typer.echo(json.dumps(document, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout; a column whose cells are all numbers is aligned to the right."""
    texts = [[_show(value) for value in row] for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        numbers = all(isinstance(row[place], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(table)


def _show(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@contextmanager
def show_progress(total: int, done: int, unit: str = "images") -> Iterator[Any]:
    """Show a progress bar with rate and time left; yield the function that advances it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=120) as progress:
        bar = progress.add_task(unit, total=total, completed=done, rate="")

        def advance(amount: int) -> None:
            progress.advance(bar, amount)
            speed = progress.tasks[0].speed
            progress.update(
                bar, rate=f"{speed:,.1f}/s" if speed and speed < 1000 else f"{speed:,.0f}/s" if speed else ""
            )

        yield advance


@contextmanager
def show_steps() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar that names its step; yield the function that is told (step, done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        bar = progress.add_task("starting", total=None)
        step, drawn = "", 0.0

        def tell(what: str, done: int, total: int) -> None:
            nonlocal step, drawn
            now = time.monotonic()
            if what == step and done < total and now - drawn < SHOW_EVERY_S:
                return  # drawing costs more than reading a small image
            if what != step:
                progress.reset(bar)
            step, drawn = what, now
            progress.update(bar, description=what, completed=done, total=total)

        yield tell


def say_steps(say_it: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """Return a function that says each step once: for commands that show another bar already."""
    said: set[str] = set()

    def tell(what: str, done: int, total: int) -> None:
        if what not in said:
            said.add(what)
            say_it(f"scorecard: {what}")

    return tell
