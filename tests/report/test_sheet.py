"""The look at a mixing set: the sheet's layout, the table, the files, and one line for each mistake."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.cli import main
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.mixing_sets import Fractals, Join
from pixmix_ray.mixing_sets.complexity import MEASURES, brightness_entropy
from pixmix_ray.report.sheet import GAP, contact_sheet, parse_mixing_set, sampled
from pixmix_ray.seeding import torch_generator


@pytest.fixture
def pictures(tmp_path: Path) -> NDArray[np.uint8]:
    images = np.random.default_rng(0).integers(0, 256, (5, 36, 36, 3), dtype=np.uint8)
    np.save(tmp_path / "five.npy", images)
    return images


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "argv", ["pixmix-ray", "sets", "pictures", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (9, 3, 3), (10, 4, 3)])
def test_a_sheet_shows_the_pictures_row_by_row(count: int, columns: int, rows: int) -> None:
    images = np.random.default_rng(0).integers(1, 256, (count, 8, 8, 3), dtype=np.uint8)
    sheet = contact_sheet(images)
    step = 8 + GAP
    assert sheet.shape == (rows * step - GAP, columns * step - GAP, 3)  # by hand: gaps between pictures only
    for index in range(count):
        top, left = index // columns * step, index % columns * step
        assert np.array_equal(sheet[top : top + 8, left : left + 8], images[index])
    assert (sheet > 0).sum() == images.size  # the rest is black


def test_the_set_is_read_as_in_an_experiment_file() -> None:
    assert parse_mixing_set("fractals").settings == Fractals()
    assert parse_mixing_set("{name: fractals, count: 3}").settings == Fractals(count=3)
    assert isinstance(parse_mixing_set("fractals+fractals").settings, Join)
    with pytest.raises(UnknownNameError, match="did you mean 'fractals'"):
        parse_mixing_set("fractal")
    with pytest.raises(RequestError, match="is no YAML: write a name"):
        parse_mixing_set("{name: fractals")
    with pytest.raises(RequestError, match="must be a name, or a mapping"):
        parse_mixing_set("3")


def test_the_crops_are_those_that_training_would_draw(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    part = parse_mixing_set(f"{{name: folder, folders: {tmp_path / 'five.npy'}}}")
    sample = sampled(part, 7, 32, seed=4)
    expected = part.settings.pictures(36).to("cpu").crops(7, 32, torch_generator(4, "sheet"))
    assert np.array_equal(sample.crops, expected.permute(0, 2, 3, 1).numpy())
    assert (sample.label, sample.total, sample.version) == ("five", 5, part.settings.version())
    with pytest.raises(RequestError, match="too many for a sheet: lower --count or --side"):
        sampled(part, 10**6, 64, seed=0)


def test_the_command_writes_a_sheet_and_a_table(
    tmp_path: Path,
    pictures: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["{name: folder, folders: five.npy}", "--sheet", "s.png", "--out", "c.parquet", "--count", 6]
    assert call(monkeypatch, *command, "--side", 32, "--seed", 1) == 0
    shown = capsys.readouterr().out
    assert "five: 5 pictures, version folder-" in shown and all(name in shown for name in MEASURES)
    sample = sampled(parse_mixing_set("{name: folder, folders: five.npy}"), 6, 32, seed=1)
    assert np.array_equal(np.asarray(Image.open("s.png")), contact_sheet(sample.crops))
    frame = pd.read_parquet("c.parquet")
    assert list(frame.columns) == ["mixing_set", "version", "side", "seed", "crop", *MEASURES]
    assert frame["crop"].tolist() == list(range(6)) and set(frame["version"]) == {sample.version}
    assert frame["brightness_entropy"].tolist() == brightness_entropy(sample.crops).tolist()
    assert {file.name for file in tmp_path.iterdir()} == {"five.npy", "s.png", "c.parquet"}  # nothing half-written


def test_the_command_alone_says_what_the_set_is(
    tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "{name: folder, folders: five.npy}", "--side", 32) == 0
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fractal"], "unknown mixing set 'fractal'"),
        (["{name: folder, folders: five.npy}", "--sheet", "nowhere/s.png"], "cannot write nowhere/s.png"),
        (["{name: folder, folders: five.npy}", "--out", "nowhere/c.parquet"], "cannot write nowhere/c.parquet"),
        (["{name: folder, folders: five.npy}", "--complexity", "--side", "8"], "from 16 pixels on, got --side 8"),
        (["{name: folder, folders: six.npy}"], "there is no file"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    tmp_path: Path,
    pictures: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert expected in shown and shown.startswith("pixmix-ray: ") and shown.count("\n") == 1


def test_pictures_of_one_colour_are_named(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    pictures[1], pictures[3] = 0, 200
    pictures[3, 5, 5] = 201
    np.save(tmp_path / "five.npy", pictures)
    assert sampled(parse_mixing_set(str(tmp_path / "five.npy")), 3, 32, seed=0).flat == (1,)
