"""The experiment that `evaluate` stands for: checkpoints and benchmarks, and nothing to train."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pixmix_ray.datasets import DATASETS
from pixmix_ray.errors import CheckpointError, RequestError
from pixmix_ray.experiment.experiment import DEFAULTS
from pixmix_ray.experiment.external import GLOB, stored_trial
from pixmix_ray.experiment.file import override
from pixmix_ray.models import MODELS

ALL = "all"  # benchmarks: those of the paper's tables
BESIDE = ("classes", "label")  # keys of an entry that may stand beside the settings of its model


def evaluation_of(
    checkpoints: Sequence[str],
    benchmarks: Sequence[object] | None,
    *,
    model: object | None = None,
    dataset: object | None = None,
    overrides: Sequence[str] = (),
    is_trusted: bool = False,
) -> dict[str, Any]:
    """The content of an experiment file, without `results`.

    Args:
        checkpoints: trials of ours by folder or URI, weights of anybody's, or patterns such as zoo/*.pth.
        benchmarks: as in an experiment; none for those of the paper's tables.
        model: of the weights, likewise; a mapping may have `classes` and `label` beside its settings.
        dataset: of the weights, likewise.
        overrides: `key.path=value` below dataset, model and benchmarks.
        is_trusted: whether classes that a trial names may be imported, and weights that are programs run.

    Raises:
        RequestError: something is missing or does not fit.
    """
    if not checkpoints:
        raise RequestError("no checkpoint was given: name a file of weights, or a trial as RESULTS/trials/TRIAL")
    entries, measured = [], list(DEFAULTS["benchmarks"] if benchmarks is None else benchmarks)
    raw: dict[str, Any] = {}
    for where in (one.rstrip("/") for one in checkpoints):
        entry, described = _entry(where, model, dataset, is_trusted=is_trusted)
        raw = {**described, "benchmarks": measured}
        for text in overrides:
            raw = override(raw, text)
        if unknown := set(raw) - {"dataset", "model", "benchmarks"}:
            raise RequestError(f"--set {unknown.pop()}: evaluate has only the keys under dataset, model and benchmarks")
        if "trial" not in entry:
            entry |= _of_weights(raw["model"])
        elif raw["model"] != described["model"]:
            raise RequestError("--set model: a trial keeps the model it was trained with: leave the option out")
        entries.append({**entry, "dataset": raw["dataset"]})
    return {"dataset": raw["dataset"], "checkpoints": entries, "benchmarks": raw["benchmarks"]}


def _entry(
    where: str, model: object | None, dataset: object | None, *, is_trusted: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An entry of `checkpoints`, and what overrides may change of it."""
    is_named = model is not None or dataset is not None
    if "://" in where or (Path(where).is_dir() and (not is_named or (Path(where) / "trial.json").is_file())):
        if is_named:
            raise RequestError(
                f"{where} is a trial, which has its own model and data set: leave --model and --dataset out"
            )
        folder = where if "://" in where else str(Path(where).resolve())
        trial, _ = stored_trial(folder, is_trusted=is_trusted)
        entry = {"trial": folder, "trust": is_trusted}
        return entry, {"model": trial.model.dump(), "dataset": trial.dataset.dump()}
    if not Path(where).exists() and not GLOB & set(where):
        raise CheckpointError(f"no checkpoint {where}: give RESULTS/trials/TRIAL, or a file of weights")
    if model is None or dataset is None:
        raise RequestError(
            f"{where} is a file of weights: name its network with --model "
            f"({', '.join(MODELS.names())}) and its data set with --dataset ({', '.join(DATASETS.names())})"
        )
    return {"weights": where, "trust": is_trusted}, {"model": model, "dataset": dataset}


def _of_weights(model: object) -> dict[str, Any]:
    """The keys of an entry that a model stands for: itself, and those that are no settings of it."""
    if not isinstance(model, Mapping):
        return {"model": model}
    beside = {key: value for key, value in model.items() if key in BESIDE}
    return {"model": {key: value for key, value in model.items() if key not in BESIDE}, **beside}
