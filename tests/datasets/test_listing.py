"""One rule for what is a picture, in folders, class folders and zip files; what is passed over is counted and said."""

import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from pixmix_ray.datasets import ImageFolder, PassedOverWarning
from pixmix_ray.datasets.class_folders import class_folders, class_names, video_files
from pixmix_ray.datasets.listing import EXTENSIONS, PassedOver
from pixmix_ray.datasets.picture_files import picture_files
from pixmix_ray.errors import DataError
from pixmix_ray.mixing_sets.sources import read_source

NOT_DECODED = {"MPEG", "HDF5", "GRIB", "BUFR", "EPS", "WMF", "IPTC"}  # Pillow knows them and needs another program
JUNK = (
    ".DS_Store",
    "._a.png",
    ".hidden.png",
    ".ipynb_checkpoints/a-checkpoint.png",
    ".Trash-1000/files/a.png",
    "@eaDir/SYNOPHOTO_THUMB_M.png",
    "__MACOSX/._a.png",
    "Thumbs.db",
    "labels.csv",
    "README",
)
KINDS = {"hidden": 5, "system": 3, ".csv": 1, "without an extension": 1}


def _picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 10, 10)).save(file, "PNG")


def _junk(folder: Path) -> None:
    for name in JUNK:
        if name.endswith(".png"):
            _picture(folder / name)
        else:
            (folder / name).write_text("no picture")


def test_the_endings_are_those_of_torchvision_and_of_pillow() -> None:
    Image.init()
    opened = {ending for ending, kind in Image.registered_extensions().items() if kind in set(Image.OPEN) - NOT_DECODED}
    assert set(IMG_EXTENSIONS) | opened <= EXTENSIONS


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.pgm", "a.tga", "a.avif", "A.PNG", "without_an_ending"])
def test_pictures_of_every_ending_count(tmp_path: Path, name: str) -> None:
    _picture(tmp_path / name)  # Pillow looks at the content
    assert picture_files(tmp_path) == [tmp_path / name]


def test_at_every_level_the_same_is_passed_over_and_said_in_one_line(tmp_path: Path) -> None:
    for folder in ("", "below", "below/deeper"):
        _picture(tmp_path / folder / "a.png")
        _junk(tmp_path / folder)
    counted = PassedOver()
    found = picture_files(tmp_path, counted)
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["a.png", "below/a.png", "below/deeper/a.png"]
    assert counted.kinds == Counter({kind: 3 * count for kind, count in KINDS.items()})
    with pytest.warns(PassedOverWarning, match=r"^passed over 30 in .* that are not pictures: 15 hidden, 9 system"):
        picture_files(tmp_path)


def test_a_zip_file_is_read_by_the_same_rule(tmp_path: Path) -> None:
    _picture(tmp_path / "set" / "a.png")
    _picture(tmp_path / "set" / "without_an_ending")
    _junk(tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted((tmp_path / "set").rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    with pytest.warns(
        PassedOverWarning, match=r"passed over 10 in .*set\.zip that are not pictures: 5 hidden, 3 system"
    ):
        readers = read_source(tmp_path / "set.zip")
    assert [reader.name.partition(" in ")[0] for reader in readers] == ["set/a.png", "set/without_an_ending"]


def test_classes_are_the_folders_that_are_none_of_a_system(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            _picture(tmp_path / part / name / "0.png")
        _junk(tmp_path / part)
        _junk(tmp_path / part / "bee")
    with pytest.warns(PassedOverWarning, match=r"2 \.csv|2 files beside the classes") as caught:
        data = ImageFolder(root=tmp_path, size=8, resize=8).load()
    assert data.class_names == ("ant", "bee")
    assert np.bincount(data.train_labels).tolist() == [1, 1]
    assert len({str(warning.message) for warning in caught}) == 2  # one line for each of train and val


def test_two_folders_that_link_to_each_other_count_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(2):
            _picture(tmp_path / name / f"{number}.png")
    os.symlink("../b", tmp_path / "a" / "see_also")
    os.symlink("../a", tmp_path / "b" / "see_also")
    os.symlink("b", tmp_path / "latest")
    with pytest.warns(PassedOverWarning, match=r"passed over 3 in .*: 3 repeated link"):
        found = picture_files(tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


def test_a_link_to_a_folder_elsewhere_is_followed_once(tmp_path: Path) -> None:
    _picture(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "set").mkdir()
    for name in ("one", "two"):
        os.symlink(tmp_path / "elsewhere", tmp_path / "set" / name)
    with pytest.warns(PassedOverWarning, match="1 repeated link"):
        assert picture_files(tmp_path / "set") == [tmp_path / "set" / "one" / "0.png"]


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "b.png")


def _broken_link(folder: Path) -> None:
    os.symlink("/nowhere/at/all.png", folder / "b.png")


def _link_to_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    os.symlink("pipe", folder / "b.png")


@pytest.mark.parametrize(
    ("make", "names"), [(_pipe, ["a.png"]), (_link_to_pipe, ["a.png"]), (_broken_link, ["a.png", "b.png"])]
)
def test_a_pipe_is_passed_over_and_a_broken_link_is_an_error_when_it_is_read(
    tmp_path: Path, make: Callable[[Path], None], names: list[str]
) -> None:
    _picture(tmp_path / "a.png")
    make(tmp_path)
    assert [file.name for file in picture_files(tmp_path, PassedOver())] == names


def test_two_ways_to_one_folder_are_one_class_and_said(tmp_path: Path) -> None:
    for name in ("val/ant", "val/bee", "elsewhere/cat"):
        _picture(tmp_path / name / "0.png")
    for name, target in (("latest", "ant"), ("cat", "../elsewhere/cat"), ("katze", "../elsewhere/cat")):
        os.symlink(target, tmp_path / "val" / name)
    with pytest.warns(PassedOverWarning, match="passed over 2 in .*: 2 second ways to a folder"):
        assert class_folders(tmp_path / "val").class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize("inner", ["", "val", "val/images"])
@pytest.mark.parametrize("read", [picture_files, class_folders])
def test_an_archive_in_place_of_a_folder_is_to_be_unpacked(
    read: Callable[[Path], object], inner: str, tmp_path: Path
) -> None:
    (tmp_path / "set.tar").touch()
    with pytest.raises(DataError, match=r"set\.tar is a file and not a folder: unpack it"):
        read(tmp_path / "set.tar" / inner)


def test_classes_that_are_numbers_are_sorted_as_such_or_as_text(tmp_path: Path) -> None:
    for number in range(12):
        _picture(tmp_path / "val" / str(number) / "0.png")
    by_number, as_text = [str(number) for number in range(12)], sorted(map(str, range(12)))
    folder = tmp_path / "val"
    assert class_names(folder, is_text_order=False) == tuple(by_number)
    assert class_folders(folder).class_names == tuple(as_text)
    settings = {"root": tmp_path, "train": None, "size": 8, "resize": 8}
    with pytest.warns(
        UserWarning, match=r"numbers and sorted numerically, 0, 1, 2 to 11: .* set dataset.class_order: text"
    ):
        numbered = ImageFolder.model_validate(settings)
        assert numbered.load().class_names == tuple(by_number)
        version = numbered.version()
    asked = {order: ImageFolder.model_validate({**settings, "class_order": order}) for order in ("number", "text")}
    assert asked["number"].version() == version  # and without a word
    assert asked["text"].load().class_names == tuple(as_text)
    assert asked["text"].version() != version
    assert asked["text"].test_set() != asked["number"].test_set()


def test_videos_that_are_hidden_do_not_count(tmp_path: Path) -> None:
    for name in ("1.mp4", "._1.mp4", "2.MP4", "index.txt"):
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "3.mp4")
    counted = PassedOver()
    assert [file.name for file in video_files(tmp_path, counted)] == ["1.mp4", "2.MP4"]
    assert counted.kinds == Counter({"hidden": 1, "no .mp4": 1, "no regular files": 1})


def test_of_a_folder_without_pictures_it_is_said_what_pictures_are(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=r"no pictures in .* must end in png, jpg, webp"):
        picture_files(tmp_path, PassedOver())
