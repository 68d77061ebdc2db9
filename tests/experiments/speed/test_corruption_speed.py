"""The speed of corruptions: what is timed is what is said, peers are told apart from none; no speed is asserted."""

import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from experiments.speed import CorruptionRate, CorruptionSpeedRequest, corruption_rates, corruptions_grid
from experiments.speed import corruptions as measuring
from experiments.speed.__main__ import main
from experiments.speed.corruption_peers import PEERS, installed_peers
from experiments.speed.corruptions import Family, harmonic_mean, ours, scored_and_extra
from experiments.speed.material import KINDS, pictures_at_rest
from pixmix_ray.corruptions import BAR_NAMES, EXTRA, OFFICIAL, corrupt
from pixmix_ray.corruptions.p.sequences import EXTRA_PERTURBATIONS, PERTURBATIONS, frames, perturb

WORKING = """
import numpy as np

def corrupt(image, severity, corruption_name):
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and severity == 2
    return image / 2
"""
LIMPING = """
import warnings
warnings.warn("an old library", DeprecationWarning)

def corrupt(image, severity, corruption_name):
    warnings.warn("an old argument", FutureWarning)
    if corruption_name in ("glass_blur", "spatter"):
        raise TypeError("gaussian() got an unexpected\\nkeyword argument")
    return image
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few pictures, short measurements, no peers, and the command line put back."""
    for size, kind in KINDS.items():
        monkeypatch.setitem(KINDS, size, replace(kind, fractals=8 if size == 32 else 2))
    monkeypatch.setattr(measuring, "SECONDS", 0)
    monkeypatch.setattr("pixmix_ray.benchmarks.base.BATCH", 8)
    monkeypatch.setitem(measuring.PEER_PICTURES, 32, 2)
    monkeypatch.setitem(measuring.PERTURBED_PICTURES, 32, 2)
    for name in PEERS:
        monkeypatch.setitem(PEERS, name, "pixmix_ray_test_absent")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    yield


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **sources: str) -> None:
    """Make modules of `sources` the peers, beside an OpenCV that only takes its number of threads."""
    opencv = ModuleType("cv2")
    opencv.setNumThreads = lambda count: None  # type: ignore[attr-defined]  # a module takes any attribute
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    monkeypatch.syspath_prepend(folder)
    for (peer, _), (module, source) in zip(list(PEERS.items()), sources.items(), strict=False):
        (folder / f"{module}.py").write_text(source)
        monkeypatch.setitem(PEERS, peer, module)
        monkeypatch.setitem(sys.modules, module, ModuleType(module))  # so that what is imported is forgotten after
        del sys.modules[module]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object, command: str = "corruptions") -> int:
    """The exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["experiments.speed", command, *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_every_corruption_and_perturbation_has_a_row_and_each_set_a_mean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "frost_pictures", lambda: ())
    monkeypatch.setattr(measuring, "corrupt", lambda images, *_, **__: images)  # the work itself is tested elsewhere
    monkeypatch.setattr(measuring, "perturb", lambda images, *_, **__: images)
    assert call(monkeypatch, "--repeats", 1, "--markdown") == 0
    shown = capsys.readouterr()
    table = shown.out[shown.out.index("| set |") :].splitlines()
    names = [*OFFICIAL, *(f"{name} (extra)" for name in EXTRA), "harmonic mean of 15"]
    names += [*BAR_NAMES["cifar"], "harmonic mean of 10"]
    names += [*PERTURBATIONS["cifar"], *(f"{name} (extra)" for name in EXTRA_PERTURBATIONS["cifar"])]
    assert [line.split(" | ")[1] for line in table[2:]] == [*names, "harmonic mean of 10"]
    assert all(line.endswith("| - | - | - | - |") for line in table[2:])
    assert "`python -m experiments.speed corruptions --size 32 --severity 3 --repeats 1`" in shown.out
    assert "C and C-bar: pictures a second at severity 3, 8 at once. P: sequences a second at difficulty 1" in shown.out
    assert shown.err.count("is not installed, so not compared") == len(PEERS)
    assert "p 14/14 shear: ours" in shown.err


def test_a_family_is_a_table_with_the_work_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--family", "c_bar", "--severity", 1, "--repeats", 1) == 0
    shown = capsys.readouterr()
    assert "--family c_bar --size 32 --severity 1 --repeats 1" in shown.out and "peers get" not in shown.out
    assert "│ C-bar │ lines " in shown.out and "│ C     │" not in shown.out and "not installed" not in shown.err


def test_peers_are_timed_for_what_they_make_and_the_rest_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, fake_limping=LIMPING, fake_working=WORKING)
    monkeypatch.setattr(measuring, "frost_pictures", lambda: ())
    monkeypatch.setattr(measuring, "corrupt", lambda images, *_, **__: images)
    told: list[str] = []
    rates = corruption_rates(CorruptionSpeedRequest(family="c", severity=2, repeats=1), told.append)
    limping, working = PEERS
    for rate in rates[:-1]:
        assert set(rate.peers) == ({working} if rate.name in ("glass_blur", "spatter") else {limping, working})
    assert [line for line in told if "cannot" in line] == [
        f"{limping} cannot make {name}, which its mean is then without: "
        "TypeError: gaussian() got an unexpected keyword argument"
        for name in ("glass_blur", "spatter")
    ]
    assert "c 5/19 glass_blur: ours; corrupt-tta" in told
    assert rates[-1].name == "harmonic mean of 15" and set(rates[-1].peers) == {limping, working}


def test_a_peer_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, fake_broken="import pixmix_ray_test_absent")
    told: list[str] = []
    assert installed_peers(told.append) == []
    assert told == [
        "imagecorruptions is installed but cannot be imported, so not compared: "
        "ModuleNotFoundError: No module named 'pixmix_ray_test_absent'",
        "corrupt-tta is not installed, so not compared",
    ]


def test_a_peer_leaves_pictures_as_they_are_and_gives_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, fake_halving=WORKING)
    (peer,) = installed_peers(lambda line: None)
    images = pictures_at_rest(32, 5)
    before = images.copy()
    made = peer.corrupted(images, "fog", 2)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, before // 2)
    np.testing.assert_array_equal(images, before)
    assert peer.failure(images[0], "fog", 2) is None
    assert str(peer.failure(images[0], "fog", 3)).startswith("AssertionError: ")


@pytest.mark.parametrize(("peer", "module"), [("imagecorruptions", "imagecorruptions"), ("corrupt-tta", "corrupt_tta")])
def test_an_installed_peer_makes_corruptions(monkeypatch: pytest.MonkeyPatch, peer: str, module: str) -> None:
    monkeypatch.setitem(PEERS, peer, module)
    told: list[str] = []
    found = installed_peers(told.append)
    if not found:
        pytest.skip(next(line for line in told if line.startswith(peer)))
    made = found[0].corrupted(pictures_at_rest(32, 2), "contrast", 3)
    assert made.shape == (2, 32, 32, 3) and made.dtype == np.uint8


def test_without_photographs_frost_is_left_out_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixmix_ray.corruptions.c.weather.PACKAGE", "pixmix_ray_test_absent")
    monkeypatch.setattr(measuring, "corrupt", lambda images, *_, **__: images)
    told: list[str] = []
    rates = corruption_rates(CorruptionSpeedRequest(family="c", repeats=1), told.append)
    assert "frost" not in {rate.name for rate in rates} and rates[-1].name == "harmonic mean of 14"
    (line,) = (line for line in told if line.startswith("left out: "))
    assert line.startswith("left out: frost needs photographs of ice")


@pytest.mark.parametrize(
    ("family", "size", "name", "shape"),
    [
        ("c", 32, "contrast", (8, 32, 32, 3)),
        ("c", 224, "contrast", (1, 224, 224, 3)),
        ("c_bar", 32, "lines", (8, 32, 32, 3)),
        ("p", 32, "brightness", (2, frames("brightness", "cifar"), 32, 32, 3)),
        ("p", 224, "translate", (4, frames("translate", "imagenet"), 224, 224, 3)),
    ],
)
def test_what_is_timed_is_what_evaluation_makes(family: Family, size: int, name: str, shape: tuple[int, ...]) -> None:
    request = CorruptionSpeedRequest.model_validate({"size": size, "severity": 4})
    made = ours(family, name, request)()
    assert made.shape == shape and made.dtype == np.uint8
    images = pictures_at_rest(size, shape[0], 256 if (family, size) == ("p", 224) else size)
    expected = perturb(images, name, crop=size) if family == "p" else corrupt(images, name, 4)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("size", [32, 224])
def test_the_sets_have_fifteen_ten_and_ten_scored_names(size: int) -> None:
    """The numbers of the papers: CIFAR-C and ImageNet-C 15 and 4 extra, C-bar 10, P 10 and 4 extra."""
    counts = {family: tuple(map(len, scored_and_extra(family, size))) for family in ("c", "c_bar", "p")}
    assert counts == {"c": (15, 4), "c_bar": (10, 0), "p": (10, 4)}


def test_a_harmonic_mean_is_over_the_scored_ones_and_a_peers_over_what_it_makes() -> None:
    """By hand: 2 / (1/2 + 1/6) = 3; 3 / (1/2 + 1/6 + 1/3) = 3; 2 / (1/2 + 1/3) = 2.4, and beside it 2 / (1/1 + 1/3)."""
    rates = [
        CorruptionRate(family="c", name="fog", ours=2, peers={"b": 1}),
        CorruptionRate(family="c", name="snow", ours=6),
        CorruptionRate(family="c", name="contrast", ours=3, peers={"b": 3}),
        CorruptionRate(family="c", name="spatter", ours=1000, peers={"b": 1000}, is_scored=False),
    ]
    mean = harmonic_mean(rates)
    assert mean.name == "harmonic mean of 3" and mean.ours == pytest.approx(3)
    assert mean.peers == {"b": pytest.approx(1.5)}
    assert mean.ratio("b") == pytest.approx(2.4 / 1.5)
    assert harmonic_mean(rates[:2]).ours == pytest.approx(3)
    assert rates[0].ratio("b") == 2 and rates[1].ratio("b") is None


def test_a_table_in_markdown_has_two_columns_for_each_peer() -> None:
    rates = [
        CorruptionRate(family="c", name="fog", ours=18870.4, peers={"imagecorruptions": 1000}),
        CorruptionRate(family="p", name="snow", ours=7.25, is_scored=False),
    ]
    assert corruptions_grid(rates).markdown().splitlines() == [
        "| set | name | ours, /s | imagecorruptions, /s | ratio | corrupt-tta, /s | ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| C | fog | 18,870 | 1,000 | 18.9 | - | - |",
        "| P | snow (extra) | 7.2 | - | - | - | - |",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--family", "d"], "family = 'd': must be 'c', 'c_bar' or 'p'"),
        (["--size", 64], "size = 64: must be 32 or 224"),
        (["--severity", 6], "severity = 6: must be at most 5"),
        (["--repeats", 0], "repeats = 0: must be at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[object], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and expected in shown


@pytest.mark.drill
def test_whole_sets_are_made_once_over_by_some_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--family", "c_bar", "--pictures", 3, "--processes", 1, "--markdown"]
    assert call(monkeypatch, *arguments, command="whole-sets") == 0
    shown = capsys.readouterr().out
    assert "speed whole-sets --family c_bar --size 32 --pictures 3 --processes 1" in shown
    assert "| C-bar | 150 |" in shown  # ten corruptions, five severities, three pictures
