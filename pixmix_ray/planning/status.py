"""What a results folder holds, whatever experiment files made it."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.failures import described
from pixmix_ray.storage.index import list_cells, refuse_older_layout
from pixmix_ray.storage.kept_plan import read_kept_plan
from pixmix_ray.storage.store import DAMAGED, Store, trial_file

HEADER = 2**16  # bytes at the start of a file of weights that are read at first: most headers are smaller
LARGEST_HEADER = 10**8  # as safetensors has it


_OURS_IN_LINE = re.compile(r"[/: ]")  # what ends a trial's id at the start of a failure


@dataclass(frozen=True, kw_only=True)
class TrialStatus:
    """One trial.

    Attributes:
        trial_id: which.
        state: done, failed, stopped at epoch 3/10, epoch 3/10, begun, waiting, or from elsewhere.
        cells_done: how many cells were measured.
        cells_failed: how many failed.
        label: its short name; "" where no run left it.
        cells_planned: how many the last run wanted of it; none if it was no part of that run.
    """

    trial_id: str
    state: str
    cells_done: int
    cells_failed: int
    label: str = ""
    cells_planned: int | None = None


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

    @property
    def cells_left(self) -> int:
        """How many cells of the last run are neither measured nor failed."""
        return sum(
            max(0, trial.cells_planned - trial.cells_done - trial.cells_failed)
            for trial in self.trials
            if trial.cells_planned is not None and trial.state != "failed" and not trial.state.startswith("stopped")
        )

    def only(self, trial_ids: Sequence[str]) -> "Status":
        """Of some trials alone, in their order, with their failures."""
        of_id = {trial.trial_id: trial for trial in self.trials}
        chosen = tuple(of_id[name] for name in trial_ids if name in of_id)
        own = {trial.trial_id for trial in chosen}
        failures = tuple(line for line in self.failures if _OURS_IN_LINE.split(line, maxsplit=1)[0] in own)
        return replace(self, trials=chosen, failures=failures)

    @property
    def has_failed(self) -> bool:
        """Whether a trial or a cell failed for good."""
        return any(trial.state == "failed" or trial.cells_failed for trial in self.trials)


_OURS = re.compile(r"(trials|cells)/[\w-]+/")  # the folder of a trial or of somebody else's weights


def read_status(uri: str | Path) -> Status:
    """The status of a results folder.

    Raises:
        ResultsError: there are no results there.
    """
    store = Store(uri)
    refuse_older_layout(store)
    listed = store.files("trials") | store.files("cells")
    files = {path for path in listed if _OURS.match(path)}  # others leave copies there, and files of their own
    kept = read_kept_plan(store)
    begun = {path.split("/")[1] for path in files}
    ids = sorted(begun | set(kept.cells))
    if not ids:
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    cells = [path for path in files if path.startswith("cells/")]
    done = Counter(cell.partition("/")[0] for cell in list_cells(store))
    failed = Counter(path.split("/")[1] for path in cells if path.endswith(".failed.json"))
    return Status(
        uri=store.uri,
        trials=tuple(
            TrialStatus(
                trial_id=i,
                state=_state(store, files, i) if i in begun else "waiting",
                cells_done=done[i],
                cells_failed=failed[i],
                label=kept.labels.get(i, ""),
                cells_planned=kept.cells.get(i),
            )
            for i in ids
        ),
        failures=tuple(_failure(store, path, kept.labels) for path in sorted(files) if path.endswith("failed.json"))
        + tuple(f"{path}: was damaged and set aside" for path in sorted(files) if path.endswith(DAMAGED)),
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
    epoch = _epoch(store, trial_file(trial_id, "progress.safetensors"))
    return "begun" if epoch is None else f"epoch {epoch}/{_epochs(store, trial_file(trial_id, 'trial.json'))}"


def _epoch(store: Store, path: str) -> int | None:
    """The last whole epoch in a file of weights, of which only the header is read; none if there is no such file."""
    start = store.read_start(path, HEADER)
    if start is None:
        return None
    length = 8 + int.from_bytes(start[:8], "little")  # the header is JSON, and before it its length
    if len(start) == HEADER < length:
        start = store.read_start(path, min(length, LARGEST_HEADER)) or b""
    try:
        return int(json.loads(start[8:length])["__metadata__"]["epoch"])
    except (ValueError, LookupError, TypeError) as error:
        raise store.damaged(path, error) from None


def _epochs(store: Store, path: str) -> int:
    """How many epochs a trial has in all."""
    values = store.read_json(path) or {}
    try:
        return int(values["training"]["epochs"])
    except (LookupError, TypeError, ValueError) as error:
        raise store.damaged(path, error) from None


def _is_retried(store: Store, trial_id: str) -> bool:
    return bool((store.read_json(trial_file(trial_id, "failed.json")) or {}).get("retried"))


def _failure(store: Store, path: str, labels: Mapping[str, str]) -> str:
    record = store.read_json(path) or {}
    name = "/".join(path.removesuffix("failed.json").rstrip("./").split("/")[1:])
    label = labels.get(name.partition("/")[0], "")
    return f"{name}{f' ({label})' if label else ''}: {described(record)}"
