"""`plan.json`: what the last run into a results folder set out to do, so that others can tell how much is left.

trials    id -> label, epochs and how many cells it is to have
labels    id -> label, of earlier runs too
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.store import Store

FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class KeptPlan:
    """What was planned.

    Attributes:
        labels: of trials, by id.
        cells: how many each trial of the last run is to have, by id.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    cells: Mapping[str, int] = field(default_factory=dict)


def read_kept_plan(store: Store) -> KeptPlan:
    """What was planned last; nothing where no plan was kept, or its file is damaged."""
    try:
        values = store.read_json(FILE) or {}
        return KeptPlan(
            labels={str(key): str(label) for key, label in values.get("labels", {}).items()},
            cells={str(key): int(count) for key, count in values.get("cells", {}).items()},
        )
    except (ResultsError, AttributeError, TypeError, ValueError):
        return KeptPlan()
