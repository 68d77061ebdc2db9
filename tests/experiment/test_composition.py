"""Files made of others: extends, key+, presets, --limit and anchors, and where their relative paths start."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import read_experiment

BASE = """
results: results
dataset: digits
methods: [baseline]
training: {epochs: 2, lr: 0.5}
benchmarks: [clean]
presets: {smoke: {training: {epochs: 1}, benchmarks+: [adversaries]}}
"""


def read(folder: Path, text: str, *overrides: str, **options: Any) -> Experiment:
    (folder / "base.yaml").write_text(BASE)
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "mine.yaml").write_text(text)
    return read_experiment(folder / "sub" / "mine.yaml", overrides, **options)


def seen(experiment: Experiment) -> tuple[list[str], int, float, list[str]]:
    (recipe,) = experiment.training
    return (
        [part.name for part in experiment.methods],
        recipe.epochs,
        recipe.lr,
        [part.name for part in experiment.benchmarks],
    )


@pytest.mark.parametrize(
    ("text", "overrides", "options", "expected"),
    [
        ("", (), {}, (["baseline"], 2, 0.5, ["clean"])),
        ("methods: [cutout]", (), {}, (["cutout"], 2, 0.5, ["clean"])),
        ("methods+: cutout", (), {}, (["baseline", "cutout"], 2, 0.5, ["clean"])),
        ("methods+: cutout\nmethods: [mixup]", (), {}, (["mixup", "cutout"], 2, 0.5, ["clean"])),
        ("training: {lr: 0.25}", (), {}, (["baseline"], 2, 0.25, ["clean"])),
        ("", (), {"presets": ["smoke"]}, (["baseline"], 1, 0.5, ["clean", "adversaries"])),
        (
            "presets: {slow: {training: {epochs: 9}}}",
            (),
            {"presets": ["smoke", "slow"]},
            (["baseline"], 9, 0.5, ["clean", "adversaries"]),
        ),
        ("", ("methods+=cutout", "training.lr=1"), {}, (["baseline", "cutout"], 2, 1, ["clean"])),
        (
            "",
            ("benchmarks+=[adversaries, {name: anomalies, limit: 3}]",),
            {},
            (["baseline"], 2, 0.5, ["clean", "adversaries", "anomalies"]),
        ),
        ("x-few: &few {epochs: 7}\ntraining: {<<: *few, lr: 2}", (), {}, (["baseline"], 7, 2, ["clean"])),
    ],
)
def test_what_is_on_top_wins(
    tmp_path: Path, text: str, overrides: tuple[str, ...], options: dict[str, Any], expected: object
) -> None:
    assert seen(read(tmp_path, f"extends: ../base.yaml\n{text}", *overrides, **options)) == expected


def test_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    assert read(tmp_path, "extends: ../base.yaml").results == str(tmp_path / "results")
    assert read(tmp_path, "extends: [../base.yaml]\nresults: mine").results == str(tmp_path / "sub" / "mine")


def test_a_part_with_another_name_takes_the_place_of_the_one_below(tmp_path: Path) -> None:
    base = (
        "extends: ../base.yaml\nmodel: {name: wide_resnet, depth: 10}\npresets: {small: {model: {name: cifar_resnet}}}"
    )
    (model,) = read(tmp_path, base, presets=["small"]).model
    assert model.dump() == {"name": "cifar_resnet", **type(model.settings)().model_dump(mode="json")}
    (model,) = read(tmp_path, base.replace("name: cifar_resnet", "width: 1"), presets=["small"]).model
    assert (model.settings.model_dump()["depth"], model.settings.model_dump()["width"]) == (10, 1)


def test_a_limit_is_put_on_every_benchmark_that_has_none_as_low(tmp_path: Path) -> None:
    text = "extends: ../base.yaml\nbenchmarks: [clean, {name: adversaries, limit: 3}, {name: anomalies, limit: 900}]"
    limits = [part.settings.limit for part in read(tmp_path, text, limit=20).benchmarks]
    assert limits == [20, 3, 20]


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        ("extends: mine.yaml", {}, "and mine.yaml extend each other"),
        ("extends: no.yaml", {}, "cannot read the experiment file"),
        ("extends: $PIXMIX_NOT_SET/base.yaml", {}, "extends .* names the variable"),
        ("extends: {a: b}", {}, "extends must be a file or a list of files"),
        ("extends: ../base.yaml", {"presets": ["smok"]}, "unknown preset 'smok', did you mean 'smoke'"),
        ("extends: ../base.yaml\npresets: {fast: 3}", {"presets": ["fast"]}, "presets must map names to mappings"),
    ],
)
def test_a_file_that_cannot_be_composed_is_told(tmp_path: Path, text: str, options: dict[str, Any], error: str) -> None:
    with pytest.raises(RequestError, match=error):
        read(tmp_path, text, **options)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = {
        "results": "r",
        "dataset": "digit",
        "methods": ["pixmx", "cutot"],
        "seeds": [-1],
        "training": {"lr": 0, "epoch": 1},
    }
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(file))
    with pytest.raises(RequestError) as caught:
        read_experiment(path)
    text = str(caught.value)
    assert text.startswith("experiment wrong.yaml has 6 problems:")
    for word in (
        "did you mean 'digits'",
        "did you mean 'pixmix'",
        "did you mean 'cutout'",
        "seeds = -1",
        "training.lr = 0",
        "did you mean 'epochs'",
    ):
        assert word in text
