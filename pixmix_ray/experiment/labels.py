"""Labels of trials: short names for people, no two the same, that say in what the trials differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixmix_ray.experiment.trial import Trial

_SHOWN = ("method.k", "method.beta")  # in every label already
_HIDDEN = ("name", "version", "source", "revision")


def labelled(trials: Sequence[Trial], always: Collection[str] = ()) -> list[Trial]:
    """The trials with labels such as "pixmix k=4 beta=3 fractals severity=1 seed 0".

    A label has the method, its k and beta, the mixing set, and the seed; the data set and the model where there are
    several; and each setting that another trial of the same method (or data set, model, mixing set) has otherwise.

    Args:
        trials: all that are shown together.
        always: settings that are shown although all have the same, such as those of a search: training.lr, k,
            methods.NAME.SETTING.
    """
    wanted = {_path_in_settings(path) for path in always}
    flats = [_flat(trial.settings) for trial in trials]
    names = [_section_names(trial) for trial in trials]
    several = _several(names)
    differing = _differing(flats, names)
    bases = []
    for trial, flat, name in zip(trials, flats, names, strict=True):
        shown = [name[room] for room in several]
        for key, value in flat.items():
            room, _, setting = key.partition(".")
            if key not in _SHOWN and (key in wanted or key in differing[room, name["method"], name[room]]):
                shown.append(f"{setting}={text_of(value)}")
        bases.append(_label(trial, shown))
    return [trial.named(label) for trial, label in zip(trials, distinct(bases), strict=True)]


def _several(names: Sequence[Mapping[str, str]]) -> list[str]:
    """Of the data set and the model what is not the same in all trials."""
    return [room for room in ("dataset", "model") if len({name[room] for name in names}) > 1]


def _label(trial: Trial, shown: Iterable[str]) -> str:
    head, separator, seed = trial.default_label.rpartition(" seed ")
    return " ".join([head, *shown]) + separator + seed


def _section_names(trial: Trial) -> dict[str, str]:
    """What each section of a trial's settings is called; settings are compared where it is the same."""
    return {
        "dataset": trial.dataset.own_name,
        "model": trial.model.settings.label(),
        "method": trial.method.own_name,
        "mixing_set": trial.mixing_set_label or "",
        "training": "",
    }


def _differing(
    flats: Sequence[Mapping[str, Any]], names: Sequence[Mapping[str, str]]
) -> dict[tuple[str, str, str], set[str]]:
    """For each section, method and name of the section: the settings in it that are not the same in all trials."""
    values: dict[tuple[str, str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for flat, name in zip(flats, names, strict=True):
        for key, value in flat.items():
            room = key.partition(".")[0]
            values[room, name["method"], name[room]][key].add(text_of(value))
    found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for place, settings in values.items():
        found[place] = {key for key, texts in settings.items() if len(texts) > 1}
    return found


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the sections of a trial by dotted path, without what is no setting."""
    return {
        f"{room}.{key}": value
        for room, section in settings.items()
        if isinstance(section, Mapping)
        for key, value in section.items()
        if key not in _HIDDEN
    }


def _path_in_settings(path: str) -> str:
    room, _, rest = path.partition(".")
    if room == "methods":
        return f"method.{rest.partition('.')[2]}"
    return path if rest else f"method.{path}"


def distinct(labels: Sequence[str]) -> list[str]:
    """The labels, those that repeat with a number."""
    counts, seen, found = Counter(labels), Counter[str](), []
    for label in labels:
        seen[label] += 1
        found.append(label if counts[label] == 1 else f"{label} #{seen[label]}")
    return found


def text_of(value: object) -> str:
    """A value as people write it in a file.

    >>> text_of(0.1), text_of(None), text_of(True), text_of(["fog", "snow"])
    ('0.1', 'null', 'true', '[fog, snow]')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text_of, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
