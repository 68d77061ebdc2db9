"""The command augment: what it times does what it says, and its rates follow from a clock; no speed is asserted."""

import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from experiments.speed import Rate, SpeedRequest, augment, augmentation_rates, heading, peers, rates_grid, timing
from experiments.speed.__main__ import main
from experiments.speed.augment import ours
from experiments.speed.material import KINDS, Material, prepared
from experiments.speed.peers import PEERS, peers_of
from experiments.speed.pillow_pixmix import OFFICIAL, OPERATIONS, PillowPixMix
from pixmix_ray.errors import RequestError
from pixmix_ray.methods import METHODS, Method
from pixmix_ray.methods.rand_augment import RandAugment
from pixmix_ray.plugins import Table
from pixmix_ray.seeding import rng
from pixmix_ray.settings import DataPath
from pixmix_ray.transforms import ALL, operation_parameter
from pixmix_ray.transforms import OPERATIONS as BATCHED


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The peers draw from torch's global generator, and the command line changes these."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_fractals() -> Iterator[None]:
    """Drawing them takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for size, kind in KINDS.items():
            patch.setitem(KINDS, size, replace(kind, fractals=8 if size == 32 else 2))
        yield


@pytest.fixture(scope="module")
def material(_few_fractals: None) -> Iterator[Material]:
    with prepared(32, 64, torch.device("cpu")) as made:
        yield made


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command in this process, its measurements as short as can be."""
    monkeypatch.setattr(augment, "SECONDS", 0)
    monkeypatch.setattr(sys, "argv", ["experiments.speed", "augment", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def assert_pictures(made: Tensor, count: int, size: int) -> None:
    """Normalised pictures: float32 from -1 to 1, but for rounding, and neither flat nor all the same."""
    assert made.shape == (count, 3, size, size) and made.dtype == torch.float32
    assert made.min() >= -1.0001 and made.max() <= 1.0001
    assert made.std() > 0.2 and made[0].ne(made[1]).any()


@pytest.mark.drill
def test_every_method_that_augments_is_measured_and_the_others_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    assert call(monkeypatch, "--batch", 4, "--repeats", 1, "--markdown", "--threads", 2) == 0
    shown = capsys.readouterr()
    assert torch.get_num_threads() == threads
    assert "`python -m experiments.speed augment --size 32 --threads 2 --repeats 1 --device cpu --batch 4`" in shown.out
    assert "2 threads" in shown.out and "fractals" in shown.out and f"torch {torch.__version__}"[:9] in shown.out
    for name in METHODS.known():
        assert f"| {name} | 32 | " in shown.out or f"left out: {name} " in shown.err or f"method {name}:" in shown.err
        assert all(f"| {peer.name} |" in shown.out for peer in peers_of(name))
    assert "1/" in shown.err and "baseline: ours; torchvision v1, Pillow" in shown.err


def test_a_choice_of_methods_at_224_pixels_is_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--methods", "baseline, cutmix", "--size", 224, "--batch", 2, "--repeats", 1) == 0
    shown = capsys.readouterr()
    assert "No RandomResizedCrop" in shown.out and "--methods baseline,cutmix --size 224" in shown.out
    assert "│ baseline │ 224  │" in shown.out and "pixmix │" not in shown.out
    assert "2/2 cutmix: ours" in shown.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--methods", "pixmx"], "unknown method 'pixmx', did you mean 'pixmix'"),
        (["--methods", ","], "unknown method ''"),
        (["--size", 64], "size = 64: must be 32 or 224"),
        (["--device", "tpu"], "device = 'tpu': must be 'cpu' or 'cuda'"),
        (["--batch", 1], "batch = 1: must be at least 2"),
        (["--threads", 0], "threads = 0: must be at least 1"),
        (["--repeats", 0], "repeats = 0: must be at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[object], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and expected in shown


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match="there is no CUDA device here: use cpu"):
        SpeedRequest.read({"device": "cuda"}, "speed augment")


class InLossOnly(Method):
    """A method whose work needs the network."""

    summary: ClassVar[str] = "nothing to pictures"
    source: ClassVar[str] = "none"


class WithFiles(InLossOnly):
    """A method that does not go without files."""

    weights: DataPath = Field(description="a file of weights")


def test_what_cannot_be_timed_is_left_out_aloud_but_an_error_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others: dict[str, type[Method]] = {"in_loss": InLossOnly, "with_files": WithFiles}
    monkeypatch.setattr(augment, "METHODS", Table[Method]("method", Method, others))
    told: list[str] = []
    assert augmentation_rates(SpeedRequest(batch=2), told.append) == []
    assert told[:2] == [
        "left out: in_loss changes no pictures before its loss: there is no augmentation to time",
        "left out: method with_files: the key 'weights' is missing: set it to a file of weights",
    ]
    with pytest.raises(RequestError, match="in_loss changes no pictures before its loss"):
        augmentation_rates(SpeedRequest(methods=("in_loss",)), told.append)
    with pytest.raises(RequestError, match="'weights' is missing"):
        augmentation_rates(SpeedRequest(methods=("with_files",)), told.append)


@pytest.mark.parametrize("method", PEERS)
def test_peers_make_normalised_pictures_and_leave_the_batch_as_it_was(method: str, material: Material) -> None:
    before = material.images.clone()
    for peer in peers_of(method):
        pipeline = peer.start(material)
        first = pipeline().clone()
        assert_pictures(first, 64, 32)
        assert pipeline().ne(first).any(), peer.name
    assert material.images.equal(before)


@pytest.mark.parametrize("method", ["baseline", "cutout", "mixup", "pixmix"])
def test_ours_makes_normalised_pictures_and_leaves_the_batch_as_it_was(method: str, material: Material) -> None:
    before = material.images.clone()
    pipeline = ours(METHODS.read(method).settings, material)
    first = pipeline().clone()
    if method == "mixup":  # mixed in its loss, which is where it is normalised too
        first = first * 2 - 1
    assert_pictures(first, 64, 32)
    assert pipeline().ne(first).any()
    assert material.images.equal(before)


def test_cutout_and_its_peers_paint_the_same_share_of_the_picture(material: Material) -> None:
    """A quarter, for squares of half the side inside the picture; 16 * 16 pixels of grey, which is 0."""
    white = replace(material, images=torch.full_like(material.images, 255))
    for peer in peers_of("cutout"):
        assert (peer.start(white)() == 0).sum(dim=(1, 2, 3)).eq(3 * 16 * 16).all(), peer.name


def test_without_kornia_its_pipelines_are_not_among_the_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "has_kornia", lambda: False)
    assert all("kornia" not in peer.name for method in PEERS for peer in peers_of(method))
    assert len(peers_of("baseline")) == 3 and peers_of("unheard_of") == ()


def test_peers_of_rand_augment_take_as_many_operations_as_ours() -> None:
    method = RandAugment()
    assert (method.num_operations, method.magnitude / method.strongest) == (3, 15 / 30)


@pytest.mark.parametrize(("number", "name"), list(enumerate(ALL)))
@pytest.mark.parametrize("sign", [1, -1])
def test_an_operation_of_the_pillow_pipeline_is_that_of_the_batch(
    number: int, name: str, sign: int, material: Material
) -> None:
    level = torch.tensor([2.37], dtype=torch.float64)
    parameter = operation_parameter(name, level, torch.tensor([sign < 0]), 32)
    for image in material.images[:4]:
        changed = OPERATIONS[number](Image.fromarray(image.permute(1, 2, 0).numpy()), level.item(), sign)
        expected = BATCHED[name](image[None], parameter)[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(np.asarray(changed), expected)


@pytest.mark.drill
@pytest.mark.parametrize("pictures", ["files", "memory"])
def test_pixmix_of_the_pillow_pipeline_has_the_statistics_of_ours(pictures: str, material: Material) -> None:
    """Channel means and the mean square within five standard errors, over the same pictures and mixing set."""
    theirs = peers.pillow_pixmix(pictures).start(material)
    mine = ours(OFFICIAL[32], material)

    def statistics(made: list[Tensor]) -> tuple[Tensor, Tensor]:
        every = torch.cat(made).double()
        values = torch.cat([every.mean(dim=(2, 3)), every.square().mean(dim=(1, 2, 3))[:, None]], dim=1)
        return values.mean(0), values.var(0) / len(values)

    (their_mean, their_error), (our_mean, our_error) = (
        statistics([run() for _ in range(count)]) for run, count in ((theirs, 24), (mine, 96))
    )
    assert ((their_mean - our_mean).abs() < 5 * (their_error + our_error).sqrt()).all()


def test_the_pillow_pipeline_without_rounds_is_the_picture_or_a_copy(material: Material) -> None:
    """With k = 0 nothing is mixed: half are the picture itself, as are copies by operations that change nothing."""
    settings = OFFICIAL[32].model_copy(update={"k": 0})
    mix = PillowPixMix(settings, material.pillow_pictures, (36, 32), rng(0, "test"))
    image = Image.fromarray(material.images[0].permute(1, 2, 0).numpy())
    clean = material.images[0].float() / 255
    same = sum(mix(image).equal(clean) for _ in range(400))
    assert 160 < same < 280


def test_jpegs_and_pictures_in_memory_show_the_same_fractals(material: Material) -> None:
    """Within what two ways of averaging and JPEG change: a correlation above 0.8 at the size of the smaller ones."""
    correlations = []
    for file, picture in zip(material.jpegs, material.pillow_pictures, strict=True):
        with Image.open(file) as opened:
            assert opened.size == (128, 128)
            small = np.asarray(opened.resize(picture.size), dtype=float)
        correlations.append(np.corrcoef(small.ravel(), np.asarray(picture, dtype=float).ravel())[0, 1])
    assert np.median(correlations) > 0.8


def test_rates_are_medians_of_pipelines_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, with a clock that the pipelines move: 0.5 s for 10 pictures are 20 a second."""
    now, order = [0.0], list[str]()
    durations = iter(
        [0.5, 0.5, 0.25, 0.25, 1.0, 1.0, 0.5, 0.5]
    )  # warm-up, calibration, three measurements of two calls
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def steady() -> Tensor:
        order.append("steady")
        now[0] += 1.0
        return torch.zeros(4, 1)

    def varying() -> Tensor:
        order.append("varying")
        now[0] += next(durations)
        return torch.zeros(10, 1)

    cpu = torch.device("cpu")
    rates = timing.pictures_per_second({"varying": varying, "steady": steady}, cpu, repeats=3, seconds=0.9)
    assert rates == {"varying": 20.0, "steady": 4.0}
    assert order == ["varying", "steady"] * 2 + ["varying", "varying", "steady"] * 3


def test_a_table_in_markdown_has_a_row_for_each_peer() -> None:
    rates = [
        Rate(method="pixmix", ours=18870.4, peer="theirs", theirs=1000),
        Rate(method="baseline", ours=500, peer="theirs", theirs=1000),
        Rate(method="speckle", ours=17),
    ]
    assert rates_grid(rates, 32).markdown().splitlines() == [
        "| method | size | ours, pictures/s | peer | peer, pictures/s | ratio |",
        "| --- | --- | ---: | --- | ---: | ---: |",
        "| pixmix | 32 | 18,870 | theirs | 1,000 | 18.9 |",
        "| baseline | 32 | 500 | theirs | 1,000 | 0.50 |",
        "| speckle | 32 | 17 | - | - | - |",
    ]


def test_the_heading_says_when_kornia_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.speed.report.has_kornia", lambda: False)
    assert "kornia not installed, so not compared" in heading(SpeedRequest(size=224))


def test_files_are_gone_after_the_measurement() -> None:
    with prepared(32, 2, torch.device("cpu")) as made:
        files: tuple[Path, ...] = made.jpegs
        assert all(file.exists() for file in files)
    assert not made.folder.exists()
