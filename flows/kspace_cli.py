"""``cohortium kspace``: the k-space of stored images as files."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.settings import load_settings
from flows.terminal import Home, Json, print_json


def kspace(
    image_ids: Annotated[list[str], typer.Argument(metavar="IMAGE_ID...", help="Images of engine mri, no maps.")],
    out: Annotated[Path, typer.Option(help="Folder to write IMAGE_ID.npz to.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write the k-space that images were reconstructed from: what each coil acquired, line by line, noise included.

    Each IMAGE_ID.npz is read by numpy.load: kspace (coil, x, y, z), complex, frequency 0 first, 0 where a line was not
    acquired; sampled, the lines that were, along axis 'lines'; their weights; sensitivities of the coils, if there are
    several. The image is the magnitude of the inverse orthonormal FFT of kspace x weights along 'axes', times scale.
    """
    settings, saved = load_settings(home), []
    for one in importlib.import_module("flows.kspace").save_kspace(settings, image_ids, out):
        saved.append(asdict(one))
        if not as_json:
            verdict = (
                "the stored image follows from it" if one.identical else "the stored image had another draw of noise"
            )
            typer.echo(f"{one.file}: {one.coils} coils, {one.sampled_share:.0%} of the lines; {verdict}")
    if as_json:
        print_json(saved)
