"""The speed of evaluation: a network alone and the benchmarks that run it do the same work; no speed is asserted."""

import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.speed import EvaluationRate, EvaluationSpeedRequest, evaluation_grid, evaluation_rates
from experiments.speed import evaluate as measuring
from experiments.speed.__main__ import main
from experiments.speed.material import KINDS, pictures_at_rest
from pixmix_ray.benchmarks import TestPictures
from pixmix_ray.models import WideResNet
from pixmix_ray.plugins import Part

TINY = ("--set", "model.depth=10", "--set", "model.width=1", "--set", "pictures=4", "--set", "repeats=1")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few fractals, short measurements, and the command line put back."""
    monkeypatch.setitem(KINDS, 32, replace(KINDS[32], fractals=8))
    monkeypatch.setattr(measuring, "SECONDS", 0)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    yield


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["experiments.speed", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def tiny(**settings: object) -> EvaluationSpeedRequest:
    model = {"name": "wide_resnet", "depth": 10, "width": 1}
    return EvaluationSpeedRequest.model_validate({"model": model, "pictures": 4, "repeats": 1, **settings})


@pytest.mark.drill
def test_each_benchmark_is_beside_the_network_and_the_command_shown_does_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    asked = [*TINY, "--set", "corruptions=[fog, contrast]", "--set", "severity=1", "--threads", 2, "--markdown"]
    assert call(monkeypatch, *asked) == 0
    shown = capsys.readouterr()
    assert torch.get_num_threads() == threads and torch.get_rng_state().equal(state)
    assert "wrn_10_1 with fresh weights; 4 crops of 8 generated fractals of 32 pixels" in shown.out
    assert "2 threads" in shown.out and "4 at once" in shown.out and "at severity 1" in shown.out
    table = shown.out[shown.out.index("| benchmark |") :].splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| clean", "| corruptions: fog, contrast"]
    assert "wrn_10_1: the network alone; clean; corruptions: fog, contrast" in shown.err

    found = re.search(r"`python -m experiments.speed evaluate (.*?)`", shown.out)
    assert found and call(monkeypatch, *shlex.split(found.group(1))) == 0
    again = capsys.readouterr().out
    assert found.group(0) in again and "│ clean " in again


def test_the_default_is_the_network_of_the_paper_on_one_thread() -> None:
    request = EvaluationSpeedRequest()
    assert request.model == Part(name="wide_resnet", settings=WideResNet(depth=40, width=4))
    assert (request.threads, request.device, request.batch_alone) == (1, "cpu", 64)
    assert EvaluationSpeedRequest(pictures=50).batch_alone == 50
    assert EvaluationSpeedRequest(pictures=5000, batch=500).batch_alone == 500


def test_a_benchmark_counts_every_copy_that_it_evaluates() -> None:
    request = tiny(corruptions=["contrast", "pixelate", "fog"])
    counts: dict[str, int] = {}

    def count(pipelines: Mapping[str, Callable[[], Sized]], *_: object, **__: object) -> dict[str, float]:
        counts.update({name: len(pipeline()) for name, pipeline in pipelines.items()})
        return dict.fromkeys(pipelines, 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "pictures_per_second", count)
        rates = evaluation_rates(request, lambda line: None)
    assert counts == {"the network alone": 4, "clean": 4, "corruptions: fog, contrast, pixelate": 12}
    assert [rate.share for rate in rates] == [1, 1]


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_the_network_alone_does_what_an_evaluation_has_done(batch: int) -> None:
    """Logits of any batch size are those of all pictures at once, from frozen weights in evaluation mode."""
    images = pictures_at_rest(32, 4)
    before = images.copy()
    test = TestPictures(images=images, labels=np.zeros(4, np.int64), indices=np.arange(4))
    network = measuring._ready(WideResNet(depth=10, width=1), torch.device("cpu"))
    assert not network.training and not any(weights.requires_grad for weights in network.parameters())
    logits = measuring._alone(network, test, torch.device("cpu"), batch)()
    expected = network(torch.from_numpy(before).permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    assert not logits.requires_grad
    np.testing.assert_array_equal(images, before)


def test_a_share_is_of_the_networks_own_speed() -> None:
    """By hand: 19 of 20 pictures are 95 %."""
    rate = EvaluationRate(benchmark="clean", rate=1900, alone=2000)
    assert rate.share == 0.95
    assert evaluation_grid([rate]).markdown().splitlines() == [
        "| benchmark | evaluated, pictures/s | network alone, pictures/s | share of it, % |",
        "| --- | ---: | ---: | ---: |",
        "| clean | 1,900 | 2,000 | 95.0 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "wide_resnt"], "unknown model 'wide_resnt', did you mean 'wide_resnet'"),
        (["--set", "model.depht=10"], "unknown key in model wide_resnet: 'depht', did you mean 'depth'"),
        (["--set", "model.depth=11"], "depth must be 6n + 4"),
        (["--set", "modl.depth=10"], "unknown key in speed evaluate: 'modl', did you mean 'model'"),
        (["--set", "corruptions=[fgo]"], "unknown corruption 'fgo', did you mean 'fog'"),
        (["--set", "corruptions=[]"], "at least 1 item"),
        (["--set", "pictures=0"], "pictures = 0: must be at least 1"),
        (["--set", "pictures"], "--set 'pictures' must be key=value"),
        (["--batch", 0], "batch = 0: must be at least 1"),
        (["--threads", 0], "threads = 0: must be at least 1"),
        (["--device", "tpu"], "device = 'tpu': must be 'cpu' or 'cuda'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[object], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and expected in shown


def test_a_gpu_that_is_not_there_and_frost_without_photographs_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call(monkeypatch, "--device", "cuda") == 2
    assert "there is no CUDA device here: use cpu" in capsys.readouterr().err
    monkeypatch.setattr("pixmix_ray.corruptions.c.weather.PACKAGE", "pixmix_ray_test_absent")
    assert call(monkeypatch, *TINY, "--set", "corruptions=[frost]") == 2
    assert "frost needs photographs of ice" in capsys.readouterr().err
