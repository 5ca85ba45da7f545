"""Columns of a real table read as their kinds: declared rules clean, and every change is counted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.schema import Kind

pc: Any = pyarrow.compute
Arrow = Any  # tables and arrays of Arrow, whose stubs know too little of compute functions
MAX_CATEGORIES = 200
MAX_LABELS = 60
_DATE = re.compile(r"^\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T]\d{1,2}:\d{2}.*)?\s*$")


@dataclass(frozen=True, slots=True)
class Rule:
    """How one column is read: nothing is changed that is not declared here, and what is changed is counted.

    Numbers below ``low`` or above ``high``, and text that is no number, become missing, or their rows are dropped.
    """

    kind: Kind | None = None
    low: float | None = None
    high: float | None = None
    outside: str = "missing"
    spellings: Mapping[str, str] = field(default_factory=dict)  # as found -> as meant; "" makes it missing
    separator: str | None = None  # splits text into the labels of a set


@dataclass(frozen=True, slots=True)
class Cleaning:
    """One kind of change that was made to one column."""

    column: str
    what: str
    rows: int


class Cleaner:
    """Reads columns as their kinds, applies rules, and remembers what changed and which rows are dropped."""

    def __init__(self, table: Arrow, rules: Mapping[str, Rule]) -> None:
        self.table = table
        self.rules = rules
        self.keep = np.ones(table.num_rows, dtype=bool)
        self.changes: list[Cleaning] = []

    def note(self, column: str, what: str, rows: int) -> None:
        """Remember a change of ``rows`` rows, if there are any."""
        if rows:
            self.changes.append(Cleaning(column, what, rows))

    def read(self, name: str) -> Arrow:
        """Return the column as strings, int64, float64 or lists of strings."""
        rule = self.rules.get(name, Rule())
        column = self.table[name].combine_chunks()
        if column.null_count == len(column):
            raise PopulationError(f"column '{name}' is missing in every row; leave it out (ignore '{name}').")
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or rule.kind == "set":
            return self._read_set(name, column, rule)
        if pa.types.is_temporal(column.type):
            raise PopulationError(
                f"column '{name}' holds dates; turn them into numbers first (age_years, days since the first visit), "
                f"or leave the column out (ignore '{name}')."
            )
        if pa.types.is_boolean(column.type):
            return pc.if_else(column, "true", "false")
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
            values = column.cast(pa.float64(), safe=False)
            if rule.kind == "categorical":
                return self._read_text(name, column.cast(pa.string()), rule)
            return self._read_number(name, values, rule)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise PopulationError(f"column '{name}' has type {column.type}, which cannot be learned; ignore '{name}'.")
        return self._read_text(name, column.cast(pa.string()), rule)

    def _read_number(self, name: str, values: Arrow, rule: Rule) -> Arrow:
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        bad = np.isinf(numbers)
        if rule.low is not None:
            bad |= numbers < rule.low
        if rule.high is not None:
            bad |= numbers > rule.high
        bounds = f"outside {_show(rule.low)} to {_show(rule.high)}"
        self._take_out(name, bad, bounds, rule)
        numbers = np.where(bad, np.nan, numbers)
        present = numbers[~np.isnan(numbers)]
        if len(present) == 0:
            raise PopulationError(f"column '{name}' has no value {bounds.replace('outside', 'within')}.")
        whole = rule.kind != "continuous" and bool((present == np.floor(present)).all())
        if rule.kind == "integer" and not whole:
            self.note(name, "rounded to a whole number", int((present != np.round(present)).sum()))
            numbers, whole = np.round(numbers), True
        if whole:
            return pa.array(numbers, mask=np.isnan(numbers)).cast(pa.int64())
        return pa.array(numbers, mask=np.isnan(numbers))

    def _read_text(self, name: str, column: Arrow, rule: Rule) -> Arrow:
        trimmed = pc.utf8_trim_whitespace(column)
        self.note(name, "blanks around it removed", int(pc.sum(pc.not_equal(trimmed, column)).as_py() or 0))
        values = _respell(trimmed, rule.spellings)
        self.note(name, "spelling changed", int(pc.sum(pc.not_equal(values, trimmed)).as_py() or 0))
        empty = pc.fill_null(pc.equal(values, ""), False)
        self.note(name, "empty text taken as missing", int(pc.sum(empty).as_py() or 0))
        values = pc.if_else(empty, pa.scalar(None, pa.string()), values)
        if rule.kind in ("integer", "continuous"):
            return self._parse_number(name, values, rule)
        distinct = pc.unique(values).drop_null()
        if len(distinct) == 0:
            raise PopulationError(f"column '{name}' is missing in every row; leave it out (ignore '{name}').")
        _refuse_odd_text(name, distinct, rule)
        return values

    def _parse_number(self, name: str, values: Arrow, rule: Rule) -> Arrow:
        parsed = np.array([_parse(text) for text in values.to_pylist()], dtype=np.float64)
        unread = np.isnan(parsed) & ~values.is_null().to_numpy(zero_copy_only=False)
        self._take_out(name, unread, "not a number", rule)
        return self._read_number(name, pa.array(parsed, mask=np.isnan(parsed)), rule)

    def _take_out(self, name: str, bad: NDArray[np.bool_], why: str, rule: Rule) -> None:
        if rule.outside == "drop":
            self.keep &= ~bad
        self.note(name, f"{why}: {'row dropped' if rule.outside == 'drop' else 'taken as missing'}", int(bad.sum()))

    def _read_set(self, name: str, column: Arrow, rule: Rule) -> Arrow:
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            split = pc.split_pattern(column.cast(pa.string()), rule.separator or "|")
            column = split
        lists = column.cast(pa.list_(pa.string()))
        parents = lists.value_parent_indices().to_numpy()
        flat = pc.utf8_trim_whitespace(lists.flatten())
        named = _respell(flat, rule.spellings)
        self.note(name, "spelling of a label changed", int(pc.sum(pc.not_equal(named, flat)).as_py() or 0))
        pairs = sorted({(int(p), v) for p, v in zip(parents, named.to_pylist(), strict=True) if v})
        self.note(name, "repeated labels removed", sum(bool(word) for word in named.to_pylist()) - len(pairs))
        labels = {label for _, label in pairs}
        if not labels:
            raise PopulationError(f"column '{name}' holds only empty sets; leave it out (ignore '{name}').")
        if len(labels) > MAX_LABELS:
            raise PopulationError(
                f"column '{name}' has {len(labels)} different labels, more than {MAX_LABELS}; merge some with a rule "
                f"(rules.{name}.spellings) or leave it out (ignore '{name}')."
            )
        offsets = np.searchsorted([p for p, _ in pairs], np.arange(len(lists) + 1)).astype(np.int32)
        labels_flat: Arrow = pa.array([label for _, label in pairs], pa.string())
        made: Arrow = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), labels_flat)
        missing = lists.is_null()
        return pc.if_else(missing, pa.scalar(None, made.type), made) if lists.null_count else made


def _respell(values: Arrow, spellings: Mapping[str, str]) -> Arrow:
    if not spellings:
        return values
    meant = {found: spellings.get(found, found) for found in pc.unique(values).drop_null().to_pylist()}
    encoded = values.dictionary_encode()
    words = pa.array([meant[word] for word in encoded.dictionary.to_pylist()], pa.string())
    return words.take(encoded.indices)


def _refuse_odd_text(name: str, distinct: Arrow, rule: Rule) -> None:
    """Raise PopulationError for dates, numbers and identifiers written as text."""
    sample = distinct.slice(0, 1000).to_pylist()
    if sum(bool(_DATE.match(text)) for text in sample) >= 0.9 * len(sample):
        raise PopulationError(
            f"column '{name}' holds dates as text ('{sample[0]}'); turn them into numbers first (age_years, days since "
            f"the first visit), or leave the column out (ignore '{name}')."
        )
    if rule.kind is None and len(sample) > 2 and sum(not math.isnan(_parse(t)) for t in sample) >= 0.8 * len(sample):
        odd = [text for text in sample if math.isnan(_parse(text))]
        raise PopulationError(
            f"column '{name}' holds numbers as text{f', and {odd[0]!r}' if odd else ''}; say what it is with a rule: "
            f"rules.{name}.kind = 'integer', 'continuous' or 'categorical'."
        )
    if len(distinct) > MAX_CATEGORIES:
        raise PopulationError(
            f"column '{name}' has {len(distinct)} different values, more than {MAX_CATEGORIES}. If it names rows or "
            f"persons, leave it out (ignore '{name}'); else merge values with a rule (rules.{name}.spellings)."
        )


def _parse(text: str | None) -> float:
    try:
        value = float(text) if text is not None and "_" not in text else math.nan
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _show(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}"
