"""Mixing pictures from folders of picture files: the authors' fractals and feature visualizations, or anything else.

PixMix (Hendrycks et al., CVPR 2022), section 2.1: 14,230 fractals from DeviantArt and feature visualizations from
OpenAI Microscope; Appendix B.2 compares other sources. Decoding and size are those of the reference code: RGB by
Pillow, and torchvision's Resize of the shorter side (bilinear with antialiasing), the aspect kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.picture_files import in_threads, picture_files, picture_size, resized_picture, resized_size
from pixmix_ray.mixing_sets.base import MixingSet, Pictures, cached_pictures
from pixmix_ray.settings import DataPath


class PictureFolder(MixingSet):
    """All pictures of one folder or several, searched recursively.

    Attributes:
        folders: one path or a list of paths; their pictures are joined in this order.
    """

    summary: ClassVar[str] = (
        "the pictures in folders of yours, such as the authors' fractals and feature visualizations"
    )
    source: ClassVar[str] = "your files; PixMix (Hendrycks et al., CVPR 2022), section 2.1"
    location: ClassVar[frozenset[str]] = frozenset({"folders"})
    folders: tuple[DataPath, ...] = Field(min_length=1)

    @field_validator("folders", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    def label(self, name: str) -> str:
        """The names of the folders, such as fractals+fvis."""
        return "+".join(folder.name for folder in self.folders)

    def version(self) -> str:
        """`folder-` and 12 hexadecimal digits of the files' bytes in order; raises DataError as `pictures` does."""
        return _version(self._files())

    def pictures(self, shorter_side: int) -> Pictures:
        """The pictures, folder after folder, each by relative path.

        Raises:
            DataError: a folder is missing or has no pictures, or a picture cannot be decoded (named).
        """
        files = self._files()
        return cached_pictures(_version(files), shorter_side, lambda: _decode(files, shorter_side))

    def _files(self) -> list[Path]:
        return [file for folder in self.folders for file in picture_files(folder)]


def _version(files: Sequence[Path]) -> str:
    return f"folder-{combined(file_md5s(files))}"


def _decode(files: Sequence[Path], shorter_side: int) -> dict[str, NDArray[np.generic]]:
    """The arrays of `Pictures`; sizes come from the headers first, so that no picture is held twice."""
    sizes = [resized_size(*size, shorter_side) for size in in_threads(picture_size, files)]
    widths, heights = np.array(sizes, dtype=np.int64).T
    areas = widths * heights
    pixels = np.empty((int(areas.sum()), 3), dtype=np.uint8)

    def fill(file: Path, place: NDArray[np.uint8]) -> None:
        place[:] = np.asarray(resized_picture(file, shorter_side)).reshape(-1, 3)

    places = np.split(pixels, np.cumsum(areas)[:-1])
    in_threads(lambda pair: fill(*pair), list(zip(files, places, strict=True)))
    return {"pixels": pixels, "heights": heights, "widths": widths}
