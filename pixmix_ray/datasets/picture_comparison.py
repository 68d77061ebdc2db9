"""Whether published pictures are the test pictures that they are said to be made from, told from a sample of them.

A corrupted picture still looks more like the picture it was made from than like any other: of two coarse views of it,
its 8 x 8 blocks and what 16 x 16 blocks add to 4 x 4 ones, the own test picture is among the nearest by one of the two
at least. On CIFAR-10's and ImageNet's pictures under all corruptions of C and C-bar the share of other pictures that
are nearer was .10 at most (fog on ImageNet at severity 5), where it is .5 by chance.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.errors import DataError

Images = NDArray[np.uint8]

SAMPLE = 64  # pictures that are compared, fewer where each is a file to decode
SAMPLE_OF_FILES = 24
FEWEST = 8  # of fewer nothing can be said
MOST_NEARER = 0.3  # share of other pictures nearer: those of another order have .5, give or take .04 in 64
DARK = 64  # grey levels on average
UNCHANGED = 0.5  # grey levels on average
NOT_MONOTONE = frozenset({"elastic_transform"})  # on CIFAR its pixels change less at severity 5 than at 1


def sample_places(count: int, at_most: int = SAMPLE) -> NDArray[np.int64]:
    """Places of a sample of `count` pictures, evenly spaced, the first and the last among them; (n,) int64."""
    return np.unique(np.linspace(0, count - 1, min(at_most, count)).round().astype(np.int64))


def check_corrupted(where: str, name: str, shown: Mapping[int, Images], test: Images) -> None:
    """Nothing, if pictures of corruption `name` are test pictures corrupted, more at higher severities.

    Args:
        where: what messages call the files.
        name: the corruption.
        shown: for each severity, (n, H, W, 3) uint8 made from the test pictures.
        test: (n, H, W, 3) uint8, the same pictures as they are.

    Raises:
        DataError: some are black, or equal to the test pictures or to another severity; they are other pictures, in
            another order of pictures, of severities or of colours.
    """
    for severity, images in shown.items():
        place = f"{where} at severity {severity}"
        _check_not_black(place, images, test)
        check_same_pictures(place, images, test)
    if len(test) < FEWEST:
        return
    distances = {severity: _distance(images, test) for severity, images in shown.items()}
    for severity, distance in distances.items():
        if distance < UNCHANGED:
            raise DataError(
                f"{where} at severity {severity} is the test set unchanged: fetch the corrupted files again"
            )
    first, *others = sorted(shown)
    if _distance(shown[first][..., ::-1], test) < 0.95 * distances[first]:
        raise DataError(f"{where} has its colour channels in another order, such as BGR: save it as RGB")
    for severity, next_one in zip([first, *others], others, strict=False):
        if np.array_equal(shown[severity], shown[next_one]):
            raise DataError(f"{where} is the same at severity {severity} and {next_one}: fetch it again")
    if others and name not in NOT_MONOTONE and distances[others[-1]] < distances[first]:
        raise DataError(
            f"{where} is {distances[first]:.1f} grey levels from the test pictures at severity {first} and "
            f"{distances[others[-1]]:.1f} at {others[-1]}: its severities are in another order than 1 to 5"
        )


def check_same_pictures(where: str, shown: Images, test: Images) -> None:
    """Nothing, if pictures were made from the test pictures beside them; `where` is what the message calls them.

    Args:
        where: the files.
        shown: (n, H, W, 3) uint8.
        test: (n, H, W, 3) uint8.

    Raises:
        DataError: they look no more like their own test pictures than like others.
    """
    if len(test) < FEWEST or share_nearer(test, test) > MOST_NEARER / 4:  # the test pictures themselves are all alike
        return
    if (share := share_nearer(shown, test)) > MOST_NEARER:
        raise DataError(
            f"{where} shows other pictures than the test set's, or in another order ({share:.0%} of other test "
            "pictures look more like them): give the files that were made from this data set's test pictures"
        )


def share_nearer(shown: Images, test: Images) -> float:
    """The mean share of other test pictures that look more like each picture than its own does, in [0, 1].

    Args:
        shown: (n, H, W, 3) uint8, n of 2 or more.
        test: (n, H, W, 3) uint8.
    """
    return min(_share_nearer(view(shown), view(test)) for view in (_coarse, _fine))


def _share_nearer(shown: NDArray[np.float64], test: NDArray[np.float64]) -> float:
    likeness = shown @ test.T
    own = np.diagonal(likeness)[:, None]
    ties = (likeness == own).sum(axis=1) - 1
    return float(np.mean(((likeness > own).sum(axis=1) + ties / 2) / (len(test) - 1)))


def _coarse(images: Images) -> NDArray[np.float64]:
    blocks = _blocks(images, 8)
    return _unit(blocks - blocks.mean(axis=(1, 2, 3), keepdims=True))


def _fine(images: Images) -> NDArray[np.float64]:
    blocks = _blocks(images, 16)
    coarser = _blocks(blocks, 4)
    rows, columns = blocks.shape[1] // coarser.shape[1], blocks.shape[2] // coarser.shape[2]
    spread = coarser.repeat(rows, axis=1).repeat(columns, axis=2)
    return _unit(blocks[:, : spread.shape[1], : spread.shape[2]] - spread)


def _blocks(images: NDArray[np.generic], count: int) -> NDArray[np.float64]:
    """The means of count x count blocks, or of as many as there are pixels; what does not fill a block is cut off."""
    number, height, width = images.shape[:3]
    rows, columns = min(count, height), min(count, width)
    cut = images[:, : height // rows * rows, : width // columns * columns]
    blocks = cut.reshape(number, rows, height // rows, columns, width // columns, 3)
    means: NDArray[np.float64] = blocks.mean(axis=(2, 4), dtype=np.float64)
    return means


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = values.reshape(len(values), -1)
    units: NDArray[np.float64] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return units


def _distance(shown: Images, test: Images) -> float:
    return float(np.abs(shown.astype(np.int16) - test).mean())


def _check_not_black(where: str, shown: Images, test: Images) -> None:
    # no corruption takes all light from a picture that is not dark already
    is_black = ~shown.any(axis=(1, 2, 3)) & (test.mean(axis=(1, 2, 3)) > DARK)
    if is_black.any():
        raise DataError(
            f"{where} is black all over in {is_black.sum()} of {len(shown)} pictures looked at: a download that broke "
            "off leaves zeros; fetch it again"
        )
