"""The experiment file: the grid counted by hand, each kind of mistake in one line, overrides, and where paths start."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import override, read_experiment
from pixmix_ray.methods import Baseline, PixMix

BASE: dict[str, Any] = {
    "results": "results",
    "dataset": "digits",
    "methods": ["baseline", "pixmix"],
    "mixing_set": {"name": "fractals", "count": 4},
    "benchmarks": ["clean"],
}
Read = Callable[..., Experiment]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the experiment files; it is not the current folder."""
    made = tmp_path / "experiments"
    made.mkdir()
    return made


@pytest.fixture
def read(folder: Path) -> Read:
    """Reads an experiment file with the keys of BASE, others put in, and --set overrides."""

    def write_and_read(*overrides: str, **changes: object) -> Experiment:
        file = folder / "sweep.yaml"
        file.write_text(yaml.safe_dump({**BASE, **changes}))
        return read_experiment(file, overrides)

    return write_and_read


def labels(sweep: Experiment) -> list[str]:
    return [trial.label for trial in sweep.trials()]


def complaint(action: Callable[[], object]) -> str:
    with pytest.raises(RequestError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    return text


# the grid


def test_a_method_without_a_grid_is_one_trial_a_seed(read: Read) -> None:
    sweep = read(methods=["baseline", "cutout"], seeds=[0, 7], k=[2, 3], beta=[3, 4])
    assert labels(sweep) == ["baseline seed 0", "baseline seed 7", "cutout seed 0", "cutout seed 7"]


def test_the_grid_is_every_k_with_every_beta_for_the_methods_that_have_them(read: Read) -> None:
    sweep = read(k=[2, 4], beta=[3, 5], seeds=[0, 1])
    # 1 x 2 seeds of baseline, and 2 x 2 x 2 of pixmix, the seeds innermost
    assert labels(sweep) == [
        "baseline seed 0",
        "baseline seed 1",
        "pixmix k=2 beta=3 fractals seed 0",
        "pixmix k=2 beta=3 fractals seed 1",
        "pixmix k=2 beta=5 fractals seed 0",
        "pixmix k=2 beta=5 fractals seed 1",
        "pixmix k=4 beta=3 fractals seed 0",
        "pixmix k=4 beta=3 fractals seed 1",
        "pixmix k=4 beta=5 fractals seed 0",
        "pixmix k=4 beta=5 fractals seed 1",
    ]


def test_without_a_grid_pixmix_runs_with_the_settings_of_the_paper(read: Read) -> None:
    assert labels(read(methods="pixmix")) == ["pixmix k=4 beta=3 fractals seed 0"]


def test_a_method_that_pins_k_takes_part_in_the_grid_of_beta_alone(read: Read) -> None:
    sweep = read(methods=[{"name": "pixmix", "k": 1}], k=[2, 4], beta=[3, 5])
    assert labels(sweep) == ["pixmix k=1 beta=3 fractals seed 0", "pixmix k=1 beta=5 fractals seed 0"]
    both = read(methods=[{"name": "pixmix", "k": 4, "beta": 3}], k=[2], beta=[5])  # pinned to what is the default
    assert labels(both) == ["pixmix k=4 beta=3 fractals seed 0"]


def test_the_other_settings_of_a_method_stay_in_the_grid(read: Read) -> None:
    sweep = read(methods=[{"name": "pixmix", "severity": 1, "operations": "nine"}], k=[2, 3])
    for trial, k in zip(sweep.trials(), (2, 3), strict=True):
        assert trial.method.identity() == {
            "name": "pixmix",
            "k": k,
            "beta": 3.0,
            "severity": 1.0,
            "operations": "nine",
            "partner": "both",
        }


def test_what_is_named_twice_is_one_trial(read: Read) -> None:
    sweep = read(methods=["pixmix", {"name": "pixmix", "k": 4}, "pixmix"], k=[4, 4], seeds=[0, 0])
    assert labels(sweep) == ["pixmix k=4 beta=3 fractals seed 0"]


def test_mixing_sets_are_a_grid_for_the_methods_that_use_pictures_alone(read: Read) -> None:
    sweep = read(mixing_set=[{"name": "fractals", "count": 4}, {"name": "fractals", "count": 5}])
    trials = sweep.trials()
    assert [trial.method.name for trial in trials] == ["baseline", "pixmix", "pixmix"]
    assert [trial.mixing_set and trial.mixing_set.identity()["count"] for trial in trials] == [None, 4, 5]
    assert len({trial.id for trial in trials}) == 3


def test_benchmarks_are_those_named_once_each(read: Read) -> None:
    sweep = read(benchmarks=["clean", {"name": "clean", "limit": 5}, "clean", "adversaries"])
    assert [run.name for run in sweep.benchmark_runs()] == ["clean", "clean", "adversaries"]
    assert len({run.key for run in sweep.benchmark_runs()}) == 3


def test_without_benchmarks_all_of_ours_are_meant(folder: Path) -> None:
    file = folder / "short.yaml"
    file.write_text("{results: results, dataset: digits, methods: baseline}")
    names = {part.name for part in read_experiment(file).benchmarks}
    assert {"clean", "corruptions", "adversaries", "anomalies"} <= names


def test_resources_are_what_the_file_says(read: Read) -> None:
    sweep = read(resources={"trial": {"gpus": 0.25}, "evaluation": {"cpus": 2}})
    assert (sweep.resources.trial.cpus, sweep.resources.trial.gpus) == (1, 0.25)
    assert (sweep.resources.evaluation.cpus, sweep.resources.evaluation.gpus) == (2, 0)


# mistakes


@pytest.mark.parametrize(
    ("changes", "wrong", "nearest"),
    [
        ({"method": ["baseline"]}, "method", "methods"),
        ({"sead": 3}, "sead", "seeds"),
        ({"training": {"epoch": 3}}, "epoch", "epochs"),
        ({"training": {"batchsize": 3}}, "batchsize", "batch_size"),
        ({"resources": {"trials": {"cpus": 1}}}, "trials", "trial"),
        ({"resources": {"trial": {"cpu": 1}}}, "cpu", "cpus"),
        ({"resources": {"evaluation": {"gpu": 1}}}, "gpu", "gpus"),
        ({"dataset": "cifar"}, "cifar", "cifar10"),
        ({"dataset": {"name": "digits", "train_limt": 3}}, "train_limt", "train_limit"),
        ({"model": "wideresnet"}, "wideresnet", "wide_resnet"),
        ({"model": {"name": "wide_resnet", "dept": 10}}, "dept", "depth"),
        ({"methods": ["baseline", "pixmx"]}, "pixmx", "pixmix"),
        ({"methods": [{"name": "pixmix", "severty": 2}]}, "severty", "severity"),
        ({"mixing_set": "fractal"}, "fractal", "fractals"),
        ({"mixing_set": {"name": "fractals", "cuont": 3}}, "cuont", "count"),
        ({"benchmarks": ["corruption"]}, "corruption", "corruptions"),
        ({"benchmarks": [{"name": "clean", "limt": 3}]}, "limt", "limit"),
    ],
    ids=str,
)
def test_an_unknown_key_or_name_is_told_with_the_nearest_known_one(
    read: Read, changes: dict[str, Any], wrong: str, nearest: str
) -> None:
    with pytest.raises(UnknownNameError):
        read(**changes)
    text = complaint(lambda: read(**changes))
    assert wrong in text
    assert f"did you mean {nearest!r}?" in text


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"k": -1}, ["k = -1", "at least 0"]),
        ({"k": [2, -3]}, ["k = -3", "at least 0"]),
        ({"k": 1.5}, ["k", "1.5", "whole number"]),
        ({"k": "many"}, ["k", "'many'", "whole number"]),
        ({"beta": 0}, ["beta = 0", "above 0"]),
        ({"beta": [3, -2]}, ["beta = -2", "above 0"]),
        ({"methods": [{"name": "pixmix", "k": -1}]}, ["pixmix", "k = -1", "at least 0"]),
        ({"methods": [{"name": "pixmix", "beta": 0}]}, ["beta = 0", "above 0"]),
        ({"methods": [{"name": "pixmix", "severity": 11}]}, ["severity = 11", "at most 10"]),
        ({"methods": []}, ["methods = []", "at least one"]),
        ({"methods": None}, ["method", "None", "name"]),
        ({"methods": [3]}, ["method", "3", "name"]),
        ({"methods": [{"k": 3}]}, ["method", "name"]),
        ({"benchmarks": []}, ["benchmarks = []", "at least one"]),
        ({"mixing_set": []}, ["mixing_set"]),
        ({"mixing_set": {"name": "fractals", "count": 0}}, ["count = 0", "at least 1"]),
        ({"training": {"epochs": 0}}, ["training.epochs = 0", "at least 1"]),
        ({"training": {"batch_size": 0}}, ["training.batch_size = 0", "at least 1"]),
        ({"training": {"lr": 0}}, ["training.lr = 0", "above 0"]),
        ({"training": {"lr": "fast\nslow"}}, ["training.lr", "number"]),
        ({"training": {"precision": "float16"}}, ["training.precision = 'float16'", "float32", "bfloat16"]),
        ({"training": 3}, ["training = 3"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": ["a"]}, ["seeds", "'a'", "whole number"]),
        ({"seeds": [0, -1]}, ["seeds", "-1"]),  # the schema's range of seed is 0 or more
        ({"resources": {"trial": {"cpus": -1}}}, ["resources.trial.cpus = -1", "at least 0"]),
        ({"resources": {"evaluation": {"gpus": -0.5}}}, ["resources.evaluation.gpus = -0.5"]),
        ({"model": {"name": "wide_resnet", "depth": 11}}, ["depth = 11", "6n + 4"]),
        ({"model": None}, ["model", "None"]),
        ({"dataset": {"name": "digits", "train_limit": 0}}, ["train_limit = 0", "at least 1"]),
        ({"dataset": 3}, ["dataset", "3"]),
        ({"dataset": "cifar10"}, ["root", "download"]),
        ({"benchmarks": [{"name": "clean", "limit": 0}]}, ["clean", "limit = 0"]),
        ({"results": None}, ["results"]),
        ({"results": {"folder": "a"}}, ["results"]),
    ],
    ids=str,
)
def test_a_wrong_value_is_told_in_one_line_with_what_is_allowed(
    read: Read, changes: dict[str, Any], parts: list[str]
) -> None:
    text = complaint(lambda: read(**changes).trials())
    for part in parts:
        assert part in text


@pytest.mark.parametrize("key", ["results", "dataset", "methods"])
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    file = folder / "short.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in BASE.items() if name != key}))
    text = complaint(lambda: read_experiment(file))
    assert f"{key!r} is missing" in text
    assert "short.yaml" in text


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_folder_of_pictures_that_is_missing_or_empty_is_named(folder: Path, read: Read, kind: str) -> None:
    pictures = folder / "pictures"
    if kind == "empty":
        pictures.mkdir()
    text = complaint(lambda: read(mixing_set={"name": "folder", "folders": "pictures"}).trials())
    assert str(pictures) in text


def test_a_missing_data_set_is_named(folder: Path, read: Read) -> None:
    text = complaint(lambda: read(dataset={"name": "cifar10", "root": "nowhere"}).trials())
    assert str(folder / "nowhere") in text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# only a comment\n",
        b"- dataset: digits\n- methods: [baseline]\n",
        b"just words",
        b"3",
        b"dataset: [digits\nmethods: {",
        b"dataset: digits\n\tmethods: baseline",
        b"dataset: \xff\xfe",
        b"a: b: c",
        b"x: !!python/object/apply:os.getcwd []",
        b"k: &a [*a]",
        b"x-a: &a {b: *a}",
        b"k: " + b"[" * 1200,
        b"k: 3\0",
    ],
    ids=lambda content: ascii(content[:24]),
)
def test_a_file_that_is_no_mapping_or_no_yaml_is_named_in_one_line(folder: Path, content: bytes) -> None:
    file = folder / "broken.yaml"
    file.write_bytes(content)
    assert "broken.yaml" in complaint(lambda: read_experiment(file))


def test_a_file_that_is_missing_or_a_folder_is_named(folder: Path) -> None:
    assert str(folder / "missing.yaml") in complaint(lambda: read_experiment(folder / "missing.yaml"))
    assert str(folder) in complaint(lambda: read_experiment(folder))


# overrides


def content_after(*overrides: str, start: dict[str, Any] | None = None) -> dict[str, Any]:
    changed = copy.deepcopy(BASE if start is None else start)
    for text in overrides:
        changed = override(changed, text)
    return changed


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("dataset=cifar100", "dataset", "cifar100"),
        ("training.epochs=1", "training", {"epochs": 1}),
        ("training.lr=0.5", "training", {"lr": 0.5}),
        ("training.flip=false", "training", {"flip": False}),
        ("seeds=[0, 1, 2]", "seeds", [0, 1, 2]),
        ("seeds=3", "seeds", 3),
        ('model={"name": "wide_resnet", "depth": 10}', "model", {"name": "wide_resnet", "depth": 10}),
        ("model={name: wide_resnet, depth: 10}", "model", {"name": "wide_resnet", "depth": 10}),
        ("dataset.train_limit=null", "dataset", {"name": "digits", "train_limit": None}),
        ("dataset.train_limit=100", "dataset", {"name": "digits", "train_limit": 100}),
        ("mixing_set.count=9", "mixing_set", {"name": "fractals", "count": 9}),
        ("resources.trial.cpus=0.5", "resources", {"trial": {"cpus": 0.5}}),
        ("methods.pixmix.k=2", "methods", ["baseline", {"name": "pixmix", "k": 2}]),
        ("methods.1.k=2", "methods", ["baseline", {"name": "pixmix", "k": 2}]),
        ("methods.0=cutout", "methods", ["cutout", "pixmix"]),
        ("methods=[mixup]", "methods", ["mixup"]),
        ("benchmarks.clean.limit=5", "benchmarks", [{"name": "clean", "limit": 5}]),
        ("results=a=b", "results", "a=b"),
    ],
)
def test_an_override_puts_one_value_into_the_file(text: str, key: str, expected: object) -> None:
    assert content_after(text)[key] == expected
    rest = {name: value for name, value in BASE.items() if name != key}
    assert {name: value for name, value in content_after(text).items() if name != key} == rest


def test_an_override_does_not_change_the_content_given() -> None:
    raw = copy.deepcopy(BASE)
    override(raw, "methods.pixmix.k=2")
    override(raw, "mixing_set.count=9")
    assert raw == BASE


def test_overrides_are_put_in_one_after_the_other() -> None:
    changed = content_after("methods.pixmix.k=2", "methods.pixmix.beta=5", "methods.pixmix.k=3")
    assert changed["methods"] == ["baseline", {"name": "pixmix", "k": 3, "beta": 5}]


def test_overrides_steer_the_trials(read: Read) -> None:
    sweep = read("methods=[pixmix]", "k=[2, 3]", "training.epochs=2", "training.precision=bfloat16", "seeds=[5]")
    assert labels(sweep) == ["pixmix k=2 beta=3 fractals seed 5", "pixmix k=3 beta=3 fractals seed 5"]
    assert {(t.training.epochs, t.training.precision) for t in sweep.trials()} == {(2, "bfloat16")}


def test_an_override_means_the_same_as_the_key_in_the_file(read: Read) -> None:
    typed = read("training.epochs=2", "methods.pixmix.severity=1", "mixing_set.count=9", "dataset=digits")
    written = read(
        training={"epochs": 2},
        methods=["baseline", {"name": "pixmix", "severity": 1}],
        mixing_set={"name": "fractals", "count": 9},
    )
    assert [trial.id for trial in typed.trials()] == [trial.id for trial in written.trials()]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("training.epochs", ["training.epochs", "key=value"]),
        ("=3", ["=3", "key=value"]),
        ("training..epochs=3", ["training..epochs=3", "key=value"]),
        ("", ["key=value"]),
        ("seeds=[0, 1", ["seeds=[0, 1", "YAML"]),
        ("methods.cutout.length=3", ["cutout", "baseline, pixmix"]),
        ("methods.2.k=3", ["'2'", "baseline, pixmix"]),
        ("methods.-1.k=3", ["'-1'", "baseline, pixmix"]),
        ("seeds.first=3", ["first"]),
        ("training.epoch=3", ["epoch", "'epochs'"]),
        ("trainng.epochs=3", ["trainng", "'training'"]),
        ("training.epochs=none", ["training.epochs = 'none'", "whole number"]),
        ("mixing_set.name=fractal", ["fractal", "'fractals'"]),
        ("dataset.limit=3", ["limit", "train_limit"]),
        ("results=", ["results"]),
    ],
)
def test_a_wrong_override_is_told_in_one_line(read: Read, text: str, parts: list[str]) -> None:
    message = complaint(lambda: read(text, seeds=3))
    for part in parts:
        assert part in message


# paths


def test_paths_in_a_file_start_at_the_folder_of_the_file(
    folder: Path, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    sweep = read(results="../out", mixing_set={"name": "folder", "folders": ["a", "../b"]})
    assert sweep.results == str(tmp_path / "out")
    assert sweep.mixing_set[0].dump()["folders"] == [str(folder / "a"), str(tmp_path / "b")]


def test_paths_typed_at_the_shell_start_at_the_current_folder(
    folder: Path, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    sweep = read("results=out", "mixing_set={name: folder, folders: [a, ../b]}", "dataset={name: cifar10, root: data}")
    assert sweep.results == str(elsewhere / "out")
    assert sweep.mixing_set[0].dump()["folders"] == [str(elsewhere / "a"), str(tmp_path / "b")]
    assert sweep.dataset[0].dump()["root"] == str(elsewhere / "data")
    one = read("mixing_set.folders=a", mixing_set={"name": "folder", "folders": "z"})
    assert one.mixing_set[0].dump()["folders"] == [str(elsewhere / "a")]


def test_a_file_given_by_a_relative_path_is_the_same_experiment(
    folder: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = read(mixing_set={"name": "folder", "folders": "a"})
    monkeypatch.chdir(folder.parent)
    relative = read_experiment(Path("experiments/sweep.yaml"))
    assert relative.results == absolute.results == str(folder / "results")
    assert relative.mixing_set == absolute.mixing_set


def test_an_override_reaches_into_one_method_and_into_the_default_benchmarks() -> None:
    raw = {"methods": "pixmix"}
    assert override(raw, "methods.pixmix.k=2") == {"methods": [{"name": "pixmix", "k": 2}]}
    noise = {"name": "my_method:Noise", "sigma": 2}
    for name in ("Noise", "my_method:Noise"):  # as plans print it, and as the file has it
        assert override({"methods": ["pixmix", "my_method:Noise"]}, f"methods.{name}.sigma=2")["methods"][1] == noise
    assert override(raw, "benchmarks.clean.limit=5")["benchmarks"][0] == {"name": "clean", "limit": 5}


# from Python


def test_a_mapping_is_read_like_a_file_and_holds_objects_and_classes(read: Read) -> None:
    content = {**BASE, "methods": [Baseline, PixMix(k=2), {"name": PixMix, "k": 3}], "dataset": Digits(train_limit=90)}
    found = read_experiment(content, ["methods.1.beta=4", "dataset.train_limit=80", "seeds=[5]"])
    methods = ["baseline", {"name": "pixmix", "k": 2, "beta": 4}, {"name": "pixmix", "k": 3}]
    same = read(methods=methods, dataset={"name": "digits", "train_limit": 80}, seeds=[5])
    assert [trial.id for trial in found.trials()] == [trial.id for trial in same.trials()]
    assert content["dataset"] == Digits(train_limit=90)
    assert "'methods.PixMex.k=1': no 'PixMex' in the list: choose among Baseline, PixMix, PixMix" in complaint(
        lambda: read_experiment(content, ["methods.PixMex.k=1"])
    )


def test_an_experiment_is_read_as_it_is_and_takes_no_overrides(read: Read) -> None:
    sweep = read()
    assert read_experiment(sweep) is sweep
    assert "'seeds=1' cannot be applied to an Experiment" in complaint(lambda: read_experiment(sweep, ["seeds=1"]))


def test_the_path_of_a_file_may_be_text(read: Read, folder: Path) -> None:
    sweep = read()
    assert read_experiment(str(folder / "sweep.yaml")) == sweep


def test_the_smallest_file_runs_without_photographs_of_frost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # results, data set and methods, as experiments/README.md says; every other key has a default
    monkeypatch.setattr("pixmix_ray.benchmarks.corruptions.has_installed_photographs", lambda: False)
    file = tmp_path / "experiment.yaml"
    file.write_text("results: results\ndataset: digits\nmethods: [baseline, pixmix]\n")
    runs = {run.name: run for run in read_experiment(file).benchmark_runs()}
    assert len(runs) == 6
    assert any("without frost" in note for note in runs["corruptions"].benchmark.settings.notes())


@pytest.mark.parametrize("source", [None, 3, ["a.yaml"]])
def test_what_is_no_experiment_is_refused_in_one_line(source: Any) -> None:
    with pytest.raises(RequestError, match=r"an experiment is a file, a mapping or an Experiment, got"):
        read_experiment(source)
