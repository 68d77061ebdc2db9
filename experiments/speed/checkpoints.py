"""What a second checkpoint costs beside the first: processor seconds of the corruptions and of the network.

python -m experiments.speed.checkpoints --pictures 2000

The pictures of C, C-bar and P are made for the first checkpoint and read by the next, from a cache of its own that is
removed afterwards. Beside them stands a network alone, over as many pictures: as cheap as a checkpoint can be.
"""

import argparse
import os
import resource
import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.speed.material import NUM_CLASSES, pictures_at_rest
from pixmix_ray.benchmarks import Consistency, Corruptions, CorruptionsBar, TestPictures
from pixmix_ray.benchmarks.base import passes, to_device
from pixmix_ray.models import WideResNet

CPU = torch.device("cpu")


def main() -> None:
    """Measure, and print a row a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000, help="test pictures")
    parser.add_argument("--depth", type=int, default=10, help="of the wide ResNet of width 1")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = pictures_at_rest(32, asked.pictures)
    test = TestPictures(images=images, labels=np.zeros(asked.pictures, np.int64), indices=np.arange(asked.pictures))
    networks = [_network(asked.depth) for _ in range(2)]
    print("| benchmark | pictures | first checkpoint | second | network alone |\n| --- | ---: | ---: | ---: | ---: |")  # noqa: T201
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PIXMIX_RAY_CACHE"] = cache
        for benchmark in (Corruptions(), CorruptionsBar(), Consistency()):
            seconds = [_seconds(partial(benchmark.predict, network, test, CPU)) for network in networks]
            count = benchmark.bytes_made(32) // (32 * 32 * 3) * asked.pictures
            alone = _seconds(partial(_alone, networks[0], images, count))
            print(  # noqa: T201
                f"| {type(benchmark).__name__} | {count:,} | {seconds[0]:.1f} s | {seconds[1]:.1f} s | {alone:.1f} s |"
            )


def _network(depth: int) -> torch.nn.Module:
    network = WideResNet(depth=depth, width=1).build(NUM_CLASSES)
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(requires_grad=False)


def _alone(network: torch.nn.Module, images: NDArray[np.uint8], count: int) -> None:
    for _ in range(count // len(images)):
        for rows in passes(len(images), 32, CPU):
            network(to_device(images[rows], CPU))


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this process, all its threads together."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
