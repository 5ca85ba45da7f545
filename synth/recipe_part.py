"""What the parts of every recipe share: frozen models, names, and problems told in a user's words."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from synth.errors import suggest_nearest

MAX_NAME = 40


def refuse_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return ``values``; raises ValueError if one is listed twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"each value may be listed once, got {list(values)}")
    return values


Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Unique = AfterValidator(refuse_repeats)


class RecipePart(BaseModel):
    """A part of a recipe: frozen, with no unknown keys and no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_name(name: str) -> str:
    """Return the name of a recipe; raises ValueError if it is not one that files and tables can carry."""
    ok = name and all(c.isascii() and (c.islower() or c.isdigit() or c == "-") for c in name)
    if not ok or name.startswith("-"):
        raise ValueError(
            f"name '{name}' is not allowed; use a-z, 0-9 and '-', starting with a letter or digit, "
            f"{MAX_NAME} characters at most"
        )
    return name


def explain_problems(error: ValidationError, recipe: type[BaseModel]) -> list[str]:
    """Return a line for each problem of a recipe: the field, what was given, what is allowed."""
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        field = ".".join(location) or "recipe"
        if problem["type"] == "extra_forbidden":
            known = sorted(_known_keys(recipe, location[:-1]))
            hint = suggest_nearest(location[-1], known) or f" Known keys here: {', '.join(known)}."
            lines.append(f"  {field}: unknown key.{hint}")
        elif problem["type"] == "missing":
            lines.append(f"  {field}: required, but not given.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
            lines.append(f"  {field}: {message}{given}")
    return lines


def _known_keys(recipe: type[BaseModel], location: list[str]) -> set[str]:
    model = recipe
    for part in location:
        if part.isdecimal():
            continue  # a place in a list
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return set()
        model = inner[0]
    return set(model.model_fields)
