"""What a run set out to do, kept in its results folder (`pixmix_ray.storage.kept_plan`)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pixmix_ray.storage.kept_plan import FILE, KeptPlan, read_kept_plan

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Plan


def keep_plan(plan: Plan) -> None:
    """Write the plan of a run; labels of earlier runs stay.

    Raises:
        StorageError: it cannot be written.
    """
    cells = Counter(cell.trial.id for cell, state in plan.cells.items() if state != "stopped")
    before = read_kept_plan(plan.store)
    kept = KeptPlan(
        labels={**before.labels, **{source.id: source.label for source in plan.sources}},
        cells={source.id: cells[source.id] for source in plan.sources},
    )
    if kept != before:
        plan.store.write_json(FILE, {"labels": kept.labels, "cells": kept.cells})
