"""Encoded pictures by their places: paths as text in an array, and runs of bytes in large files."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pixmix_ray.datasets.encoded import EncodedFiles, EncodedRanges, EncodedSet, PathList
from pixmix_ray.errors import DataError

NAMES = ["a/1.png", "b/ü ber\n.png", "b/\udcff.png", "c.png"]


def test_a_list_of_paths_is_a_list_of_paths() -> None:
    folder = Path("/data/train")
    paths = [folder / name for name in NAMES]
    listed = PathList.of(folder, iter(paths))
    assert list(listed) == paths
    assert (len(listed), listed[-1], listed[1:3], listed[2]) == (4, paths[-1], paths[1:3], paths[2])
    for place in (4, -5):
        with pytest.raises(IndexError):
            listed[place]
    assert list(pickle.loads(pickle.dumps(listed))) == paths  # our own
    assert list(PathList.of(folder, [])) == []


def test_runs_of_bytes_are_read_where_they_lie(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    files[0].write_bytes(b"0123456789")
    files[1].write_bytes(b"abcdef")
    pictures = EncodedRanges(files=files, file=np.array([1, 0, 0]), start=np.array([2, 0, 8]), size=np.array([3, 4, 5]))
    assert [pictures.read(place) for place in (0, 1)] == [b"cde", b"0123"]
    with pytest.raises(DataError, match="a at byte 8 ends too early: fetch it again"):
        pictures.read(2)
    files[1].unlink()
    with pytest.raises(DataError, match=r"cannot read .*b at byte 2: No such file or directory"):
        pictures.read(0)


def test_a_set_may_be_some_of_the_pictures() -> None:
    whole = EncodedSet(pictures=EncodedFiles([]), labels=np.array([3, 4, 5, 6]))
    some = EncodedSet(pictures=EncodedFiles([]), labels=whole.labels, rows=np.array([0, 2]))
    assert (len(whole), len(some)) == (4, 2)
    assert some.labels_of(np.array([1, 0])).tolist() == [5, 3]
    assert some.places(np.array([1])).tolist() == [2]
