"""How ours were measured otherwise than the published figures.

The settings below are the paper's (PixMix, section 3.1, 3.2 and Appendix C) and the official code's, where the paper
does not say. Most are our defaults, which a test holds; those of `OF_IMAGENET`, a ball around the noised picture and
ten draws of outliers are not. `pixmix_ray.benchmarks` says of each why.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

RECIPE: Mapping[str, Any] = {
    "epochs": 100,
    "batch_size": 128,
    "lr": 0.1,
    "final_lr": 1e-6,
    "momentum": 0.9,
    "flip": True,
    "crop_padding": 4,
    "validation": None,
}
"""Of the trainings on CIFAR; those of ImageNet have another. What changes speed alone is not among them."""

BENCHMARKS: Mapping[str, Mapping[str, Any]] = {
    "clean": {"limit": None},
    "corruptions": {"limit": None, "exclude": [], "severities": [1, 2, 3, 4, 5], "normaliser": None},
    "corruptions_bar": {"limit": None, "exclude": [], "severities": [1, 2, 3, 4, 5], "names": None},
    "consistency": {"limit": None, "exclude": [], "difficulty": 1, "names": None},
    "adversaries": {
        "limit": None,
        "attack": "pgd",
        "norm": "linf",
        "eps": 2 / 255,
        "step_size": 0.5 / 255,
        "steps": 20,
        "restarts": 1,
        "random_start": True,
        "centre": "noised",
    },
    "renditions": {"limit": None},
    "anomalies": {"limit": None, "missing": [], "repeats": 10},
}
"""Of the benchmarks, by their names; a setting that a row does not have is not compared."""

IMPLIED = {"jpeg_quality": None, "resize": None, "codec": None, "noise_past_normalisation": False}
"""What settings are where a row leaves them out, as rows from before there were such settings do."""

PLAIN = [0.5, 0.5, 0.5]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # what is taken off and divided by where nothing else is said


def departures(frame: pd.DataFrame) -> list[str]:
    """A line for each way in which ours were made otherwise than the paper says, such as "clean.limit = 50".

    That is the recipe on CIFAR, a limit on the training pictures, and the settings of benchmarks.

    Args:
        frame: measurements; unchanged.
    """
    lines: dict[str, None] = {}
    columns = ["dataset", "settings", "benchmark", "benchmark_settings"]
    rows = frame[columns].astype(str).drop_duplicates()
    for dataset, text, benchmark, settings in rows.itertuples(index=False):
        try:
            trained, measured = json.loads(text), json.loads(settings)
        except ValueError:
            continue  # of somebody else's making
        lines.update(dict.fromkeys(_of_training(dataset, trained)))
        lines.update(dict.fromkeys(_of_benchmark(dataset, trained, benchmark, measured)))
    return list(lines)


def _of_training(dataset: str, settings: Mapping[str, Any]) -> Iterator[str]:
    if dataset.startswith("cifar"):
        yield from _changed("training", settings.get("training") or {}, RECIPE)
    limit = (settings.get("dataset") or {}).get("train_limit")
    if limit is not None:
        yield f"dataset.train_limit = {limit}"


def _of_benchmark(
    dataset: str, trained: Mapping[str, Any], benchmark: str, settings: Mapping[str, Any]
) -> Iterator[str]:
    yield from _changed(benchmark, settings, BENCHMARKS.get(benchmark, {}))
    is_made_here = "files" in settings and settings["files"] is None
    if is_made_here:
        yield f"{benchmark}: pictures made here, not the published files"
    wanted: dict[str, Any] = {}
    if dataset == "imagenet" and benchmark in ("corruptions", "corruptions_bar"):
        wanted = {"jpeg_quality": 85} if is_made_here else {"resize": 256}
    elif dataset == "imagenet" and benchmark == "consistency" and is_made_here:
        wanted = {"codec": "h264"}
    elif benchmark == "anomalies" and settings.get("generated") and not _is_plain(trained.get("model") or {}):
        wanted = {"noise_past_normalisation": True}
    yield from _changed(benchmark, {name: settings.get(name, IMPLIED[name]) for name in wanted}, wanted)


def _is_plain(model: Mapping[str, Any]) -> bool:
    """Whether a network takes .5 off and divides by .5, as PixMix's own do."""
    mean, std = IMAGENET if model.get("name") in ("cifar_resnet", "torchvision_model") else (PLAIN, PLAIN)
    return bool(model.get("mean", mean) == PLAIN and model.get("std", std) == PLAIN)


def _changed(owner: str, settings: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[str]:
    """A line for each setting that is not as published: "training.epochs = 3, not 100"."""
    for name, wanted in published.items():
        if name in settings and settings[name] != wanted:
            instead = "" if wanted in (None, [], {}) else f", not {_short(wanted)}"
            yield f"{owner}.{name} = {_short(settings[name])}{instead}"


def _short(value: object) -> str:
    """A value as an experiment file would have it.

    >>> _short(0.5), _short(None), _short(["frost"])
    ('0.5', 'none', 'frost')
    """
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "none"
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
