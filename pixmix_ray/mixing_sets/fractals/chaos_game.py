"""The chaos game for many systems of affine maps at once, in few steps.

A point wanders: each step applies one of the system's maps, chosen at random. The steps depend on each other, so that
one path of 200,000 points is as many steps of a loop. But affine maps compose: the path is cut into pieces, what a
piece does to its first point is found for all pieces at once, the first points are found one after the other, and then
all pieces are walked at once. That is some thousand steps of a loop, and the same path but for rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_MAPS = 7
PIECE = 500  # points; the loops have PIECE + points / PIECE + PIECE steps

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class AffineSystems:
    """Systems of affine maps x' = a x + b y + e, y' = c x + d y + f.

    Attributes:
        maps: (F, MAX_MAPS, 6) float64, a, b, c, d, e, f; unused ones are 0.
        thresholds: (F, MAX_MAPS), cumulative probabilities; a number u in [0, 1) stands for the first map that has
            a larger one.
    """

    maps: Floats
    thresholds: Floats

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: Ints | slice) -> "AffineSystems":
        """The systems of these indices."""
        return AffineSystems(maps=self.maps[index], thresholds=self.thresholds[index])

    @classmethod
    def joined(cls, parts: Sequence["AffineSystems"]) -> "AffineSystems":
        """The systems of all parts, one part after the other."""
        return cls(
            maps=np.concatenate([part.maps for part in parts]),
            thresholds=np.concatenate([part.thresholds for part in parts]),
        )


def paths(systems: AffineSystems, numbers: Floats) -> Floats:
    """The paths from (0, 0), (2, F, P) float64, x before y; not finite from where they leave all bounds.

    Args:
        systems: F of them.
        numbers: (P - 1,) in [0, 1), which choose the maps, the same for all systems; P must be a multiple of PIECE.
    """
    num_pieces = (len(numbers) + 1) // PIECE
    choice = np.zeros((len(systems), len(numbers) + 1), dtype=np.int64)  # the last one is not walked
    for threshold in systems.thresholds.T[:-1]:
        choice[:, :-1] += numbers >= threshold[:, None]
    choice += np.arange(len(systems))[:, None] * MAX_MAPS
    choice = np.ascontiguousarray(choice.reshape(len(systems), num_pieces, PIECE).transpose(2, 0, 1))
    tables = [np.ascontiguousarray(column) for column in systems.maps.reshape(-1, 6).T]
    with np.errstate(over="ignore", invalid="ignore"):
        points = np.empty((PIECE, 2, len(systems), num_pieces))
        points[0] = _first_points(_composed(choice, tables))
        for step in range(PIECE - 1):
            a, b, c, d, e, f = (table.take(choice[step]) for table in tables)
            x, y = points[step]
            points[step + 1] = a * x + b * y + e, c * x + d * y + f
    return points.transpose(1, 2, 3, 0).reshape(2, len(systems), -1)


def _composed(choice: Ints, tables: list[Floats]) -> Floats:
    """The affine map that each piece is in whole, (6, F, pieces)."""
    a, b, c, d, e, f = (table.take(choice[0]) for table in tables)
    for chosen in choice[1:]:
        p, q, r, s, t, u = (table.take(chosen) for table in tables)
        a, b, c, d = p * a + q * c, p * b + q * d, r * a + s * c, r * b + s * d
        e, f = p * e + q * f + t, r * e + s * f + u
    return np.stack([a, b, c, d, e, f])


def _first_points(pieces: Floats) -> Floats:
    """Where each piece begins, (2, F, pieces), from the affine maps of the pieces."""
    first = np.zeros((2, *pieces.shape[1:]))
    for number in range(1, pieces.shape[2]):
        a, b, c, d, e, f = pieces[:, :, number - 1]
        x, y = first[:, :, number - 1]
        first[:, :, number] = a * x + b * y + e, c * x + d * y + f
    return first
