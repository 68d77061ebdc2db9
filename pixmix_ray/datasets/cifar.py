"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their published layout, the "python version".

https://www.cs.toronto.edu/~kriz/cifar.html. The files are pickles; they are read by an unpickler that admits nothing
but NumPy arrays, so a file from a stranger cannot run code. Files other than the published ones (subsets, copies that
went through another format) are read too, with a warning, and the version says so.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import model_validator

from pixmix_ray.cache import cache_folder, private_folder
from pixmix_ray.datasets.base import DATASETS, Dataset, DataVersionWarning, ImageData, load_cached
from pixmix_ray.datasets.cifar_files import CIFAR10, CIFAR100, Layout, read_batch, read_names
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.listing import packed
from pixmix_ray.errors import DataError, RequestError, one_line
from pixmix_ray.settings import DataPath

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
