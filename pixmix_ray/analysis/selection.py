"""Which measurements are looked at, and in which order: by a condition, by cells, by an order that is asked for.

    method = pixmix and k >= 3 and not mixing_set in (fractals, 'dead leaves')

A condition compares names with values by = != < <= > >= and `in (...)`, joined by and, or, not and parentheses. Names
are the columns of `NAMES` and the settings of a trial by their path, such as training.lr or method.severity; the end of
a path is enough where one path alone ends so. Values with spaces or signs stand in quotes; `none` is what is not there.
Everything that shows results takes its rows from here.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.labels import flat_settings, with_labels
from pixmix_ray.analysis.variants import ways
from pixmix_ray.errors import RequestError, ResultsError, UnknownNameError
from pixmix_ray.metrics import direction
from pixmix_ray.storage.schema import CONFIGURATION

NAMES = (
    *(name for name in CONFIGURATION if name != "settings"),
    "seed",
    "label",
    "trial_id",
    "benchmark",
    "data_version",
    "device",
    "code_version",
    "training_code_version",
)
"""Columns that a condition and an order may name; `label` is the name of a row in tables."""

_KEYS = ("trial_id", "benchmark", "benchmark_settings", "data_version")  # rows that are chosen together
_TOKEN = re.compile(r"""\s*(?:(<=|>=|!=|<>|==|[=<>(),])|"([^"]*)"|'([^']*)'|([^\s<>=!(),"']+))""")
_SHOWN = 8  # values of a name that are listed
_FORM = "write it as in: method=pixmix and k>=3"

Record = Mapping[str, Any]
Predicate = Callable[[Record], bool]
Value = str | float | None


def matching(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows that a condition holds of, in their order and with their row labels.

    >>> frame = pd.DataFrame({"method": ["pixmix", "pixmix", "baseline"], "k": [3, 4, None]})
    >>> matching(frame, "method=pixmix and k>=4").index.tolist()
    [1]

    Args:
        frame: measurements, or trials; unchanged.
        where: the condition.

    Raises:
        RequestError: it is no condition.
        UnknownNameError: it names no column and no setting.
        ResultsError: it holds of no row.
    """
    condition = _Condition(where)
    keys = [name for name in _KEYS if name in frame.columns]
    numbers = frame.groupby(keys, dropna=False, sort=False, observed=True).ngroup() if keys else _each(frame)
    records = list(_records(frame.loc[~numbers.duplicated()], frame))
    known = list(dict.fromkeys(name for record in records for name in record))
    names = {name: _found(name, known) for name in condition.names}
    holds = np.array([condition.holds({name: record.get(of) for name, of in names.items()}) for record in records])
    if not holds.any():
        there = "; ".join(f"{name} is {_values(records, of)}" for name, of in names.items())
        raise ResultsError(f"no rows match --where {where!r}: {there}")
    return frame[holds[numbers.to_numpy()]]


def of_cells(frame: pd.DataFrame, cells: Sequence[str]) -> pd.DataFrame:
    """The rows of some cells, in the order of the cells.

    Raises:
        ResultsError: there are none.
    """
    places = {name: place for place, name in enumerate(cells)}
    ranks = frame["cell"].astype(str).map(places)
    chosen = frame[ranks.notna()]
    if chosen.empty:
        raise ResultsError(
            f"these results contain none of the {len(cells)} measured cells of the experiment file: run it, or give "
            "its own "
            "results folder"
        )
    return chosen.iloc[np.argsort(ranks.dropna().to_numpy(), kind="stable")]


def in_order_of(frame: pd.DataFrame, trial_ids: Sequence[str]) -> pd.DataFrame:
    """The rows by the places of their trials in a list; those of other trials follow, in their order."""
    places = {name: place for place, name in enumerate(trial_ids)}
    ranks = frame["trial_id"].astype(str).map(places).fillna(len(places)).to_numpy()
    return frame.iloc[np.argsort(ranks, kind="stable")]


def sorted_by(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The rows, those of a configuration together, by names as in conditions, or by objectives, the best first.

    A name with - before it is sorted the other way round; what lacks a value comes last.

    >>> frame = pd.DataFrame({"method": ["a", "b", "c"], "k": [3.0, None, 10.0], "settings": "{}"})
    >>> sorted_by(frame, ["-k"])["method"].tolist()
    ['c', 'a', 'b']

    Args:
        frame: measurements; unchanged.
        names: of columns, settings or objectives "benchmark.metric"; the first counts most.

    Raises:
        UnknownNameError: it is none of them.
    """
    identity = [name for name in CONFIGURATION if name in frame.columns]
    numbers = frame.groupby(identity, dropna=False, sort=False, observed=True).ngroup().to_numpy()
    records = list(_records(frame[~pd.Series(numbers, index=frame.index).duplicated()], frame))
    objectives = _objectives(frame, numbers)
    known = list(dict.fromkeys([*(name for record in records for name in record), *objectives]))
    order = list(range(len(records)))
    for name in reversed(names):
        is_reversed, plain = name.startswith("-"), name.removeprefix("-")
        if plain in objectives:
            values = [objectives[plain].get(number) for number in range(len(records))]
            is_reversed ^= direction(plain.rpartition(".")[2]) == "higher"
        else:
            of = _found(plain, known)
            values = [record.get(of) for record in records]
        there = [number for number in order if values[number] is not None]
        order = sorted(there, key=lambda number: _natural(values[number]), reverse=is_reversed)  # at once
        order += [number for number in range(len(records)) if values[number] is None]
    ranks = np.empty(len(records), dtype=np.int64)
    ranks[order] = np.arange(len(records))
    return frame.iloc[np.argsort(ranks[numbers], kind="stable")]


def left_out(frame: pd.DataFrame, chosen: pd.DataFrame, option: str) -> str:
    """A line for what was left out by an option, in words; "" for nothing.

    >>> rows = {"trial_id": ["a", "b"], "dataset": "digits", "benchmark": "clean", "data_version": "1"}
    >>> frame = pd.DataFrame({**rows, "benchmark_settings": "{}"})
    >>> left_out(frame, frame[:1], "--where")
    'left out: 1 of 2 trials; show them without --where'
    """
    before, after = set(frame["trial_id"]), set(chosen["trial_id"])
    parts = [f"{len(before - after)} of {len(before)} trials"] if before - after else []
    rest = frame[frame["trial_id"].isin(after)].drop(index=chosen.index, errors="ignore")
    gone = {(way.dataset, way.benchmark, way.key): way for way in ways(frame)}
    for way in ways(rest):
        known = gone[way.dataset, way.benchmark, way.key]
        count = len(way.trials)
        parts.append(f"{known.words}, {count} trial{'s' if count > 1 else ''}")
    return f"left out: {'; '.join(parts)}; show them without {option}" if parts else ""


def _each(frame: pd.DataFrame) -> "pd.Series[int]":
    return pd.Series(range(len(frame)), index=frame.index)


def _records(rows: pd.DataFrame, frame: pd.DataFrame) -> Iterator[Record]:
    """What each of some rows may be asked for, by name: columns and settings."""
    columns = [name for name in NAMES if name in rows.columns]
    labelled = with_labels(rows, frame) if {"method", "settings"} <= set(rows.columns) else rows
    texts = labelled["settings"].tolist() if "settings" in labelled.columns else ["{}"] * len(labelled)
    flat: dict[object, dict[str, Any]] = {}
    wanted = [*columns, *(["label"] if "label" in labelled.columns and "label" not in columns else [])]
    plain = zip(*(labelled[name].tolist() for name in wanted), strict=True)
    for values, text in zip(plain, texts, strict=True):
        if text not in flat:
            flat[text] = _settings(text)
        own = {name: None if pd.isna(value) else value for name, value in zip(wanted, values, strict=True)}
        yield {**flat[text], **own}


def _settings(text: object) -> dict[str, Any]:
    try:
        settings = flat_settings(json.loads(str(text)))
    except ValueError:
        return {}
    return {path: json.loads(value) for path, value in settings.items() if path}


def _objectives(frame: pd.DataFrame, numbers: NDArray[np.integer[Any]]) -> dict[str, dict[int, float]]:
    """For each objective the mean of each configuration that has it, by the configurations' numbers."""
    if not {"benchmark", "metric", "condition", "severity", "value"} <= set(frame.columns):
        return {}
    whole = frame["severity"].isna() & frame["condition"].fillna("").eq("") & frame["value"].notna()
    rows = frame[whole]
    names = rows["benchmark"].astype(str) + "." + rows["metric"].astype(str)
    means = rows["value"].groupby([names.to_numpy(), numbers[whole.to_numpy()]]).mean()
    found: dict[str, dict[int, float]] = {}
    places = zip(means.index.get_level_values(0), means.index.get_level_values(1), means.tolist(), strict=True)
    for name, number, value in places:
        found.setdefault(str(name), {})[int(number)] = float(value)
    return found


def _found(name: str, known: Sequence[str]) -> str:
    """The column or path that a name means."""
    if name in known:
        return name
    ends = [path for path in known if path.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise RequestError(f"{name!r} may mean {' or '.join(ends)}: write one of these")
    raise UnknownNameError("column or setting", name, known)


def _values(records: Sequence[Record], name: str) -> str:
    """The values of a name, for people."""
    texts = sorted({_text(record.get(name)) for record in records}, key=_natural)
    more = f" and {len(texts) - _SHOWN} others" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _text(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, list) else str(value)


def _natural(value: object) -> tuple[bool, float, str]:
    """A key by which numbers come before texts, each in its order."""
    number = _number(value)
    return (number is None, 0.0 if number is None else number, "" if number is not None else str(value))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return None if math.isnan(number) else number


class _Condition:
    """A condition, read once: `holds` of a record, and the `names` that it compares."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._read(text))
        self._place = 0
        self.names: list[str] = []
        self.holds = self._either()
        if self._place < len(self._tokens):
            raise self._wrong(f"{self._next()!r} is not expected there")

    def _read(self, text: str) -> Iterator[tuple[str, bool]]:
        """The signs and words of a text, and whether each is a value in quotes."""
        place, end = 0, len(text.rstrip())
        while place < end:
            found = _TOKEN.match(text, place)
            if found is None:
                raise self._wrong(f"{text[place:].strip()[:10]!r} cannot be read")
            sign, double, single, word = found.groups()
            yield (sign or word, False) if sign or word else (double if double is not None else single, True)
            place = found.end()

    def _wrong(self, what: str) -> RequestError:
        return RequestError(f"--where {self._text!r}: {what}; {_FORM}")

    def _next(self) -> str:
        return self._tokens[self._place][0] if self._place < len(self._tokens) else "its end"

    def _is(self, *words: str) -> bool:
        """Whether one of some signs or words comes, which is then passed."""
        if self._place < len(self._tokens):
            token, is_quoted = self._tokens[self._place]
            if not is_quoted and token.lower() in words:
                self._place += 1
                return True
        return False

    def _take(self, what: str) -> str:
        """The name or value that must come."""
        if self._place == len(self._tokens):
            raise self._wrong(f"{what} is missing at its end")
        token, is_quoted = self._tokens[self._place]
        if not is_quoted and (token in "(),=<>" or token in ("<=", ">=", "!=", "<>", "==")):
            raise self._wrong(f"{what} is missing before {token!r}")
        self._place += 1
        return token

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._is("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda record: any(part(record) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._is("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda record: all(part(record) for part in parts)

    def _one(self) -> Predicate:
        if self._is("not"):
            negated = self._one()
            return lambda record: not negated(record)
        if self._is("("):
            inner = self._either()
            if not self._is(")"):
                raise self._wrong(f"')' is missing before {self._next()!r}")
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        name = self._take("a name")
        self.names.append(name)
        if self._is("not"):
            if not self._is("in"):
                raise self._wrong(f"'in' is missing before {self._next()!r}")
            values = self._list()
            return lambda record: not any(_equal(record[name], value) for value in values)
        if self._is("in"):
            values = self._list()
            return lambda record: any(_equal(record[name], value) for value in values)
        sign = self._next()
        if not self._is("=", "==", "!=", "<>", "<", "<=", ">", ">="):
            raise self._wrong(f"a sign such as = is missing after {name!r}")
        value = self._take("a value")
        if sign in ("=", "=="):
            return lambda record: _equal(record[name], value)
        if sign in ("!=", "<>"):
            return lambda record: not _equal(record[name], value)
        limit = _number(value)
        if limit is None:
            raise self._wrong(f"{sign} compares numbers, and {value!r} is not a number")
        return lambda record: _ordered(record[name], sign, limit)

    def _list(self) -> list[str]:
        if not self._is("("):
            raise self._wrong(f"'(' is missing before {self._next()!r}")
        values = [self._take("a value")]
        while self._is(","):
            values.append(self._take("a value"))
        if not self._is(")"):
            raise self._wrong(f"')' is missing before {self._next()!r}")
        return values


def _equal(value: object, text: str) -> bool:
    """Whether a value is what a text says: as numbers where both are, else as texts."""
    one, other = _number(value), _number(text)
    if one is not None and other is not None:
        return one == other
    if isinstance(value, bool) or value is None:
        return text.lower() == {None: "none", True: "true", False: "false"}[value]
    return _text(value) == text


def _ordered(value: object, sign: str, limit: float) -> bool:
    number = _number(value)
    if number is None:
        return False
    return {"<": number < limit, "<=": number <= limit, ">": number > limit, ">=": number >= limit}[sign]
