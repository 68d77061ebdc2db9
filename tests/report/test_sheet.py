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
from pixmix_ray.report.sheet import GAP, TEXT, contact_sheet, parse_mixing_set, sampled


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
def test_a_sheet_shows_the_pictures_row_by_row_above_their_names(count: int, columns: int, rows: int) -> None:
    images = np.random.default_rng(0).integers(1, 256, (count, 20, 20, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet(images, ["ab"] * count, notable={0}))
    across, down = 20 + GAP, 20 + TEXT + GAP
    assert sheet.shape == (rows * down - GAP, columns * across - GAP, 3)  # by hand: gaps between pictures only
    for index in range(count):
        top, left = index // columns * down, index % columns * across
        assert np.array_equal(sheet[top : top + 20, left : left + 20], images[index])
        below = sheet[top + 20 : top + 20 + TEXT, left : left + 20]
        assert below.any()  # its name
        assert (below[..., 0] == below[..., 2]).all() == (index != 0)  # grey, but for what stands out


def test_the_set_is_read_as_in_an_experiment_file() -> None:
    assert parse_mixing_set("fractals").settings == Fractals()
    assert parse_mixing_set("{name: fractals, count: 3}").settings == Fractals(count=3)
    assert isinstance(parse_mixing_set("fractals+fractals").settings, Join)
    with pytest.raises(UnknownNameError, match="did you mean 'fractals'"):
        parse_mixing_set("fractal")
    with pytest.raises(RequestError, match="is not YAML: write a name"):
        parse_mixing_set("{name: fractals")
    with pytest.raises(RequestError, match="must be a name, or a mapping"):
        parse_mixing_set("3")


def test_each_picture_is_shown_once_before_any_is_there_again(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    part = parse_mixing_set(f"{{name: folder, folders: {tmp_path / 'five.npy'}}}")
    sample = sampled(part, 7, 32, seed=4)
    assert sorted(sample.names[:5]) == [f"five {number}" for number in range(5)] and len(set(sample.names[5:])) == 2
    assert (sample.label, sample.total, sample.version) == ("five", 5, part.settings.version())
    whole = part.settings.pictures(36)
    for name, crop in zip(sample.names, sample.crops, strict=True):  # each is a part of the picture that it names
        windows = np.lib.stride_tricks.sliding_window_view(whole[int(name.split()[1])], (32, 32, 3))
        assert (windows == crop).all(axis=(3, 4, 5)).any()
    assert np.array_equal(sampled(part, 7, 32, seed=4).crops, sample.crops)
    with pytest.raises(RequestError, match="too many for a sheet: lower --count or --side"):
        sampled(part, 10**6, 64, seed=0)


def test_a_picture_comes_as_often_as_its_weight_says(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "two.npy", pictures[:2])
    join = parse_mixing_set(
        f"{{name: join, sets: [{{name: folder, folders: {tmp_path / 'five.npy'}, weight: 1000000}}, "
        f"{{name: folder, folders: {tmp_path / 'two.npy'}}}]}}"
    )
    assert {name.split()[0] for name in sampled(join, 5, 32, seed=0).names} == {"five"}
    assert sampled(join, 7, 32, seed=0).names[5:] in ([("two 0", "two 1"), ("two 1", "two 0")])


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
    assert np.array_equal(np.asarray(Image.open("s.png")), np.asarray(contact_sheet(sample.crops, sample.names)))
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
        (["{name: folder, folders: five.npy}", "--complexity", "--side", "8"], "at least 16 pixels, got --side 8"),
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


def test_black_flat_and_tiny_pictures_are_pointed_out_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    almost = np.full((40, 40, 3), 200, np.uint8)
    almost[5, 5] = 201
    images = {"noise": noise, "black": noise * 0, "white": noise * 0 + 255, "almost": almost, "tiny": noise[:8, :8]}
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    sample = sampled(parse_mixing_set(str(folder)), 5, 32, seed=0)
    assert sample.remarks == (
        "1 picture is black: black.png",
        "1 picture is of one colour: white.png",
        "1 picture is smaller than crops of 32 pixels, and enlarged: tiny.png",
    )
    assert {sample.names[number] for number in sample.notable} == {"black.png", "white.png", "tiny.png"}
