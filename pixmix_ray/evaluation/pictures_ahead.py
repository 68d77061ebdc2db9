"""Pictures of benchmarks made ahead, on cores that are idle, while networks train or the first one is measured.

What is made lies in this machine's cache, where evaluations find it; what is still missing there they make themselves.
So nothing waits for this, and what goes wrong here is met, and told, by the evaluation that needs the pictures.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from pixmix_ray.benchmarks import Benchmark
from pixmix_ray.benchmarks.made_pictures import MadePictures
from pixmix_ray.child_processes import end_children, start_children
from pixmix_ray.datasets import Dataset
from pixmix_ray.errors import PixmixRayError
from pixmix_ray.experiment.trial import BenchmarkRun, hash_of_test_set
from pixmix_ray.hardware import usable_cores
from pixmix_ray.plugins import Part

WORTH_BYTES = 2**26  # of pictures: what is less is made before other processes have started
NICENESS = 10  # a network that trains on the same cores goes first


@dataclass(frozen=True, kw_only=True)
class PictureWork:
    """One piece of the pictures that a benchmark makes of a data set's test pictures.

    Attributes:
        dataset: whose test pictures.
        benchmark: that needs them.
        place: of the piece, in `MadePictures.pieces`.
    """

    dataset: Part[Dataset]
    benchmark: Part[Benchmark]
    place: int

    def made(self) -> MadePictures | None:
        """All pictures of the benchmark."""
        data, benchmark = self.dataset.settings.load(), self.benchmark.settings
        return benchmark.made(benchmark.pictures(data.test_images, data.test_labels))


def make(work: PictureWork) -> None:
    """Make the piece, if it is not there."""
    if (made := work.made()) is not None and not made.is_there(made.pieces[work.place]):
        made.pictures(made.pieces[work.place])


def works_of(wanted: Iterable[tuple[Part[Dataset], BenchmarkRun]]) -> list[PictureWork]:
    """What can be made ahead for benchmarks on data sets, each once; nothing where there is too little to do.

    Args:
        wanted: data sets that were prepared, each with a benchmark; may name the same ones again.
    """
    different = {(id(dataset), run.key): (dataset, run) for dataset, run in wanted}
    once = {(hash_of_test_set(dataset), run.key): (dataset, run.benchmark) for dataset, run in different.values()}
    works, nbytes = list[PictureWork](), 0
    for dataset, benchmark in sorted(once.values(), key=lambda pair: -pair[1].settings.passes):
        first = PictureWork(dataset=dataset, benchmark=benchmark, place=0)
        with suppress(PixmixRayError):  # the evaluation tells it
            if (made := first.made()) is not None and made.is_kept:
                works += [replace(first, place=place) for place in range(len(made.pieces))]
                nbytes += made.nbytes
    return works if nbytes >= WORTH_BYTES else []


def missing(works: Sequence[PictureWork]) -> list[PictureWork]:
    """Those that this machine lacks."""
    found = list[PictureWork]()
    for _, group in itertools.groupby(works, key=lambda work: (id(work.dataset), id(work.benchmark))):
        of_one = list(group)
        made = of_one[0].made()
        assert made is not None, "works are made of those that make pictures"
        found += [work for work in of_one if not made.is_there(made.pieces[work.place])]
    return found


@contextmanager
def made_ahead(works: Sequence[PictureWork]) -> Iterator[None]:
    """A block in which other processes of this machine, one for each core but one, make pictures; it ends them."""
    children = start_children(make, works, usable_cores() - 1, niceness=NICENESS)
    try:
        yield
    finally:
        end_children(children)
