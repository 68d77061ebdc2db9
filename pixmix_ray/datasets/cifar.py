"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their published layout, the "python version".

https://www.cs.toronto.edu/~kriz/cifar.html. The files are pickles; they are read by an unpickler that admits nothing
but NumPy arrays, so a file from a stranger cannot run code. Files other than the published ones (subsets, copies that
went through another format) are read too, with a warning, and the version says so.

A batch is a pickled dictionary with `data`, (N, 3072) uint8, a picture in each row, red plane first, then green, then
blue; and `labels` (CIFAR-10) or `fine_labels` (CIFAR-100), N numbers. The published files were pickled by Python 2, so
their keys are bytes; rewritten ones may have strings. The published batches have 10,000 or 50,000 rows; any number
above 0 is read.
"""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import model_validator

from pixmix_ray.cache import cache_folder, private_folder
from pixmix_ray.datasets.base import DATASETS, Dataset, DataVersionWarning, ImageData, load_cached
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.listing import packed
from pixmix_ray.errors import DataError, RequestError, one_line
from pixmix_ray.settings import DataPath

SHAPE = (3, 32, 32)
# What the unpickler raises for broken or foreign files.
UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    OSError,
    EOFError,
    AttributeError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    MemoryError,
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where one variant keeps what; `md5s` holds every file of it with the published MD5."""

    name: str
    torchvision_name: str
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    meta_file: str
    labels_key: str
    names_key: str
    num_classes: int
    md5s: Mapping[str, str]


CIFAR10 = Layout(
    name="cifar10",
    torchvision_name="CIFAR10",
    folder="cifar-10-batches-py",
    train_files=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test_file="test_batch",
    meta_file="batches.meta",
    labels_key="labels",
    names_key="label_names",
    num_classes=10,
    md5s={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
)

CIFAR100 = Layout(
    name="cifar100",
    torchvision_name="CIFAR100",
    folder="cifar-100-python",
    train_files=("train",),
    test_file="test",
    meta_file="meta",
    labels_key="fine_labels",
    names_key="fine_label_names",
    num_classes=100,
    md5s={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
)


def read_batch(layout: Layout, file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (N, 32, 32, 3) uint8 and labels (N,) int64 of one batch file; raises DataError if it is broken."""
    entry = _unpickle(file)
    data, labels = _value(entry, "data", file), _value(entry, layout.labels_key, file)
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    rows = len(labels) if isinstance(labels, list) else 0
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (rows, 3072) or not rows:
        raise _broken(
            file, f"data must be uint8 of shape (N, 3072) with N labels, got {_shape_and_type(data)}, {rows} labels"
        )
    wrong = [label for label in labels if not _is_class(label, layout.num_classes)]
    if wrong:
        raise _broken(file, f"labels must be whole numbers in [0, {layout.num_classes - 1}], got {wrong[0]!r:.40}")
    images = np.ascontiguousarray(data.reshape(-1, *SHAPE).transpose(0, 2, 3, 1))
    return images, np.array(labels, dtype=np.int64)


def _is_class(label: object, num_classes: int) -> bool:
    return isinstance(label, int | np.integer) and not isinstance(label, bool) and bool(0 <= label < num_classes)


def read_names(layout: Layout, file: Path) -> tuple[str, ...]:
    """The names of the classes in the order of the labels; raises DataError if the file is broken."""
    names = _value(_unpickle(file), layout.names_key, file)
    texts = [_text(name) for name in names] if isinstance(names, list) else []
    if len(texts) != layout.num_classes or not all(isinstance(text, str) for text in texts):
        raise _broken(file, f"{layout.names_key} must be {layout.num_classes} names, got {names!r:.60}")
    return tuple(str(text) for text in texts)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 spells bytes in old pickle protocols; the real `_codecs.encode` would import codecs by name."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
    return text.encode("latin1")


def _allowed_globals() -> dict[tuple[str, str], Any]:
    """What a pickled array names, old and new spelling. Taken from arrays, since NumPy 2 moved the functions."""
    array = np.zeros(1)
    functions = {
        ("multiarray", "_reconstruct"): array.__reduce__()[0],
        ("multiarray", "scalar"): np.float64(0).__reduce__()[0],
        ("numeric", "_frombuffer"): array.__reduce_ex__(5)[0],
    }
    spelled = {(f"numpy.{core}.{m}", name): f for (m, name), f in functions.items() for core in ("core", "_core")}
    return {**spelled, ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _latin1}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows containers, numbers, text and NumPy arrays, and refuses to look up anything else."""

    admitted = _allowed_globals()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of a data set")
        return self.admitted[module, name]


def _unpickle(file: Path) -> dict[Any, Any]:
    """The dictionary in a file, its keys as strings."""
    try:
        with file.open("rb") as stream:
            entry = _ArraysOnly(stream, encoding="bytes").load()
    except UNPICKLING_ERRORS as error:
        raise _broken(file, " ".join(f"{type(error).__name__}: {error}".split())) from error
    if not isinstance(entry, dict):
        raise _broken(file, f"it contains a {type(entry).__name__}, not a dictionary")
    return {_text(key): value for key, value in entry.items()}


def _value(entry: Mapping[Any, Any], key: str, file: Path) -> Any:
    if key not in entry:
        raise _broken(file, f"the key {key!r} is missing, there are {', '.join(map(str, entry)) or 'none'}")
    return entry[key]


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _shape_and_type(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _broken(file: Path, reason: str) -> DataError:
    return DataError(f"cannot read {file} ({reason}): replace it by the file of the published python version")


HEIGHT, NUM_TRAIN = 32, 50_000
Source = TypeVar("Source", "Cifar10", "Cifar100")


def _check_source(dataset: Source) -> Source:
    if dataset.root is None and not dataset.download:
        name = type(dataset).__name__.lower()
        raise RequestError(f"dataset {name} needs root: give the folder with the python batches, or set download: true")
    return dataset


@DATASETS.add("cifar10")
class Cifar10(Dataset):
    """CIFAR-10: 50,000 + 10,000 pictures of 32x32 in 10 classes.

    Attributes:
        root: the folder `cifar-10-batches-py`, or the one that holds it.
        download: fetch the files if they are not there, to `root` or else into the cache.
    """

    summary: ClassVar[str] = "CIFAR-10, 10 classes, 50,000 + 10,000 photographs of 32x32; set root or download"
    location: ClassVar[frozenset[str]] = frozenset({"root", "download"})
    root: DataPath | None = None
    download: bool = False
    check_source = model_validator(mode="after")(_check_source)

    def version(self) -> str:
        """`cifar10-official`; for other files, with a warning, `cifar10-` and 12 hexadecimal digits of them."""
        return _planned_version(CIFAR10, self.root, self.download)

    def num_train_images(self) -> int | None:
        """50,000 if the files are the published ones."""
        return _num_train_images(self.version())

    def height(self) -> int:
        """32."""
        return HEIGHT

    def load(self) -> ImageData:
        """The pictures; raises DataError if a file is missing or broken."""
        return _load(CIFAR10, _folder(CIFAR10, self.root, self.download), self.train_limit)


@DATASETS.add("cifar100")
class Cifar100(Dataset):
    """CIFAR-100: 50,000 + 10,000 pictures of 32x32 in 100 (fine) classes.

    Attributes:
        root: the folder `cifar-100-python`, or the one that holds it.
        download: fetch the files if they are not there, to `root` or else into the cache.
    """

    summary: ClassVar[str] = "CIFAR-100, 100 classes, 50,000 + 10,000 photographs of 32x32; set root or download"
    location: ClassVar[frozenset[str]] = frozenset({"root", "download"})
    root: DataPath | None = None
    download: bool = False
    check_source = model_validator(mode="after")(_check_source)

    def version(self) -> str:
        """`cifar100-official`; for other files, with a warning, `cifar100-` and 12 hexadecimal digits of them."""
        return _planned_version(CIFAR100, self.root, self.download)

    def num_train_images(self) -> int | None:
        """50,000 if the files are the published ones."""
        return _num_train_images(self.version())

    def height(self) -> int:
        """32."""
        return HEIGHT

    def load(self) -> ImageData:
        """The pictures; raises DataError if a file is missing or broken."""
        return _load(CIFAR100, _folder(CIFAR100, self.root, self.download), self.train_limit)


def _folder(layout: Layout, root: Path | None, download: bool) -> Path:
    """The folder with the batch files, filled if it may be."""
    base = root or cache_folder() / "downloads"
    for folder in (base, base / layout.folder):
        if (folder / layout.meta_file).is_file():
            return folder
    if (file := packed(base)) is not None:
        raise DataError(f"{file} is a file and not a folder: unpack it, and give the folder")
    if download:
        return _download(layout, base)
    raise DataError(
        f"{base / layout.folder / layout.meta_file} is missing: set root to the folder that contains {layout.folder}, "
        "or set download: true"
    )


def _download(layout: Layout, base: Path) -> Path:
    import torchvision.datasets  # here: slow to import, and needed for this alone

    try:
        if base.is_relative_to(cache_folder()):
            private_folder(base)
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / f".{layout.name}.lock"):
            getattr(torchvision.datasets, layout.torchvision_name)(base, download=True)
    except (OSError, RuntimeError) as error:
        reason = one_line(error)
        raise DataError(
            f"cannot download {layout.name} to {base} ({reason}): download it by hand and set root"
        ) from error
    return base / layout.folder


def _planned_version(layout: Layout, root: Path | None, download: bool) -> str:
    """The version of the files that are there, or of those that a download would bring; fetches nothing."""
    try:
        return _version(layout, _folder(layout, root, download=False))
    except DataError:
        if download:
            return f"{layout.name}-official"
        raise


def _num_train_images(version: str) -> int | None:
    return NUM_TRAIN if version.endswith("-official") else None


def _version(layout: Layout, folder: Path) -> str:
    files = [folder / name for name in layout.md5s]
    md5s = file_md5s(files)
    others = [file for file, md5 in zip(files, md5s, strict=True) if md5.tobytes().hex() != layout.md5s[file.name]]
    if not others:
        return f"{layout.name}-official"
    digests = [md5.tobytes() for md5 in md5s]
    if twice := next((place for place, digest in enumerate(digests) if digest in digests[:place]), 0):
        first = files[digests.index(digests[twice])]
        raise DataError(f"{files[twice]} is the same file as {first.name}: unpack the published archive again")
    version = f"{layout.name}-{combined(md5s)}"
    warnings.warn(
        f"{len(others)} of {len(files)} files in {folder} are not the published ones by MD5, such as {others[0].name}: "
        f"the version is {version}, and numbers are not comparable with published ones",
        DataVersionWarning,
        stacklevel=3,
    )
    return version


def _load(layout: Layout, folder: Path, train_limit: int | None) -> ImageData:
    version = _version(layout, folder)
    return load_cached(version, train_limit, lambda: _decode(layout, folder, version))


def _decode(layout: Layout, folder: Path, version: str) -> ImageData:
    train_images, train_labels = _joined(layout, folder, layout.train_files)
    test_images, test_labels = _joined(layout, folder, [layout.test_file])
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=read_names(layout, folder / layout.meta_file),
        version=version,
    )


def _joined(layout: Layout, folder: Path, names: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batches = [read_batch(layout, folder / name) for name in names]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])
