"""What an epoch and a cell cost on this machine, whatever results folder they were for: a small file in the cache.

It prices a sweep into a folder without history. The newest measurements of each kind are kept, apart for each pair of
shares (an epoch on a quarter of a GPU costs other seconds than on a whole one). With a cluster elsewhere the file is
that of the machine where the command runs. It is a memory aid: a damaged or missing file costs an estimate, no more.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pixmix_ray.cache import cache_folder
from pixmix_ray.errors import ResultsError
from pixmix_ray.experiment.resources import Resources
from pixmix_ray.storage.store import Store

FILE = "unit_costs.json"
KEPT = 20  # of each kind


@dataclass(frozen=True, kw_only=True)
class UnitCosts:
    """Measured seconds.

    Attributes:
        epochs: of epochs, by data set, model and method.
        cells: of cells, by benchmark with its settings.
        trials: of trials, beside their epochs: reading the data, writing the checkpoint.
        starts: from the beginning of a run until its first trial ran.
    """

    epochs: dict[str, list[float]] = field(default_factory=dict)
    cells: dict[str, list[float]] = field(default_factory=dict)
    trials: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)


def read_unit_costs(resources: Resources) -> UnitCosts:
    """What was measured on this machine with these shares; nothing if nothing was."""
    found = _read().get(_key(resources), {})
    try:
        return UnitCosts(
            epochs=_lists(found.get("epochs", {})),
            cells=_lists(found.get("cells", {})),
            trials=[float(seconds) for seconds in found.get("trials", [])],
            starts=[float(seconds) for seconds in found.get("starts", [])],
        )
    except (AttributeError, TypeError, ValueError):
        return UnitCosts()


def add_unit_costs(resources: Resources, new: UnitCosts) -> None:
    """Remember what was measured, beside the newest of what is known."""
    before = read_unit_costs(resources)
    together = {
        "epochs": _joined(before.epochs, new.epochs),
        "cells": _joined(before.cells, new.cells),
        "trials": [*before.trials, *new.trials][-KEPT:],
        "starts": [*before.starts, *new.starts][-KEPT:],
    }
    with suppress(OSError):  # a cache that cannot be written
        Store(cache_folder()).write_json(FILE, {**_read(), _key(resources): together})


def _read() -> dict[str, Any]:
    with suppress(ResultsError):
        return Store(cache_folder()).read_json(FILE) or {}
    return {}


def _key(resources: Resources) -> str:
    return resources.model_dump_json()


def _lists(values: Mapping[str, Any]) -> dict[str, list[float]]:
    return {key: [float(seconds) for seconds in of] for key, of in values.items()}


def _joined(before: Mapping[str, list[float]], new: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {key: [*before.get(key, []), *new.get(key, [])][-KEPT:] for key in {**before, **new}}
