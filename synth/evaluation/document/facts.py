"""What documents say of a report before any layout: the verdict, the seven questions, the population."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from synth.evaluation.document.about import About
from synth.evaluation.document.markup import clean_text
from synth.evaluation.document.words import format_count, format_value
from synth.evaluation.images.report import ImageReport
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.evaluation.metric import Family, Score, SevenC
from synth.evaluation.metrics import METRICS, find_metric
from synth.nouns import Attribute, GateResult

State = Literal["passed", "refused", "invalid", "undecided"]
VERDICTS = {"passed": "Passed", "refused": "Refused", "invalid": "Invalid", "undecided": "Not decided"}
MOST_LABELS = 12  # of one attribute
_WORD = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Facts:
    """Everything the documents are made from. ``public`` documents show no real image and name no real patient."""

    report: ImageReport
    gates: tuple[GateResult, ...]
    images: ImageSet
    real: RealImages
    about: About
    public: bool = False

    @property
    def title(self) -> str:
        """What the images are called."""
        return clean_text(self.about.title or self.report.images_name) or "unnamed images"

    @property
    def kind(self) -> str:
        """``synthetic`` or ``judged``, before the word image."""
        return "synthetic" if self.about.synthetic else "judged"

    @property
    def may_show(self) -> frozenset[int]:
        """Places of the judged images whose pictures may be shown.

        In public none is shown that may be an image of a patient: no copy, nothing of real images, and nothing at all
        unless copies were searched for, controls behave and gates hold: else nobody knows which images are copies.
        """
        if not self.public:
            return frozenset(range(len(self.images)))
        if not (self.about.synthetic and searched_copies(self.report) and judge(self).state == "passed"):
            return frozenset()
        copies = {pair.image_id for pair in self.report.copies}
        return frozenset(place for place, name in enumerate(self.images.image_ids) if name not in copies)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gates and the controls say together, in sentences."""

    state: State
    sentences: tuple[str, ...]

    @property
    def word(self) -> str:
        """The verdict in one word."""
        return VERDICTS[self.state]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a report says to one of the seven questions."""

    question: SevenC
    scores: tuple[Score, ...]
    gates: tuple[GateResult, ...]

    @property
    def state(self) -> str:
        """One sentence: whether gates hold, and how much was measured."""
        measured = sum(score.value is not None for score in self.scores)
        if self.question == "comprehension" and not self.scores:
            return "answered by this document, the dataset card and the metadata"
        if not self.scores:
            return "nothing was computed"
        extent = f"{measured} of {format_count(len(self.scores), 'score')} measured"
        failed = [clean_text(gate.gate) for gate in self.gates if not gate.passed]
        if failed:
            return f"fails {', '.join(failed)}; {extent}"
        if self.holding:
            return f"holds {format_count(self.holding, 'gate')}; {extent}"
        return f"no gate decided; {extent}"

    @property
    def holding(self) -> int:
        """Gates that measured something and hold."""
        return sum(gate.passed and math.isfinite(gate.value) for gate in self.gates)

    @property
    def failed(self) -> bool:
        """Whether a gate of this question fails."""
        return any(not gate.passed for gate in self.gates)


@dataclass(frozen=True, slots=True)
class Share:
    """How one attribute is distributed over images: a sentence, and shares of values where it has some."""

    attribute: Attribute
    known: int
    text: str
    values: tuple[tuple[str, float], ...] = ()


def judge(facts: Facts) -> Verdict:
    """Return the verdict: invalid if a control misbehaves, refused if a gate fails, undecided without gates."""
    report = facts.report
    failed = [gate for gate in facts.gates if not gate.passed]
    unmeasured = [gate for gate in facts.gates if gate.passed and not math.isfinite(gate.value)]
    rest = [f"Gate {describe_reason(gate)}" for gate in failed]
    bad = [control for control in report.controls if not control.behaves]
    if bad:
        first = [
            f"Control {clean_text(control.name)} misbehaves: {clean_text(control.reason).rstrip('.')}."
            for control in bad
        ]
        first.append("As long as a control misbehaves, no score below proves anything, good or bad.")
        return Verdict("invalid", (*first, *(text for text in rest if not text.startswith("Gate controls"))))
    if failed:
        return Verdict("refused", tuple(rest))
    if not facts.gates:
        return Verdict("undecided", ("No gate was applied, so nothing was decided.", _count_controls(report)))
    holding = format_count(len(facts.gates) - len(unmeasured), "gate holds", "gates hold")
    sentences = [f"All {holding}." if not unmeasured and len(facts.gates) > 1 else f"{holding}."]
    if unmeasured:
        names = ", ".join(clean_text(gate.gate) for gate in unmeasured)
        count = format_count(len(unmeasured), "gate", "gates")
        sentences.append(
            f"{count} could not be measured and {'was' if len(unmeasured) == 1 else 'were'} not required: {names}."
        )
    sentences.append(_count_controls(report))
    return Verdict("passed", tuple(sentences))


def describe_reason(gate: GateResult) -> str:
    """Return a gate's reason as a sentence that starts with its name."""
    name, reason = clean_text(gate.gate), clean_text(gate.reason)
    text = reason if reason.startswith(f"{name}:") else f"{name}: {reason}"
    return f"{text.rstrip('.')}."


def answer_questions(facts: Facts) -> tuple[Answer, ...]:
    """Return the answer to each of the seven questions, in their order."""
    answers = []
    for question in get_args(SevenC):
        scores = tuple(s for s in facts.report.scores if find_metric(s.name).seven_c == question)
        gates = tuple(gate for gate in facts.gates if find_question(gate, facts.about) == question)
        answers.append(Answer(question, scores, gates))
    return tuple(answers)


def find_question(gate: GateResult, about: About) -> SevenC | None:
    """Return the question that a gate decides on, from the metric it looks at; None if it names no metric."""
    named = about.gate_metrics.get(gate.gate, "")
    for word in _WORD.findall(f"{named.partition('.')[0]} {gate.reason.partition(':')[2]} {gate.gate}"):
        if word in METRICS:
            return METRICS[word].seven_c
    return None


def list_scores(report: ImageReport, family: Family) -> list[Score]:
    """Return the scores of all images of one family, measured ones first; of fairness also those of subgroups' gaps."""
    scores = [score for score in report.scores if find_metric(score.name).family == family]
    chosen = [score for score in scores if not score.subgroup or (family == "fairness" and "=" not in score.subgroup)]
    return sorted(chosen, key=lambda score: score.value is None)


def describe_population(images: ImageSet) -> list[Share]:
    """Return how each attribute of a set is distributed."""
    return [_describe_attribute(images, attribute) for attribute in images.schema]


def _describe_attribute(images: ImageSet, attribute: Attribute) -> Share:
    values = [value for value in images.values(attribute.name) if value is not None]
    if not values:
        return Share(attribute, 0, "not recorded")
    if attribute.kind in ("integer", "continuous"):
        numbers = np.asarray(values, float)
        numbers = numbers[np.isfinite(numbers)]
        if not numbers.size:
            return Share(attribute, 0, "not recorded")
        low, middle, high = np.percentile(numbers, [25, 50, 75])
        unit = f" {clean_text(attribute.unit)}" if attribute.unit else ""
        bounds = f"{_plain(numbers.min())} to {_plain(numbers.max())}"
        return Share(attribute, numbers.size, f"median {_plain(middle)}{unit}, middle half {_plain(low)} to "
                                              f"{_plain(high)}, all {bounds}")  # fmt: skip
    sets = [[str(v) for v in value] if isinstance(value, list | tuple) else [str(value)] for value in values]
    counts = Counter(label for labels in sets for label in set(labels))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shares = tuple((clean_text(label), count / len(values)) for label, count in ranked[:MOST_LABELS])
    text = ", ".join(f"{label} {100 * share:.1f} %" for label, share in shares)
    more = len(ranked) - len(shares)
    text += f", and {format_count(more, 'more value')}" if more > 0 else ""
    return Share(attribute, len(values), text or "none", shares)


def _plain(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else format_value(float(number))


def _count_controls(report: ImageReport) -> str:
    if not report.controls:
        return "No control was run, so nothing shows that these scores could have failed."
    return (
        f"All {format_count(len(report.controls), 'control')} behave as they must."
        if len(report.controls) > 1
        else ("The only control behaves as it must.")
    )


def searched_copies(report: ImageReport) -> bool:
    """Return whether copies of training images were searched for."""
    return any(score.name == "copy_rate" and score.value is not None for score in report.scores)


def copied_images(report: ImageReport) -> Sequence[str]:
    """Return the ids of images that are copies of a training image, each once."""
    return list(dict.fromkeys(pair.image_id for pair in report.copies))
