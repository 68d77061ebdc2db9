"""Published layouts of labelled pictures: each holds the same pictures, labels and names, resident and streamed."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from pixmix_ray.datasets import ImageFolder, ImageNet, Parquet, Places365, TinyImageNet, WebDataset, class_folders
from pixmix_ray.datasets.base import Dataset
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.datasets.on_disk import OnDiskDataset
from pixmix_ray.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:.* were published. numbers are not comparable")  # those here are few

WANTED = WNIDS[3:6]
SMALL: dict[str, Any] = {"size": 16, "resize": 16}
TRAIN, TEST = [2, 0, 1, 0, 2, 1, 1], [1, 2, 0, 0]  # labels


@dataclass(frozen=True)
class Sample:
    """An encoded picture and its label; its number is in its pixels."""

    number: int
    label: int

    @property
    def content(self) -> bytes:
        pixels = np.random.Generator(np.random.Philox(key=self.number)).integers(0, 256, (20, 17, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        return stream.getvalue()

    @property
    def square(self) -> list[Any]:
        """As it is to be decoded."""
        with Image.open(io.BytesIO(self.content)) as image:
            small = image.resize((16, int(16 * 20 / 17)), Image.Resampling.BILINEAR)
        return list(np.asarray(small.crop((0, 1, 16, 17))).tolist())


SAMPLES = {
    "train": [Sample(number, label) for number, label in enumerate(TRAIN)],
    "val": [Sample(100 + number, label) for number, label in enumerate(TEST)],
}


def _write(file: Path, content: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def _in_folders(folder: Path, samples: Sequence[Sample], inner: str = "") -> None:
    for sample in samples:
        _write(folder / WANTED[sample.label] / inner / f"{sample.number:03d}.JPEG", sample.content)


def _image_folder(root: Path) -> Dataset:
    for part, samples in SAMPLES.items():
        _in_folders(root / part, samples)
    return ImageFolder(root=root, **SMALL)


def _subset(root: Path) -> Dataset:
    _image_folder(root)
    _write(root / "train" / WNIDS[0] / "a.JPEG", SAMPLES["val"][0].content)  # a class that is not wanted
    _write(root / "val" / WNIDS[0] / "a.JPEG", SAMPLES["val"][0].content)
    _write(root / "classes.txt", "".join(f"{name} a name\n" for name in reversed(WANTED)))
    return ImageNet(root=root, classes=root / "classes.txt", **SMALL)


def _flat(root: Path) -> Dataset:
    _in_folders(root / "train", SAMPLES["train"])
    for place, sample in enumerate(SAMPLES["val"], 1):
        _write(root / "val" / f"ILSVRC2012_val_{place:08d}.JPEG", sample.content)
    _write(root / "classes.txt", "\n".join(WANTED))
    return ImageNet(root=root, classes=root / "classes.txt", **SMALL)


def _devkit(root: Path) -> Dataset:
    dataset, kit = _flat(root), root / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    synsets = np.array([(9 - n, name) for n, name in enumerate(WANTED)], [("ILSVRC2012_ID", int), ("WNID", "O")])
    savemat(kit / "meta.mat", {"synsets": synsets})
    _write(kit / "ILSVRC2012_validation_ground_truth.txt", "\n".join(str(9 - label) for label in TEST))
    return dataset


def _kaggle(root: Path) -> Dataset:
    dataset = _flat(root / "ILSVRC" / "Data" / "CLS-LOC")
    lines = [
        f"ILSVRC2012_val_{n:08d},{WANTED[label]} 1 2 3 4 {WANTED[label]} 5 6 7 8" for n, label in enumerate(TEST, 1)
    ]
    _write(root / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *lines]))
    return dataset


def _tiny(root: Path) -> Dataset:
    _in_folders(root / "train", SAMPLES["train"], "images")
    lines = []
    for sample in SAMPLES["val"]:
        _write(root / "val" / "images" / f"val_{sample.number}.JPEG", sample.content)
        lines.append(f"val_{sample.number}.JPEG\t{WANTED[sample.label]}\t0\t0\t62\t62")
    _write(root / "val" / "val_annotations.txt", "\n".join(lines))
    return TinyImageNet(root=root, **SMALL)


def _tiny_sorted(root: Path) -> Dataset:
    for part, samples in SAMPLES.items():
        _in_folders(root / part, samples, "images")
    return TinyImageNet(root=root, **SMALL)


def _places(root: Path, folders: tuple[str, str] = ("data_large_standard", "val_large"), **settings: Any) -> Dataset:
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for part, folder in zip(("train", "val"), folders, strict=True):
        for sample in SAMPLES[part]:
            name = f"/a/airfield/{sample.number}.jpg" if part == "train" else f"Places365_val_{sample.number}.jpg"
            _write(root / folder / name.lstrip("/"), sample.content)
            lines[part].append(f"{name} {sample.label}")
    _write(root / "places365_train_standard.txt", "\n".join(lines["train"]))
    _write(root / "places365_val.txt", "\n".join(lines["val"]))
    _write(root / "categories_places365.txt", "".join(f"/{name} {n}\n" for n, name in enumerate(WANTED)))
    return Places365(root=root, **SMALL, **settings)


def _tars(root: Path, *, as_json: bool = False) -> Dataset:
    for part, samples in SAMPLES.items():
        for shard in (0, 1):
            file = root / f"imagenet-{part}-{shard:06d}.tar"
            file.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(file, "w") as tar:
                for sample in samples[shard::2]:
                    about = json.dumps({"label": sample.label}) if as_json else str(sample.label)
                    key = f"./{WANTED[sample.label]}_{sample.number}"
                    extension = "json" if as_json else "cls"
                    for name, content in ((f"{key}.jpg", sample.content), (f"{key}.{extension}", about.encode())):
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    return WebDataset(root=root, **SMALL)


def _parquet(root: Path) -> Dataset:
    features = {"image": {"_type": "Image"}, "label": {"names": list(WANTED), "_type": "ClassLabel"}}
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    (root / "data").mkdir(parents=True)
    for part, name in (("train", "train"), ("val", "validation")):
        for shard in (0, 1):
            rows = [
                {"image": {"bytes": sample.content, "path": None}, "label": sample.label}
                for sample in SAMPLES[part][shard::2]
            ]
            table = pa.Table.from_pylist(rows, schema)
            pq.write_table(table, root / "data" / f"{name}-0000{shard}-of-00002.parquet", row_group_size=2)
    return Parquet(root=root, **SMALL)


Build = Callable[[Path], Dataset]
BY_CLASS = lambda samples: sorted(samples, key=lambda sample: (sample.label, sample.number))  # noqa: E731
AS_LISTED = lambda samples: list(samples)  # noqa: E731
IN_SHARDS = lambda samples: [*samples[::2], *samples[1::2]]  # noqa: E731
NUMBERS = ("0", "1", "2")

LAYOUTS: dict[str, tuple[Build, Callable[[Sequence[Sample]], list[Sample]], tuple[str, ...]]] = {
    "folders": (_image_folder, BY_CLASS, WANTED),
    "subset": (_subset, BY_CLASS, WANTED),
    "devkit": (_devkit, BY_CLASS, WANTED),
    "kaggle": (_kaggle, BY_CLASS, WANTED),
    "tiny": (_tiny, BY_CLASS, WANTED),
    "tiny, sorted": (_tiny_sorted, BY_CLASS, WANTED),
    "places": (_places, AS_LISTED, WANTED),
    "places, small": (lambda root: _places(root, ("data_256", "val_256"), small=True), AS_LISTED, WANTED),
    "tars": (_tars, IN_SHARDS, NUMBERS),
    "tars, json": (lambda root: _tars(root, as_json=True), IN_SHARDS, NUMBERS),
    "parquet": (_parquet, IN_SHARDS, WANTED),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_holds_the_pictures_labels_and_names_that_it_was_made_of(layout: str, tmp_path: Path) -> None:
    build, order, names = LAYOUTS[layout]
    dataset = build(tmp_path)
    assert isinstance(dataset, OnDiskDataset)
    streamed = dataset.model_copy(update={"streamed": True}).load()
    for data in (dataset.load(), streamed):
        assert data.class_names == names
        assert data.version == dataset.version()
        assert data.train_labels.tolist() == [sample.label for sample in order(SAMPLES["train"])]
        assert data.train_labels.dtype == data.test_labels.dtype == np.int64
        assert data.some_train_images(99).tolist() == [sample.square for sample in order(SAMPLES["train"])]
        assert data.test_labels.tolist() == [sample.label for sample in order(SAMPLES["val"])]
        assert data.test_images.tolist() == [sample.square for sample in order(SAMPLES["val"])]
    assert dataset.num_train_images() == len(TRAIN)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_picture_or_another_label_makes_another_version(layout: str, tmp_path: Path) -> None:
    build, _, _ = LAYOUTS[layout]
    first, before = build(tmp_path / "first"), list(SAMPLES["train"])
    try:
        SAMPLES["train"][1] = Sample(55, before[1].label)
        picture = build(tmp_path / "picture")
        SAMPLES["train"][1] = Sample(before[1].number, 2)
        label = build(tmp_path / "label")
    finally:
        SAMPLES["train"][:] = before
    assert build(tmp_path / "again").version() == first.version()
    assert len({dataset.version() for dataset in (first, picture, label)}) == 3


@pytest.mark.parametrize(
    ("layout", "lost", "message"),
    [
        ("devkit", "ILSVRC2012_devkit_t12", "no classes of them: put the folder ILSVRC2012_devkit_t12 or Kaggle's"),
        ("devkit", "ILSVRC2012_devkit_t12/data/meta.mat", "cannot read meta.mat"),
        ("places", "val_large", "val_large is missing: unpack the archive"),
        ("places", "categories_places365.txt", "categories_places365.txt"),
        ("tiny", "val/images/val_101.JPEG", "val_101.JPEG: No such file"),
        ("tars", "imagenet-val-000000.tar imagenet-val-000001.tar", r"no archives .*\*val\*.tar"),
        ("parquet", "data/validation-00000-of-00002.parquet data/validation-00001-of-00002.parquet", "no files"),
        ("subset", "classes.txt", "cannot read .*classes.txt"),
        ("subset", f"train/{WANTED[1]}", f"has no folder '{WANTED[1]}'"),
    ],
)
def test_what_is_missing_is_named(layout: str, lost: str, message: str, tmp_path: Path) -> None:
    dataset = LAYOUTS[layout][0](tmp_path)
    for name in lost.split():
        (tmp_path / name).rename(tmp_path / "lost")
    with pytest.raises(DataError, match=message):
        dataset.load()


def _tar(root: Path, members: Mapping[str, bytes]) -> WebDataset:
    with tarfile.open(root / "val.tar", "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return WebDataset(root=root, train=None, **SMALL)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.cls", b"cat", "the class of a in .*val.tar is 'cat': it must be a whole number from 0 to 32767"),
        ("a.cls", b"1.7", "is 1.7: it must be a whole number"),
        ("a.cls", b"true", "is True: it must be a whole number"),
        ("a.cls", b"-1", "is -1: it must be a whole number"),
        ("a.cls", b"1000000000000", "is 1000000000000: it must be"),
        ("a.json", b'{"label": [0, 0, 1]}', r"is \[0, 0, 1\]: it must be"),
        ("a.json", b"[" * 100_000, "it must be a whole number"),
        ("b.cls", b"0", "has no class for a: a number in a .cls beside it"),
    ],
)
def test_a_class_in_an_archive_is_a_whole_number(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    dataset = _tar(tmp_path, {"a.jpg": SAMPLES["val"][0].content, name: content})
    with pytest.raises(DataError, match=message) as caught:
        dataset.load()
    assert str(caught.value).isprintable()


def test_one_class_alone_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has a single class, '0', and needs at least two"):
        _tar(tmp_path, {"a.jpg": SAMPLES["val"][0].content, "a.cls": b"0"}).load()


def test_a_table_of_paths_holds_no_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"path": "a.jpg"}], "label": [0]}), tmp_path / "val.parquet")
    with pytest.raises(DataError, match="does not contain the bytes of its pictures"):
        Parquet(root=tmp_path, train=None, **SMALL).load()


def test_an_archive_is_read_by_the_rule_of_folders_and_what_is_passed_over_is_said(tmp_path: Path) -> None:
    picture = SAMPLES["val"][0].content
    kept = {"a.jpg": picture, "a.cls": b"0", "b.JFIF": picture, "b.cls": b"1"}
    with_copies = {name: content for real, one in kept.items() for name, content in ((f"._{real}", b"x"), (real, one))}
    dataset = _tar(tmp_path, {**with_copies, "__MACOSX/c.jpg": picture, "d.txt": b"no picture", "d.cls": b"2"})
    for _ in range(2):  # also where the listing is known
        with pytest.warns(match="passed over 6 in .*: 4 hidden, 1 system, 1 without a picture"):
            assert dataset.test_split().labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "metadata", "message"),
    [
        ([0.0, 1.5], None, "has double in 'label': the class of each row must be a whole number"),
        ([0, None], None, "has rows without a class in 'label'"),
        (["cat", "dog"], None, "has string in 'label'"),
        ([True, False], None, "has bool in 'label'"),
        ([0, 1], "{broken", "cannot read the schema in .*val.parquet"),
        ([0, 1], "[]", "cannot read the schema in .*val.parquet"),
    ],
)
def test_a_class_in_a_table_is_a_whole_number(
    labels: list[Any], metadata: str | None, message: str, tmp_path: Path
) -> None:
    pictures = [{"bytes": sample.content} for sample in SAMPLES["val"][:2]]
    table = pa.table({"image": pictures, "label": labels})
    table = table if metadata is None else table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "val.parquet")
    with pytest.raises(DataError, match=message):
        Parquet(root=tmp_path, train=None, **SMALL).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no archive at all" * 99, "cannot read the archive"), (b"", "cannot read the archive")],
)
def test_an_archive_that_is_none_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    dataset = _tars(tmp_path)
    (tmp_path / "imagenet-val-000001.tar").write_bytes(content)
    with pytest.raises(DataError, match=f"{message} .*imagenet-val-000001.tar"):
        dataset.load()


def test_the_listing_of_a_large_set_is_kept_as_arrays_and_made_again_when_a_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _image_folder(tmp_path)
    (tmp_path / "train" / WANTED[0] / "notes.txt").touch()
    monkeypatch.setattr(class_folders, "MANY", 3)
    monkeypatch.setattr(class_folders, "SETTLED_NS", 0)
    with pytest.warns(match="passed over 1 in .*train that is not a picture: 1 .txt"):
        version = dataset.version()

    def none(*_: object) -> None:
        raise AssertionError("listed again")

    with monkeypatch.context() as patch:
        patch.setattr(class_folders, "_listing", none)
        with pytest.warns(match="passed over 1 in"):
            assert dataset.version() == version
    _write(tmp_path / "train" / WANTED[0] / "new.JPEG", SAMPLES["val"][0].content)
    with pytest.warns(match="passed over 1 in"):
        assert dataset.num_train_images() == len(TRAIN) + 1


def test_a_listing_with_folders_within_those_of_classes_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _tiny(tmp_path)
    monkeypatch.setattr(class_folders, "MANY", 3)
    monkeypatch.setattr(class_folders, "SETTLED_NS", 0)
    assert isinstance(dataset, TinyImageNet)
    assert dataset.num_train_images() == len(TRAIN)
    _write(tmp_path / "train" / WANTED[0] / "images" / "new.JPEG", SAMPLES["val"][0].content)
    assert dataset.num_train_images() == len(TRAIN) + 1


def test_of_many_files_a_sample_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixmix_ray.datasets.on_disk.MOST_HASHED", 2)
    monkeypatch.setattr("pixmix_ray.datasets.on_disk.MOST_HASHED_BYTES", 10)
    monkeypatch.setattr("pixmix_ray.datasets.on_disk.SAMPLED", 2)
    for number, build in enumerate((_image_folder, _tars)):
        first, again = build(tmp_path / f"{number}a"), build(tmp_path / f"{number}b")
        assert first.version() == again.version()
    changed = tmp_path / "0b" / "train" / WANTED[0] / "001.JPEG"
    content = changed.read_bytes()
    changed.write_bytes(content[::-1])  # the first of its class, and so in the sample
    assert ImageFolder(root=tmp_path / "0b", **SMALL).version() != ImageFolder(root=tmp_path / "0a", **SMALL).version()
