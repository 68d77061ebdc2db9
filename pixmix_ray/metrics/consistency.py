"""Prediction consistency: how often, and how far, predictions change along a sequence of slightly perturbed pictures.

Definitions: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(ICLR 2019), section 4.1, with the code of hendrycks/robustness@8190fe3, ImageNet-P. A sequence has T frames. In a
temporal one each frame is compared with the frame `stride` before it; in a sequence of noise, whose frames are
independent, each is compared with the first. The mean over the pairs of a sequence is averaged over the sequences, and
that over the perturbations, on ImageNet after division by AlexNet's value. On CIFAR, AugMix and PixMix (section 3.1)
report the plain mean.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.metrics.arrays import numbers

TOP = 5
"""Ranks that the top-5 distance looks at."""


def flip_rate(predicted: ArrayLike, *, against_first: bool, stride: int = 1) -> float:
    """The probability that the prediction differs between two compared frames, in [0, 1]; lower is better.

    By hand: of the pairs (3, 3), (3, 5), (5, 3) of neighbours two differ, of (3, 3), (3, 5), (3, 3) one.

    >>> [round(flip_rate([[3, 3, 5, 3]], against_first=first), 4) for first in (False, True)]
    [0.6667, 0.3333]

    Args:
        predicted: (N, T) predicted classes, a row a sequence, its frames in order.
        against_first: compare each frame with the first (noise); else with the one `stride` before it (temporal).
        stride: frames between the two that are compared, the "difficulty" of temporal sequences.

    Raises:
        RequestError: not integers (N, T) with N >= 1, or too few frames for a pair.
    """
    return float(flips(predicted, against_first=against_first, stride=stride).mean())


def flips(predicted: ArrayLike, *, against_first: bool, stride: int = 1) -> NDArray[np.float64]:
    """The share of a sequence's pairs whose predictions differ, (N,) in [0, 1]; `flip_rate` is its mean.

    >>> flips([[3, 3, 5, 3], [1, 1, 1, 1]], against_first=False).round(4).tolist()
    [0.6667, 0.0]

    Args:
        predicted: as for `flip_rate`.
        against_first: likewise.
        stride: likewise.

    Raises:
        RequestError: as `flip_rate`.
    """
    frames = _frames("predicted", predicted, 2)
    first, second = compared_frames(frames.shape[1], against_first=against_first, stride=stride)
    shares: NDArray[np.float64] = np.mean(frames[:, first] != frames[:, second], axis=1)
    return shares


def top5_distance(top5: ArrayLike, *, against_first: bool, stride: int = 1) -> float:
    """The mean top-5 distance between compared frames (uT5D), from 0 to 18; lower is better.

    For two frames, with s(i) the rank in the second of the class that has rank i in the first, it is the sum over i
    from 1 to 5 of |min(i - 1, 5) - min(s(i) - 1, 5)|: what changes below the first five does not count. It is 15 where
    five other classes take over. By hand: classes 7 and 8 swap, 1 each; then 8 falls out of the five (5), and the four
    behind it move up by one each.

    >>> frames = [[7, 8, 1, 2, 3], [8, 7, 1, 2, 3], [7, 1, 2, 3, 9]]
    >>> [top5_distance([pair], against_first=False) for pair in (frames[:2], frames[1:])]
    [2.0, 9.0]

    Args:
        top5: (N, T, 5) classes, each frame's five best, the best first.
        against_first: as for `flip_rate`.
        stride: as for `flip_rate`.

    Raises:
        RequestError: not integers (N, T, 5) with N >= 1, or too few frames for a pair.
    """
    return float(top5_distances(top5, against_first=against_first, stride=stride).mean())


def top5_distances(top5: ArrayLike, *, against_first: bool, stride: int = 1) -> NDArray[np.float64]:
    """The mean top-5 distance over the pairs of each sequence, (N,) from 0 to 18; `top5_distance` is its mean.

    >>> top5_distances([[[7, 8, 1, 2, 3], [8, 7, 1, 2, 3]]], against_first=False).tolist()
    [2.0]

    Args:
        top5: as for `top5_distance`.
        against_first: likewise.
        stride: likewise.

    Raises:
        RequestError: as `top5_distance`.
    """
    frames = _frames("top5", top5, 3)
    if frames.shape[2] != TOP:
        raise RequestError(f"top5 must be (N, T, {TOP}), got {frames.shape}: give each frame's five best classes")
    first, second = compared_frames(frames.shape[1], against_first=against_first, stride=stride)
    before, after = frames[:, first], frames[:, second]
    total = np.zeros(before.shape[:2], dtype=np.int64)
    for rank in range(TOP):
        is_there = after == before[:, :, rank, None]
        rank_after = np.where(is_there.any(axis=2), is_there.argmax(axis=2), TOP)
        total += np.abs(rank_after - rank)
    distances: NDArray[np.float64] = total.mean(axis=1)
    return distances


def zipf_distances(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """The Zipf distance of each pair of rankings, (M,), 0 or more; lower is better.

    With s(i) the rank in the second of the class that has rank i in the first, it is the sum over all ranks i of
    |1/i - 1/s(i)| / i: every rank counts, the first ones most. By hand: the first two of three swap, so
    |1 - 1/2| / 1 + |1/2 - 1| / 2 + 0.

    >>> zipf_distances([[0, 1, 2]], [[1, 0, 2]]).tolist()
    [0.75]

    Args:
        before: (M, K) all classes 0 to K - 1 of the first frame of each pair, the best first.
        after: (M, K) likewise of the second.

    Raises:
        RequestError: not integers (M, K) of one shape with M >= 1, or a row that is no order of the classes 0 to K - 1.
    """
    first, second = _frames("before", before, 2), _frames("after", after, 2)
    if first.shape != second.shape:
        raise RequestError(f"before is {first.shape} and after {second.shape}: give the rankings of the same pairs")
    for name, ranking in (("before", first), ("after", second)):
        _check_ranking(name, ranking)
    weights = 1 / np.arange(1, first.shape[1] + 1)
    worth = np.empty(second.shape)
    np.put_along_axis(worth, second, weights[None], axis=1)  # 1 / rank of each class in the second
    distances: NDArray[np.float64] = np.abs(weights - np.take_along_axis(worth, first, axis=1)) @ weights
    return distances


def _check_ranking(name: str, ranking: NDArray[np.int64]) -> None:
    """Raise RequestError if a row of (M, K) does not hold each class 0 to K - 1 once."""
    classes = ranking.shape[1]
    is_held = np.zeros(ranking.shape, dtype=np.bool_)
    if ranking.min() >= 0 and ranking.max() < classes:
        np.put_along_axis(is_held, ranking, values=True, axis=1)
    if not is_held.all():
        row = ranking[int(np.argmin(is_held.all(axis=1)))].tolist()
        shown = f"{row[:8]}"[:-1] + (", ...]" if len(row) > 8 else "]")
        raise RequestError(f"{name} must hold each class from 0 to {classes - 1} once a row, got {shown}")


def mean_over_perturbations(values: Mapping[str, float], normalisers: Mapping[str, float] | None = None) -> float:
    """The mean over the perturbations (mFR of flip rates, mT5D of top-5 distances); lower is better.

    CIFAR: no normalisers. ImageNet: each is first divided by AlexNet's value. By hand: (.1 + .3) / 2, and
    (.1 / .2 + .3 / .4) / 2.

    >>> rates = {"tilt": 0.1, "scale": 0.3}
    >>> [round(mean_over_perturbations(rates, other), 4) for other in (None, {"tilt": 0.2, "scale": 0.4})]
    [0.2, 0.625]

    Args:
        values: for each perturbation its flip rate or top-5 distance.
        normalisers: for each perturbation the reference network's, above 0; those not in `values` are not used.

    Raises:
        UnknownNameError: a perturbation has no normaliser.
        RequestError: no perturbations, a value that is not finite, or a normaliser of 0 or less.
    """
    measured = numbers("values", list(values.values()))
    if normalisers is None:
        return math.fsum(measured) / len(measured)
    for name in values:
        if name not in normalisers:
            raise UnknownNameError("perturbation among the normalisers", name, normalisers)
        if not normalisers[name] > 0:
            raise RequestError(f"the normaliser of {name} must be above 0, got {normalisers[name]}: measure it again")
    return math.fsum(measured / [normalisers[name] for name in values]) / len(measured)


def compared_frames(count: int, *, against_first: bool, stride: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which frames of a sequence are compared: places of the first and of the second frame of each pair, (P,) each.

    >>> [places.tolist() for places in compared_frames(4, against_first=False, stride=2)]
    [[0, 1], [2, 3]]

    Args:
        count: frames of the sequence.
        against_first: compare each frame with the first; `stride` has no meaning then.
        stride: frames between the two that are compared.

    Raises:
        RequestError: `stride` is below 1, or there is no pair.
    """
    step = 1 if against_first else stride
    if step < 1 or count <= step:
        raise RequestError(f"a pair needs more frames than the stride, which is 1 or more: got {count} and {step}")
    second = np.arange(step, count)
    return (np.zeros_like(second) if against_first else second - step), second


def _frames(name: str, values: ArrayLike, axes: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    shape = "(N, T, 5)" if axes == 3 else "(N, T)"
    if array.ndim != axes or 0 in array.shape:
        raise RequestError(f"{name} must be {shape} and not empty, got {array.shape}: give one row a sequence")
    if array.dtype.kind not in "iu":
        raise RequestError(f"{name} must be integers, got {array.dtype}: give class numbers, ranked by logit")
    return array.astype(np.int64)
