"""The identity of a trial: the same meaning is the same id, another outcome another one; and the way through JSON."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pixmix_ray.benchmarks import BENCHMARKS
from pixmix_ray.datasets import DATASETS, DataVersionWarning, Digits
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import BenchmarkRun, Trial, hash_of_test_set
from pixmix_ray.methods import PixMix
from pixmix_ray.models import WideResNet
from pixmix_ray.settings import Settings

BASE: dict[str, Any] = {"results": "results", "dataset": "digits", "methods": "pixmix"}
SPELLED_OUT: dict[str, Any] = {
    "results": "results",
    "dataset": {"name": "digits", "train_limit": None},
    "model": {"name": "wide_resnet", "depth": 40, "width": 4, "dropout": 0.3},
    "methods": [{"name": "pixmix", "k": 4, "beta": 3.0, "severity": 3.0, "operations": "all", "partner": "both"}],
    "mixing_set": {"name": "fractals", "count": 1000, "seed": 0},
    "seeds": [0],
    "training": {
        "epochs": 100,
        "batch_size": 128,
        "lr": 0.1,
        "final_lr": 1e-6,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "flip": True,
        "crop_padding": 4,
        "precision": "float32",
    },
}
Trials = Callable[..., list[Trial]]


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    """The trials of BASE with other keys put in."""

    def read(**changes: object) -> list[Trial]:
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump({**BASE, **changes}, sort_keys=False))
        return read_experiment(file).trials()

    return read


def the_id(found: list[Trial]) -> str:
    (trial,) = found
    return trial.id


def write_pictures(folder: Path, seed: int, count: int = 2) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def turned_round(values: dict[str, Any]) -> dict[str, Any]:
    """The same mapping, all keys in the opposite order, at every depth."""
    return {
        key: turned_round(value) if isinstance(value, dict) else value for key, value in reversed(list(values.items()))
    }


def test_the_shortest_experiment_is_the_recipe_of_the_paper(trials: Trials) -> None:
    # PixMix paper, section 3.2 and appendix: WRN-40-4, drop rate 0.3, 100 epochs, batches of 128, Nesterov 0.9
    (trial,) = trials()
    assert trial.model.identity() == {"name": "wide_resnet", "depth": 40, "width": 4, "dropout": 0.3}
    assert trial.method.identity() == {
        "name": "pixmix",
        "k": 4,
        "beta": 3.0,
        "severity": 3.0,
        "operations": "all",
        "partner": "both",
    }
    recipe = trial.training
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.final_lr) == (100, 128, 0.1, 1e-6)
    assert (recipe.momentum, recipe.flip, recipe.crop_padding, recipe.precision) == (0.9, True, 4, "float32")
    assert trial.seed == 0


@pytest.mark.parametrize(
    ("method", "decay"), [("baseline", 5e-4), ("cutout", 5e-4), ("cutmix", 5e-4), ("pixmix", 5e-4), ("mixup", 1e-4)]
)
def test_weight_decay_is_the_one_of_the_paper_for_that_method(trials: Trials, method: str, decay: float) -> None:
    # PixMix paper, section 3.2: 0.0001 for Mixup and 0.0005 otherwise
    (trial,) = trials(methods=[method])
    assert trial.training.weight_decay == decay
    (trial,) = trials(methods=[method], training={"weight_decay": 0})
    assert trial.training.weight_decay == 0


SAME: list[dict[str, Any]] = [
    SPELLED_OUT,
    turned_round(SPELLED_OUT),
    {"dataset": {"name": "digits"}},
    {"dataset": {"train_limit": None, "name": "digits"}},
    {"dataset": {"train_limit": 1433, "name": "digits"}},  # all of them
    {"dataset": {"train_limit": 9999, "name": "digits"}},
    {"model": "wide_resnet"},
    {"model": {"name": "wide_resnet", "dropout": 0.3, "depth": 40.0}},
    {"methods": ["pixmix"]},
    {"methods": {"name": "pixmix"}},
    {"methods": [{"name": "pixmix", "beta": 3, "severity": 3}]},
    {"methods": [{"name": "pixmix", "operations": 13}]},
    {"k": 4, "beta": 3},
    {"k": [4.0], "beta": [3.0]},
    {"k": [4, 4.0, "4"], "beta": [3, 3.0]},
    {"methods": "pixmix_ray.methods:PixMix"},
    {"mixing_set": {"name": "join", "sets": ["fractals"]}},
    {"mixing_set": {"name": "join", "sets": [{"name": "fractals", "weight": 2}]}},
    {"mixing_set": {"name": "join", "sets": [{"name": "join", "sets": ["fractals"]}]}},
    {"k": [9], "beta": [9], "methods": [{"name": "pixmix", "k": 4, "beta": 3}]},
    {"mixing_set": "fractals"},
    {"mixing_set": ["fractals"]},
    {"mixing_set": [{"name": "fractals", "count": 1000}]},
    {"seeds": 0},
    {"seeds": [0, 0]},
    {"training": {}},
    {"training": {"lr": "1e-1", "momentum": 0.90, "final_lr": 0.000001}},
    {"training": {"weight_decay": None}},
    {"training": {"weight_decay": 0.0005}},
    {"results": "elsewhere"},
    {"results": "s3://bucket/folder"},
    {"resources": {"trial": {"cpus": 4, "gpus": 1}, "evaluation": {"cpus": 2}}},
    {"benchmarks": [{"name": "clean", "limit": 3}]},
]


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_files_that_mean_the_same_share_their_trials(trials: Trials, changes: dict[str, Any]) -> None:
    assert the_id(trials(**changes)) == the_id(trials())


def test_a_crop_of_the_pictures_own_height_is_the_crop_without_a_size(trials: Trials) -> None:
    none, own, other = (the_id(trials(training={"crop": "resized", "crop_size": size})) for size in (None, 32, 24))
    assert none == own != other


@pytest.mark.parametrize("kind", [Digits, PixMix, WideResNet])
def test_a_raised_revision_of_one_of_our_classes_is_another_trial(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, kind: type[Settings]
) -> None:
    before = the_id(trials())
    monkeypatch.setattr(kind, "revision", 2)
    assert the_id(trials()) != before


DIFFERENT: list[dict[str, Any]] = [
    {"dataset": {"name": "digits", "train_limit": 200}},
    {"dataset": {"name": "digits", "train_limit": 201}},
    {"model": {"name": "wide_resnet", "depth": 10}},
    {"model": {"name": "wide_resnet", "width": 1}},
    {"model": {"name": "wide_resnet", "dropout": 0.0}},
    {"model": "cifar_resnet"},
    {"methods": "baseline"},
    {"methods": "cutmix"},
    {"k": 3},
    {"beta": 4},
    {"methods": {"name": "pixmix", "severity": 1}},
    {"methods": {"name": "pixmix", "operations": "nine"}},
    {"methods": {"name": "pixmix", "partner": "augmented"}},
    {"methods": {"name": "pixmix", "partner": "pictures"}},
    {"mixing_set": {"name": "fractals", "count": 999}},
    {"mixing_set": {"name": "fractals", "seed": 1}},
    {"seeds": 1},
    {"training": {"epochs": 99}},
    {"training": {"batch_size": 64}},
    {"training": {"lr": 0.2}},
    {"training": {"final_lr": 0}},
    {"training": {"momentum": 0.8}},
    {"training": {"weight_decay": 1e-4}},
    {"training": {"weight_decay": 0}},
    {"training": {"flip": False}},
    {"training": {"crop_padding": 2}},
    {"training": {"precision": "bfloat16"}},
]


def test_whatever_changes_the_outcome_changes_the_id(trials: Trials) -> None:
    found = [the_id(trials(**changes)) for changes in [{}, *DIFFERENT]]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("mixup", {"alpha": 0.5}),
        ("mixup", {"probability": 0.5}),
        ("cutmix", {"alpha": 0.5}),
        ("cutmix", {"probability": 1}),
        ("cutout", {"length": 8}),
    ],
)
def test_every_setting_of_a_rival_changes_its_id(trials: Trials, method: str, settings: dict[str, Any]) -> None:
    assert the_id(trials(methods={"name": method, **settings})) != the_id(trials(methods=method))


@pytest.mark.parametrize(("method", "own", "other"), [("baseline", 5e-4, 1e-4), ("mixup", 1e-4, 5e-4)])
def test_the_weight_decay_of_a_method_spelled_out_is_the_same_trial(
    trials: Trials, method: str, own: float, other: float
) -> None:
    default = the_id(trials(methods=method))
    assert the_id(trials(methods=method, training={"weight_decay": own})) == default
    assert the_id(trials(methods=method, training={"weight_decay": other})) != default


@pytest.mark.parametrize(
    "changes",
    [{"mixing_set": {"name": "fractals", "count": 3}}, {"mixing_set": ["fractals", {"name": "fractals", "seed": 1}]}],
)
def test_another_mixing_set_is_nothing_to_a_method_without_pictures(trials: Trials, changes: dict[str, Any]) -> None:
    assert the_id(trials(methods="baseline", **changes)) == the_id(trials(methods="baseline"))


def test_a_grid_of_k_is_nothing_to_a_method_without_k(trials: Trials) -> None:
    assert the_id(trials(methods="cutout", k=[2, 3], beta=[4])) == the_id(trials(methods="cutout"))


def test_the_same_pictures_at_another_path_are_the_same_mixing_set(trials: Trials, tmp_path: Path) -> None:
    write_pictures(tmp_path / "a" / "pictures", seed=1)
    write_pictures(tmp_path / "b" / "moved", seed=1)
    first, second = (
        trials(mixing_set={"name": "folder", "folders": folders}) for folders in ("a/pictures", ["b/moved"])
    )
    assert the_id(first) == the_id(second)


def test_other_pictures_at_the_same_path_are_another_mixing_set(trials: Trials, tmp_path: Path) -> None:
    mixing_set = {"name": "folder", "folders": "pictures"}
    write_pictures(tmp_path / "pictures", seed=1)
    before = the_id(trials(mixing_set=mixing_set))
    assert the_id(trials(mixing_set=mixing_set)) == before
    (tmp_path / "pictures" / "0.png").replace(tmp_path / "taken_out.png")
    fewer = the_id(trials(mixing_set=mixing_set))
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(tmp_path / "pictures" / "0.png")
    changed = the_id(trials(mixing_set=mixing_set))
    assert len({before, fewer, changed}) == 3
    (tmp_path / "taken_out.png").replace(tmp_path / "pictures" / "0.png")
    assert the_id(trials(mixing_set=mixing_set)) == before


def write_cifar(folder: Path, last: bytes) -> None:
    """Files with the names of CIFAR-10's; a fingerprint needs no more."""
    folder.mkdir(parents=True)
    for name in ["batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 5))]:
        (folder / name).write_bytes(name.encode())
    (folder / "data_batch_5").write_bytes(last)


def test_the_content_of_a_data_set_decides_and_not_its_path(trials: Trials, tmp_path: Path) -> None:
    for name, last in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        write_cifar(tmp_path / name / "cifar-10-batches-py", last)
    with pytest.warns(DataVersionWarning):
        a, b, c, d = (
            the_id(trials(methods="baseline", dataset={"name": "cifar10", "root": root, **more}))
            for root, more in (("a", {}), ("b", {}), ("c", {}), ("b", {"download": True}))
        )
    assert a == b == d != c


def test_an_id_is_the_name_of_the_method_and_twelve_hexadecimal_digits(trials: Trials) -> None:
    for method in ("pixmix", "baseline"):
        name, _, digits = the_id(trials(methods=method)).rpartition("-")
        assert name == method
        assert len(digits) == 12
        assert set(digits) <= set("0123456789abcdef")


def test_an_id_is_the_hash_of_the_settings_and_the_seed(trials: Trials) -> None:
    (trial,) = trials(seeds=3)
    # a second way to the hash: canonical JSON by hand, then hashlib
    text = json.dumps({"seed": 3, **json.loads(json.dumps(trial.settings))}, sort_keys=True, separators=(",", ":"))
    assert trial.id == f"pixmix-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def test_settings_are_the_same_for_every_seed_and_hold_no_path(trials: Trials, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", seed=1)
    first, second = trials(seeds=[0, 1], mixing_set={"name": "folder", "folders": "pictures"})
    assert first.settings == second.settings
    assert first.id != second.id
    assert str(tmp_path) not in json.dumps(first.settings)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        SPELLED_OUT,
        {"methods": "mixup", "seeds": 5},
        {"methods": {"name": "cutout", "length": 8}},
        {"k": 0, "beta": 0.5, "mixing_set": {"name": "folder", "folders": ["pictures"]}},
        {"model": "cifar_resnet", "dataset": {"name": "digits", "train_limit": 7}, "training": {"epochs": 3}},
        {"methods": "pixmix_ray.methods:PixMix"},
    ],
    ids=str,
)
def test_a_trial_comes_back_from_json_as_the_same_trial(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    write_pictures(tmp_path / "pictures", seed=1)
    (trial,) = trials(**changes)
    monkeypatch.chdir("/")
    back = Trial.load(json.loads(json.dumps(trial.dump())))
    assert back.id == trial.id
    assert back.settings == trial.settings
    assert back.dump() == trial.dump()
    assert (back.seed, back.label, back.training) == (trial.seed, trial.label, trial.training)
    for part in ("dataset", "model", "method", "mixing_set"):
        assert getattr(back, part) == getattr(trial, part)


def test_loading_does_not_change_the_values_given(trials: Trials) -> None:
    values = trials()[0].dump()
    before = json.dumps(values)
    Trial.load(values)
    assert json.dumps(values) == before


@pytest.mark.parametrize(
    ("changes", "label", "k", "beta"),
    [
        ({"seeds": 2}, "pixmix k=4 beta=3 fractals seed 2", 4, 3.0),
        ({"k": 0, "beta": 2.5}, "pixmix k=0 beta=2.5 fractals seed 0", 0, 2.5),
        ({"methods": "baseline"}, "baseline seed 0", None, None),
    ],
)
def test_a_trial_has_a_short_name_for_people(
    trials: Trials, changes: dict[str, Any], label: str, k: int | None, beta: float | None
) -> None:
    (trial,) = trials(**changes)
    assert (trial.label, trial.setting("k"), trial.setting("beta")) == (label, k, beta)


def test_a_mixing_set_is_called_by_its_generator_or_its_folders(trials: Trials, tmp_path: Path) -> None:
    write_pictures(tmp_path / "fractals", seed=1)
    write_pictures(tmp_path / "fvis", seed=2)
    assert trials()[0].mixing_set_label == "fractals"
    assert trials(mixing_set={"name": "folder", "folders": ["fractals", "fvis"]})[0].mixing_set_label == "fractals+fvis"
    assert trials(methods="baseline")[0].mixing_set_label is None


def benchmark_runs(folder: Path, benchmarks: object) -> list[BenchmarkRun]:
    file = folder / "benchmarks.yaml"
    file.write_text(yaml.safe_dump({**BASE, "benchmarks": benchmarks}))
    return read_experiment(file).benchmark_runs()


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("clean", {"name": "clean"}, True),
        ("clean", {"name": "clean", "limit": None}, True),
        ("clean", {"name": "clean", "limit": 5}, False),
        ({"name": "corruptions", "severities": [1, 3]}, {"name": "corruptions", "severities": [3, 1]}, True),
        ({"name": "corruptions", "severities": [1, 3]}, {"name": "corruptions", "severities": [1]}, False),
        ("corruptions", {"name": "corruptions", "seed": 1}, False),
        ("clean", "corruptions", False),
    ],
)
def test_a_benchmark_has_the_same_key_if_it_measures_the_same(
    tmp_path: Path, first: object, second: object, is_same: bool
) -> None:
    (one,), (other,) = benchmark_runs(tmp_path, [first]), benchmark_runs(tmp_path, [second])
    assert (one.key == other.key) is is_same
    assert one.key.startswith(f"{one.name}-")


OWN = """
from typing import ClassVar

from pixmix_ray.benchmarks import Clean
from pixmix_ray.methods import Method

LEVEL = 0.25


class Noise(Method):
    summary: ClassVar[str] = "noise"
    source: ClassVar[str] = "a test"
    strength: float = 0.1

    def augment(self, images, pictures, generator):
        return super().augment(images, pictures, generator) + LEVEL


class Dark(Clean):
    shade: int = 3

"""
WRITE = """
from ray import cloudpickle

from pixmix_ray.experiment.file import read_experiment

parts = {"methods": {"name": Noise, "strength": 0.5}, "benchmarks": [Dark(shade=4)]}
experiment = read_experiment({"results": "r", "dataset": "digits", **parts})
(trial,), (run,) = experiment.trials(), experiment.benchmark_runs()
with open("pickled", "wb") as file:
    file.write(cloudpickle.dumps((trial, run)))
print(trial.id, run.key, trial.dump()["method"], run.benchmark.dump())
"""
READ = """
import pickle

import torch

trial, run = pickle.load(open("pickled", "rb"))
print(trial.id, run.key, trial.dump()["method"], run.benchmark.dump())
assert trial.settings["method"]["strength"] == 0.5 and run.benchmark.settings.shade == 4
assert trial.method.settings.augment(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), None, None).max() == 0.25
"""


def test_a_trial_of_classes_of_a_script_is_the_same_in_a_process_that_lacks_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text(OWN + WRITE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    written, read = (
        subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        for words in (["script.py"], ["-c", READ])
    )
    assert written.stdout == read.stdout and "__main__:Noise" in read.stdout
    # in a module they are the same trial and cell
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    parts = {
        "methods": {"name": "own_parts:Noise", "strength": 0.5},
        "benchmarks": {"name": "own_parts:Dark", "shade": 4},
    }
    experiment = read_experiment({**BASE, **parts})
    (trial,), (run,) = experiment.trials(), experiment.benchmark_runs()
    assert read.stdout.split()[:2] == [trial.id, run.key]
    assert trial.id.startswith("Noise-") and run.key.startswith("Dark-") and trial.label == "Noise seed 0"


def test_edited_code_of_ones_own_is_another_trial_and_another_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for number, text in enumerate((OWN, OWN + "# a comment", OWN.replace("LEVEL = 0.25", "LEVEL = 0.5"))):
        (tmp_path / f"edited_{number}.py").write_text(text.replace("shade: int = 3", f"shade: int = {3 + number // 2}"))
        monkeypatch.syspath_prepend(tmp_path)
        parts = {"methods": f"edited_{number}:Noise", "benchmarks": f"edited_{number}:Dark"}
        experiment = read_experiment({**BASE, **parts})
        (trial,), (run,) = experiment.trials(), experiment.benchmark_runs()
        ids.append((trial.id, run.key))
    assert ids[0] == ids[1]
    assert ids[0][0] != ids[2][0] and ids[0][1] != ids[2][1]


def test_the_name_of_a_cell_follows_the_benchmark_the_test_set_and_the_weights() -> None:
    clean, limited = (BenchmarkRun(benchmark=BENCHMARKS.read(spec), version="") for spec in ("clean", LIMITED))
    other_files = BenchmarkRun(benchmark=BENCHMARKS.read("clean"), version="of other files")
    names = [
        run.cell_key(test_set, weights)
        for run in (clean, limited, other_files)
        for test_set in ("a", "b")
        for weights in ("c", "d")
    ]
    assert len(set(names)) == 12
    content = clean.key.partition("-")[2]
    assert clean.cell_key("a", "c") == f"clean-{hashlib.sha256(f'{content}/a/c'.encode()).hexdigest()[:12]}"


LIMITED = {"name": "clean", "limit": 3}


def test_the_test_set_is_the_same_whatever_is_trained_on_it() -> None:
    digits = [DATASETS.read({"name": "digits", "train_limit": limit}) for limit in (None, 50)]
    assert len({hash_of_test_set(dataset) for dataset in digits}) == 1
