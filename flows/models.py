"""Models that recipes name: looked up, checked and kept below the home by their hash before anything is planned.

What an address names may change tomorrow; a cohort and its replay rest on the hash alone.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.home import explain_refusals, make_folder
from flows.label_maps import keep_label_maps
from flows.settings import Settings
from flows.shelf import FolderShelf
from synth.errors import CohortiumError, ModelError, PopulationError, suggest_nearest
from synth.pins import Pin, read_pin
from synth.plan import CohortPlan, plan_cohort
from synth.population import POPULATIONS
from synth.spec import CohortSpec

REGISTRY = "models:/"
TAKES_MODEL = ("flow", "mri-flow")  # engines


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model: what it is called in errors, its files, and how a folder is checked and its hash found."""

    name: str
    files: tuple[str, ...]
    read_hash: Callable[[Path], str]
    error: type[CohortiumError]


def _hash_images(folder: Path) -> str:
    return str(importlib.import_module("synth.learned.model_files").load_model(folder).hash)  # loads torch


def _hash_population(folder: Path) -> str:
    files: Any = importlib.import_module("synth.population.model_files")
    return str(files.fingerprint_model(files.load_model(folder)))


IMAGES = Kind("model of images", ("model.json", "weights.safetensors", "README.md"), _hash_images, ModelError)
PEOPLE = Kind("population model", ("model.json", "model.safetensors", "README.md"), _hash_population, PopulationError)


def pin_models(spec: CohortSpec, settings: Settings, models: Path | None = None) -> CohortSpec:
    """Return ``spec`` with the hashes of the models it names, which are kept in ``models`` (default: of the home).

    So are label maps. A recipe without either is returned as it is. Raises SpecError for a file that is no label map;
    ModelError or PopulationError, saying what there is, if an address names no model or a damaged one; StorageError if
    the disk refuses or the registry cannot be read.
    """
    kept = models or settings.home.models
    document: dict[str, Any] = {}
    source = spec.population.source
    if source not in POPULATIONS and (_is_address(source) or read_pin(source)):
        document["population"] = {"source": str(_pin(PEOPLE, source, None, settings, kept))}
    if spec.imaging.engine in TAKES_MODEL and spec.imaging.model is not None:
        pin = _pin(IMAGES, spec.imaging.model, _find_shipped(), settings, kept)
        document["imaging"] = {"model": str(pin)}
        if "contrasts" not in spec.imaging.model_fields_set:
            described = importlib.import_module("synth.learned.model_files").read_description(kept / pin.sha256)
            document["imaging"]["contrasts"] = (described.kind,)
    if spec.imaging.anatomy.labels:
        labels = keep_label_maps(spec, settings, kept)
        anatomy = {**spec.imaging.anatomy.model_dump(exclude_unset=True), "labels": labels}
        document["imaging"] = {**document.get("imaging", {}), "anatomy": anatomy}
    if not document:
        return spec
    asked = spec.model_dump(exclude_unset=True)
    for part, changed in document.items():
        asked[part] = {**asked.get(part, {}), **changed}
    return CohortSpec.model_validate(asked)


def plan_without_trace(spec: CohortSpec, settings: Settings) -> CohortPlan:
    """Return the plan of a recipe; the models it names are kept nowhere. Raises as pin_models and plan_cohort."""
    with tempfile.TemporaryDirectory() as place:
        return plan_cohort(pin_models(spec, settings, Path(place)), settings.shard_subjects, FolderShelf(Path(place)))


def _is_address(text: str) -> bool:
    return text.startswith(REGISTRY) or "/" in text or Path(text).is_dir()


def _pin(kind: Kind, address: str, shipped: Path | None, settings: Settings, kept: Path) -> Pin:
    """Return the pin of the model at ``address`` after it was kept."""
    pin = read_pin(address)
    if pin is not None:
        if not (kept / pin.sha256).is_dir():
            keep_model(kind, _find_pinned(kind, pin, shipped, settings), kept, pin.sha256)
        return pin
    name, folder = _find_named(kind, address, shipped, settings)
    return Pin(name, keep_model(kind, folder, kept))


def find_model(kind: Kind, address: str, settings: Settings) -> Path:
    """Return the folder of the model at ``address``; raises as pin_models."""
    shipped = _find_shipped() if kind is IMAGES else None
    pin = read_pin(address)
    if pin is not None:
        return _find_pinned(kind, pin, shipped, settings)
    return _find_named(kind, address, shipped, settings)[1]


def _find_shipped() -> Path:
    return Path(importlib.import_module("synth.learned.model_files").SHIPPED)


def _find_named(kind: Kind, address: str, shipped: Path | None, settings: Settings) -> tuple[str, Path]:
    """Return the name that is pinned, without a path, and the folder of the model at ``address``."""
    if address.startswith(REGISTRY):
        registry: Any = importlib.import_module("flows.model_registry")
        name, folder = registry.fetch_version(settings, address, kind.name)
        return str(name), Path(folder)
    folder = _find_folder(kind, address, shipped)
    return folder.resolve().name, folder


def _find_folder(kind: Kind, address: str, shipped: Path | None) -> Path:
    known = sorted(path.name for path in shipped.iterdir()) if shipped is not None and shipped.is_dir() else []
    if shipped is not None and address in known:
        return shipped / address
    folder = Path(address).expanduser()
    if not folder.is_dir():
        listed = f" Shipped: {', '.join(known)}." if known else ""
        raise kind.error(
            f"'{address}' is no {kind.name}.{suggest_nearest(address, known)}{listed} Give the name of a shipped one, "
            "the folder of a model, or models:/NAME@ALIAS."
        )
    return folder


def _find_pinned(kind: Kind, pin: Pin, shipped: Path | None, settings: Settings) -> Path:
    """Return the folder of a pinned model that is not below this home: shipped, or still kept by the real home."""
    places = [settings.home.models / pin.sha256, *([shipped / pin.name] if shipped is not None else [])]
    for place in places:
        if place.is_dir():
            return place
    raise kind.error(
        f"{kind.name} {pin.sha256[:12]} ('{pin.name}') is not in '{settings.home.models}'. Restore it there, or name "
        "it by its address, without @sha256."
    )


def keep_model(kind: Kind, folder: Path, kept: Path, expected: str | None = None) -> str:
    """Copy a model's files to the folder of its hash, whole or not at all; return the hash."""
    found = kind.read_hash(folder)
    if expected is not None and found != expected:
        raise kind.error(f"'{folder}' holds {kind.name} {found[:12]}, not {expected[:12]}; it was changed or replaced.")
    if _is_whole(kind, kept / found, found):
        return found
    make_folder(kept)
    with explain_refusals(kept / found):
        draft = Path(tempfile.mkdtemp(prefix=".keeping-", dir=kept))
        try:
            for name in kind.files:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, draft / name)
                    _sync(draft / name)
            shutil.rmtree(kept / found, ignore_errors=True)  # damaged
            draft.chmod(0o755)
            draft.rename(kept / found)
            _sync(kept)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return found


def _is_whole(kind: Kind, folder: Path, expected: str) -> bool:
    try:
        return folder.is_dir() and kind.read_hash(folder) == expected
    except (ModelError, PopulationError):
        return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
