"""How much memory an evaluation takes on published files of ImageNet-C's layout, beside the size of the set.

python -m experiments.speed.streaming --pictures 400

It makes a set of JPEG files, one corruption at five severities of so many test pictures and a half as many again of
another, in a temporary folder, and evaluates a small network on the first half and on all of it: if the files stream,
twice as many pictures take no more memory. Then a cell of as many predictions as ImageNet-C has, on tiny pictures: what
is kept of each, measured and written. Linux only.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from experiments.speed.material import pictures_at_rest
from pixmix_ray.benchmarks import Corruptions, TestPictures
from pixmix_ray.benchmarks.corrupted_sets import made_corrupted, predict_corrupted
from pixmix_ray.corruptions import OFFICIAL, corrupt
from pixmix_ray.storage.cell import predictions_table
from pixmix_ray.storage.sealed import seal

SIDE, CLASSES, NAMES = 224, 10, ("brightness", "contrast")
TINY, TESTED = 8, 50_000  # pixels a side and pictures, where predictions alone count


def main() -> None:
    """Make the set, evaluate on it, and print a row for each half."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=400, help="test pictures")
    count = parser.parse_args().pictures
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "clean.npy"
        np.save(clean, pictures_at_rest(SIDE, count))
        images = np.load(clean, mmap_mode="r")
        labels = np.sort(np.arange(count) % CLASSES)
        for name in NAMES:
            for severity in range(1, 6):
                _write(Path(folder) / "c" / name / str(severity), corrupt(np.asarray(images), name, severity), labels)
        test = TestPictures(images=images, labels=labels, indices=np.arange(count))
        network = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.LazyLinear(CLASSES)).eval()
        network(torch.zeros(1, 3, SIDE, SIDE))
        network.requires_grad_(requires_grad=False)
        print("| files | decoded | peak above the start |\n| ---: | ---: | ---: |")  # noqa: T201
        for names in (NAMES[:1], NAMES[:1], NAMES):  # the first time also warms up
            benchmark = Corruptions(names=names, files=Path(folder) / "c", keep_gb=0)
            before = _start_peak()
            benchmark.prepare(test)
            benchmark.predict(network, test, torch.device("cpu"))
            decoded = benchmark.bytes_made(SIDE) * count
            files = decoded // (SIDE * SIDE * 3)
            print(f"| {files:,} | {decoded / 1e6:,.0f} MB | {(_status('VmHWM') - before) / 1e6:,.0f} MB |")  # noqa: T201

    _predictions()


def _predictions() -> None:
    """Predict, measure and write a cell of half the corruptions of ImageNet-C, and of all; a row for each."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (TESTED, TINY, TINY, 3), np.uint8)
    indices = np.arange(TESTED)
    test = TestPictures(images=images, labels=indices % CLASSES, indices=indices)
    network = (
        nn.Sequential(nn.Flatten(), nn.Linear(3 * TINY * TINY, CLASSES)).eval().requires_grad_(requires_grad=False)
    )
    print("\n| predictions | predicted | measured too | written too | file |")  # noqa: T201
    print("| ---: | ---: | ---: | ---: | ---: |")  # noqa: T201
    for count in (1, len(OFFICIAL) // 2, len(OFFICIAL)):  # the first time warms up
        benchmark = Corruptions(names=OFFICIAL[:count], exclude=())
        cells = [(name, severity) for name in OFFICIAL[:count] for severity in range(1, 6)]
        made = made_corrupted(test, cells, lambda piece: images[piece.rows], None, 0)
        before, peaks = _start_peak(), []
        predictions = predict_corrupted(network, test, torch.device("cpu"), made)
        peaks.append(_status("VmHWM") - before)
        benchmark.measure(predictions)
        peaks.append(_status("VmHWM") - before)
        file = seal([predictions_table(predictions, benchmark.extras)])
        peaks.append(_status("VmHWM") - before)
        shown = " | ".join(f"{nbytes / 1e6:,.0f} MB" for nbytes in (*peaks, len(file)))
        print(f"| {len(predictions):,} | {shown} |")  # noqa: T201


def _write(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / f"n{label:08d}" / f"{number:08d}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file, quality=85)


def _start_peak() -> int:
    """Forget the peak so far; returns the bytes that are resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
