"""Sets of pictures from other distributions: three that are generated, and any that the user has, as published.

The generated ones are those of Outlier Exposure (Hendrycks, Mazeika and Dietterich, ICLR 2019, CIFAR/test.py), which
the paper uses (Appendix C). They are defined on [-1, 1] and not rounded to 8 bit. Published layouts that are read as
they are: Textures (dtd, or its folder images), Places69, LSUN, ImageNet and Places365 as folders of pictures; SVHN as
test_32x32.mat, or the folder in which that lies; any array file .npy or .npz.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets import source_images, source_version
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.listing import PassedOver, unwanted
from pixmix_ray.datasets.picture_files import picture_files
from pixmix_ray.datasets.picture_source import BROKEN
from pixmix_ray.errors import DataError, one_line

Noise = NDArray[np.float32]

PAPER_SETS: tuple[str, ...] = ("gaussian", "rademacher", "blobs", "textures", "svhn", "lsun", "places69")
"""The seven sets over which the paper averages on CIFAR (§3.1)."""

SVHN_FILE = "test_32x32.mat"
SVHN_OTHERS = ("train_32x32.mat", "extra_32x32.mat")
_COMPRESSED = (b"\x0f\0\0\0", b"\0\0\0\x0f")  # the tag of a compressed variable, after a header of 128 bytes


BLOBS_SIGMA = 1.5  # pixels, the reference's at 32


def gaussian(draws: NDArray[np.float64]) -> Noise:
    """Normal noise of standard deviation 0.5 clipped to [-1, 1], from uniforms (N, H, W, 3); in [0, 1]."""
    return _from_signed(np.clip(0.5 * ndtri(draws), -1, 1))


def rademacher(draws: NDArray[np.float64]) -> Noise:
    """Every value -1 or +1 with equal probability, from uniforms (N, H, W, 3); in [0, 1]."""
    return _from_signed(np.where(draws < 0.5, -1.0, 1.0))


def blobs(draws: NDArray[np.float64], sigma: float = BLOBS_SIGMA) -> Noise:
    """Bernoulli(0.7) noise blurred and thresholded, from uniforms (N, H, W, 3); in [0, 1].

    The blur (4 `sigma` wide, edges replicated) runs over the colour axis too, as in the reference.
    """
    noise, sigmas = (draws < 0.7).astype(np.float64), (0, sigma, sigma, sigma)
    blurred = gaussian_filter(noise, sigma=sigmas, mode="nearest", truncate=4.0)
    return _from_signed(2 * np.where(blurred < 0.75, 0, blurred) - 1)


GENERATED: Mapping[str, Callable[[NDArray[np.float64]], Noise]] = MappingProxyType(
    {"gaussian": gaussian, "rademacher": rademacher, "blobs": blobs}
)
"""The generated sets by name."""


def outlier_images(path: Path, size: int, limit: int | None = None) -> NDArray[np.uint8]:
    """The pictures at `path`, (N, size, size, 3) uint8, read-only, decoded once a machine.

    Args:
        path: a folder of pictures, an array file, or SVHN's file.
        size: the shorter side is resized to this, then the centre is cut out.
        limit: at most this many, evenly spaced; all of them if None.

    Raises:
        DataError: there is nothing at `path`, or it is broken, empty or of another kind (one line, with the way out).
    """
    _check_layout(path)
    matlab = _matlab_file(path)
    return source_images(path if matlab is None else _unpacked(matlab), size, limit)


def outlier_version(path: Path) -> str:
    """12 hexadecimal digits of the content at `path`; no picture is decoded.

    Raises:
        DataError: there is nothing at `path`, or nothing of a known kind.
    """
    _check_layout(path)
    matlab = _matlab_file(path)
    return source_version(path) if matlab is None else combined(file_md5s([matlab]))


def _from_signed(values: NDArray[np.float64]) -> Noise:
    """From [-1, 1], the scale on which the reference defines these sets, to [0, 1]."""
    return ((values + 1) / 2).astype(np.float32)


def _matlab_file(path: Path) -> Path | None:
    """SVHN's file, where that is what `path` is or holds."""
    file = path / SVHN_FILE if path.is_dir() else path
    return file if file.suffix.lower() == ".mat" and file.is_file() else None


def _check_layout(path: Path) -> None:
    """Refuse what is published but cannot be read as it is, where there are no pictures beside it: a DataError."""
    if not path.is_dir():
        return
    below = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir() and not unwanted(entry.name))]
    database = next((folder for folder in below if (folder / "data.mdb").is_file()), None)
    others = [name for name in SVHN_OTHERS if (path / name).is_file()]
    if (database is None and not others) or (path / SVHN_FILE).is_file() or _has_pictures(path):
        return
    if database is not None:
        raise DataError(
            f"{database} is a database as LSUN publishes it: write its pictures to a folder with LSUN's own data.py "
            "(export DATABASE --out_dir FOLDER) and give that folder"
        )
    raise DataError(f"{path} contains {', '.join(others)} but not {SVHN_FILE}: fetch SVHN's test pictures, {SVHN_FILE}")


def _has_pictures(folder: Path) -> bool:
    try:
        return bool(picture_files(folder, PassedOver()))
    except DataError:
        return False


def _unpacked(file: Path) -> Path:
    """The .npy file in the cache that holds SVHN's pictures, (N, 32, 32, 3) uint8."""
    entry = f"svhn-{combined(file_md5s([file]))}"
    array = cached_arrays(entry, lambda: {"images": _read_matlab(file)})["images"]
    return Path(cast("np.memmap[Any, Any]", array).filename or "")


def _read_matlab(file: Path) -> NDArray[np.uint8]:
    from scipy.io import loadmat  # slow to import, and few need it
    from scipy.io.matlab import MatReadError

    with file.open("rb") as stream:
        tag = stream.read(132)[128:]
    if tag not in _COMPRESSED:  # its checksum guards the reader, which some flipped bits of plain ones crash
        raise DataError(f"{file} is not a compressed MATLAB 5 file, as {SVHN_FILE} is: fetch it again, or give a .npy")
    try:
        with warnings.catch_warnings(action="ignore"):
            found = loadmat(file, variable_names=["X"])  # version 5, as published: arrays alone, no code
    except (*BROKEN, MatReadError) as error:
        reason = one_line(error)
        raise DataError(f"{file} cannot be read ({type(error).__name__}: {reason}): fetch {SVHN_FILE} again") from error
    array = found.get("X")
    if array is None or array.dtype != np.uint8 or array.ndim != 4 or array.shape[2] != 3 or 0 in array.shape:
        held = "no X" if array is None else f"X {array.dtype} {tuple(array.shape)}"
        raise DataError(f"{file} holds {held}: it must be SVHN's {SVHN_FILE}, X uint8 (32, 32, 3, N)")
    return np.ascontiguousarray(array.transpose(3, 0, 1, 2))
