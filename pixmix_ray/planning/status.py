"""What a results folder holds, whatever experiment files made it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pixmix_ray.errors import ResultsError
from pixmix_ray.memory import without_garbage_collection
from pixmix_ray.models import read_header
from pixmix_ray.storage.cells import list_cells
from pixmix_ray.storage.failures import described
from pixmix_ray.storage.store import DAMAGED, Store, trial_file


@dataclass(frozen=True, kw_only=True)
class TrialStatus:
    """One trial.

    Attributes:
        trial_id: which.
        state: done, failed, stopped at epoch 3/10, epoch 3/10, begun, or from elsewhere.
        cells_done: how many cells were measured.
        cells_failed: how many failed.
    """

    trial_id: str
    state: str
    cells_done: int
    cells_failed: int


@dataclass(frozen=True, kw_only=True)
class Status:
    """A results folder.

    Attributes:
        uri: where it lies.
        trials: every trial that was begun.
        failures: a line for each failed trial and cell: which, and why; then one for each file that was set aside.
    """

    uri: str
    trials: tuple[TrialStatus, ...]
    failures: tuple[str, ...]


@without_garbage_collection()
def read_status(uri: str | Path) -> Status:
    """The status of a results folder.

    Raises:
        ResultsError: there are no results there.
    """
    store = Store(uri)
    files = store.files("trials") | store.files("cells")
    measured = list_cells(store).places
    ids = sorted({path.split("/")[1] for path in files} | {cell.split("/")[0] for cell in measured})
    if not ids:
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    done = Counter(cell.split("/")[0] for cell in measured)
    failed = Counter(
        path.split("/")[1] for path in files if path.startswith("cells/") and path.endswith(".failed.json")
    )
    others = store.files("predictions") | store.files("compacted")
    return Status(
        uri=store.uri,
        trials=tuple(
            TrialStatus(trial_id=i, state=_state(store, files, i), cells_done=done[i], cells_failed=failed[i])
            for i in ids
        ),
        failures=tuple(_failure(store, path) for path in sorted(files) if path.endswith("failed.json"))
        + tuple(
            f"{path}: not what was written, set aside" for path in sorted(files | others) if path.endswith(DAMAGED)
        ),
    )


def _state(store: Store, files: set[str], trial_id: str) -> str:
    if trial_file(trial_id, "done.json") in files:
        return "done"
    if trial_file(trial_id, "failed.json") in files and not _is_retried(store, trial_id):
        return "failed"
    if trial_file(trial_id, "trial.json") not in files:
        return "from elsewhere"  # an evaluated checkpoint that no trial of ours made
    if trial_file(trial_id, "stopped.json") in files:
        stopped = store.read_json(trial_file(trial_id, "stopped.json")) or {}
        return f"stopped at epoch {stopped.get('epoch')}/{stopped.get('epochs')}"
    path = trial_file(trial_id, "progress.safetensors")
    content = store.read(path)
    if content is None:
        return "begun"
    epochs = (store.read_json(trial_file(trial_id, "trial.json")) or {})["training"]["epochs"]
    return f"epoch {read_header(content, path)['epoch']}/{epochs}"


def _is_retried(store: Store, trial_id: str) -> bool:
    return bool((store.read_json(trial_file(trial_id, "failed.json")) or {}).get("retried"))


def _failure(store: Store, path: str) -> str:
    record = store.read_json(path) or {}
    name = "/".join(path.removesuffix("failed.json").rstrip("./").split("/")[1:])
    return f"{name}: {described(record)}"
