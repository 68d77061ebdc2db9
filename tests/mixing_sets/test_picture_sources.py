"""Pictures out of zip and array files beside folders: the same pixels, nothing unpacked, broken ones counted, named."""

import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.cache import read_manifest
from pixmix_ray.errors import DataError
from pixmix_ray.mixing_sets import PictureFolder
from pixmix_ray.mixing_sets.base import entry_name

pytestmark = pytest.mark.filterwarnings("ignore:passed over")  # the junk in the zip files

SHAPES = {"b.png": (40, 60), "a/z.png": (90, 41), "a/grey.png": (50, 50), "small.png": (7, 9)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    (root / "a").mkdir(parents=True)
    for seed, (name, shape) in enumerate(SHAPES.items()):
        image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8))
        (image.convert("L") if "grey" in name else image).save(root / name)
    return root


def zipped(folder: Path, archive: Path, **more: bytes) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in folder.rglob("*.png"):
            out.write(file, file.relative_to(folder).as_posix())
        for name, content in more.items():
            out.writestr(name, content)
    return archive


def png(height: int = 40, width: int = 40) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (9, 8, 7)).save(stream, "PNG")
    return stream.getvalue()


def images_of(mixing_set: PictureFolder, side: int = 36) -> list[NDArray[np.uint8]]:
    pictures = mixing_set.pictures(side)
    return [pictures[index] for index in range(len(pictures))]


def one_line(caught: pytest.ExceptionInfo[DataError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_zip_file_holds_the_same_pictures_as_the_folder(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "pictures.zip", **{"notes.txt": b"no picture", "__MACOSX/a/._z.png": b"junk"})
    there = set(tmp_path.rglob("*"))
    packed, unpacked = images_of(PictureFolder(folders=(archive,))), images_of(PictureFolder(folders=(folder,)))
    assert len(packed) == 4 and all(map(np.array_equal, packed, unpacked))
    assert set(tmp_path.rglob("*")) == there  # nothing was unpacked


def test_names_in_a_zip_file_are_no_paths(tmp_path: Path) -> None:
    names = ["../../escape.png", "/etc/absolute.png", "C:\\windows.png", "same.png"]
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as out:
        for name in names:
            out.writestr(name, png())
        with pytest.warns(UserWarning, match="Duplicate name"):
            out.writestr("same.png", png())
    assert len(PictureFolder(folders=(tmp_path / "evil.zip",)).pictures(36)) == 5
    assert (
        not [file for name in names for file in tmp_path.parents[1].rglob(Path(name).name)]
        and not Path("/etc/absolute.png").exists()
    )


def test_pictures_smaller_than_the_crop_are_enlarged(folder: Path) -> None:
    small = images_of(PictureFolder(folders=(folder,)))[-1]
    # second implementation: torchvision's Resize on a Pillow image is this call
    expected = Image.open(folder / "small.png").resize((46, 36), Image.Resampling.BILINEAR)
    assert np.array_equal(small, np.asarray(expected))


@pytest.mark.parametrize("name", ["many.npy", "many.npz"])
def test_an_array_file_is_a_set_of_pictures_with_their_aspect(tmp_path: Path, name: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / name, images) if name.endswith("npy") else np.savez(tmp_path / name, images=images)
    found = images_of(PictureFolder(folders=(tmp_path / name,)))
    expected = [np.asarray(Image.fromarray(image).resize((54, 36), Image.Resampling.BILINEAR)) for image in images]
    assert len(found) == 3 and all(map(np.array_equal, found, expected))


def test_sources_of_all_kinds_follow_each_other(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.full((2, 36, 36, 3), 7, np.uint8))
    sources = (tmp_path / "two.npy", zipped(folder, tmp_path / "some.zip"), folder)
    mixing_set = PictureFolder(folders=sources)
    found = images_of(mixing_set)
    assert len(found) == 10 and found[1].max() == 7 and np.array_equal(found[2], found[6])
    assert mixing_set.label("folder") == "two+some+pictures"
    assert mixing_set.version() != PictureFolder(folders=sources[::-1]).version()


def test_a_version_follows_the_bytes_of_an_archive(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "some.zip")
    version = PictureFolder(folders=(archive,)).version()
    moved = archive.rename(tmp_path / "moved.zip")
    assert PictureFolder(folders=(moved,)).version() == version
    assert PictureFolder(folders=(zipped(folder, tmp_path / "more.zip", **{"x.png": png()}),)).version() != version


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.zip", None, "there is no file .*missing.zip"),
        ("broken.zip", b"no zip file", "cannot read the zip file .*broken.zip"),
        ("broken.npy", b"no array", "cannot be read as an array file"),
        ("file.tar", b"some", "is neither a folder nor a file .zip, .npy or .npz"),
        ("missing", None, "there is no folder"),
    ],
)
def test_other_sources_are_errors(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        PictureFolder(folders=(tmp_path / name,)).pictures(36)
    one_line(caught)


def test_a_zip_file_without_pictures_is_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as out:
        out.writestr("notes.txt", "none")
    with pytest.raises(DataError, match=r"no pictures in the zip file .*empty\.zip: members must end in png"):
        PictureFolder(folders=(tmp_path / "empty.zip",)).pictures(36)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_picture_of_too_many_pixels_in_a_zip_file_is_refused(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "bomb.zip", **{"huge.png": bomb(60_000, 60_000)})
    with pytest.raises(DataError, match=r"huge\.png in .*DecompressionBomb.*1 of 5 pictures"):
        PictureFolder(folders=(archive,)).pictures(36)


def test_a_member_that_unpacks_to_too_much_is_refused_unread(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmix_ray.mixing_sets.sources.LARGEST_MEMBER", 50_000)
    archive = zipped(folder, tmp_path / "bomb.zip", **{"huge.png": bytes(10_000_000)})  # 10 KB in the archive
    with pytest.raises(DataError, match=r"'huge\.png' in .* is larger than 50000 bytes"):
        PictureFolder(folders=(archive,)).pictures(36)


def break_some(folder: Path) -> None:
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "d.png").write_bytes(png()[:-40])


def test_by_default_an_unreadable_picture_is_an_error_that_counts_them_all(folder: Path, tmp_path: Path) -> None:
    break_some(folder)
    for source in (folder, zipped(folder, tmp_path / "some.zip")):
        with pytest.raises(DataError, match=r"c\.png.*2 of 6 pictures cannot be decoded: skip_unreadable") as caught:
            PictureFolder(folders=(source,)).pictures(36)
        one_line(caught)


def test_unreadable_pictures_are_left_out_counted_and_named_every_time(folder: Path, tmp_path: Path) -> None:
    whole = images_of(PictureFolder(folders=(folder,)))
    break_some(folder)
    for source in (folder, zipped(folder, tmp_path / "some.zip")):
        mixing_set = PictureFolder(folders=(source,), skip_unreadable=True)
        for _ in range(2):  # made, and opened
            with pytest.warns(
                UserWarning, match=r"left out 2 pictures of .* which cannot be decoded: .*c\.png.*d\.png"
            ):
                found = images_of(mixing_set)
            assert len(found) == 4 and all(map(np.array_equal, found, whole))
        manifest = read_manifest(entry_name(mixing_set.version(), 36))
        assert manifest is not None and len(manifest["unreadable"]) == 2


def test_what_was_made_without_the_unreadable_is_not_taken_where_they_are_an_error(folder: Path) -> None:
    break_some(folder)
    with pytest.warns(UserWarning, match="left out 2"):
        PictureFolder(folders=(folder,), skip_unreadable=True).pictures(36)
    with pytest.raises(DataError, match="2 of 6"):
        PictureFolder(folders=(folder,)).pictures(36)


def test_no_warning_where_all_can_be_read(folder: Path) -> None:
    with warnings.catch_warnings(action="error"):
        assert len(PictureFolder(folders=(folder,), skip_unreadable=True).pictures(36)) == 4


def test_a_folder_of_unreadable_pictures_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"none of the 1 pictures can be decoded; cannot decode .*c\.png"):
        PictureFolder(folders=(tmp_path,), skip_unreadable=True).pictures(36)


def test_a_count_takes_evenly_spaced_pictures(tmp_path: Path) -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 36, 36, 3), np.uint8)
    np.save(tmp_path / "ten.npy", images)
    found = images_of(PictureFolder(folders=(tmp_path / "ten.npy",), count=4))
    assert [image[0, 0, 0] for image in found] == [0, 2, 5, 7]  # floor(i * 10 / 4)
    versions = {PictureFolder(folders=(tmp_path / "ten.npy",), count=count).version() for count in (None, 4, 5)}
    assert len(versions) == 3


def test_fewer_pictures_than_the_count_are_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"pictures: there are 4 pictures, fewer than count = 5: lower it") as caught:
        PictureFolder(folders=(folder,), count=5).pictures(36)
    one_line(caught)
    break_some(folder)
    with pytest.raises(DataError, match="there are 4 pictures, fewer than count = 5"):  # of those that can be read
        PictureFolder(folders=(folder,), count=5, skip_unreadable=True).pictures(36)


def test_the_manifest_says_what_was_asked_for(folder: Path) -> None:
    mixing_set = PictureFolder(folders=(folder,), count=2)
    mixing_set.pictures(36)
    manifest = read_manifest(entry_name(mixing_set.version(), 36))
    assert manifest is not None and manifest["unreadable"] == []
    assert manifest["settings"]["count"] == 2 and manifest["version"] == mixing_set.version()
