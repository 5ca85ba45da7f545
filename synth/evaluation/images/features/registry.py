"""The one registry of features: what can be asked for by name, and how it is fitted to a reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from synth.errors import PermanentError, suggest_nearest
from synth.evaluation.images.features.base import FeatureExtractor, Tell, tell_nobody
from synth.evaluation.images.features.encoder import Encoder
from synth.evaluation.images.features.encoder_files import EncoderFileError, encoder_key, load_encoder, save_encoder
from synth.evaluation.images.features.encoder_lessons import EncoderSettings
from synth.evaluation.images.features.encoder_training import LEAST_IMAGES, fit_encoder
from synth.evaluation.images.features.local_encoders import FileSettings, load_local_encoder
from synth.evaluation.images.features.pixels import fit_pixels
from synth.evaluation.images.features.radiomics import fit_radiomics
from synth.evaluation.images.sets import RealImages

FEATURES = {
    "encoder": "A network trained on the reference's training patients: to tell attributes, and to know images again.",
    "radiomics": "Intensities, textures and shape by the definitions of IBSI, in units of the training images' spread.",
    "pixels": "Principal components of pixels averaged to 16 x 16 (volumes: 8 x 8 x 8).",
    "file:PATH": "A local encoder: TorchScript, ONNX, or a folder with an encoder saved by Cohortium.",
}
_FILE = "file:"


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """How features are made. ``file`` is for encoders in files; ``device`` is where networks run."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    file: FileSettings = field(default_factory=FileSettings)
    device: str = "cpu"


class UnknownFeaturesError(PermanentError):
    """No features have that name."""


def default_features(real: RealImages) -> tuple[str, ...]:
    """Return the features to judge by where nobody says: an encoder only if there are images to train it on."""
    return ("encoder", "radiomics", "pixels") if len(real.train) >= LEAST_IMAGES else ("radiomics", "pixels")


def make_extractor(
    name: str,
    real: RealImages,
    settings: FeatureSettings | None = None,
    tell: Tell = tell_nobody,
    cache: Path | None = None,
) -> FeatureExtractor:
    """Return the features ``name`` fitted to a reference; trained encoders are kept in the folder ``cache``, if given.

    Raises UnknownFeaturesError, TooFewImagesError or EncoderFileError, saying what to do.
    """
    settings = settings or FeatureSettings()
    if name == "pixels":
        return fit_pixels(real)
    if name == "radiomics":
        return fit_radiomics(real, tell)
    if name == "encoder":
        return _find_encoder(real, settings, tell, cache)
    if name.startswith(_FILE) and name != _FILE:
        path = Path(name.removeprefix(_FILE))
        return load_local_encoder(path, len(real.train.shape), settings.file, settings.device)
    raise UnknownFeaturesError(
        f"'{name}' are no features.{suggest_nearest(name, FEATURES)} There are {', '.join(FEATURES)}."
    )


def _find_encoder(real: RealImages, settings: FeatureSettings, tell: Tell, cache: Path | None) -> Encoder:
    """Return the encoder kept for this reference and settings, else train one and keep it."""
    if cache is None:
        return fit_encoder(real, settings.encoder, settings.device, tell)
    folder = cache / encoder_key(real, settings.encoder)
    if folder.is_dir():
        try:
            return load_encoder(folder, settings.device)
        except EncoderFileError:
            tell("the kept encoder is damaged: training it again", 0, 1)
    encoder = fit_encoder(real, settings.encoder, settings.device, tell)
    save_encoder(encoder, folder)
    return encoder
