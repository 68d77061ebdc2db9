"""`checkpoints` of an experiment: what stands there becomes checkpoints with labels, and what is wrong is told."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pixmix_ray.errors import CheckpointError, RequestError
from pixmix_ray.experiment.class_map import ClassMap
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.external import External
from pixmix_ray.models import WideResNet

WRN = {"model": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0}


def weights(file: Path, seed: int = 0, classes: int = 10) -> Path:
    torch.manual_seed(seed)
    file.parent.mkdir(exist_ok=True)
    torch.save(WideResNet(depth=10, width=1, dropout=0.0).build(classes).state_dict(), file)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("zoo/a.pth", "zoo/b.pth", "other/a.pth")):
        weights(tmp_path / name, number)
    return tmp_path


def read(folder: Path, *entries: object, **keys: object) -> Experiment:
    values = {"results": "results", "dataset": "digits", "benchmarks": ["clean"], "checkpoints": list(entries), **keys}
    return Experiment.read(values, "experiment", folder)


LABELS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "of the file": ([{**WRN, "weights": "zoo/a.pth"}], ["a"]),
    "given": ([{**WRN, "weights": "zoo/a.pth", "label": "WRN"}], ["WRN"]),
    "of a pattern": ([{**WRN, "weights": "zoo/*.pth"}], ["a", "b"]),
    "of a pattern with a label": ([{**WRN, "weights": "zoo/*.pth", "label": "zoo"}], ["zoo a", "zoo b"]),
    "twice the same": (
        [{**WRN, "weights": "zoo/a.pth"}, {**WRN, "weights": "other/a.pth"}],
        ["a wrn_10_1 #1", "a wrn_10_1 #2"],
    ),
    "the same thing twice": (
        [{**WRN, "weights": "zoo/a.pth"}, {**WRN, "weights": "*/[ab].pth"}],
        ["a #1", "a #2", "b"],
    ),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_say_which_is_which(case: str, folder: Path) -> None:
    entries, expected = LABELS[case]
    found = [one.label.replace(" wrn_10_1", "") for one in read(folder, *entries).externals()]
    assert sorted(found) == sorted(label.replace(" wrn_10_1", "") for label in expected)
    assert len(set(found)) == len(found)


def one(folder: Path, **entry: object) -> External:
    (found,) = read(folder, {**WRN, "weights": "zoo/a.pth", **entry}).externals()
    return found


CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "label": ({"label": "other"}, True),
    "where it lies": ({"weights": "copy/of_a.pth"}, True),
    "weights": ({"weights": "zoo/b.pth"}, False),
    "a setting of the model": ({"mean": [0.1, 0.1, 0.1]}, False),
    "classes": ({"classes": list(range(10))}, False),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_it_is_follows_from_content_settings_and_classes_alone(case: str, folder: Path) -> None:
    (folder / "copy").mkdir()
    (folder / "copy" / "of_a.pth").write_bytes((folder / "zoo" / "a.pth").read_bytes())
    change, is_same = CHANGES[case]
    assert (one(folder).id == one(folder, **change).id) is is_same


WRONG: dict[str, tuple[list[object], dict[str, Any], type[RequestError], str]] = {
    "nothing": ([], {}, RequestError, "the key 'methods' is missing: name methods to train, or checkpoints"),
    "no mapping": (["zoo/a.pth"], {}, RequestError, "each must be a mapping such as {model: cifar_resnet"),
    "no model": ([{"weights": "zoo/a.pth"}], {}, RequestError, "a.pth needs a model: cifar_resnet"),
    "no weights": ([WRN], {}, RequestError, "one of weights, pretrained: true or trial, got none"),
    "both": ([{**WRN, "weights": "a", "pretrained": True}], {}, RequestError, "got weights and pretrained"),
    "unknown model": ([{"model": "wide_resnt", "weights": "a"}], {}, RequestError, "did you mean 'wide_resnet'"),
    "unknown key": ([{**WRN, "weights": "a", "dept": 10}], {}, RequestError, "did you mean 'depth'"),
    "no such file": ([{**WRN, "weights": "zoo/c.pth"}], {}, CheckpointError, "no checkpoint .*zoo/c.pth"),
    "nothing matches": ([{**WRN, "weights": "zoo/*.pt"}], {}, CheckpointError, r"no file matches .*zoo/\*.pt"),
    "not published": ([{**WRN, "pretrained": True}], {}, RequestError, "no published weights"),
    "no trial": ([{"trial": "zoo"}], {}, CheckpointError, "is not a trial: give RESULTS/trials/TRIAL"),
    "a trial with a model": ([{**WRN, "trial": "a"}], {}, RequestError, "which has its own model: leave model out"),
    "which data set": (
        [{**WRN, "weights": "zoo/a.pth"}],
        {"dataset": ["digits", {"name": "digits", "train_limit": 50}]},
        RequestError,
        "there are 2 data sets, and the checkpoint .* does not say",
    ),
    "no gradients": (
        [{"model": "onnx", "weights": "zoo/a.pth"}],
        {"benchmarks": ["clean", "adversaries"]},
        RequestError,
        "adversaries needs gradients, and onnx networks have none: leave adversaries out",
    ),
    "a program": (
        [{"model": "torchscript", "weights": "zoo/a.pth"}],
        {},
        RequestError,
        r"is a program, and reading it runs it: if you trust it, add trust: true \(--trust\)",
    ),
    "trained": ([], {"methods": "baseline", "model": "onnx"}, RequestError, "model onnx can only be evaluated"),
    "twice a class": ([{**WRN, "weights": "a", "classes": ["a", "b", "a"]}], {}, RequestError, "contains 'a' twice"),
    "no classes": ([{**WRN, "weights": "a", "classes": 3}], {}, RequestError, "classes must be imagenet, a file"),
    "no file of classes": ([{**WRN, "weights": "a", "classes": "c.txt"}], {}, RequestError, "nor a file that can be"),
    "a search": (
        [{**WRN, "weights": "zoo/a.pth"}],
        {"methods": "pixmix", "search": {"space": {"k": [1, 2]}, "objectives": ["clean.error"]}},
        RequestError,
        "put checkpoints into an experiment file of their own",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_one_line_before_any_work(case: str, folder: Path) -> None:
    entries, keys, kind, message = WRONG[case]
    with pytest.raises(kind, match=message) as caught:
        read(folder, *entries, **keys).externals()
    assert "\n" not in str(caught.value)


NAMES = ("ant", "bee", "cat", "dog")
MAPS: dict[str, tuple[object, tuple[str, ...], tuple[int, ...] | str]] = {
    "names": (list(NAMES), ("cat", "ant"), (2, 0)),
    "numbers": ([3, 1], ("dog", "bee"), (3, 1)),
    "imagenet": ("imagenet", ("n01443537", "n01440764"), (1, 0)),
    "a file": ("names.txt", ("dog",), (3,)),
    "a name that is not there": (
        list(NAMES),
        ("cta", "owl"),
        "'cta' is not among the 4 .*did you mean 'cat'. .1 more",
    ),
    "too few numbers": ([3, 1], ("dog",), "gives 2 outputs, and the data set has 1 classes"),
}


@pytest.mark.parametrize("case", MAPS)
def test_classes_are_found_among_those_of_the_outputs(case: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n\n")
    value, classes, expected = MAPS[case]
    found = ClassMap.read(value, tmp_path)
    if isinstance(expected, str):
        with pytest.raises(CheckpointError, match=expected):
            found.outputs_of(classes)
    else:
        assert found.outputs_of(classes) == expected


def test_an_experiment_of_checkpoints_alone_trains_nothing_and_its_parts_are_known(folder: Path) -> None:
    experiment = read(folder, {**WRN, "weights": "zoo/a.pth"})
    assert experiment.trials() == [] and experiment.points() == []
    assert {part.name for part in experiment.parts()} >= {"digits", "wide_resnet", "clean"}


def test_one_entry_need_not_be_a_list(folder: Path) -> None:
    values: dict[str, object] = {"results": "r", "dataset": "digits", "benchmarks": "clean"}
    experiment = Experiment.read({**values, "checkpoints": {**WRN, "weights": "zoo/a.pth"}}, "experiment", folder)
    assert [found.label for found in experiment.externals()] == ["a"]
