"""Was this patient trained on? The attack that has the generator itself: what it was trained on, it knows too well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from synth.errors import PermanentError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.privacy.attack_scores import AttackScores, gather_targets
from synth.evaluation.images.privacy.targets import LEAST_TARGETS, Targets
from synth.evaluation.images.sets import BLOCK_BYTES, ImageSet
from synth.evaluation.ranks import Floats, Ints
from synth.seeds import stream, stream_key

Losses = Callable[[Floats32, int], Floats]  # images (n, *grid) from 0 to 1, seed of the noise -> loss of each
ATTACK = "membership_loss"
NO_GENERATOR = "no generator was given; only one who has the model can make this attack"
DRAWS = 8  # of noise, over which losses are averaged
SCALES = (0.0, 1.0, 2.0, 4.0)  # pixels; between two neighbouring ones lies a band of detail
RIDGE = 1e-2


def attack_losses(
    losses: Losses | None,
    train: ImageSet,
    unseen: ImageSet,
    targets: Targets,
    seed: int = 0,
    reference_losses: Losses | None = None,
    draws: int = DRAWS,
) -> AttackScores:
    """Return the attack by the loss of a diffusion or flow model (Carlini et al., USENIX Security 2023).

    ``losses(images, seed)`` gives the loss of each image at fixed noise levels, with noise drawn from ``seed``; it is
    averaged over ``draws`` seeds. Some images are harder than others for every model, so the suspicion is the loss
    expected of an unseen image minus the loss (Watson et al., ICLR 2022). Expected is what ``reference_losses``, a
    model trained on other patients, says, or else what images of the reference with as much detail at each scale have.

    Raises PermanentError if ``losses`` does not return one number an image.
    """
    if losses is None or targets.reason:
        return AttackScores.missing(ATTACK, "", targets.reason or NO_GENERATOR)
    parts = ((train, targets.members), (unseen, targets.others), (unseen, targets.reference))
    found = _average_losses(losses, parts, seed, draws)
    if not np.isfinite(found).all():
        return AttackScores.missing(
            ATTACK, "", "the generator's loss is not a number (NaN or infinite) for some images"
        )
    attacked = len(targets.members) + len(targets.others)
    if reference_losses is not None:
        expected = _average_losses(reference_losses, parts[:2], seed, draws)
        how = "a model of other patients"
    else:
        expected = _expect_losses(describe_detail(parts), found[attacked:], attacked)
        how = "unseen images of as much detail"
    values = expected[:attacked] - found[:attacked]
    if not np.isfinite(values).all():
        return AttackScores.missing(ATTACK, "", "the reference model's loss is not a number for some images")
    return gather_targets(
        ATTACK, "", values, targets, train.patient, unseen.patient, attacked, {"calibrated_by": how, "draws": draws}
    )


def describe_detail(parts: tuple[tuple[ImageSet, Ints], ...]) -> Floats:
    """Return (n, 5) for all images: mean, and log deviation of three bands of detail and of what lies below them.

    The bands are differences of Gaussians of 0, 1, 2 and 4 pixels (Burt and Adelson, IEEE Trans Commun 1983).
    """
    return np.array([_describe(image) for images in _stream(parts) for image in images])


def _describe(image: Floats32) -> list[float]:
    smooth = [ndimage.gaussian_filter(image, scale) if scale else image for scale in SCALES]
    bands = [first - second for first, second in itertools.pairwise(smooth)]
    return [float(image.mean()), *(float(np.log(band.std() + 1e-6)) for band in (*bands, smooth[-1]))]


def _expect_losses(detail: Floats, known: Floats, attacked: int) -> Floats:
    """Return the loss expected of the first ``attacked`` images, by ridge regression on the ``known`` of the rest."""
    if len(known) < LEAST_TARGETS:
        return np.zeros(attacked)
    reference = detail[attacked:]
    centre, spread = reference.mean(axis=0), np.maximum(reference.std(axis=0), 1e-9)
    scaled = np.clip((detail - centre) / spread, -3, 3)
    inside = scaled[attacked:]
    weights = np.linalg.solve(
        inside.T @ inside + RIDGE * len(inside) * np.eye(inside.shape[1]), inside.T @ (known - known.mean())
    )
    return np.asarray(scaled[:attacked] @ weights + known.mean())


def _average_losses(losses: Losses, parts: tuple[tuple[ImageSet, Ints], ...], seed: int, draws: int) -> Floats:
    """Return the mean loss of each image; noise belongs to places in a block, so images are shuffled over them."""
    count = sum(len(rows) for _, rows in parts)
    found = np.zeros(count)
    for draw in range(draws):
        rng = stream(seed, -1, draw, "images/privacy/losses")
        noise = stream_key(seed, -1, draw, "images/privacy/noise") % 2**31
        place = 0
        for images in _stream(parts):
            order = rng.permutation(len(images))
            values = np.asarray(losses(images[order], noise), np.float64)
            if values.shape != (len(images),):
                raise PermanentError(
                    f"the generator's losses have shape {values.shape} for {len(images)} images; return one an image."
                )
            found[place + order] += values / draws
            place += len(images)
    return found


def _stream(parts: tuple[tuple[ImageSet, Ints], ...]) -> Iterator[Floats32]:
    """Yield the images of all parts in blocks of 32 MB at most."""
    for images, rows in parts:
        step = max(1, BLOCK_BYTES // (4 * max(1, int(np.prod(images.shape)))))
        for start in range(0, len(rows), step):
            yield images.images(rows[start : start + step])
