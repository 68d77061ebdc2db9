"""CIFAR in its published layout, on small files that the tests write; and what happens with broken and hostile ones."""

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray

from pixmix_ray.datasets import Cifar10, Cifar100, DataVersionWarning
from pixmix_ray.datasets.cifar import CIFAR10, CIFAR100, Layout, read_batch
from pixmix_ray.errors import DataError, RequestError

ROWS = 4
DATASETS = {"cifar10": (Cifar10, CIFAR10), "cifar100": (Cifar100, CIFAR100)}
VARIANTS = pytest.mark.parametrize(("dataset", "layout"), DATASETS.values(), ids=DATASETS)
ignore_version = pytest.mark.filterwarnings("ignore::pixmix_ray.datasets.DataVersionWarning")


def random_rows(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (ROWS, 3072), dtype=np.uint8)


def write(file: Path, entry: object, protocol: int = 2) -> None:
    file.write_bytes(pickle.dumps(entry, protocol=protocol))


def write_layout(
    root: Path, layout: Layout, key: Callable[[str], Any] = str.encode, protocol: int = 2
) -> dict[str, NDArray[np.uint8]]:
    """The folder of `layout` below `root`, and the rows of each batch; file i has the labels i, i + 1, ..."""
    folder = root / layout.folder
    folder.mkdir()
    rows = {name: random_rows(seed) for seed, name in enumerate([*layout.train_files, layout.test_file])}
    for first, (name, data) in enumerate(rows.items()):
        labels = [(first + row) % layout.num_classes for row in range(ROWS)]
        write(folder / name, {key("data"): data, key(layout.labels_key): labels, key("extra"): [b"x.png"]}, protocol)
    names = [key(f"class {number}") for number in range(layout.num_classes)]
    write(folder / layout.meta_file, {key(layout.names_key): names}, protocol)
    return rows


@ignore_version
@VARIANTS
@pytest.mark.parametrize("key", [str.encode, str], ids=["bytes", "text"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_the_published_layout_is_read(
    dataset: type[Cifar10] | type[Cifar100],
    layout: Layout,
    key: Callable[[str], Any],
    protocol: int,
    tmp_path: Path,
) -> None:
    rows = write_layout(tmp_path, layout, key, protocol)
    data = dataset(root=tmp_path).load()
    assert data.train_images.shape == (ROWS * len(layout.train_files), 32, 32, 3)
    assert data.class_names == tuple(f"class {number}" for number in range(layout.num_classes))
    assert data.train_labels[:ROWS].tolist() == [0, 1, 2, 3]
    # By the definition of the layout: a row is the red plane, then the green, then the blue, each row by row.
    first, test = rows[layout.train_files[0]], rows[layout.test_file]
    assert data.train_images[1, 2, 3].tolist() == [first[1, channel * 1024 + 2 * 32 + 3] for channel in range(3)]
    assert data.test_images[3, 31, 0].tolist() == [test[3, channel * 1024 + 31 * 32] for channel in range(3)]


@ignore_version
def test_training_batches_are_joined_in_order(tmp_path: Path) -> None:
    rows = write_layout(tmp_path, CIFAR10)
    images = Cifar10(root=tmp_path).load().train_images
    assert images[ROWS * 4, 0, 0, 0] == rows["data_batch_5"][0, 0]


@ignore_version
@VARIANTS
def test_root_may_be_the_folder_itself(dataset: type[Cifar10] | type[Cifar100], layout: Layout, tmp_path: Path) -> None:
    write_layout(tmp_path, layout)
    outer, inner = dataset(root=tmp_path), dataset(root=tmp_path / layout.folder)
    assert inner.version() == outer.version()


@VARIANTS
def test_files_that_are_not_the_published_ones_are_named_so(
    dataset: type[Cifar10] | type[Cifar100], layout: Layout, tmp_path: Path
) -> None:
    write_layout(tmp_path, layout)
    with pytest.warns(DataVersionWarning, match="are not the published ones by MD5") as caught:
        version = dataset(root=tmp_path).version()
    assert version.startswith(f"{layout.name}-") and len(version) == len(layout.name) + 13
    assert "\n" not in str(caught[0].message) and version in str(caught[0].message)


@ignore_version
def test_another_content_is_another_version(tmp_path: Path) -> None:
    write_layout(tmp_path, CIFAR10)
    before = Cifar10(root=tmp_path).version()
    write(tmp_path / CIFAR10.folder / "test_batch", {b"data": random_rows(9), b"labels": [0] * ROWS})
    assert Cifar10(root=tmp_path).version() != before


def test_the_published_files_are_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layout(tmp_path, CIFAR100)
    published = np.array([list(bytes.fromhex(md5)) for md5 in CIFAR100.md5s.values()], dtype=np.uint8)
    monkeypatch.setattr("pixmix_ray.datasets.cifar.file_md5s", lambda files: published)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Cifar100(root=tmp_path).version() == "cifar100-official"


@VARIANTS
def test_published_md5s_are_those_that_torchvision_knows(dataset: object, layout: Layout) -> None:
    theirs = getattr(torchvision.datasets, layout.torchvision_name)
    known = dict(theirs.train_list + theirs.test_list) | {theirs.meta["filename"]: theirs.meta["md5"]}
    assert known == layout.md5s
    assert (theirs.base_folder, theirs.meta["key"]) == (layout.folder, layout.names_key)


class Hostile:
    """Runs a command when it is unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    file, target = tmp_path / "data_batch_1", tmp_path / "was_run"
    write(file, {b"data": random_rows(0), b"labels": Hostile(target)})
    with pytest.raises(DataError, match=r"data_batch_1 .*system, which is not part of a data set"):
        read_batch(CIFAR10, file)
    assert not target.exists()
    pickle.loads(file.read_bytes())  # what the test is worth: careless unpickling does run it
    assert target.exists()


DATA = random_rows(0)
LABELS = [0, 1, 2, 3]
BROKEN: dict[str, tuple[object, str]] = {
    "no data": ({b"labels": LABELS}, "the key 'data' is missing, there are labels"),
    "no labels": ({b"data": DATA}, "the key 'labels' is missing"),
    "other labels": ({b"data": DATA, b"fine_labels": LABELS}, "the key 'labels' is missing"),
    "a list": ([DATA, LABELS], "it contains a list, not a dictionary"),
    "short rows": ({b"data": DATA[:, :3000], b"labels": LABELS}, r"got uint8 \(4, 3000\), 4 labels"),
    "pictures": ({b"data": DATA.reshape(4, 3, 32, 32), b"labels": LABELS}, r"got uint8 \(4, 3, 32, 32\)"),
    "floats": ({b"data": DATA / 255, b"labels": LABELS}, r"got float64 \(4, 3072\)"),
    "fewer labels": ({b"data": DATA, b"labels": LABELS[:3]}, r"\(4, 3072\), 3 labels"),
    "no rows": ({b"data": DATA[:0], b"labels": []}, r"\(0, 3072\), 0 labels"),
    "a list of rows": ({b"data": DATA.tolist(), b"labels": LABELS}, "got list, 4 labels"),
    "label too large": ({b"data": DATA, b"labels": [0, 1, 2, 10]}, r"in \[0, 9\], got 10"),
    "label negative": ({b"data": DATA, b"labels": [0, -1, 2, 3]}, r"in \[0, 9\], got -1"),
    "label a boolean": ({b"data": DATA, b"labels": [0, True, 2, 3]}, r"in \[0, 9\], got True"),
    "labels of floats": ({b"data": DATA, b"labels": np.array([0.0, 1.5, 2, 3])}, r"in \[0, 9\], got 0.0"),
    "one-hot labels": ({b"data": DATA, b"labels": np.eye(4, dtype=int)}, r"in \[0, 9\], got \[1, 0, 0, 0\]"),
    "label a text": ({b"data": DATA, b"labels": [0, 1, "cat", 3]}, r"in \[0, 9\], got 'cat'"),
}


@pytest.mark.parametrize(("entry", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_batch_is_an_error_that_names_the_file_and_what_is_wrong(
    entry: object, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "data_batch_3"
    write(file, entry, protocol=4)
    with pytest.raises(DataError, match=message) as caught:
        read_batch(CIFAR10, file)
    assert str(file) in str(caught.value) and "replace it" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [np.array(LABELS), np.array(LABELS, np.uint8), [np.int64(one) for one in LABELS]])
def test_labels_may_be_whole_numbers_of_numpy(labels: object, tmp_path: Path) -> None:
    write(tmp_path / "data_batch_3", {b"data": DATA, b"labels": labels}, protocol=4)
    assert read_batch(CIFAR10, tmp_path / "data_batch_3")[1].tolist() == LABELS


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1])
def test_a_truncated_batch_is_an_error(keep: int, tmp_path: Path) -> None:
    file = tmp_path / "data_batch_3"
    write(file, {b"data": DATA, b"labels": LABELS})
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match="data_batch_3"):
        read_batch(CIFAR10, file)


def test_damaged_batches_raise_nothing_but_data_errors(tmp_path: Path) -> None:
    file = tmp_path / "data_batch_3"
    write(file, {b"data": DATA[:1], b"labels": [1]})
    whole, generator = file.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[int(generator.integers(0, 200))] = int(generator.integers(0, 256))  # the head, where the structure is
        file.write_bytes(damaged)
        try:
            images, _ = read_batch(CIFAR10, file)
            assert images.shape == (1, 32, 32, 3)
        except DataError as error:
            assert str(file) in str(error)


@ignore_version
@pytest.mark.parametrize("names", [["cat"], "cat", [1] * 10, None])
def test_wrong_names_of_classes_are_an_error(names: object, tmp_path: Path) -> None:
    write_layout(tmp_path, CIFAR10)
    write(tmp_path / CIFAR10.folder / "batches.meta", {b"label_names": names})
    with pytest.raises(DataError, match=r"batches\.meta .*must be 10 names"):
        Cifar10(root=tmp_path).load()


def test_a_missing_folder_and_a_missing_batch_are_errors_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"batches\.meta is missing: set root .* or set download: true"):
        Cifar10(root=tmp_path).load()
    write_layout(tmp_path, CIFAR10)
    (tmp_path / CIFAR10.folder / "data_batch_2").unlink()
    with pytest.raises(DataError, match="data_batch_2"):
        Cifar10(root=tmp_path).version()


@VARIANTS
def test_neither_root_nor_download_is_an_error(dataset: type[Cifar10] | type[Cifar100], layout: Layout) -> None:
    with pytest.raises(RequestError, match=r"dataset cifar10+ needs root: .* or set download: true"):
        dataset.read({}, f"dataset {layout.name}")


def test_where_the_files_lie_is_no_part_of_the_identity(tmp_path: Path) -> None:
    assert Cifar10(root=tmp_path).identity() == Cifar10(download=True).identity() == {"train_limit": None}


@ignore_version
def test_download_is_used_where_the_files_are_missing_and_there_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def fake(root: Path, download: bool) -> None:
        assert download
        calls.append(root)
        write_layout(root, CIFAR10)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fake)
    for _ in range(2):
        assert len(Cifar10(root=tmp_path / "new", download=True).load().test_images) == ROWS
    assert calls == [tmp_path / "new"]


def test_a_failed_download_is_an_error_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(root: Path, download: bool) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", fake)
    with pytest.raises(DataError, match=r"cannot download cifar100 to .* \(no route to host\): download it by hand"):
        Cifar100(root=tmp_path, download=True).load()


@ignore_version
def test_a_second_load_reads_no_batch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layout(tmp_path, CIFAR10)
    first = Cifar10(root=tmp_path, train_limit=7).load()
    monkeypatch.setattr("pixmix_ray.datasets.cifar.read_batch", None)
    second = Cifar10(root=tmp_path, train_limit=7).load()
    assert np.array_equal(first.train_images, second.train_images) and len(second.train_images) == 7


@ignore_version
@VARIANTS
def test_the_number_of_pictures_is_known_of_the_published_files_alone(
    dataset: type[Cifar10] | type[Cifar100], layout: Layout, tmp_path: Path
) -> None:
    assert dataset(root=tmp_path, download=True).num_train_images() == 50_000  # of those that it would fetch
    write_layout(tmp_path, layout)
    found = dataset(root=tmp_path)
    assert found.num_train_images() is None
    assert found.height() == found.load().train_images.shape[1]


@ignore_version
@VARIANTS
def test_a_file_that_is_there_twice_is_refused(
    dataset: type[Cifar10 | Cifar100], layout: Layout, tmp_path: Path
) -> None:
    write_layout(tmp_path, layout)
    folder = tmp_path / layout.folder
    (folder / layout.test_file).write_bytes((folder / layout.train_files[0]).read_bytes())
    with pytest.raises(DataError, match=rf"{layout.test_file} is the same file as {layout.train_files[0]}: unpack"):
        dataset(root=tmp_path).load()
