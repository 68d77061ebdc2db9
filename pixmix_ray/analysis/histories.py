"""What trials and cells took, and how training went: from the files of trials and from the measurements."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.labels import with_labels
from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.store import Store, trial_file


def labelled_trials(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a trial: trial_id, seed, label of its configuration; in the order of the measurements."""
    return with_labels(frame.drop_duplicates("trial_id"), frame)[["trial_id", "seed", "label"]]


def epochs(store: Store, frame: pd.DataFrame) -> pd.DataFrame:
    """A row an epoch of each finished trial: label, trial_id, seed, epoch, loss, validation_error, seconds.

    Raises:
        ResultsError: no trial was trained here.
    """
    trials = labelled_trials(frame)
    found: dict[str, list[NDArray[np.float64]]] = {"loss": [], "validation_error": [], "seconds": []}
    for trial_id in trials["trial_id"]:
        done = store.read_json(trial_file(str(trial_id), "done.json")) or {}
        losses = _numbers(done, "losses")
        found["loss"].append(losses)
        for column, name in (("validation_error", "validation_errors"), ("seconds", "epoch_seconds")):
            values = _numbers(done, name)
            found[column].append(values if len(values) == len(losses) else np.full(len(losses), np.nan))
    counts = list(map(len, found["loss"]))
    if not sum(counts):
        raise ResultsError(
            f"no trial in {store.uri} was trained by pixmix_ray, so there are no training curves: choose another figure"
        )
    rows = trials.iloc[np.repeat(np.arange(len(trials)), counts)].reset_index(drop=True)
    columns = {name: np.concatenate(values) for name, values in found.items()}
    return rows.assign(epoch=np.concatenate([np.arange(1, count + 1) for count in counts]), **columns)


def work(store: Store, frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each training and each cell: label, what (training, or the benchmark), start, end.

    A training is taken to have run without a break before it was finished, which a resumed one did not.
    """
    trials = labelled_trials(frame)
    several = trials.groupby("label")["trial_id"].transform("size") > 1
    names = trials["label"].where(~several, trials["label"] + " seed " + trials["seed"].astype(str))
    label_of = dict(zip(trials["trial_id"], names, strict=True))
    rows: list[dict[str, Any]] = []
    for trial_id, label in label_of.items():
        done = store.read_json(trial_file(str(trial_id), "done.json")) or {}
        seconds = _numbers(done, "epoch_seconds")
        if len(seconds) and isinstance(done.get("finished_at"), str):
            end = pd.Timestamp(datetime.fromisoformat(done["finished_at"]))
            start = end - pd.Timedelta(seconds=float(np.nansum(seconds)))
            rows.append({"label": label, "what": "training", "start": start, "end": end})
    for cell in frame.drop_duplicates("cell").to_dict("records"):
        end = pd.Timestamp(cell["finished_at"])
        start = end - pd.Timedelta(seconds=float(cell["seconds"]))
        rows.append({"label": label_of[cell["trial_id"]], "what": cell["benchmark"], "start": start, "end": end})
    return pd.DataFrame(rows)


def _numbers(done: dict[str, Any], name: str) -> NDArray[np.float64]:
    values = done.get(name)
    if not isinstance(values, list):
        return np.zeros(0)
    return np.array([np.nan if value is None else float(value) for value in values])
