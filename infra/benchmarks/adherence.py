"""Do drawn images show what was asked for, also a mix that the training images lack? Before and after redraws.

    python infra/benchmarks/adherence.py RECIPE.toml --model FOLDER --folder FOLDER
        [--ask sex=F:0.8 age_years=60-85 view=PA] [--labels findings] [--images 300] [--redraws 3]

Two cohorts are asked for: the mix of ``--ask`` (ATTRIBUTE=VALUE or LOW-HIGH, ``:SHARE`` of the images; the others show
another value), and each label of ``--labels`` alone, and none, equally often, with the other attributes of random
training images. What is shown is read by the model's own readers, which also decide about redraws, and by independent
ones, which learned from validation and holdout patients with another seed, and are examined on training patients.

A reader errs on real images too, so three numbers stand side by side: what was asked, what is read, and what would be
read of real images of that mix (from the reader's hits and false alarms among real images that it did not learn from).
The AUC is that of the readings for what was asked, beside that of real images. Intervals are 95 %, of images.
Pictures go to ``--folder``; those beside real images are not for release.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from adherence_mixes import (
    ask_labels,
    ask_mix,
    draw_alone,
    draw_beside_real,
    group_labels,
    group_mix,
    meet_all,
    parse_wish,
)
from learned_data import Row, add_recipe_options, change_sampler, load_recipe, make_teller, read_reference
from scipy import stats

from flows.training_data import TrainingData
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet, join_sets
from synth.evaluation.ranks import Z95, Floats, auc_interval
from synth.learned.generator import Generator
from synth.learned.measurers import Measurer, Reading, answer_request, fit_measurer
from synth.learned.model_files import load_model
from synth.learned.redraws import Drawn, draw_until_met, measure_distance
from synth.seeds import stream, stream_key

LEAST = 5  # images that say yes, and no, for an AUC
YES = 0.5


@dataclass(frozen=True)
class Reader:
    """What reads images, and real images that it did not learn from."""

    name: str
    measurer: Measurer
    real: ImageSet


def read_answers(reading: Reading, rows: Sequence[Row]) -> Floats:
    """Return what was asked, as the reading should be; NaN where nothing was."""
    found = [answer_request(reading.task, row.get(reading.task.attribute)) for row in rows]
    return np.array([np.nan if value is None else value for value in found], np.float64)


def compare_readings(reader: Reader, rows: Sequence[Row], images: Floats32, seed: int) -> None:
    """Print what was asked beside what is read, for everything that the reader reads."""
    read = reader.measurer.read(images)
    real = reader.measurer.read(reader.real.images(slice(None)))
    print(f"  {reader.name}")
    for place, reading in enumerate(reader.measurer.readings):
        asked = read_answers(reading, rows)
        truth = reading.task.targets(reader.real).astype(np.float64)
        sides = [(asked, read[:, place]), (truth, real[:, place])]
        own, known = [(answer[~np.isnan(answer)], said[~np.isnan(answer)]) for answer, said in sides]
        if len(own[0]):
            describe = _describe_yes if reading.task.kind == "binary" else _describe_number
            print(f"    {reading.task.name:26} {describe(own, known, seed)}", flush=True)


Answers = tuple[Floats, Floats]  # what is true or was asked, and what is read


def _describe_yes(own: Answers, known: Answers, seed: int) -> str:
    """Return the shares that are asked, read, and expected of real images; and both AUCs."""
    said = int((own[1] > YES).sum())
    low, high = stats.binomtest(said, len(own[1])).proportion_ci(0.95, "exact")
    hits, alarms = (float(np.mean(known[1][known[0] == answer] > YES)) for answer in (1, 0))
    share = float(own[0].mean())
    text = f"asked {share:.2f}, read {said / len(own[1]):.2f} ({low:.2f} to {high:.2f}), "
    text += f"of real ones {share * hits + (1 - share) * alarms:.2f}"
    return text + "; AUC " + ", real ".join(_describe_auc(side, seed) for side in (own, known))


def _describe_auc(side: Answers, seed: int) -> str:
    positive = side[0] > YES
    if min(positive.sum(), (~positive).sum()) < LEAST:
        return "-"
    rng = stream(seed, -1, -1, "benchmark/adherence")
    found = auc_interval(side[1], positive, np.arange(len(positive)), rng)
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _describe_number(own: Answers, known: Answers, seed: int) -> str:
    """Return the means that are asked and read, and the mean error; of real images the error by chance of the mix."""
    mean, error = float(own[1].mean()), float(own[1].std(ddof=1)) / np.sqrt(len(own[1]))
    near = (known[0] >= own[0].min()) & (known[0] <= own[0].max())
    interval = f"({mean - Z95 * error:.1f} to {mean + Z95 * error:.1f})"
    text = f"asked {own[0].mean():.1f} on average, read {mean:.1f} {interval}"
    text += f", mean error {np.abs(own[1] - own[0]).mean():.1f}"
    if near.any():
        text += (
            f"; of {near.sum()} real ones in the range: {known[0][near].mean():.1f}, read {known[1][near].mean():.1f}"
        )
        text += f", mean error {np.abs(known[1][near] - known[0][near]).mean():.1f}"
    return text


def report_redraws(drawn: Sequence[Drawn], first: Sequence[Drawn]) -> None:
    """Print how many images meet all requests before and after redraws, and what that costs."""
    shares = [float(np.mean([measure_distance(one) == 0 for one in side])) for side in (first, drawn)]
    again = [one.redraws for one in drawn if one.redraws]
    print(f"  all that was asked is met by {shares[0]:.2f} of the images at once, {shares[1]:.2f} after redraws; "
          f"{len(again)} of {len(drawn)} were kept from a redraw")  # fmt: skip


def run_cohort(
    model: Generator, readers: Sequence[Reader], rows: Sequence[Row], redraws: int, seed: int, stage: str
) -> Floats32:
    """Draw a cohort, print what readers find before and after redraws, and return its images."""
    keys = [stream_key(seed, place, 0, f"benchmark/{stage}") for place in range(len(rows))]
    images = {}
    drawn = {budget: draw_until_met(model, rows, keys, budget) for budget in dict.fromkeys((0, redraws))}
    for budget, found in drawn.items():
        images[budget] = np.stack([one.image for one in found])
        print(f" {'as first drawn' if not budget else f'with {budget} redraws at most'}")
        for reader in readers:
            compare_readings(reader, rows, images[budget], seed)
    report_redraws(drawn[redraws], drawn[0])
    return images[redraws]


def make_readers(model: Generator, data: TrainingData, seed: int, steps: int) -> list[Reader]:
    """Return the model's own readers and independent ones."""
    unseen = join_sets("unseen", (data.validation, data.holdout))
    names = [attribute.name for attribute in model.description.attributes]
    other = fit_measurer(unseen, data.train, names, seed, steps=steps, tell=make_teller())
    found = [Reader("the model's own readers", model.measurer, unseen)] if model.measurer else []
    return found + ([Reader("independent readers", other, data.train)] if other else [])


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--folder", type=Path, required=True, help="of pictures")
    parser.add_argument("--ask", nargs="*", default=["sex=F:0.8", "age_years=60-85", "view=PA"], help="the mix")
    parser.add_argument("--labels", nargs="*", default=["findings"], help="sets of which each label is asked for")
    parser.add_argument("--images", type=int, default=300, help="of each cohort")
    parser.add_argument("--redraws", type=int, default=3, help="of an image that misses")
    parser.add_argument("--sampler", help="STEPS:SOLVER:GUIDANCE (default: the model's own)")
    parser.add_argument("--reader-seed", type=int, default=101, help="of the independent readers")
    parser.add_argument("--reader-steps", type=int, default=600, help="of their training")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    spec = load_recipe(options.recipe, options.set)
    model = change_sampler(load_model(options.model), options.sampler)
    count, seed = options.images, options.seed
    with tempfile.TemporaryDirectory() as place:
        data = read_reference(spec, options.home, Path(place))
        readers = make_readers(model, data, options.reader_seed, options.reader_steps)
        unseen = readers[0].real
        cohorts = []
        if options.ask:
            wishes = [parse_wish(text) for text in options.ask]
            share = meet_all(data.train, wishes).mean()
            print(
                f"\n## {' '.join(options.ask)}: all of it is true of {share:.1%} of {len(data.train)} training images"
            )
            rows = ask_mix(model, wishes, count, seed)
            cohorts.append(("mix", group_mix(rows, wishes), rows))
        for name in options.labels:
            rows = ask_labels(model, data.train, name, count, seed)
            cohorts.append((name, group_labels(rows, name), rows))
        for name, groups, rows in cohorts:
            print(f"\n# {name}: {count} images")
            images = run_cohort(model, readers, rows, options.redraws, seed, name)
            draw_alone(groups, images, options.folder / f"{name}-drawn.png")
            draw_beside_real(groups, images, unseen, options.folder / f"{name}-beside-real.png", seed)


if __name__ == "__main__":
    main()
