"""Data sets of one folder a class: pixels and order of torchvision's, decoded once and within bounds, good errors."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder as Torchvision

from pixmix_ray.datasets import picture_files
from pixmix_ray.datasets.encoded import Encoded, EncodedFiles
from pixmix_ray.datasets.imagenet import ImageFolder, ImageNet
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.datasets.picture_files import cached_squares
from pixmix_ray.errors import DataError, RequestError

SIZES = [(40, 24), (24, 40), (20, 20), (64, 17)]
SMALL = {"size": 16, "resize": 20}


def _picture(file: Path, key: int) -> None:
    """Noise, as a JPEG or PNG of one of several sizes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    width, height = SIZES[key % len(SIZES)]
    pixels = np.random.Generator(np.random.Philox(key=key)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes, 4 pictures each to train on and 2 to test on."""
    for part, count in (("train", 4), ("val", 2)):
        for number, name in enumerate(("cat", "dog", "dog-house")):
            for place in range(count):
                file = tmp_path / part / name / f"{place}.{'jpeg' if place % 2 else 'png'}"
                _picture(file, key=100 * number + place + (50 if part == "val" else 0))
    return tmp_path


@pytest.mark.parametrize("part", ["train", "val"])
def test_pictures_labels_and_names_are_those_of_torchvision(root: Path, part: str) -> None:
    data = ImageFolder(root=root, **SMALL).load()
    steps = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.PILToTensor()])
    expected = Torchvision(str(root / part), transform=steps)
    images, labels = (data.train_images, data.train_labels) if part == "train" else (data.test_images, data.test_labels)
    assert data.class_names == tuple(expected.classes)
    assert labels.tolist() == expected.targets
    assert labels.dtype == np.int64
    assert images.dtype == np.uint8
    for image, (tensor, _) in zip(images, expected, strict=True):
        assert np.array_equal(image, tensor.permute(1, 2, 0).numpy())


def test_arrays_are_mapped_read_only_and_the_second_load_decodes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ImageFolder(root=root, **SMALL).load()
    monkeypatch.setattr(picture_files, "squares", None)
    again = ImageFolder(root=root, **SMALL).load()
    for data in (first, again):
        for images in (data.train_images, data.test_images):
            assert isinstance(images, np.memmap)
            assert not images.flags.writeable
    assert np.array_equal(first.train_images, again.train_images)
    assert first.version == again.version == ImageFolder(root=root, **SMALL).version()


def test_no_more_than_a_run_of_pictures_is_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.array(ImageFolder(root=root, **SMALL).load().train_images)
    runs: list[int] = []
    squares = picture_files.squares

    def counted(pictures: Encoded, rows: NDArray[np.int64], resize: int | None, size: int) -> picture_files.Images:
        runs.append(len(rows))
        return squares(pictures, rows, resize, size)

    monkeypatch.setattr(picture_files, "squares", counted)
    monkeypatch.setattr(picture_files, "AT_ONCE", 5)
    files = sorted((root / "train").rglob("*.*"), key=lambda file: (file.parent.name, file.name))
    assert np.array_equal(cached_squares("in-runs", EncodedFiles(files), np.arange(12), 20, 16), whole)
    assert runs == [5, 5, 2]


def test_training_pictures_may_be_larger_and_fewer(root: Path) -> None:
    data = ImageFolder(root=root, train_size=20, train_limit=5, **SMALL).load()
    assert data.train_images.shape == (5, 20, 20, 3)
    assert data.test_images.shape == (6, 16, 16, 3)
    # floor(i * 12 / 5) of four cats, four dogs, four dog-houses
    assert data.train_labels.tolist() == [0, 0, 1, 1, 2]
    whole = ImageFolder(root=root, train_size=20, **SMALL).load()
    assert data.version == whole.version
    assert np.array_equal(data.train_images, whole.train_images[[0, 2, 4, 7, 9]])


def test_without_training_pictures_it_can_still_be_tested_on(root: Path) -> None:
    shutil.rmtree(root / "train")
    data = ImageFolder(root=root, train=None, **SMALL).load()
    assert data.train_images.shape == (0, 16, 16, 3)
    assert data.test_images.shape == (6, 16, 16, 3)
    assert data.class_names == ("cat", "dog", "dog-house")


def test_the_version_follows_content_and_cut_and_not_the_place(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    version = ImageFolder(root=root, **SMALL).version()
    assert version.startswith("image_folder-")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, elsewhere)
    assert ImageFolder(root=elsewhere, **SMALL).version() == version
    shutil.move(elsewhere / "val", elsewhere / "test")
    assert ImageFolder(root=elsewhere, test="test", **SMALL).version() == version
    others = [
        ImageFolder(root=root, size=15, resize=20).version(),
        ImageFolder(root=root, size=16, resize=21).version(),
        ImageFolder(root=root, train_size=18, **SMALL).version(),
        ImageFolder(root=root, train=None, **SMALL).version(),
    ]
    shutil.move(root / "train" / "cat" / "0.png", root / "train" / "dog" / "a.png")
    others.append(ImageFolder(root=root, **SMALL).version())
    assert len({version, *others}) == 6


def test_where_it_lies_is_no_part_of_the_identity(root: Path) -> None:
    assert set(ImageFolder(root=root).identity()) == {"train_limit", "size", "resize", "train_size"}


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no root": (lambda root: shutil.rmtree(root), "cannot read the folder .*val"),
    "no train": (lambda root: shutil.rmtree(root / "train"), "cannot read the folder .*train"),
    "no classes": (lambda root: _empty(root / "val"), "holds no folders"),
    "no pictures": (lambda root: (root / "val" / "eel").mkdir(), "no pictures in .*eel"),
    "train alone": (lambda root: shutil.rmtree(root / "val" / "cat"), "has the class 'cat' in train alone"),
    "test alone": (lambda root: shutil.rmtree(root / "train" / "cat"), "has the class 'cat' in val alone"),
    "broken": (
        lambda root: (root / "train" / "cat" / "1.jpeg").write_bytes(b"abc"),
        r"cannot decode the picture .*1\.jpeg",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_named_in_one_line(root: Path, case: str) -> None:
    spoil, message = BROKEN[case]
    spoil(root)
    with pytest.raises(DataError, match=message) as caught:
        ImageFolder(root=root, **SMALL).load()
    assert "\n" not in str(caught.value)


def test_a_half_written_array_is_not_left_behind(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    (root / "val" / "dog" / "1.jpeg").write_bytes(b"abc")
    with pytest.raises(DataError, match="cannot decode"):
        ImageFolder(root=root, train=None, **SMALL).load()
    assert not [file for file in (tmp_path / "cache").rglob("dataset-*") if file.suffix != ".lock"]


def test_a_cache_that_is_too_small_is_found_before_the_decoding(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DataError, match="set PIXMIX_RAY_CACHE to a larger disk"):
        ImageFolder(root=root, **SMALL).load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "the key 'root' is missing: set it to the folder that holds train and val"),
        ({"root": ".", "size": 0}, "size = 0"),
        ({"root": ".", "resize": 200}, "resize = 200 must be at least size"),
        ({"root": ".", "train_size": 300}, "resize = 256 must be at least size and train_size"),
        ({"root": ".", "rot": "."}, "did you mean 'root'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        ImageFolder.read(settings, "dataset image_folder")
    assert "\n" not in str(caught.value)


def test_imagenets_classes_are_a_thousand_in_order() -> None:
    assert len(WNIDS) == len(set(WNIDS)) == 1000
    assert list(WNIDS) == sorted(WNIDS)
    # tench, goldfish, great white shark are the first outputs of every published network, toilet tissue the last
    assert (*WNIDS[:3], WNIDS[-1]) == ("n01440764", "n01443537", "n01484850", "n15075141")


def test_imagenet_wants_its_thousand_folders(root: Path) -> None:
    with pytest.raises(DataError, match="holds 'cat': it must contain the 1,000 folders"):
        ImageNet(root=root, **SMALL).version()
    shutil.rmtree(root)
    for wnid in WNIDS[1:]:
        (root / "val" / wnid).mkdir(parents=True)
        (root / "val" / wnid / "a.png").touch()
    with pytest.raises(DataError, match="lacks 'n01440764'"):
        ImageNet(root=root, train=None, **SMALL).version()
    (root / "val" / WNIDS[0]).mkdir()
    (root / "val" / WNIDS[0] / "a.png").touch()
    with pytest.warns(UserWarning, match="val holds 1000 pictures, and 50000 were published: numbers are not"):
        assert ImageNet(root=root, train=None, **SMALL).version().startswith("imagenet-")


def test_number_and_height_are_those_of_the_training_pictures(root: Path) -> None:
    for size in (None, 20):
        found = ImageFolder(root=root, train_size=size, **SMALL)
        assert (found.num_train_images(), found.height()) == found.load().train_images.shape[:2]
        assert found.model_copy(update={"train_limit": 5}).num_train_images() == 12
    assert ImageFolder(root=root, train=None, **SMALL).num_train_images() == 0


def test_a_training_size_that_is_that_of_the_test_pictures_is_none(root: Path) -> None:
    none, same, other = (ImageFolder(root=root, train_size=size, **SMALL).identity() for size in (None, 16, 20))
    assert none == same != other
