"""Folders of pictures: order, geometry, subsets, versions and errors."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from pixmix_ray.datasets import file_digests, folder_images, folder_version
from pixmix_ray.datasets.picture_files import picture_files, resized, rgb_picture
from pixmix_ray.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:passed over")  # the .md beside the pictures


def random_picture(height: int, width: int, seed: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def save(image: Image.Image, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Five pictures whose names and places sort in this order, and a file that is no picture."""
    for seed, name in enumerate(["B.png", "a/x.bmp", "a/y.PNG", "b.jpeg", "c/d/e.webp"]):
        save(random_picture(40 + seed, 50 - 5 * seed, seed), tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "README.md").write_text("no picture")
    yield tmp_path / "pictures"


def test_pictures_are_found_below_the_folder_and_sorted_by_relative_path(folder: Path) -> None:
    names = [file.relative_to(folder).as_posix() for file in picture_files(folder)]
    assert names == ["B.png", "a/x.bmp", "a/y.PNG", "b.jpeg", "c/d/e.webp"]


@pytest.mark.parametrize("size", [16, 31, 64])
def test_pictures_are_resized_and_cut_as_torchvision_does(folder: Path, size: int) -> None:
    # Second implementation: torchvision on Pillow images, as in the reference code.
    images = folder_images(folder, size)
    expected = [
        np.asarray(CenterCrop(size)(Resize(size, InterpolationMode.BILINEAR)(Image.open(file).convert("RGB"))))
        for file in picture_files(folder)
    ]
    assert images.dtype == np.uint8 and np.array_equal(images, np.stack(expected))


@pytest.mark.parametrize("shape", [(30, 90), (90, 30), (37, 61), (36, 36), (36, 50), (20, 23)])
def test_the_aspect_is_kept_as_torchvision_keeps_it(shape: tuple[int, int], tmp_path: Path) -> None:
    file = save(random_picture(*shape, seed=0), tmp_path / "picture.png")
    assert np.array_equal(np.asarray(resized(rgb_picture(file), 36)), np.asarray(Resize(36)(Image.open(file))))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_mode_becomes_rgb_as_pillow_converts_it(mode: str, tmp_path: Path) -> None:
    file = save(random_picture(8, 8, seed=1).convert(mode), tmp_path / ("x.jpg" if mode == "CMYK" else "x.png"))
    assert np.array_equal(folder_images(tmp_path, 8)[0], np.asarray(Image.open(file).convert("RGB")))


def test_a_limit_takes_evenly_spaced_pictures(folder: Path) -> None:
    assert np.array_equal(folder_images(folder, 16, limit=2), folder_images(folder, 16)[[0, 2]])


def test_a_second_call_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder_images(folder, 16)
    monkeypatch.setattr("pixmix_ray.datasets.picture_source.rgb_picture", None)
    assert np.array_equal(folder_images(folder, 16), first)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n garbage"])
def test_a_picture_that_cannot_be_decoded_is_named(content: bytes, folder: Path) -> None:
    (folder / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot decode the picture .*broken\.png .*: replace or remove it") as caught:
        folder_images(folder, 16)
    assert "\n" not in str(caught.value)


def test_a_truncated_picture_is_named(folder: Path) -> None:
    whole = (folder / "b.jpeg").read_bytes()
    (folder / "b.jpeg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b\.jpeg .*truncated"):
        folder_images(folder, 16)


def test_missing_and_empty_folders_are_errors_that_say_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere: give the path"):
        folder_images(tmp_path / "nowhere", 16)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"no pictures in .*: files must end in png, jpg, webp, bmp, gif"):
        folder_version([tmp_path])


def test_a_version_depends_on_the_bytes_and_their_order_and_not_on_names(folder: Path) -> None:
    version = folder_version([folder])
    assert len(version) == 12 and int(version, 16) >= 0
    (folder / "c/d/e.webp").rename(folder / "zzz.webp")
    assert folder_version([folder]) == version
    (folder / "zzz.webp").rename(folder / "A.webp")
    assert folder_version([folder]) != version


def test_a_version_depends_on_the_order_of_the_folders(folder: Path, tmp_path: Path) -> None:
    save(random_picture(9, 9, seed=9), tmp_path / "other" / "x.png")
    one, two = folder_version([folder, tmp_path / "other"]), folder_version([tmp_path / "other", folder])
    assert one != two


def test_a_file_that_was_written_again_is_hashed_again(folder: Path) -> None:
    file = folder / "B.png"
    content = bytearray(file.read_bytes())
    versions = set()
    for value in range(5):  # same size, and times that may be the same
        content[-1] = value
        file.write_bytes(content)
        versions.add(folder_version([folder]))
    assert len(versions) == 5


def test_hashes_of_settled_files_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = picture_files(folder)
    expected = file_digests.file_md5s(files)
    monkeypatch.setattr(file_digests, "SETTLED_NS", -1)
    assert np.array_equal(file_digests.file_md5s(files), expected)
    monkeypatch.setattr(file_digests, "_hash_all", None)
    assert np.array_equal(file_digests.file_md5s(files), expected)


def test_files_with_a_changed_time_are_not_taken_for_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_digests, "SETTLED_NS", -1)
    before = folder_version([folder])
    file = folder / "B.png"
    stat = file.stat()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as archivers do: the change time tells
    assert folder_version([folder]) != before
