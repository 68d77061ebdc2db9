"""The files of CIFAR's "python version": their names and MD5s, and how to read one without trusting it.

A batch is a pickled dictionary with `data`, (N, 3072) uint8, a picture in each row, red plane first, then green, then
blue; and `labels` (CIFAR-10) or `fine_labels` (CIFAR-100), N numbers. The published files were pickled by Python 2, so
their keys are bytes; rewritten ones may have strings. The published batches have 10,000 or 50,000 rows; any number
above 0 is read.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.errors import DataError

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
