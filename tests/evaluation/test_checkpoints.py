"""Checkpoints for `evaluate`: a trial of ours, anybody's weights with a named model, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load

from pixmix_ray.api import evaluation_of
from pixmix_ray.errors import CheckpointError, RequestError
from pixmix_ray.evaluation.cell import evaluate_cell
from pixmix_ray.evaluation.checkpoints import Checkpoint, check_externals, opened
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.external import External
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.identity import short_hash
from pixmix_ray.metrics import Measurement
from pixmix_ray.models import WideResNet
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store, trial_file
from pixmix_ray.training.trial import train_trial

CLEAN = ("clean",)
SMALL = ("model.depth=10", "model.width=1", "model.dropout=0.0", "benchmarks.clean.limit=50")


@pytest.fixture
def trial(experiment: Path) -> Trial:
    """The trial of the tiny experiment, trained."""
    sweep = read_experiment(experiment)
    (trial,) = sweep.trials()
    list(train_trial(trial, Store(sweep.results), torch.device("cpu")))
    return trial


@pytest.fixture
def folder(trial: Trial, tmp_path: Path) -> Path:
    """The folder of that trial."""
    return tmp_path / "results" / "trials" / trial.id


def foreign_file(folder: Path, name: str, content: object) -> Path:
    file = folder.parent / name
    torch.save(content, file)
    return file


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `evaluate` is asked for, of one checkpoint."""

    checkpoint: str
    benchmarks: tuple[str, ...]
    model: str | None = None
    dataset: str | None = None
    overrides: tuple[str, ...] = ()
    results: str = "none"

    def experiment(self) -> Experiment:
        raw = evaluation_of(
            [self.checkpoint], self.benchmarks, model=self.model, dataset=self.dataset, overrides=self.overrides
        )
        return Experiment.read({**raw, "results": self.results}, "evaluate")

    def open(self) -> tuple[Checkpoint, list[BenchmarkRun]]:
        """As a run opens it, after what comes before all work."""
        experiment = self.experiment()
        (source,) = experiment.externals()
        check_externals([source])
        return opened(source, Store("none")), experiment.benchmark_runs()


def measured(request: Request) -> dict[str, Measurement]:
    checkpoint, (run,) = request.open()
    with TemporaryDirectory() as scratch:
        found = evaluate_cell(checkpoint, run, Store(scratch), torch.device("cpu"), "0.1.0")
    return {measurement.metric: measurement for measurement in found}


def refusal(action: Callable[[], object], kind: type[RequestError] = RequestError) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_trial_of_ours_is_opened_with_all_that_its_rows_say(trial: Trial, folder: Path) -> None:
    checkpoint, (run,) = Request(checkpoint=str(folder), benchmarks=("clean",)).open()
    assert checkpoint.trial_id == trial.id
    assert checkpoint.checkpoint_id == short_hash((folder / "model.safetensors").read_bytes())
    assert checkpoint.dataset.identity() == trial.dataset.identity()
    assert (checkpoint.described["method"], checkpoint.described["seed"]) == ("baseline", 0)
    assert run.name == "clean"


@pytest.mark.filterwarnings("ignore:.* without the prefix")
@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "model", "net", "safetensors"])
def test_the_same_weights_in_a_foreign_file_give_the_same_numbers(folder: Path, wrapping: str) -> None:
    ours = measured(Request(checkpoint=str(folder), benchmarks=CLEAN, overrides=("benchmarks.clean.limit=50",)))
    weights = load((folder / "model.safetensors").read_bytes())
    named = {f"module.{name}": tensor for name, tensor in weights.items()}
    if wrapping == "safetensors":
        file = folder.parent / "foreign.safetensors"
        file.write_bytes((folder / "model.safetensors").read_bytes())
    else:
        file = foreign_file(folder, "foreign.pth", named if wrapping == "plain" else {wrapping: named})
    theirs = measured(
        Request(checkpoint=str(file), benchmarks=CLEAN, model="wide_resnet", dataset="digits", overrides=SMALL)
    )
    assert theirs == ours
    assert theirs["error"].n == 50


def test_rows_of_a_foreign_file_say_what_is_known_of_it(folder: Path, tmp_path: Path) -> None:
    weights = load((folder / "model.safetensors").read_bytes())
    file = foreign_file(folder, "theirs.pt", weights)
    evaluate(tmp_path / "rows", file, *SMALL, model="wide_resnet", dataset="digits")
    frame = read(tmp_path / "rows")
    assert set(frame["model"]) == {"wrn_10_1"}
    assert set(frame["dataset"]) == {"digits"}
    assert set(frame["method"]) == {"theirs"}
    assert set(frame["checkpoint_id"]) == {short_hash(file.read_bytes())}
    assert frame[["mixing_set", "k", "beta"]].isna().to_numpy().all()
    assert json.loads(frame["settings"].iloc[0])["model"]["depth"] == 10


def evaluate(
    results: Path, checkpoint: Path, *overrides: str, model: str | None = None, dataset: str | None = None
) -> None:
    raw = evaluation_of([str(checkpoint)], CLEAN, model=model, dataset=dataset, overrides=overrides)
    done = run_plan(make_plan(Experiment.read({**raw, "results": str(results)}, "evaluate")), executor="local")
    assert not done.failures


def test_a_renamed_copy_of_weights_is_the_same_checkpoint_and_other_weights_are_not(
    folder: Path, tmp_path: Path
) -> None:
    weights, foreign = folder / "model.safetensors", {"model": "wide_resnet", "dataset": "digits"}
    copy, other = tmp_path / "copy.safetensors", tmp_path / "other.pth"
    copy.write_bytes(weights.read_bytes())
    torch.save({name: tensor * 2 for name, tensor in load(weights.read_bytes()).items()}, other)
    for file, checkpoints in ((weights, 1), (copy, 1), (other, 2)):
        evaluate(tmp_path / "rows", file, *SMALL, **foreign)
        frame = read(tmp_path / "rows")
        assert (frame["trial_id"].nunique(), frame["cell"].nunique()) == (checkpoints, checkpoints)
        assert not frame.duplicated(["cell", "metric"]).any()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders with one folder a class: train, val and test of `pictures`, and val of `others`; all differ."""
    rng = np.random.default_rng(7)
    for part in ("pictures/train", "pictures/val", "pictures/test", "others/val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(4):
                picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


SQUARE = ("dataset.size=32", "dataset.resize=32")


def test_the_same_weights_on_several_test_sets_have_a_cell_each_and_a_number_each(folders: Path) -> None:
    network = WideResNet(depth=10, width=1, dropout=0.0).build(2)
    weights = folders / "weights.pth"
    torch.save(network.state_dict(), weights)
    foreign = {"model": "wide_resnet", "dataset": "image_folder"}
    for root, test in (("pictures", "val"), ("pictures", "test"), ("others", "val")):
        where = (f"dataset.root={folders / root}", f"dataset.test={test}", "dataset.train=null", *SQUARE)
        evaluate(folders / "rows", weights, *where, *SMALL[:3], **foreign)
    frame = read(folders / "rows")
    assert frame["trial_id"].nunique() == 1
    assert frame["cell"].nunique() == frame["data_version"].nunique() == 3
    training = ("dataset.root=" + str(folders / "pictures"), "dataset.train=train", *SQUARE)
    evaluate(folders / "rows", weights, *training, *SMALL[:3], **foreign)  # what it is not tested on is not part of it
    assert read(folders / "rows")["cell"].nunique() == 3


@pytest.mark.filterwarnings("ignore::pixmix_ray.datasets.DataVersionWarning")  # which says so
def test_a_trial_evaluated_on_other_data_keeps_its_own_number(folders: Path) -> None:
    content = {
        "results": "results",
        "dataset": {"name": "image_folder", "root": str(folders / "pictures"), "size": 32, "resize": 32},
        "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
        "methods": ["baseline"],
        "training": {"epochs": 1, "flip": False},
        "benchmarks": ["clean"],
    }
    (folders / "e.yaml").write_text(yaml.safe_dump(content))
    experiment = read_experiment(folders / "e.yaml")
    (trial,) = experiment.trials()
    list(train_trial(trial, Store(experiment.results), torch.device("cpu")))
    where = folders / "results" / "trials" / trial.id
    evaluate(folders / "results", where)
    own = make_plan(experiment).own_rows()
    (folders / "others" / "train").symlink_to(folders / "pictures" / "train")
    evaluate(folders / "results", where, f"dataset.root={folders / 'others'}")
    plan = make_plan(experiment)
    assert list(plan.cells.values()) == ["done"]
    columns = ["metric", "value", "finished_at"]
    assert len(own) and plan.own_rows()[columns].equals(own[columns])
    assert read(folders / "results")["cell"].nunique() == 2


def test_settings_of_benchmarks_are_overridden(folder: Path) -> None:
    _, (clean, adversaries) = Request(
        checkpoint=str(folder), benchmarks=("clean", "adversaries"), overrides=("benchmarks.clean.limit=7",)
    ).open()
    assert (clean.benchmark.settings.limit, adversaries.benchmark.settings.limit) == (7, None)


def opened_or_refused(request: Request) -> External | RequestError:
    try:
        (source,) = request.experiment().externals()
        return source
    except RequestError as error:
        return error


def test_an_override_of_the_data_of_our_own_trial_is_never_silently_dropped(folder: Path) -> None:
    # such as dataset.root, when the data moved since the training
    request = Request(checkpoint=str(folder), benchmarks=CLEAN, overrides=("dataset.train_limit=17",))
    found = opened_or_refused(request)
    assert isinstance(found, RequestError) or found.dataset.identity()["train_limit"] == 17


def test_an_override_of_the_model_of_our_own_trial_is_never_silently_dropped(folder: Path) -> None:
    request = Request(checkpoint=str(folder), benchmarks=CLEAN, overrides=("model.dropout=0.5",))
    found = opened_or_refused(request)
    assert isinstance(found, RequestError) or found.model.identity()["dropout"] == 0.5


@pytest.mark.parametrize("given", [{"model": "cifar_resnet"}, {"dataset": "cifar10"}])
def test_another_model_or_data_set_for_our_own_trial_is_never_silently_dropped(
    folder: Path, given: dict[str, str]
) -> None:
    found = opened_or_refused(Request(checkpoint=str(folder), benchmarks=CLEAN, **given))  # type: ignore[arg-type]  # names
    assert isinstance(found, RequestError) or next(iter(given.values())) in (found.model.name, found.dataset.name)


def test_a_folder_that_is_no_trial_is_refused(tmp_path: Path) -> None:
    text = refusal(Request(checkpoint=str(tmp_path), benchmarks=CLEAN).open, CheckpointError)
    assert str(tmp_path) in text
    assert "RESULTS/trials/TRIAL" in text


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    text = refusal(
        Request(checkpoint=str(tmp_path / "no.pth"), benchmarks=CLEAN, model="wide_resnet").open, CheckpointError
    )
    assert str(tmp_path / "no.pth") in text


@pytest.mark.parametrize("given", [{}, {"model": "wide_resnet"}, {"dataset": "digits"}])
def test_a_file_without_a_named_model_and_data_set_is_refused(folder: Path, given: dict[str, str]) -> None:
    file = folder / "model.safetensors"
    text = refusal(Request(checkpoint=str(file), benchmarks=CLEAN, **given).open)  # type: ignore[arg-type]  # names alone
    for part in (str(file), "--model", "wide_resnet", "--dataset", "digits"):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"model": "wide_resnt"}, ["wide_resnt", "did you mean 'wide_resnet'?"]),
        ({"dataset": "digit"}, ["digit", "did you mean 'digits'?"]),
        ({"benchmarks": ("clen",)}, ["clen", "did you mean 'clean'?"]),
        ({"benchmarks": ("",)}, ["benchmark", "''"]),
        ({"overrides": ("model.dept=10",)}, ["dept", "did you mean 'depth'?"]),
        ({"overrides": ("model.depth=11",)}, ["depth = 11", "6n + 4"]),
        ({"overrides": ("benchmarks.corruptions.limit=3",)}, ["corruptions", "clean"]),
        ({"overrides": ("training.epochs=3",)}, ["training", "dataset, model and benchmarks"]),
        ({"overrides": ("model",)}, ["model", "key=value"]),
    ],
)
def test_a_wrong_request_is_told_in_one_line(tmp_path: Path, changes: dict[str, object], parts: list[str]) -> None:
    file = tmp_path / "weights.pth"
    torch.save({}, file)
    values: dict[str, object] = {"benchmarks": CLEAN, "model": "wide_resnet", "dataset": "digits", **changes}
    text = refusal(Request(checkpoint=str(file), **values).open)  # type: ignore[arg-type]  # as above
    for part in parts:
        assert part in text


@pytest.mark.parametrize("content", [b"", b"no torch file", b"abc", b"PK\x03\x04 half a zip"])
def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    request = Request(checkpoint=str(file), benchmarks=CLEAN, model="wide_resnet", dataset="digits")
    assert str(file) in refusal(request.open, CheckpointError)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_that_was_cut_off_is_refused_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    torch.save(load((folder / "model.safetensors").read_bytes()), tmp_path / "whole.pth")
    whole = folder / "model.safetensors" if file.suffix == ".safetensors" else tmp_path / "whole.pth"
    request = Request(checkpoint=str(file), benchmarks=CLEAN, model="wide_resnet", dataset="digits")
    for length in (0, 1, 10, 1000, len(whole.read_bytes()) - 1):
        file.write_bytes(whole.read_bytes()[:length])
        assert str(file) in refusal(request.open, CheckpointError)


class Sneaky:
    """An object that would run code when it is unpickled without restriction."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('code of a stranger was run')",)


def test_a_file_with_more_than_tensors_is_refused_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "extra": Sneaky()}, file)
    request = Request(checkpoint=str(file), benchmarks=CLEAN, model="wide_resnet", dataset="digits")
    assert str(file) in refusal(request.open, CheckpointError)


def test_weights_of_another_model_are_refused_at_the_evaluation(folder: Path) -> None:
    file = folder / "model.safetensors"
    for overrides in (("model.depth=16", "model.width=1"), ("model.depth=10", "model.width=2")):
        request = Request(
            checkpoint=str(file), benchmarks=CLEAN, model="wide_resnet", dataset="digits", overrides=overrides
        )
        assert "does not fit the model" in refusal(partial(measured, request), CheckpointError)


@pytest.mark.parametrize("name", ["done.json", "model.safetensors"])
def test_a_trial_that_is_not_complete_is_refused(folder: Path, trial: Trial, name: str) -> None:
    (folder / name).unlink()
    text = refusal(Request(checkpoint=str(folder), benchmarks=CLEAN).open)
    assert trial_file(trial.id, name) in text
    assert "run" in text


@pytest.mark.parametrize("name", ["trial.json", "done.json"])
@pytest.mark.parametrize("content", ["", "{"])
def test_a_trial_whose_description_is_damaged_is_refused_by_name(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    assert folder.name in refusal(Request(checkpoint=str(folder), benchmarks=CLEAN).open)


def test_a_trial_of_somebody_s_package_says_what_is_not_installed(folder: Path) -> None:
    file = folder / "trial.json"
    file.write_text(file.read_text().replace('"digits"', '"squares"'))
    text = refusal(Request(checkpoint=str(folder), benchmarks=CLEAN).open, CheckpointError)
    assert "unknown dataset 'squares'" in text and text.endswith("Install the package that has it")


def test_a_relative_path_to_a_trial_works(folder: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert Request(checkpoint=".", benchmarks=CLEAN).open()[0].trial_id == trial.id
    monkeypatch.chdir(folder.parent)
    assert Request(checkpoint=trial.id, benchmarks=CLEAN).open()[0].trial_id == trial.id
