"""What a mixing set is: pictures without labels that PixMix mixes into the training pictures, kept small and ready.

PixMix (Hendrycks et al., CVPR 2022), section 2.1 and Appendix B.2. The reference code opens, decodes, resizes and crops
one picture file for each training picture; that is 40 to 60 % of its time. Here every picture is decoded and resized
once a machine, and a batch of crops is one gather on whatever device the training runs. A picture and a position in it
are drawn for each crop, as with Resize and RandomCrop, and there is no flip, as in the reference code, but for pictures
that say otherwise. Pictures smaller than a crop are enlarged, as by torchvision's Resize.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pixmix_ray.cache import Arrays, cached_arrays
from pixmix_ray.errors import DataError, RequestError
from pixmix_ray.plugins import Table
from pixmix_ray.settings import Settings

if TYPE_CHECKING:
    from pixmix_ray.mixing_sets.sources import PictureReader

PUBLISHED_SHORTER_SIDES = {32: 36, 224: 256}  # the reference code's Resize before RandomCrop


def shorter_side_for(size: int) -> int:
    """The shorter side of the mixing pictures for crops of `size` pixels: 36 for 32 and 256 for 224, else 9/8 of it.

    >>> shorter_side_for(32), shorter_side_for(64)
    (36, 72)
    """
    return PUBLISHED_SHORTER_SIDES.get(size, size + size // 8)


def crop_size_for(shorter_side: int) -> int:
    """The size of the crops for which pictures of `shorter_side` are asked for: the inverse of `shorter_side_for`.

    >>> crop_size_for(36), crop_size_for(256), crop_size_for(72)
    (32, 224, 64)
    """
    published = {side: size for size, side in PUBLISHED_SHORTER_SIDES.items()}
    return published.get(shorter_side, shorter_side - shorter_side // 9)


class PictureBank:
    """Pictures on a device, from which batches of random crops are cut."""

    def __init__(self, pictures: "Pictures", device: torch.device | str) -> None:
        with warnings.catch_warnings():  # the maps are read-only, of which torch warns; a bank only reads
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._bytes = torch.from_numpy(pictures.pixels.reshape(-1)).to(device)
            self._offsets, self._heights, self._widths = (
                torch.from_numpy(values).to(device) for values in (pictures.offsets, pictures.heights, pictures.widths)
            )
        self._smallest_side = int(min(pictures.heights.min(), pictures.widths.min()))
        shares = None if pictures.weights is None else np.cumsum(pictures.weights / pictures.weights.sum())
        self._cumulated_shares = None if shares is None else torch.from_numpy(shares).to(device)
        self._mirrored = None if pictures.mirrored is None else torch.from_numpy(pictures.mirrored).to(device)

    def __len__(self) -> int:
        return len(self._offsets)

    def crops(self, count: int, size: int, generator: torch.Generator) -> torch.Tensor:
        """Random crops, (count, 3, size, size) uint8 on the bank's device.

        Each is of a picture drawn with replacement, by the pictures' weights, at a position drawn uniformly in that
        picture. Crops of pictures that are `mirrored` are flipped left to right half of the time.

        Args:
            count: how many.
            size: their side in pixels.
            generator: on the same device as the bank.

        Raises:
            RequestError: `size` is larger than the shorter side of a picture.
        """
        if size > self._smallest_side:
            raise RequestError(
                f"crops of {size} pixels do not fit pictures with a side of {self._smallest_side}: "
                f"ask the mixing set for pictures with shorter_side {shorter_side_for(size)}"
            )
        draws = torch.randint(2**62, (3, count), generator=generator, device=self._bytes.device)
        picture = self._drawn(draws[0])
        widths = self._widths[picture]
        top, left = draws[1] % (self._heights[picture] - size + 1), draws[2] % (widths - size + 1)
        rows = top[:, None] + torch.arange(size, device=draws.device)
        starts = 3 * (self._offsets[picture][:, None] + rows * widths[:, None] + left[:, None])
        # All windows of `size` neighbouring pixels, as overlapping rows of one view: a crop is `size` rows of it, and
        # the gather copies runs of 3 * size bytes (2.3 us a crop on one core; 7.7 us by pixels, 28 us by bytes).
        windows = self._bytes.as_strided((len(self._bytes) - 3 * size + 1, 3 * size), (1, 1))
        crops = windows.index_select(0, starts.view(-1)).view(count, size, size, 3)
        if self._mirrored is not None:
            # the highest bit, on which the remainder above does not depend
            is_flipped = self._mirrored[picture] & (draws[1] >= 2**61)
            crops = torch.where(is_flipped.view(-1, 1, 1, 1), crops.flip(2), crops)
        return crops.permute(0, 3, 1, 2).contiguous()

    def _drawn(self, draws: torch.Tensor) -> torch.Tensor:
        """The picture that each number below 2**62 falls to."""
        if self._cumulated_shares is None:
            return draws % len(self)  # the bias is below 2**-40
        found = torch.searchsorted(self._cumulated_shares, draws.double() / 2**62, right=True)
        return found.clamp_(max=len(self) - 1)  # the last sum may be rounded to less than 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Pictures of different sizes, one after the other in one flat array, which may be a read-only memory map.

    Attributes:
        pixels: (P, 3) uint8, the pictures' pixels row by row.
        offsets: (M,) int64, where each picture starts in `pixels`.
        heights: (M,) int64.
        widths: (M,) int64.
        version: the fingerprint of the content.
        weights: (M,) float64 above 0, how often each picture is drawn, up to a factor; None: all equally often.
        mirrored: (M,) bool, whose crops are flipped left to right half of the time; None: of no picture.
    """

    pixels: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    version: str
    weights: NDArray[np.float64] | None = None
    mirrored: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Picture `index`, (H, W, 3) uint8, a view."""
        start, height, width = int(self.offsets[index]), int(self.heights[index]), int(self.widths[index])
        return self.pixels[start : start + height * width].reshape(height, width, 3)

    def to(self, device: torch.device | str) -> PictureBank:
        """The pictures on a device, ready to cut crops from; on the CPU the memory map itself is used."""
        return PictureBank(self, device)


class MixingSet(Settings, ABC):
    """A source of mixing pictures.

    Attributes:
        summary: one line for the list of mixing sets.
        source: where the pictures come from: a paper, or the user.
    """

    summary: ClassVar[str]
    source: ClassVar[str]

    def label(self, name: str) -> str:
        """What the set is called in results; `name` is the name in the table."""
        return name

    @abstractmethod
    def version(self) -> str:
        """A fingerprint of the content, fit for a file name; found without decoding or drawing a picture."""

    @abstractmethod
    def pictures(self, shorter_side: int) -> Pictures:
        """The pictures with a shorter side of `shorter_side` pixels; made once a machine, then opened."""

    def readers(self, shorter_side: int) -> "Sequence[PictureReader | None]":
        """Where each of `pictures` comes from, in their order; None for what is generated."""
        return [None] * len(self.pictures(shorter_side))


MIXING_SETS: Table[MixingSet] = Table("mixing set", MixingSet, join="join")


def cached_pictures(
    version: str,
    shorter_side: int,
    make: Callable[[], Arrays],
    manifest: Callable[[], Mapping[str, object]] | None = None,
) -> Pictures:
    """The pictures of the cache entry of this version and size; `make` is called only where it is not there yet.

    Args:
        version: the mixing set's version; part of the entry's name.
        shorter_side: in pixels, at least 1.
        make: returns the arrays `pixels`, `heights` and `widths` of `Pictures`, and `mirrored` if it is not None.
        manifest: what to say of the pictures beside it (settings, seed, count), as JSON values; asked once they are
            written.

    Raises:
        DataError: the cache cannot be written; and whatever `make` raises.
    """
    if shorter_side < 1:
        raise DataError(f"shorter_side must be at least 1 pixel, got {shorter_side}: see shorter_side_for")
    about: dict[str, object] = {"version": version, "shorter_side": shorter_side}
    arrays = cached_arrays(
        entry_name(version, shorter_side), make, lambda: about | dict({} if manifest is None else manifest())
    )
    heights, widths = (np.array(arrays[name], dtype=np.int64) for name in ("heights", "widths"))
    areas = heights * widths
    return Pictures(
        pixels=cast(NDArray[np.uint8], arrays["pixels"]),
        offsets=np.cumsum(areas) - areas,
        heights=heights,
        widths=widths,
        version=version,
        mirrored=np.array(arrays["mirrored"], dtype=np.bool_) if "mirrored" in arrays else None,
    )


def entry_name(version: str, shorter_side: int) -> str:
    """The name of the cache entry of the pictures of this version and size."""
    return f"pictures-{version}-{shorter_side}"
