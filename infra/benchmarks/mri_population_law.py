"""Do the volumes of 2,000 drawn people follow the literature? Regressions on age and sex, each beside its source.

    python infra/benchmarks/mri_population_law.py docs/images/mri-population-law.png

Healthy adults of 20 to 90 years from population adult-brain, two visits two years apart. Volumes are those that
subjects draw; labels of rendered images have them within 0.5 % (docs/mri.md). Two estimates of each rate:

- across people: the logarithm of a volume is regressed on sex, the logarithm of the intracranial volume, and age as a
  line that bends at 35, 45, 60 and 70 years;
- within people: the mean of the change between the two visits, of those who have both in the band.

A law holds if the 95 % interval of the estimate within people (of volumes: across people) meets what its source states;
sources that disagree, or that change within the band, are taken as the range that they span.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from synth.population import find_population
from synth.spec import parse_spec

RECIPE = """name = "law"
subjects = {subjects}
seed = {seed}
[population]
where = {{ age_years = [20, 90], diagnosis = ["none"] }}
targets = {{ sex = {{ F = 0.5 }}, age_years = {{ {bands} }} }}
[imaging]
visits = {{ count = 2, interval_years = 2.0, share = 1.0 }}
"""
BENDS_YEARS = (35.0, 45.0, 60.0, 70.0)
COLOURS = {"F": "#cc0000", "M": "#3465a4"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class People:
    """Columns (people,): age in years, whether male; volumes in mL by name (people, visits); years between visits."""

    age: Floats
    male: NDArray[np.bool_]
    volumes: dict[str, Floats]
    years: Floats


@dataclass(frozen=True)
class Rate:
    """A law of change: percent a year of a volume between two ages, as the range that its sources span."""

    name: str
    ages: tuple[float, float]
    low: float
    high: float
    source: str


RATES = (
    Rate("brain", (35, 39), -0.25, -0.2, "0.2 %/yr at 35, 0.5 at 60 (Hedman 2012)"),
    Rate("brain", (60, 90), -0.5, -0.5, "0.5 %/yr at 60 (Hedman 2012)"),
    Rate("grey matter", (35, 39), -0.35, -0.32, "0.32 %/yr at 35, 0.55 at 70 (J Neurol 2017;264:520)"),
    Rate("grey matter", (68, 72), -0.55, -0.55, "0.55 %/yr at 70 (J Neurol 2017;264:520)"),
    Rate("grey matter", (65, 82), -0.91, -0.55, "0.83 (F .91, M .65; PLoS ONE 0114478), 0.55 (J Neurol 2017)"),
    Rate("white matter", (35, 39), -0.07, -0.02, "0.02 %/yr at 35, 0.47 at 70 (J Neurol 2017;264:520)"),
    Rate("white matter", (68, 72), -0.47, -0.47, "0.47 %/yr at 70 (J Neurol 2017;264:520)"),
    Rate("ventricles", (74, 84), 2.0, 9.2, "5.6 +- 3.6 %/yr at 79 (J Neuroimaging 2001;11:393)"),
)


def draw_people(subjects: int, seed: int) -> People:
    """Return the volumes of the people; ages are even over the bands."""
    bands = ", ".join(f'"{low}-{low + 10}" = {1 / 7:.6f}' for low in range(20, 80, 10))  # the rest is older
    spec = parse_spec(RECIPE.format(subjects=subjects, seed=seed, bands=bands))
    drawn = find_population(spec.population.source).draw_subjects(spec, "law", 0, subjects)

    def read(get: Callable[..., object]) -> Floats:
        return np.array([[get(subject, visit) for visit in subject.visits] for subject in drawn], float)

    volumes = {
        "skull": read(lambda subject, visit: subject.intracranial_ml),
        "brain": read(lambda subject, visit: visit.brain_ml),
        "grey matter": read(lambda subject, visit: visit.attributes["grey_matter_ml"]),
        "white matter": read(lambda subject, visit: visit.attributes["white_matter_ml"]),
        "ventricles": read(lambda subject, visit: visit.ventricle_ml),
    }
    ages = read(lambda subject, visit: visit.age_years)
    male = np.array([subject.sex == "M" for subject in drawn])
    return People(ages[:, 0], male, volumes, ages[:, 1] - ages[:, 0])


def regress(columns: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return coefficients and their covariance, by ordinary least squares."""
    found, *_ = np.linalg.lstsq(columns, values, rcond=None)
    rest = values - columns @ found
    noise = float(rest @ rest) / (len(values) - columns.shape[1])
    return found, noise * np.linalg.inv(columns.T @ columns)


def bend_ages(age: Floats) -> Floats:
    """Return the columns of a line in age that bends at BENDS_YEARS."""
    return np.column_stack([age, *(np.maximum(age - bend, 0) for bend in BENDS_YEARS)])


def design(people: People) -> Floats:
    """Return the columns of the regression across people."""
    skull = np.log(people.volumes["skull"][:, 0])
    return np.column_stack([np.ones_like(skull), people.male, skull - skull.mean(), bend_ages(people.age)])


def slope_across(people: People, name: str, ages: tuple[float, float]) -> tuple[float, float]:
    """Return the change between two ages in percent a year, and half of its 95 % interval."""
    found, covariance = regress(design(people), np.log(people.volumes[name][:, 0]))
    step = np.zeros(len(found))
    low, high = bend_ages(np.array(ages, float))
    step[3:] = (high - low) / (ages[1] - ages[0])
    return float(100 * step @ found), float(196 * np.sqrt(step @ covariance @ step))


def slope_within(people: People, name: str, ages: tuple[float, float]) -> tuple[float, float, int]:
    """Return the mean change of people of these ages in percent a year, half of its interval, and their number."""
    inside = (people.age >= ages[0]) & (people.age + people.years <= ages[1])
    first, last = people.volumes[name].T
    change = 100 * np.log(last / first)[inside] / people.years[inside]
    return float(change.mean()), float(1.96 * change.std(ddof=1) / np.sqrt(inside.sum())), int(inside.sum())


def print_rates(people: People) -> bool:
    """Print each rate beside its source; return whether all hold."""
    print(f"{'% a year':14s}{'ages':>8s}{'within people':>22s}{'across people':>18s}{'source':>17s}")
    held = True
    for law in RATES:
        mean, half, count = slope_within(people, law.name, law.ages)
        across, half_across = slope_across(people, law.name, law.ages)
        holds = mean - half <= law.high and mean + half >= law.low
        held &= holds
        stated = f"{law.low:g}" if law.low == law.high else f"{law.low:g} to {law.high:g}"
        print(
            f"{law.name:14s}{law.ages[0]:4.0f}-{law.ages[1]:<3.0f}{mean:9.2f} +- {half:4.2f} ({count:4d})"
            f"{across:10.2f} +- {half_across:4.2f}{stated:>17s}  {'holds' if holds else 'MISSED'}: {law.source}"
        )
    return held


def print_sizes(people: People) -> bool:
    """Print sizes at 48 and the difference of the sexes beside their sources; return whether all hold."""
    laws: list[tuple[str, float, float, float, float, str]] = []
    columns = np.column_stack([np.ones(len(people.age)), people.male, people.age - 48])
    found, covariance = regress(columns, people.volumes["skull"][:, 0])
    half = 1.96 * np.sqrt(np.diag(covariance))
    laws.append(("skull, men more than women", found[1], half[1], 145, 180, "PMC10511609; Matsumae 1996"))
    laws.append(("skull, a decade", 10 * found[2], 10 * half[2], 0, 0, "no change (Matsumae 1996)"))
    for male, sex, brain, ventricle, spread in ((0, "women", 1068, 20.2, 10.0), (1, "men", 1162, 27.1, 13.0)):
        near = (people.male == bool(male)) & (np.abs(people.age - 48) < 6)
        for name, mean, sd in (("brain", brain, 88 if not male else 130), ("ventricles", ventricle, spread)):
            values = people.volumes[name][near, 0]
            error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
            laws.append((f"{name} at 48, {sex}", values.mean(), error, mean, mean, f"{mean} +- {sd} mL (PMC10511609)"))
    held = True
    print(f"\n{'mL':28s}{'drawn':>18s}{'source':>17s}")
    for name, value, error, low, high, source in laws:
        holds = value - error <= high and value + error >= low
        held &= holds
        stated = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        print(f"{name:28s}{value:9.1f} +- {error:4.1f}{stated:>17s}  {'holds' if holds else 'MISSED'}: {source}")
    return held


def draw_plot(people: People, path: Path) -> None:
    """Draw volumes against age by sex, with the regression across people."""
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.4))
    ages = np.linspace(20, 90, 141)
    for axis, name in zip(axes, people.volumes, strict=True):
        values = people.volumes[name][:, 0]
        for male, sex in ((False, "F"), (True, "M")):
            who = people.male == male
            axis.plot(people.age[who], values[who], ".", ms=1.5, alpha=0.5, color=COLOURS[sex], rasterized=True)
            columns = np.column_stack([np.ones(who.sum()), bend_ages(people.age[who])])
            found, _ = regress(columns, np.log(values[who]))
            line = np.exp(np.column_stack([np.ones_like(ages), bend_ages(ages)]) @ found)
            axis.plot(ages, line, color=COLOURS[sex], lw=2, label={"F": "women", "M": "men"}[sex])
        axis.set_title(f"{name}, mL", fontsize=10)
        axis.set_xlabel("age, years")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_yscale("log")
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=72)


def main() -> None:
    """Draw people, print each law beside its source, and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    people = draw_people(arguments.subjects, arguments.seed)
    held = [print_rates(people), print_sizes(people)]
    draw_plot(people, arguments.output)
    print("\nall hold" if all(held) else "\nsome are missed")


if __name__ == "__main__":
    main()
