"""What commands show, as JSON for other programs: one object a command, with the keys that `docs/json.md` lists.

Numbers are as stored: fractions and seconds, not percent. Keys are added, never renamed.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticUndefined

from pixmix_ray.experiment.described import settings_of
from pixmix_ray.metrics import DIRECTIONS, UNITS
from pixmix_ray.planning.durations import Durations, cost
from pixmix_ray.planning.plan import Plan
from pixmix_ray.planning.status import Status
from pixmix_ray.planning.usage import Usage
from pixmix_ray.plugins import Table as Parts
from pixmix_ray.report.overview import default_of
from pixmix_ray.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

MEASURED = (
    "method",
    "model",
    "benchmark",
    "metric",
    "value",
    "condition",
    "severity",
    "n",
    "standard_error",
    "note",
    "direction",
)
"""The columns of the measurements that `evaluate` gives."""


def plan_values(plan: Plan) -> dict[str, Any]:
    """Of `plan`: the trials and cells with their states, and seconds of the work that is left."""
    left = cost(plan, Durations.of(plan.store, plan.experiment.resources))
    trials = [
        {"trial_id": trial.id, "label": trial.label, "epochs": trial.training.epochs, "state": state}
        for trial, state in plan.trials.items()
    ]
    trials += [{"trial_id": of.id, "label": of.label, "epochs": 0, "state": "done"} for of in plan.checkpoints]
    cells = [
        {"trial_id": cell.trial.id, "benchmark": cell.run.name, "key": cell.run.key, "state": state}
        for cell, state in plan.cells.items()
    ]
    seconds = {"training": left.training, "evaluation": left.evaluation}
    return {"results": plan.store.uri, "trials": trials, "cells": cells, "seconds_left": seconds}


def status_values(status: Status, usage: Usage | None) -> dict[str, Any]:
    """Of `status`: the trials of a results folder, what failed, and what its runs used."""
    return {
        "results": status.uri,
        "trials": [asdict(trial) for trial in status.trials],
        "failures": list(status.failures),
        "usage": None if usage is None else asdict(usage),
    }


def parts_values(kind: str, parts: Parts[Any]) -> dict[str, Any]:
    """Of `list`: what can be named in an experiment file, each with its settings."""
    found = [
        {
            "name": name,
            "summary": getattr(part, "summary", ""),
            "source": getattr(part, "source", ""),
            "settings": [
                {
                    "name": setting,
                    "required": of.is_required(),
                    "default": _plain(default_of(of)),
                }
                for setting, of in part.model_fields.items()
            ],
        }
        for name, part in sorted(parts.known().items())
    ]
    return {"kind": kind, "parts": found}


def part_values(name: str, kind: type[Settings]) -> dict[str, Any]:
    """Of `list KIND NAME`: one part with all that can be set of it."""
    about = {key: getattr(kind, key, "") for key in ("summary", "source")}
    return {"name": name, **about, "settings": [asdict(setting) for setting in settings_of(kind)]}


def metrics_values() -> dict[str, Any]:
    """Of `list metrics`: what benchmarks measure."""
    return {
        "metrics": [{"name": name, "direction": of, "unit": UNITS.get(name, "")} for name, of in DIRECTIONS.items()]
    }


def _plain(default: Any) -> Any:
    """A default as JSON has it; none of a setting that has none."""
    if default is PydanticUndefined:
        return None
    return default if isinstance(default, bool | int | float | str | None) else str(default)


def measured_values(measured: "pd.DataFrame") -> dict[str, Any]:
    """Of `evaluate`: a row a measurement; `method` is the label of a checkpoint."""
    rows = measured[list(MEASURED)].astype(object).where(measured[list(MEASURED)].notna(), None)
    return {"measurements": rows.to_dict("records")}
