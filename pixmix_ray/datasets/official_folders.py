"""Benchmark pictures as published for ImageNet: folders of JPEG files, and folders of videos.

ImageNet-C (Hendrycks and Dietterich, ICLR 2019; zenodo.org/record/2235448) lies in CORRUPTION/SEVERITY/WNID/FILE, with
severities 1 to 5; ImageNet-C-bar (Mintun et al., NeurIPS 2021) likewise, its severity folders named by its own numbers,
such as 0.80. ImageNet-P (zenodo.org/record/3565846) lies in PERTURBATION/WNID/FILE.mp4, the stronger noises of
difficulty 2 and 3 in PERTURBATION_2 and so on. The pictures are 224x224 already; as in the reference evaluation their
centre is cut out and nothing is resized, unless `resize` says so (the official PixMix code resizes them to 256 and cuts
224 out of that).

ImageNet-C is 3.75 million files. They are decoded a run at a time, and anew at every evaluation unless there is room to
keep all that an evaluation reads; decoded they are 565 GB. For the same reason the version hashes a sample of them.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.datasets.class_folders import ClassFolders, FilesOf, class_folders, class_names, video_files
from pixmix_ray.datasets.encoded import EncodedFiles
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.listing import PassedOver
from pixmix_ray.datasets.official_arrays import NUM_SEVERITIES
from pixmix_ray.datasets.picture_comparison import (
    SAMPLE_OF_FILES,
    check_corrupted,
    check_same_pictures,
    sample_places,
)
from pixmix_ray.datasets.picture_files import DECODING, in_threads, picture_files, squares
from pixmix_ray.errors import DataError, one_line

Images = NDArray[np.uint8]

SAMPLE_OF_VIDEOS = 12
SAMPLED_CLASSES = 8  # of each corruption and severity, whose first file is hashed for the version


@dataclass(frozen=True, kw_only=True)
class CorruptedFolders:
    """A folder of CORRUPTION/SEVERITY/CLASS/FILE.

    Attributes:
        folder: where they lie.
        names: the corruptions that are wanted.
        severities: those of 1 to 5 that are wanted.
        resize: shorter side to which each picture is resized before its centre is cut out; none leaves it as it is.
    """

    folder: Path
    names: tuple[str, ...]
    severities: tuple[int, ...]
    resize: int | None = None

    @property
    def read_as(self) -> tuple[object, ...]:
        """What beside the files decides the pixels."""
        return (DECODING, self.resize)

    def version(self) -> str:
        """12 hexadecimal digits over a sample of the wanted files and all class names; raises DataError."""
        return _sampled_version([self._part(name, s) for name in self.names for s in self.severities], picture_files)

    def check(self, images: Images, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Nothing, if the folders hold these test pictures corrupted; a sample of them is decoded.

        Args:
            images: (M, H, W, 3) uint8, the test pictures that are wanted.
            labels: (M,) their labels.
            indices: (M,) their places in the whole test set.

        Raises:
            DataError: a folder or file is missing, the files are of other classes, or, as far as a sample shows, of
                other pictures.
        """
        some = sample_places(len(indices), SAMPLE_OF_FILES)
        for name in self.names:
            shown = {}
            for severity in self.severities:
                part = self._part(name, severity)
                listed = _listed(part, picture_files)
                _check_labels(part, listed, labels, indices)
                shown[severity] = squares(EncodedFiles(listed.files), indices[some], None, images.shape[1])
            check_corrupted(str(self.folder / name), name, shown, images[some])

    def images(self, name: str, severity: int, indices: NDArray[np.int64], size: int) -> Images:
        """The pictures `indices` of the test set, (M, size, size, 3) uint8, with corruption `name` at `severity`."""
        files = _listed(self._part(name, severity), picture_files).files
        return squares(EncodedFiles(files), indices, self.resize, size)

    def _part(self, name: str, severity: int) -> Path:
        """The folder of one corruption at one severity: the fifth by number is severity 5, whatever it is called."""
        folder = self.folder / name
        if not folder.is_dir():
            raise DataError(f"{folder} is missing: unpack the published files there, or leave {name} out by exclude")
        numbered = sorted((float(found), found) for found in class_names(folder) if _is_number(found))
        if len(numbered) != NUM_SEVERITIES:
            held = ", ".join(found for _, found in numbered) or "none"
            raise DataError(
                f"{folder} must hold {NUM_SEVERITIES} folders, one a severity, named by numbers; has {held}"
            )
        return folder / numbered[severity - 1][1]


@dataclass(frozen=True, kw_only=True)
class SequenceFolders:
    """A folder of PERTURBATION/CLASS/FILE.mp4.

    Attributes:
        folder: where they lie.
        frames: for each perturbation that is wanted, its number of frames.
        is_noise: those of which there are stronger ones for difficulty 2 and 3.
        difficulty: 1, 2 or 3.
    """

    folder: Path
    frames: dict[str, int]
    is_noise: frozenset[str]
    difficulty: int

    @property
    def read_as(self) -> tuple[object, ...]:
        """What beside the files decides the pixels."""
        return (_decoder().__version__,)

    def version(self) -> str:
        """12 hexadecimal digits over a sample of the wanted files and all class names; raises DataError."""
        return _sampled_version([self._part(name) for name in self.frames], video_files)

    def check(self, images: Images, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Nothing, if there is a decoder and as many videos of each class as the test set has pictures.

        Args:
            images: (M, H, W, 3) uint8, of the size that the videos must have.
            labels: (M,) the labels of the test pictures that are wanted.
            indices: (M,) their places in the whole test set.

        Raises:
            DataError: no decoder; a folder or file is missing; the files are of other classes; or one of a sample of
                videos is broken, has another number or size of frames, or is of another picture.
        """
        _decoder()
        for name, count in self.frames.items():
            part = self._part(name)
            listed = _listed(part, video_files)
            _check_labels(part, listed, labels, indices)
            some = sample_places(len(indices), SAMPLE_OF_VIDEOS)
            files = [listed.files[place] for place in indices[some]]
            middle = [read_video(file, count, images.shape[1])[count // 2] for file in files]
            check_same_pictures(str(part), np.stack(middle), images[some])

    def sequences(self, name: str, indices: NDArray[np.int64], size: int) -> Images:
        """The sequences of the pictures `indices` of the test set, (M, T, size, size, 3) uint8."""
        files = _listed(self._part(name), video_files).files
        count = self.frames[name]
        found = np.empty((len(indices), count, size, size, 3), np.uint8)
        wanted = [files[place] for place in indices]
        for place, frames in enumerate(in_threads(lambda file: read_video(file, count, size), wanted)):
            found[place] = frames
        return found

    def _part(self, name: str) -> Path:
        is_other = self.difficulty > 1 and name in self.is_noise
        folder = self.folder / (f"{name}_{self.difficulty}" if is_other else name)
        if not folder.is_dir():
            raise DataError(f"{folder} is missing: unpack the published files there, or leave {name} out by exclude")
        return folder


def read_video(file: Path, count: int, size: int) -> Images:
    """The frames of a video, (count, size, size, 3) uint8.

    Raises:
        DataError: PyAV is not installed, the file is not a whole video, or its frames are of another number or size.
    """
    av = _decoder()
    with _decoding(file, av), av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    shapes = {frame.shape for frame in frames}
    if len(frames) != count or shapes != {(size, size, 3)}:
        sizes = " and ".join(sorted(f"{width} x {height}" for height, width, _ in shapes)) or "no"
        raise DataError(
            f"{file} has {len(frames)} frames of {sizes} pixels: it must have {count} of {size} x {size}, "
            "as the published videos do; fetch it again"
        )
    return np.stack(frames)


def _decoder() -> ModuleType:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DataError(
            f"videos need PyAV, which cannot be imported ({error}): pip install 'pixmix_ray[video]', "
            "or leave files out and have the sequences made on the spot"
        ) from error


@contextmanager
def _decoding(file: Path, av: ModuleType) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        reason = one_line(error)
        raise DataError(f"cannot decode the video {file} ({reason}): fetch it again from its publisher") from error


@lru_cache(maxsize=8)  # one evaluation asks for the same folder at every batch
def _listed(folder: Path, files_of: FilesOf) -> ClassFolders:
    return class_folders(folder, files_of)


def _check_labels(folder: Path, found: ClassFolders, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
    if len(indices) and indices.max() >= len(found.files):
        raise DataError(
            f"{folder} holds {len(found.files)} files, the data set has {indices.max() + 1} test pictures or more: "
            "is it unpacked whole, and made from this data set's test pictures?"
        )
    differ = np.flatnonzero(found.labels[indices] != labels)
    if len(differ):
        file = found.files[indices[differ[0]]]
        raise DataError(
            f"{file} is of class {found.labels[indices[differ[0]]]} by its folder, test picture {indices[differ[0]]} "
            f"of the data set is of class {labels[differ[0]]}: is {folder} unpacked whole, and of this data set?"
        )


def _sampled_version(folders: Sequence[Path], files_of: FilesOf) -> str:
    """12 hexadecimal digits over the class names of all folders and one file of some classes of each."""
    names = [class_names(folder) for folder in folders]
    sample = [
        files_of(folder / found[place], PassedOver())[0]
        for folder, found in zip(folders, names, strict=True)
        for place in np.linspace(0, len(found) - 1, min(SAMPLED_CLASSES, len(found)), dtype=np.int64)
    ]
    header = np.frombuffer(repr(names).encode(), np.uint8)
    return combined(np.concatenate([header, file_md5s(sample).ravel()]))


def _is_number(name: str) -> bool:
    return name.replace(".", "", 1).isdecimal()
