"""Odd and broken picture files: each becomes what Pillow's own conversion gives, or an error that names it."""

import os
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from torchvision.transforms import CenterCrop, Resize

from pixmix_ray.datasets import folder_images, folder_version
from pixmix_ray.datasets.picture_files import LONGEST_ASPECT, picture_files
from pixmix_ray.errors import DataError
from pixmix_ray.mixing_sets import PictureFolder

Use = Callable[[Path], NDArray[np.uint8]]

RNG = np.random.Generator(np.random.Philox(key=11))
PIXELS = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)
SIXTH = Image.Exif()
SIXTH[0x0112] = 6  # turned by 90 degrees


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_alpha(mode: str) -> Image.Image:
    image = RGB.convert(mode)
    image.putalpha(Image.fromarray(PIXELS[:, :, 0]))
    return image


def xmp_turned() -> bytes:
    """A TIFF that only its XMP text turns: its header knows nothing of it."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    return encoded(RGB, "TIFF", tiffinfo=tags)


PNG, JPEG = encoded(RGB, "PNG"), encoded(RGB, "JPEG")
FRAMES = {"save_all": True, "append_images": [RGB.rotate(180).convert("P")]}

TAKEN: dict[str, tuple[str, bytes]] = {
    "grey": ("x.png", encoded(RGB.convert("L"), "PNG")),
    "32-bit grey tiff": ("x.tiff", encoded(RGB.convert("I"), "TIFF")),
    "float grey tiff": ("x.tif", encoded(RGB.convert("F"), "TIFF")),
    "transparent": ("x.png", encoded(with_alpha("RGB"), "PNG")),
    "transparent webp": ("x.webp", encoded(with_alpha("RGB"), "WEBP", lossless=True)),
    "transparent grey": ("x.png", encoded(with_alpha("L"), "PNG")),
    "one transparent grey": ("x.png", encoded(RGB.convert("L"), "PNG", transparency=7)),
    "one transparent colour": ("x.png", encoded(RGB, "PNG", transparency=(1, 2, 3))),
    "palette": ("x.png", encoded(RGB.convert("P"), "PNG")),
    "palette with one transparent": ("x.png", encoded(RGB.convert("P"), "PNG", transparency=3)),
    "palette with transparencies": ("x.png", encoded(RGB.convert("P"), "PNG", transparency=bytes(range(256)))),
    "one bit": ("x.png", encoded(RGB.convert("1"), "PNG")),
    "one bit bmp": ("x.bmp", encoded(RGB.convert("1"), "BMP")),
    "CMYK": ("x.jpg", encoded(RGB.convert("CMYK"), "JPEG")),
    "CMYK tiff": ("x.tif", encoded(RGB.convert("CMYK"), "TIFF")),
    "progressive": ("x.jpg", encoded(RGB, "JPEG", progressive=True)),
    "animated gif": ("x.gif", encoded(RGB.convert("P"), "GIF", **FRAMES)),
    "animated png": ("x.png", encoded(RGB, "PNG", save_all=True, append_images=[RGB.rotate(180)])),
    "two pages": ("x.tif", encoded(RGB, "TIFF", save_all=True, append_images=[RGB.rotate(180)])),
    "turned by EXIF": ("x.jpg", encoded(RGB, "JPEG", exif=SIXTH)),
    "turned tiff": ("x.tif", encoded(RGB, "TIFF", exif=SIXTH)),
    "several pictures of a camera": ("x.jpg", encoded(RGB, "MPO", save_all=True, append_images=[RGB])),
    "damaged EXIF": ("x.jpg", encoded(RGB, "JPEG", exif=SIXTH.tobytes()[:16])),
    "one pixel": ("x.png", encoded(RGB.crop((0, 0, 1, 1)), "PNG")),
    "one pixel jpeg": ("x.jpg", encoded(RGB.crop((0, 0, 1, 1)), "JPEG")),
    "long line": ("x.png", encoded(RGB.resize((LONGEST_ASPECT, 1)), "PNG")),
    "tall line": ("x.png", encoded(RGB.resize((2, 500)), "PNG")),
    "upper-case name": ("X.JPG", JPEG),
    "mixed-case name": ("x.TifF", encoded(RGB, "TIFF")),
    "jpeg named png": ("x.png", JPEG),
    "dots in the name": ("x.tar.v1.png", PNG),
    "name of another alphabet": ("画像 é 1.png", PNG),
}

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.png", b"", "UnidentifiedImageError"),
    "text": ("x.png", b"<!DOCTYPE html>\n<html>not found</html>\n", "UnidentifiedImageError"),
    "half a jpeg": ("x.jpg", JPEG[: len(JPEG) // 2], "truncated"),
    "half a png": ("x.png", PNG[: len(PNG) // 2], "truncated"),
    "header of a png": ("x.png", PNG[:33], "UnidentifiedImageError"),
    "half a gif": ("x.gif", encoded(RGB.convert("P"), "GIF")[:900], "truncated"),
    "half a webp": ("x.webp", encoded(RGB, "WEBP", lossless=True)[:500], "cannot decode"),
    "half a bmp": ("x.bmp", encoded(RGB, "BMP")[:3000], "truncated"),
    "half a tiff": ("x.tif", encoded(RGB, "TIFF", compression="tiff_lzw")[:300], "cannot decode"),
    "half a ppm": ("x.ppm", encoded(RGB, "PPM")[:3000], "truncated"),
    "png with a wrong checksum": ("x.png", PNG[:50] + bytes([PNG[50] ^ 255]) + PNG[51:], "cannot decode"),
    "line": ("x.png", encoded(RGB.resize((1, 5000)), "PNG"), "1 x 5000 pixels, .*: crop or remove it"),
    "lying line": ("x.png", encoded(RGB.resize((LONGEST_ASPECT + 1, 1)), "PNG"), "1001 x 1 pixels"),
    "turned by XMP": ("x.tif", xmp_turned(), r"\(50, 40\) by its header and \(40, 50\) decoded"),
}


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for each test: what another test decoded must not answer for this one."""
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))


def as_mixing_set(folder: Path) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = PictureFolder(folders=(folder,)).pictures(36)[0]
    return picture


def as_data_set(folder: Path) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = folder_images(folder, 32)[0]
    return picture


def by_pillow(file: Path, *transforms: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8]:
    with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
        rgb = image.convert("RGB")
    for transform in transforms:
        rgb = transform(rgb)
    return np.asarray(rgb)


def put(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("case", TAKEN)
def test_an_odd_picture_becomes_what_pillow_makes_of_it(case: str, tmp_path: Path) -> None:
    # second implementation: Pillow's convert, then torchvision's transforms as in the reference code
    file = put(tmp_path, *TAKEN[case])
    assert np.array_equal(as_mixing_set(tmp_path), by_pillow(file, Resize(36)))
    assert np.array_equal(as_data_set(tmp_path), by_pillow(file, Resize(32), CenterCrop(32)))


@pytest.mark.parametrize("use", [as_mixing_set, as_data_set])
@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_picture_is_an_error_of_one_line_that_names_it(case: str, use: Use, tmp_path: Path) -> None:
    name, content, message = REFUSED[case]
    file = put(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as caught:
        use(tmp_path)
    assert str(file) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_jpeg_is_not_turned_by_its_exif_and_a_tiff_is_as_pillow_does_it(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", encoded(RGB, "JPEG", exif=SIXTH))
    put(tmp_path, "b.tif", encoded(RGB, "TIFF", exif=SIXTH))
    jpeg, tiff = (PictureFolder(folders=(tmp_path,)).pictures(40)[index] for index in (0, 1))
    assert jpeg.shape == (40, 50, 3)
    assert np.array_equal(tiff, np.rot90(PIXELS, -1))  # orientation 6: clockwise


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    put(tmp_path, "x.gif", encoded(RGB.convert("P"), "GIF", **FRAMES))
    assert np.array_equal(folder_images(tmp_path, 40)[0], np.asarray(RGB.convert("P").convert("RGB"))[:, 5:45])


RAMP = np.linspace(0, 65_535, 48 * 48).round().reshape(48, 48)
WIDE: dict[str, tuple[str, bytes]] = {
    "16-bit grey png": ("x.png", encoded(Image.fromarray(RAMP.astype(np.uint16)), "PNG")),
    "16-bit grey tiff": ("x.tif", encoded(Image.fromarray(RAMP.astype(np.uint16)), "TIFF")),
    "16 bits in 32": ("x.tif", encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF")),
    "floats of 1": ("x.tif", encoded(Image.fromarray((RAMP / 65_535).astype(np.float32)), "TIFF")),
}
BEYOND: dict[str, tuple[NDArray[np.generic], str]] = {
    "integers": (
        RAMP.astype(np.int32) * 3,
        r"holds integers from 0 to 196605: they must be in \[0, 255\], or \[0, 65535\]",
    ),
    "below 0": (RAMP.astype(np.int32) - 9, "holds integers from -9 to 65526"),
    "floats": (
        (RAMP / 100).astype(np.float32),
        r"floating point from 0 to 655\.35: .*, or \[0, 1\]; save it with 8 bits",
    ),
    "NaN": (np.where(RAMP > 9, RAMP / 65_535, np.nan).astype(np.float32), "floating point from nan"),
}


@pytest.mark.parametrize("case", WIDE)
def test_16_bits_and_floats_become_8_bits_by_their_range(case: str, tmp_path: Path) -> None:
    put(tmp_path, *WIDE[case])
    levels = folder_images(tmp_path, 48)[0]
    assert np.array_equal(levels, np.stack([np.floor(RAMP / 257 + 0.5)] * 3, axis=2))
    assert len(np.unique(levels)) == 256


@pytest.mark.parametrize("case", BEYOND)
def test_values_of_no_known_range_are_refused(case: str, tmp_path: Path) -> None:
    values, message = BEYOND[case]
    put(tmp_path, "x.tif", encoded(Image.fromarray(values), "TIFF"))
    with pytest.raises(DataError, match=message):
        folder_images(tmp_path, 48)


@pytest.mark.parametrize("use", [as_mixing_set, as_data_set])
def test_pictures_as_large_as_pillow_only_warns_of_are_taken_and_larger_ones_refused(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(tmp_path, "x.png", PNG)  # 2000 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert use(tmp_path).shape[2] == 3
    put(tmp_path, "x.png", encoded(RGB.convert("L"), "PNG"))  # other content, or it would come from the cache
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
    with pytest.raises(DataError, match=r"DecompressionBombError: Image size \(2000 pixels") as caught:
        use(tmp_path)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("use", [as_mixing_set, as_data_set])
def test_a_link_that_leads_nowhere_is_an_error_that_names_it(use: Use, tmp_path: Path) -> None:
    put(tmp_path, "a.png", PNG)
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"b\.png: No such file"):
        use(tmp_path)


def test_links_to_pictures_and_folders_are_followed(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    put(tmp_path / "there", "a.png", PNG)
    (tmp_path / "here" / "b.png").symlink_to(tmp_path / "there" / "a.png")
    (tmp_path / "here" / "c").symlink_to(tmp_path / "there")
    names = [file.relative_to(tmp_path / "here").as_posix() for file in picture_files(tmp_path / "here")]
    assert names == ["b.png", "c/a.png"]


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_to_a_folder_that_holds_it_is_an_error(target: str, tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    put(inner, "x.png", PNG)
    (inner / "loop").symlink_to(inner / target)
    with pytest.raises(DataError, match=r"b/loop is a link to a folder above it.*: remove the link"):
        folder_version([tmp_path])


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "x.png", PNG)
    (tmp_path / "closed").mkdir()

    whole = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(DataError, match=r"cannot read the folder .*closed: Permission denied"):
        picture_files(tmp_path)


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    put(tmp_path / "x.png", "y.png", PNG)
    assert picture_files(tmp_path) == [tmp_path / "x.png" / "y.png"]


def test_pictures_of_all_kinds_lie_side_by_side(tmp_path: Path) -> None:
    for number, (name, content) in enumerate(TAKEN.values()):
        put(tmp_path, f"{number:02d}{name}", content)
    files = picture_files(tmp_path)
    images = folder_images(tmp_path, 8)
    assert len(files) == len(images) == len(TAKEN)
    for file, image in zip(files, images, strict=True):
        assert np.array_equal(image, by_pillow(file, Resize(8), CenterCrop(8)))


def test_reading_pictures_leaves_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    put(tmp_path, "x.png", TAKEN["palette with transparencies"][1])
    before = list(warnings.filters)
    as_data_set(tmp_path)
    assert list(warnings.filters) == before


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.webp", "x.bmp", "x.ppm", "x.tif"])
def test_a_picture_with_damaged_bytes_is_taken_or_refused_and_nothing_else(name: str, tmp_path: Path) -> None:
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper())
    whole = encoded(RGB.convert("P") if kind == "GIF" else RGB, kind)
    rng = np.random.Generator(np.random.Philox(key=12))
    refused = 0
    for trial in range(60):
        damaged = bytearray(whole[: int(rng.integers(len(whole)))] if trial % 3 == 0 else whole)
        for place in rng.integers(0, max(1, min(len(damaged), 200)), 3 if damaged else 0):
            damaged[place] = int(rng.integers(256))
        put(tmp_path, name, bytes(damaged))
        try:
            as_data_set(tmp_path)
        except DataError as error:  # and nothing else
            refused += 1
            assert name in str(error)
    assert refused > 0
