"""What doctor finds: the data of an experiment, or what downloads left."""

import tomllib
from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.report.doctor import OPTIONAL, Finding, examined

FILE = {"results": "results", "dataset": "digits", "methods": ["baseline"], "benchmarks": ["clean"]}


def found(experiment: dict[str, object] | None) -> dict[str, Finding]:
    return {one.what: one for one in examined(None if experiment is None else read_experiment(experiment))}


def test_every_extra_is_looked_for_and_what_it_enables_is_said() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].keys() - {"cluster", "docs", "test"}
    assert extras == {extra for _, extra in OPTIONAL.values() if extra}


def test_the_data_of_an_experiment_are_found_or_named(tmp_path: Path) -> None:
    there = found({**FILE, "results": str(tmp_path)})
    assert there["digits"].found == "found, digits-1" and there["clean"].found == "reads no files"
    assert there["results"].found.startswith(f"{tmp_path}, ") and "GB free" in there["results"].found
    lacking = found({**FILE, "dataset": {"name": "cifar10", "root": str(tmp_path)}})
    assert lacking["cifar10"].found.startswith(f"not found: {tmp_path}/cifar-10-batches-py/batches.meta is missing")


def test_without_one_downloads_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path))
    there = found(None)
    assert f"{tmp_path}/downloads" in there["cifar100"].found
    assert {"Python", "torch", "optuna", "CPU", "memory", "cache", "photographs of frost"} <= set(there)
