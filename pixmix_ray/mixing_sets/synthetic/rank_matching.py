"""Histogram matching by ranks: numbers are replaced, in their order, by those of a wanted distribution."""

import numpy as np
from numpy.typing import NDArray

LEVELS = 2**16

Floats32 = NDArray[np.float32]


def with_values(source: Floats32, values: Floats32) -> Floats32:
    """`values` in the order of `source`, (..., K), so that the results have exactly the wanted distribution.

    Numbers that differ by less than 1/65535 of the range of their row count as equal; of equal ones the first is
    the smallest. That makes a radix sort possible, three times as fast as an exact one.

    Args:
        source: (..., K), finite; not changed.
        values: (..., K), ascending.
    """
    low, high = source.min(axis=-1, keepdims=True), source.max(axis=-1, keepdims=True)
    extent = np.where(high > low, high - low, 1)
    levels = ((source - low) * ((LEVELS - 1) / extent)).astype(np.uint16)
    result = np.empty_like(source)
    np.put_along_axis(result, np.argsort(levels, axis=-1, kind="stable"), values, axis=-1)
    return result


def quantiles(cumulative: NDArray[np.float64], points: NDArray[np.float64], count: int) -> Floats32:
    """The values at `count` evenly spaced ranks of distributions, (R, count) ascending, the last at rank 1.

    Args:
        cumulative: (R, B), ascending to 1, at `points`; linear between them.
        points: (R, B), ascending.
        count: how many.
    """
    ranks = np.arange(1, count + 1) / count
    # A row after the other: one interpolation of rows that are moved apart would round each by its place.
    return np.array([np.interp(ranks, *row) for row in zip(cumulative, points, strict=True)], dtype=np.float32)
