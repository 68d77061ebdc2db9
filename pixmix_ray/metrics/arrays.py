"""What every metric demands of its arrays: one axis, not empty, finite, of one length, in range."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.errors import RequestError


def numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` as (N,) float64, N >= 1, finite; `name` is what messages call them.

    Raises:
        RequestError: not numbers, not one axis, empty, NaN or infinite.
    """
    array = _vector(name, values)
    if array.dtype.kind not in "bifu":
        raise RequestError(f"{name} must be numbers, got {array.dtype}: give a vector of floats")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise RequestError(
            f"{name} must be finite, got {array[bad[0]]:g} at index {bad[0]}: look at the network that made it"
        )
    return array.astype(np.float64)


def fractions(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` as (N,) float64 in [0, 1], N >= 1.

    Raises:
        RequestError: as `numbers`, or a value outside [0, 1].
    """
    array = numbers(name, values)
    bad = np.flatnonzero((array < 0) | (array > 1))
    if len(bad):
        raise RequestError(
            f"{name} must be in [0, 1], got {array[bad[0]]:g} at index {bad[0]}: give fractions, not percent"
        )
    return array


def flags(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    """`values` as (N,) bool, N >= 1; 0 and 1 are taken for False and True.

    Raises:
        RequestError: as `numbers`, or a value other than 0 and 1.
    """
    array = numbers(name, values)
    bad = np.flatnonzero((array != 0) & (array != 1))
    if len(bad):
        raise RequestError(f"{name} must be 0 or 1, got {array[bad[0]]:g} at index {bad[0]}: give booleans")
    return array.astype(np.bool_)


def classes(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """`values` as (N,) int64 class numbers, N >= 1.

    Raises:
        RequestError: not integers, not one axis, or empty.
    """
    array = _vector(name, values)
    if array.dtype.kind not in "iu":
        raise RequestError(f"{name} must be integers, got {array.dtype}: give class numbers, the argmax of the logits")
    return array.astype(np.int64)


def check_same_length(**arrays: NDArray[np.generic]) -> None:
    """Nothing, if the arrays have one length.

    Raises:
        RequestError: they have not; names the lengths.
    """
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise RequestError(f"lengths differ: {lengths}: give one value of each for every picture")


def _vector(name: str, values: ArrayLike) -> NDArray[np.generic]:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) == 0:
        raise RequestError(f"{name} must have shape (N,) with N >= 1, got {array.shape}: give one value a picture")
    return array
