"""Short names of configurations: the method, and what tells it from its others; and what their notes say, once each."""

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from pixmix_ray.errors import one_line
from pixmix_ray.storage.schema import CONFIGURATION

_DISTINGUISHING = ("mixing_set", "k", "beta")  # columns that tell two configurations of one method apart
LONGEST = 500  # letters of a label
_SAID = ("method.name", "method.k", "method.beta", "method.version", "method.revision")
_LABEL_COLUMNS = ("method", "dataset", "model", *_DISTINGUISHING)


def configuration_labels(wide: pd.DataFrame) -> list[str]:
    """A short name for each row, no two the same: the method and what tells it from the method's other rows.

    That is first mixing set, k and beta, and each setting of the method and of its recipe that is not the same in all
    of its rows; where these do not tell two rows apart, the other settings that differ; at last a number. Data set and
    model are named if the frame has several. A column `label` is taken as it is: made of the whole frame, it keeps the
    names when only some rows are shown.

    >>> configuration_labels(pd.DataFrame({"method": ["pixmix", "pixmix", "baseline"], "k": [3, 4, None]}))
    ['pixmix (k=3)', 'pixmix (k=4)', 'baseline']
    """
    if "label" in wide.columns:
        return [one_line(label, LONGEST) for label in wide["label"]]
    texts = {name: [_plain(value) for value in wide[name]] for name in _LABEL_COLUMNS if name in wide.columns}
    methods = texts.pop("method", ["configuration"] * len(wide))
    parts = _column_parts(methods, texts)
    if "settings" in wide.columns:
        settings = [_settings(text) for text in wide["settings"]]
        for group in _groups(methods):
            _add_differences(parts, settings, group, _is_varied)
        for group in _groups(_joined(methods, parts)):
            _add_differences(parts, settings, group, lambda _: True)
    # names may be somebody else's, and these go to terminals
    return _numbered([one_line(label, LONGEST) for label in _joined(methods, parts)])


def with_labels(rows: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Some rows with a column `label`, of what tells their configurations apart among all those of `frame`.

    So that a configuration has one name, whatever part of the measurements is looked at.

    Args:
        rows: with the columns of `schema.CONFIGURATION`; unchanged.
        frame: measurements, the configurations of `rows` among them; of `labelled` ones the labels are taken.
    """
    if "label" in rows.columns:
        return rows
    identity = [name for name in CONFIGURATION if name in frame.columns]
    wide = frame.drop_duplicates("label" if "label" in frame.columns else identity)
    named = wide[identity].assign(label=configuration_labels(wide))
    found: pd.DataFrame = rows.merge(named, on=identity, how="left")
    return found


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Measurements with a column `label`, so that whoever asks for labels need not make them again.

    Args:
        frame: measurements; unchanged.
    """
    identity = [name for name in CONFIGURATION if name in frame.columns]
    numbers = frame.groupby(identity, dropna=False, sort=False, observed=True).ngroup().to_numpy()
    labels = np.array(
        configuration_labels(frame[identity].iloc[np.unique(numbers, return_index=True)[1]]), dtype=object
    )
    return frame.assign(label=labels[numbers])


def _column_parts(methods: Sequence[str], texts: dict[str, list[str]]) -> list[list[str]]:
    """What the columns that tell rows apart add to each label."""
    parts: list[list[str]] = [[] for _ in methods]
    for group in _groups(methods):
        for column, values in texts.items():
            scope = group if column in _DISTINGUISHING else range(len(methods))
            if len({values[i] for i in scope}) > 1:
                for i in group:
                    parts[i] += _part(column, values[i])
    return parts


def _plain(value: object) -> str:
    """A cell of a configuration column as text; null is empty, 4.0 is 4."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _part(column: str, text: str) -> list[str]:
    """What one configuration column adds to a label."""
    if column == "mixing_set":
        return [text or "no mixing set"]
    if not text:
        return []
    return [f"{column}={text}" if column in _DISTINGUISHING else text]


def _joined(methods: Sequence[str], parts: Sequence[Sequence[str]]) -> list[str]:
    return [f"{method} ({', '.join(part)})" if part else method for method, part in zip(methods, parts, strict=True)]


def _groups(labels: Sequence[str]) -> list[list[int]]:
    """The positions of each distinct label, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        groups.setdefault(label, []).append(i)
    return list(groups.values())


def _settings(text: object) -> dict[str, str]:
    """The JSON of a settings cell by dotted path; what is no JSON is taken as one value."""
    if not isinstance(text, str):
        return {}
    try:
        return flat_settings(json.loads(text))
    except ValueError:
        return {"settings": text}


def flat_settings(settings: object, path: str = "") -> dict[str, str]:
    """Nested settings by their dotted path, values as JSON.

    >>> flat_settings({"training": {"epochs": 3}})
    {'training.epochs': '3'}
    """
    if not isinstance(settings, dict):
        return {path: json.dumps(settings)}
    parts = [flat_settings(value, f"{path}.{key}" if path else str(key)) for key, value in settings.items()]
    return {key: value for part in parts for key, value in part.items()}


def _is_varied(path: str) -> bool:
    """Whether a setting is one that people vary on purpose, and no column says it."""
    room = path.partition(".")[0]
    return room in ("method", "training") and path not in _SAID


def _add_differences(
    parts: list[list[str]], settings: Sequence[dict[str, str]], group: Sequence[int], is_wanted: Callable[[str], bool]
) -> None:
    """To the label of each row of a group, setting=value of every wanted setting that is not the same in all of it."""
    keys = dict.fromkeys(key for i in group for key in settings[i])
    differing = [key for key in keys if is_wanted(key) and len({settings[i].get(key) for i in group}) > 1]
    short = {key: key.partition(".")[2] or key for key in differing}
    names = {key: short[key] if list(short.values()).count(short[key]) == 1 else key for key in differing}
    for i in group:
        parts[i] += [f"{names[key]}={_shown(settings[i].get(key))}" for key in differing]


def _shown(value: str | None) -> str:
    """A value that stands there as JSON, for people: numbers to six digits, texts without quotes.

    >>> _shown("0.08267512345"), _shown('"linf"'), _shown(None)
    ('0.0826751', 'linf', 'default')
    """
    if value is None:
        return "default"
    try:
        read = json.loads(value)
    except ValueError:
        return value
    if read is None:
        return "none"
    return f"{read:g}" if isinstance(read, float) else read if isinstance(read, str) else value


def _numbered(labels: Sequence[str]) -> list[str]:
    """The labels, those that repeat with a number."""
    numbered = list(labels)
    for group in _groups(labels):
        if len(group) > 1:
            for number, i in enumerate(group, start=1):
                numbered[i] += f" #{number}"
    return numbered


MOST = 6
"""Lines of one benchmark; a sweep over every method may have a hundred."""
NAMED = 3


def remarks(frame: pd.DataFrame, objectives: Sequence[str]) -> tuple[str, ...]:
    """A line for each note of the benchmarks of some objectives: where it stands, the note, and of which entries.

    >>> row = {"benchmark": "corruptions", "condition": "", "note": "14 of the 15 corruptions: without frost"}
    >>> remarks(pd.DataFrame([row | {"method": "pixmix"}]), ["corruptions.mce"])
    ('corruptions: 14 of the 15 corruptions: without frost',)

    Args:
        frame: measurements, with or without the column; unchanged.
        objectives: names "benchmark.metric".
    """
    if "note" not in frame.columns:
        return ()
    shown = list(dict.fromkeys(name.partition(".")[0] for name in objectives))
    rows = frame[frame["note"].fillna("").ne("") & frame["benchmark"].isin(shown)]
    rows = rows.iloc[np.argsort(rows["condition"].ne(""), kind="stable")]  # those of all conditions first
    if rows.empty:
        return ()
    named = with_labels(rows.astype({"note": str, "benchmark": str, "condition": str}), frame)
    everyone = with_labels(frame[frame["benchmark"].isin(shown)].astype({"benchmark": str}), frame)
    entries = everyone.groupby("benchmark")["label"].nunique().to_dict()
    lines: dict[str, list[str]] = {}
    for (benchmark, condition, note), part in named.groupby(["benchmark", "condition", "note"], sort=False):
        labels = list(dict.fromkeys(part["label"]))
        of = "" if len(labels) == entries[benchmark] else f" ({_listed(labels)})"
        where = f"{benchmark}, {condition}" if condition else str(benchmark)
        lines.setdefault(str(benchmark), []).append(f"{where}: {note}{of}")
    found = []
    for name in shown:
        own = lines.get(name, [])
        found += own[:MOST]
        if len(own) > MOST:
            found.append(f"{name}: {len(own) - MOST} more notes, in the column note of the measurements")
    return tuple(found)


def _listed(labels: Sequence[str]) -> str:
    rest = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return ", ".join(labels[:NAMED]) + rest
