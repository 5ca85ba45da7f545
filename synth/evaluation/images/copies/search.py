"""The search for copies: for each image the training image that it is most likely a copy of, and a score from 0 to 1.

    score = 1 - (d / D)^p       d = 1 - r: distance of the image and the training image, r their correlation
                                D: the median distance to the nearest images of other training patients

after registration, in the look (views) in which that is largest. An exact copy has 1; an image that is as near
to one patient as to others has 0. Dividing by D makes a plain image, which is like everybody, as safe from alarm as
one that is like nobody; the ratio to other neighbours: Lowe, IJCV 2004, section 7.1. Of training images with the same
pixels one is searched for: under several patients' names, they would be each other's neighbours and hide every copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from synth.errors import PermanentError
from synth.evaluation.images.copies.registration import Maps, register
from synth.evaluation.images.copies.shortlist import FITTED, Shortlist
from synth.evaluation.images.copies.views import (
    INNER,
    Look,
    Viewer,
    apply_matrices,
    correlate,
    make_window,
    read_nearest,
    scale_grid,
    smoothing_matrix,
)
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.layout import Floats32, NotComparableError
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.ranks import Ints

Found = TypeVar("Found")
LEAST_PATIENTS = 10  # of training, to tell one from the others
LEAST_PIXELS = 12  # along the shortest side
SHORTLISTED = 32  # training images registered coarsely
FINALISTS, FREE = 9, 4  # registered finely; the first few whoever they are, the others of further patients
COARSE = {2: 32, 3: 16}  # pixels of the coarse grid along the longest side
COARSE_STEPS, FIRST_STEPS, STEPS = 8, 6, 3
BLOCK, BLOCK_BYTES = 64, 32 << 20  # images searched together; fewer where their finalists would not fit
LEAST_DISTANCE = 0.01  # of others; below it, being nearer counts less: images that are all alike accuse nobody
QUANTUM = 40.0  # steps a unit in which coarse views are kept


@dataclass(frozen=True)
class CopyMatches:
    """For each image: the ``index`` of the training image it is nearest to, the ``score``, and what it rests on.

    ``similarity`` is the correlation with that image, ``others`` the median one with the nearest other patients.
    """

    index: Ints
    score: Floats32
    similarity: Floats32
    others: Floats32

    def select(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> CopyMatches:
        """Return the matches of some images."""
        return CopyMatches(*(column[chosen] for column in self.columns))

    @property
    def columns(self) -> tuple[Any, ...]:
        """The index, score, similarity and others."""
        return self.index, self.score, self.similarity, self.others


class CopySearch:
    """Training images, prepared for the search. It keeps about 2 kB of each; their pixels stay where they are.

    ``distinct`` are the rows that ``descriptors`` are of.
    """

    def __init__(
        self, train: ImageSet, viewer: Viewer, shortlist: Shortlist, descriptors: Floats32, coarse: NDArray[np.int8],
        distinct: Ints,
    ) -> None:  # fmt: skip
        self.train = train
        self.patient = train.patient
        self._distinct = distinct
        self._viewer, self._shortlist, self._descriptors, self._coarse = viewer, shortlist, descriptors, coarse
        self._shrink = _make_shrink(viewer)
        self._window = make_window(coarse.shape[1:], INNER, 0.08)

    def search(self, images: ImageSet, tell: Tell = tell_nobody) -> CopyMatches:
        """Return the best match of each image. Raises NotComparableError if the images have another shape."""
        if images.shape != self.train.shape:
            raise NotComparableError(
                f"the images are {' x '.join(map(str, images.shape))} and the training images "
                f"{' x '.join(map(str, self.train.shape))}; bring both to one layout first."
            )
        parts, done = [], 0
        for found in run_blocks(images, self._search_block):
            parts.append(found)
            done += len(found.index)
            tell(f"copies in {images.name}", done, len(images))
        if not parts:
            empty = np.empty(0, np.float32)
            return CopyMatches(np.empty(0, np.int64), empty, empty, empty)
        return CopyMatches(*(np.concatenate(column) for column in zip(*(part.columns for part in parts), strict=True)))

    def _search_block(self, images: Floats32) -> CopyMatches:
        viewer, first = self._viewer, self._viewer.looks[0]
        valid = viewer.find_valid(images)
        view = viewer.view(images, first.image, first.local, valid)
        chosen, maps = self._shortlist.choose(view, self._descriptors, SHORTLISTED)
        chosen, maps = self._choose_finalists(view, valid, self._distinct[chosen], maps)
        rows, place = np.unique(chosen, return_inverse=True)
        place = place.reshape(chosen.shape)
        training = self.train.images(rows)
        clear = viewer.find_valid(training)
        found: list[CopyMatches] = []
        for look in viewer.looks:
            view = viewer.view(images, look.image, look.local, valid)
            alike = np.zeros(chosen.shape, np.float32)
            for width in look.training:
                other = viewer.view(training, width, look.local, clear)
                steps = STEPS if found or alike.any() else FIRST_STEPS
                similarity, maps = register(view, viewer.window * valid, other, place, maps, steps)
                alike = np.maximum(alike, similarity)
            if not found:
                alike = np.maximum(alike, self._compare_nearest(view, valid, training, place, maps))
            found.append(_judge(alike, chosen, self.patient[chosen], look))
        return reduce(_choose_higher, found)

    def _compare_nearest(
        self, view: Floats32, valid: Floats32, training: Floats32, place: Ints, maps: Maps
    ) -> Floats32:
        """Return the correlation with training images that are mapped by taking the nearest pixel.

        Turned in that way, as some tools do, a small image gets jagged edges that no interpolation explains.
        """
        viewer, look, shape = self._viewer, self._viewer.looks[0], self.train.shape
        moved = read_nearest(training, place, maps, max(shape) / max(viewer.grid))
        repeated = np.repeat(valid, place.shape[1], axis=0)
        other = viewer.view(moved.reshape(-1, *shape), look.training[0], look.local, repeated)
        weights = (viewer.window * valid).reshape(len(view), 1, -1)
        return correlate(weights, view.reshape(len(view), 1, -1), other.reshape(*place.shape, -1))

    def _choose_finalists(self, view: Floats32, valid: Floats32, chosen: Ints, maps: Maps) -> tuple[Ints, Maps]:
        """Return the likeliest few of the shortlist by coarse registration, with their maps on the working grid."""
        scale = max(self._viewer.grid) / max(self._window.shape)
        small = apply_matrices(view, self._shrink)
        weights = self._window * (apply_matrices(valid, self._shrink) > 0.5)
        start = maps.copy()
        start[..., -1] /= scale
        rows, place = np.unique(chosen, return_inverse=True)
        coarse = self._coarse[rows].astype(np.float32)
        similarity, found = register(small, weights, coarse, place.reshape(chosen.shape), start, COARSE_STEPS)
        found[..., -1] *= scale
        order = np.stack(
            [_order_finalists(row, who) for row, who in zip(similarity, self.patient[chosen], strict=True)]
        )
        return np.take_along_axis(chosen, order, 1), np.take_along_axis(found, order[..., None, None], 1)


def make_copy_search(train: ImageSet, tell: Tell = tell_nobody) -> CopySearch:
    """Return the search among the images of training patients.

    Raises PermanentError if there are fewer than 10 patients or the images are smaller than 12 pixels.
    """
    patients = len(np.unique(train.patient))
    if patients < LEAST_PATIENTS:
        raise PermanentError(
            f"copies cannot be searched for among {patients} training patients: with fewer than {LEAST_PATIENTS} "
            "nobody can say what is alike beyond the usual. Use a reference with more patients."
        )
    if min(train.shape) < LEAST_PIXELS:
        raise PermanentError(
            f"copies cannot be searched for in images of {' x '.join(map(str, train.shape))} pixels; "
            f"each side needs {LEAST_PIXELS} at least."
        )
    viewer = Viewer(train.shape)
    look = viewer.looks[0]

    def make_views(images: Floats32) -> Floats32:
        return viewer.view(images, look.image, look.local, viewer.find_valid(images))

    distinct = find_distinct(train)
    some = distinct[np.unique(np.linspace(0, len(distinct) - 1, min(len(distinct), FITTED)).astype(int))]
    sample = np.concatenate(list(run_blocks(train.select(some), make_views)))
    shortlist = Shortlist(viewer, sample)
    shrink = _make_shrink(viewer)
    coarse = np.empty((len(train), *(len(matrix) for matrix in shrink)), np.int8)
    descriptors, done = [], 0
    for views in run_blocks(train, make_views):
        descriptors.append(shortlist.describe(views))
        coarse[done : done + len(views)] = np.round(apply_matrices(views, shrink) * QUANTUM)
        done += len(views)
        tell(f"descriptors of {train.name}", done, len(train))
    return CopySearch(train, viewer, shortlist, np.concatenate(descriptors)[distinct], coarse, distinct)


def find_distinct(images: ImageSet) -> Ints:
    """Return the rows of the images without those whose pixels an earlier one has, too; all if few patients are left.

    Images that are all alike accuse nobody.
    """
    first: dict[bytes, int] = {}
    for row, pixels in enumerate(images.stored):
        first.setdefault(hashlib.blake2b(np.ascontiguousarray(pixels).tobytes()).digest(), row)
    found = np.array(list(first.values()), np.int64)
    return found if len(np.unique(images.patient[found])) >= LEAST_PATIENTS else np.arange(len(images))


def run_blocks(images: ImageSet, work: Callable[[Floats32], Found]) -> Iterator[Found]:
    """Yield work(block of float images) in order; blocks are worked on by as many threads as torch may use."""
    step = int(np.clip(BLOCK_BYTES // (4 * FINALISTS * np.prod(images.shape)), 1, BLOCK))
    places = [np.arange(start, min(start + step, len(images))) for start in range(0, len(images), step)]
    threads = max(1, torch.get_num_threads())
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda place: work(images.images(place)), places)


def _make_shrink(viewer: Viewer) -> list[Floats32]:
    small = scale_grid(viewer.grid, COARSE[len(viewer.grid)])
    return [smoothing_matrix(to, n, 0.5 * n / to) for to, n in zip(small, viewer.grid, strict=True)]


def _order_finalists(similarity: Floats32, patient: Ints) -> Ints:
    """Return the places of the finalists: the most alike, then the most alike of each further patient."""
    order = np.argsort(-similarity, kind="stable")
    first = order[:FREE].tolist()
    seen = set(patient[first].tolist())
    rest = []
    for place in order[FREE:].tolist():
        if patient[place] not in seen:
            seen.add(patient[place])
            first.append(place)
        else:
            rest.append(place)
    return np.asarray((first + rest)[: min(FINALISTS, len(order))])


def _judge(alike: Floats32, chosen: Ints, patient: Ints, look: Look) -> CopyMatches:
    """Return the most alike of the ``chosen`` training images of each image, judged by those of other patients."""
    nearest = alike.argmax(axis=1)
    rows = np.arange(len(alike))
    similarity, others = alike[rows, nearest], np.empty(len(alike), np.float32)
    for row, (values, who) in enumerate(zip(alike, patient, strict=True)):
        by_patient = [values[who == one].max() for one in np.unique(who) if one != who[nearest[row]]]
        others[row] = np.median(by_patient) if by_patient else 0.0
    ratio = np.clip(1 - (similarity - others) / np.maximum(1 - others, LEAST_DISTANCE), 0, 1)  # is d / D above it
    return CopyMatches(chosen[rows, nearest], 1 - ratio ** np.float32(look.power), similarity, others)


def _choose_higher(one: CopyMatches, other: CopyMatches) -> CopyMatches:
    """Return for each image the match with the higher score."""
    better = other.score > one.score
    return CopyMatches(*(np.where(better, b, a) for a, b in zip(one.columns, other.columns, strict=True)))
