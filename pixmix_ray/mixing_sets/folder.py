"""Pictures of the user to mix: out of folders, zip files and array files.

PixMix (Hendrycks et al., CVPR 2022), section 2.1: 14,230 fractals from DeviantArt and feature visualizations from
OpenAI Microscope; Appendix B.2 compares other sources. Decoding and size are those of the reference code: RGB by
Pillow, and torchvision's Resize of the shorter side (bilinear with antialiasing), the aspect kept. So pictures smaller
than a crop are enlarged, and never left out.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field, field_validator

from pixmix_ray.cache import Arrays, read_manifest
from pixmix_ray.datasets.base import evenly_spaced
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.picture_files import in_threads, resized, resized_size
from pixmix_ray.errors import DataError
from pixmix_ray.mixing_sets.base import MIXING_SETS, MixingSet, Pictures, cached_pictures, entry_name
from pixmix_ray.mixing_sets.sources import PictureReader, content_files, read_source
from pixmix_ray.plugins import ARCHIVES
from pixmix_ray.settings import DataPath

Result = TypeVar("Result")

NAMED = 5  # of the unreadable pictures, in a warning


@MIXING_SETS.add("folder")
class PictureFolder(MixingSet):
    """All pictures of one folder, zip file or array file, or of several.

    Attributes:
        folders: one path or a list: folders, searched recursively, .zip files of pictures, and .npy or .npz files of
            uint8 (N, H, W, 3). Their pictures are joined in this order.
        count: take this many, evenly spaced over all of them; None takes all.
        skip_unreadable: leave out pictures that cannot be decoded, with a warning that counts and names them; by
            default one is an error.
    """

    summary: ClassVar[str] = (
        "the pictures in folders, zip or array files of yours, such as the authors' fractals and feature visualizations"
    )
    source: ClassVar[str] = "your files; PixMix (Hendrycks et al., CVPR 2022), section 2.1"
    # which pictures are taken is part of the version, which is part of a trial's identity
    location: ClassVar[frozenset[str]] = frozenset({"folders", "count", "skip_unreadable"})
    folders: tuple[DataPath, ...] = Field(min_length=1)
    count: int | None = Field(None, ge=1)
    skip_unreadable: bool = False

    @field_validator("folders", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    def label(self, name: str) -> str:
        """The names of the folders and files, such as fractals+fvis."""
        return "+".join(path.stem if path.suffix.lower() in ARCHIVES else path.name for path in self.folders)

    def version(self) -> str:
        """`folder-` and a hash of the bytes of all files, in order, whatever their names; and what is taken of them."""
        files = [file for path in self.folders for file in content_files(path)]
        taken = ["" if self.count is None else f"-{self.count}", "-readable" if self.skip_unreadable else ""]
        return f"folder-{combined(file_md5s(files))}{''.join(taken)}"

    def pictures(self, shorter_side: int) -> Pictures:
        """The pictures, source after source, those of a folder by relative path, of a zip file by name.

        Raises:
            DataError: a source is missing or has no pictures; a picture cannot be decoded (the first is named, all are
                counted) and `skip_unreadable` is not set; or there are fewer than `count`.
        """
        version, left_out = self.version(), _LeftOut()

        def make() -> Arrays:
            readers = self._all_readers()
            if self.skip_unreadable:
                readers = left_out.readable(readers)
            return _decode(self._chosen(readers), shorter_side)

        found = cached_pictures(version, shorter_side, make, lambda: self._facts(left_out))
        self._warn((read_manifest(entry_name(version, shorter_side)) or {}).get("unreadable", []))
        return found

    def readers(self, shorter_side: int) -> list[PictureReader]:
        """The files of the pictures, or their places in zip and array files."""
        manifest = read_manifest(entry_name(self.version(), shorter_side)) or {}
        unreadable = set(manifest.get("unreadable", []))
        return self._chosen([reader for reader in self._all_readers() if reader.name not in unreadable])

    def _all_readers(self) -> list[PictureReader]:
        return [reader for path in self.folders for reader in read_source(path)]

    def _chosen(self, readers: Sequence[PictureReader]) -> list[PictureReader]:
        if self.count is not None and len(readers) < self.count:
            held = f"{len(readers)} pictures, fewer than count = {self.count}"
            raise DataError(f"{self._places()}: there are {held}: lower it or leave it out")
        return [readers[index] for index in evenly_spaced(len(readers), self.count)]

    def _facts(self, left_out: "_LeftOut") -> dict[str, object]:
        return {"settings": self.model_dump(mode="json"), "unreadable": left_out.names}

    def _warn(self, unreadable: Sequence[str]) -> None:
        """Say what was left out, also where another process made the pictures."""
        if unreadable:
            named = ", ".join(unreadable[:NAMED]) + (", ..." if len(unreadable) > NAMED else "")
            count = f"{len(unreadable)} picture{'s' if len(unreadable) > 1 else ''}"
            warnings.warn(f"left out {count} of {self._places()}, which cannot be decoded: {named}", stacklevel=3)

    def _places(self) -> str:
        return ", ".join(str(path) for path in self.folders)


@dataclass
class _LeftOut:
    """The names of the pictures that were left out, filled in when the pictures are made."""

    names: tuple[str, ...] = ()

    def readable(self, readers: Sequence[PictureReader]) -> list[PictureReader]:
        """The readers of those that can be decoded; at least one, else DataError."""
        errors = in_threads(_decode_error, readers)
        self.names = tuple(reader.name for reader, error in zip(readers, errors, strict=True) if error is not None)
        if len(self.names) == len(readers):
            raise DataError(f"none of the {len(readers)} pictures can be decoded; {errors[0]}")
        return [reader for reader, error in zip(readers, errors, strict=True) if error is None]


def _decode_error(reader: PictureReader) -> DataError | None:
    """Why a picture cannot be decoded, or None."""
    try:
        reader.rgb()
    except DataError as error:
        return error
    return None


def _decode(readers: Sequence[PictureReader], shorter_side: int) -> Arrays:
    """The arrays of `Pictures`; sizes come from the headers first, so that no picture is held twice."""
    sizes = _of_each(lambda index: resized_size(*readers[index].size(), shorter_side), readers)
    widths, heights = np.array(sizes, dtype=np.int64).T
    ends = np.cumsum(widths * heights)
    pixels = np.empty((int(ends[-1]), 3), dtype=np.uint8)
    places = np.split(pixels, ends[:-1])

    def fill(index: int) -> None:
        places[index][:] = np.asarray(resized(readers[index].rgb(), shorter_side)).reshape(-1, 3)

    _of_each(fill, readers)
    return {"pixels": pixels, "heights": heights, "widths": widths}


def _of_each(work: Callable[[int], Result], readers: Sequence[PictureReader]) -> list[Result]:
    """`work` of each index of `readers`, in order; if one fails, all are tried, so that the error counts them."""
    try:
        return in_threads(work, range(len(readers)))
    except DataError:
        errors = [error for error in in_threads(_decode_error, readers) if error is not None]
        if not errors:
            raise
        count = f"{len(errors)} of {len(readers)} pictures cannot be decoded"
        raise DataError(f"{errors[0]}; {count}: skip_unreadable: true leaves such pictures out") from errors[0]
