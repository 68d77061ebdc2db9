"""What this machine has for experiments: versions, optional packages and what each enables, devices, disk, data.

With an experiment, the data sets, mixing sets and published files that it names are looked for too.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from pixmix_ray.cache import cache_folder
from pixmix_ray.corruptions import has_installed_photographs
from pixmix_ray.datasets import DATASETS
from pixmix_ray.errors import DataError, RequestError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.hardware import hardware, usable_cores
from pixmix_ray.plugins import Part
from pixmix_ray.storage.provenance import code_version

DOWNLOADED = ("cifar10", "cifar100")
PACKAGES = ("torch", "torchvision", "ray", "numpy", "pandas", "pyarrow", "duckdb")
OPTIONAL = {
    "imagecorruptions": ("the photographs of frost", "frost"),
    "torchattacks": ("AutoAttack", "autoattack"),
    "optuna": ("searches", "search"),
    "matplotlib": ("figures", "report"),
    "av": ("the videos of ImageNet-P", "video"),
    "timm": ("model timm", "timm"),
    "transformers": ("model transformers", "transformers"),
    "onnxruntime": ("model onnx", "onnx"),
    "mlflow": ("tracking.mlflow", ""),
    "wandb": ("tracking.wandb", ""),
}
"""Packages that the project does without: what each enables, and the extra that brings it ("" for none)."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: such as "GPU".
        found: what there is.
        hint: what could be done; "" for nothing.
    """

    what: str
    found: str
    hint: str = ""


def examined(experiment: Experiment | None = None) -> list[Finding]:
    """Everything, in the order in which people ask for it.

    Args:
        experiment: whose data are looked for; none looks for what downloads have left.
    """
    return [*_versions(), *_optional(), *_devices(), *_places(), *_data(experiment)]


def _versions() -> Iterator[Finding]:
    yield Finding(what="pixmix_ray", found=code_version())
    yield Finding(what="Python", found=f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        yield Finding(what=name, found=_version(name) or "not installed")


def _optional() -> Iterator[Finding]:
    for name, (enables, extra) in OPTIONAL.items():
        found = _version(name)
        package = f"'pixmix_ray[{extra}]'" if extra else name
        hint = "" if found else f"for {enables}: pip install {package}"
        yield Finding(what=name, found=found or "not installed", hint=hint)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    yield Finding(what="CPU", found=f"{usable_cores()} cores, {hardware(torch.device('cpu'))}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(count):
        hint = "an experiment uses it where resources.trial.gpus is above 0" if number == 0 else ""
        yield Finding(what=f"GPU {number}", found=torch.cuda.get_device_name(number), hint=hint)
    if not count:
        yield Finding(what="GPU", found="none that PyTorch can use")
    memory = psutil.virtual_memory()
    yield Finding(what="memory", found=f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GB free")


def _places() -> Iterator[Finding]:
    yield _free("cache", cache_folder(), "$PIXMIX_RAY_CACHE moves it")
    yield _free("temporary files", Path(os.environ.get("RAY_TMPDIR", "/tmp")), "$RAY_TMPDIR moves those of Ray")
    shared = Path("/dev/shm")
    if shared.is_dir():
        yield _free("shared memory", shared, "")


def _data(experiment: Experiment | None) -> Iterator[Finding]:
    if experiment is None:
        downloads = cache_folder() / "downloads"
        for name in DOWNLOADED:
            yield _part(DATASETS.read({"name": name, "root": str(downloads)}))
        yield Finding(
            what="photographs of frost",
            found="there" if has_installed_photographs() else "not there",
            hint=""
            if has_installed_photographs()
            else "for corruptions.frost: set frost to your own folder, or install the extra",
        )
        return
    parts: list[Part[Any]] = [*experiment.dataset, *experiment.mixing_set, *experiment.methods, *experiment.benchmarks]
    for part in parts:
        yield _part(part)
    yield (
        _free("results", Path(experiment.results), "")
        if "://" not in experiment.results
        else Finding(what="results", found=experiment.results)
    )


def _part(part: Part[Any]) -> Finding:
    """Whether the files that a part of an experiment reads are there, by their version."""
    try:
        version = part.settings.version()
    except (DataError, RequestError) as error:
        return Finding(what=part.own_name, found=f"not found: {error}")
    return Finding(what=part.own_name, found=f"found, {version}" if version else "reads no files")


def _free(what: str, folder: Path, hint: str) -> Finding:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    is_writable = "" if os.access(there, os.W_OK) else ", not writable"
    return Finding(
        what=what, found=f"{folder}, {shutil.disk_usage(there).free / 2**30:.1f} GB free{is_writable}", hint=hint
    )
