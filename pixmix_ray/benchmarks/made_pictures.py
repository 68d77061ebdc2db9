"""The pictures that a benchmark makes of the test pictures: piece by piece, made once a machine and then read.

A piece is what one corruption, perturbation or draw makes of a run of test pictures. It is a function of these and of
the benchmark's settings alone, so pieces are made in any order, by any process, while networks still train; see
`pixmix_ray.evaluation.pictures_ahead`. Those of a benchmark that would not all fit are not kept at all: read in turn,
each would be removed before it is read again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pixmix_ray.benchmarks.base import TestPictures, batches
from pixmix_ray.benchmarks.picture_cache import Array, PictureCache, digest_of, key_of

PIECE_BYTES = 2**25  # at most: some seconds of a core, and what a GPU takes in one pass


class Piece(NamedTuple):
    """What is made under one condition: its name, its severity or draw, and of which test pictures."""

    name: str
    severity: int
    rows: slice


@dataclass(frozen=True, kw_only=True)
class MadePictures:
    """All that a benchmark makes of some test pictures.

    Attributes:
        pieces: in the order in which they are looked at.
        make: makes the pictures of one.
        key: names all that they depend on; none for those that lie on this machine as they are, and are not kept.
        nbytes: of all of them.
        keep_gb: gigabytes that all kept pictures may take on this machine.
    """

    pieces: tuple[Piece, ...]
    make: Callable[[Piece], Array]
    key: Callable[[Piece], str] | None
    nbytes: int
    keep_gb: float
    _cache: PictureCache = field(init=False)

    def __post_init__(self) -> None:
        bound = int(self.keep_gb * 1e9)
        fits = self.key is not None and self.nbytes <= bound
        object.__setattr__(self, "_cache", PictureCache(max_bytes=bound if fits else 0))

    @property
    def is_kept(self) -> bool:
        """Whether they are kept for the next checkpoint."""
        return self._cache.max_bytes > 0

    def pictures(self, piece: Piece) -> Array:
        """The pictures of a piece: a read-only memory map where they are kept and were made before."""
        key = self.key
        return self.make(piece) if key is None else self._cache.get(lambda: key(piece), lambda: self.make(piece))

    def is_there(self, piece: Piece) -> bool:
        """Whether a piece was made before, and is kept."""
        return self.key is not None and self._cache.holds(self.key(piece))


def runs_of(count: int, nbytes: int) -> Iterator[slice]:
    """Slices that cover `count` test pictures, of each of which a piece holds so many bytes."""
    return batches(count, at_once=max(1, PIECE_BYTES // nbytes))


class KeyOfTest:
    """Names what is made of test pictures by their content, of which a run is read once."""

    def __init__(self, test: TestPictures) -> None:
        self._test, self._digests = test, dict[tuple[int, int], str]()

    def __call__(self, piece: Piece, *about: object) -> str:
        """The key of a piece that depends on the test pictures and on `about`."""
        run = (piece.rows.start, piece.rows.stop)
        if run not in self._digests:
            part = self._test.part(piece.rows)
            self._digests[run] = digest_of(np.asarray(part.images), part.indices)
        return key_of(self._digests[run], piece.name, *about)
