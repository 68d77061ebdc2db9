"""The measurement: pictures of ImageNet's size from files to batches, beside the official pipeline and other loaders.

    python -m experiments.speed.loading [--pictures 128] [--repeats 3]

The official pipeline, in its steps: a JPEG is opened with Pillow, RandomResizedCrop and flip are torchvision's, and
PixMix mixes it with a JPEG of the mixing set that is opened, resized and cropped for it (`pillow_pixmix`). Ours is what
a training does: a worker process reads, decodes and crops, and PixMix is made on the device in groups. Then reading
alone, decoded, cropped and flipped: ours, and other well-kept ways to the same pictures.

Figures are pictures a second of processor time, of this process and its workers together, so that they are rates of one
core whatever else runs; all are measured in turn. On a GPU what follows the crop costs no core, and the rates of
reading are the ones that count.
"""

import argparse
import resource
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import io as torchvision_io
from torchvision import transforms
from torchvision.transforms import v2

from experiments.speed.document import processors, today, versions
from experiments.speed.pillow_pixmix import OFFICIAL, PillowPixMix
from pixmix_ray.datasets.encoded import EncodedFiles, EncodedSet
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.memory import keep_freed_memory
from pixmix_ray.methods import Baseline, Method, PixMix, Setup
from pixmix_ray.mixing_sets.folder import PictureFolder
from pixmix_ray.models import Normalise
from pixmix_ray.seeding import rng
from pixmix_ray.training.streamed import GROUP, Cut, Group, Reader, StreamedData, read_groups

WIDTH, HEIGHT, SIDE, MIXING_SIDE = 500, 375, 224, 512  # pixels; an average picture of ImageNet, a crop, a mixing one
MIXING_PICTURES = 16
VISITS = 8  # of each picture, so that starting a process counts as little as in an epoch
QUALITY = 90  # about 90 kB a picture; ImageNet's have 110
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")


def picture(width: int, height: int, key: int) -> Image.Image:
    """A picture with the spectrum of photographs, amplitudes falling as one over the frequency, in colour."""
    noise = rng(0, "loading", key).normal(size=(3, height, width))
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    spectrum = np.fft.rfft2(noise) / np.maximum(np.hypot(rows, columns), 1 / width)
    smooth = np.fft.irfft2(spectrum, s=(height, width))
    smooth[1:] = 0.3 * smooth[1:] + 0.7 * smooth[:1]  # channels are much alike
    scaled = 128 + 60 * (smooth - smooth.mean((1, 2), keepdims=True)) / smooth.std((1, 2), keepdims=True)
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def official(files: Sequence[Path], mixing: Sequence[Path]) -> Iterator[Tensor]:
    """The official pipeline, a picture at a time, normalised."""
    crop = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip()])
    mix, normalise = (
        PillowPixMix(OFFICIAL[SIDE], mixing, (256, SIDE), rng(0, "official")),
        transforms.Normalize(MEAN, STD),
    )
    for file in files:
        with Image.open(file) as opened:
            yield normalise(mix(crop(opened.convert("RGB"))))


def official_reading(files: Sequence[Path]) -> Iterator[Tensor]:
    """Its baseline: opened, cropped, flipped, normalised."""
    steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    for file in files:
        with Image.open(file) as opened:
            yield steps(opened.convert("RGB"))


def ours(files: Sequence[Path], mixing: Path, method: Method) -> Iterator[Tensor]:
    """Batches of a training, each picture of which was normalised."""
    recipe = Recipe.read({"batch_size": 32, "crop": "resized"}, "training")
    pictures = PictureFolder(folders=(mixing,)).pictures(256).to(CPU)
    encoded = EncodedSet(pictures=EncodedFiles(files), labels=np.zeros(len(files), np.int64))
    data = StreamedData(files=encoded, device=CPU, height=SIDE, resize=256, pictures=pictures)
    setup = Setup(device=CPU, height=SIDE, data_version="", seed=0, size=SIDE, crop=recipe.cropped)
    normalise = Normalise(MEAN, STD)
    for images, _ in data.batches(method.start(setup), recipe, seed=0).batches(1):
        yield from normalise(images)


def _reader(files: Sequence[Path]) -> Reader:
    encoded = EncodedSet(pictures=EncodedFiles(files), labels=np.zeros(len(files), np.int64))
    return Reader(files=encoded, cut=Cut(size=SIDE))


def _groups(files: Sequence[Path], size: int) -> list[Group]:
    rows = np.arange(len(files))
    return [Group(epoch=1, rows=rows[start : start + size]) for start in range(0, len(rows), size)]


def in_processes(files: Sequence[Path]) -> Iterator[Tensor]:
    """Ours: groups cut by a worker of torch's DataLoader."""
    for found in read_groups(_reader(files), _groups(files, GROUP), 1, CPU):
        yield from found


def in_threads(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """The same, cut by threads of this process."""
    reader = _reader(files)

    def read(group: Group) -> NDArray[np.uint8]:
        made = np.empty((len(group.rows), 3, SIDE, SIDE), np.uint8)
        reader.read(group, made)
        return made

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(read, _groups(files, 8)):
            yield from found


class TorchvisionReader(Dataset[Tensor]):
    """Pictures decoded and cropped by torchvision's own operations on tensors."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._crop = v2.RandomResizedCrop(SIDE, antialias=True)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> Tensor:
        content = torchvision_io.read_file(str(self._files[row]))
        cropped: Tensor = self._crop(torchvision_io.decode_jpeg(content, mode=torchvision_io.ImageReadMode.RGB))
        return cropped


def by_torchvision(files: Sequence[Path]) -> Iterator[Tensor]:
    """torchvision.io and v2 in a worker of torch's DataLoader."""
    for batch in DataLoader(TorchvisionReader(files), batch_size=32, num_workers=1):
        yield from batch


def by_web_dataset(archive: Path) -> Iterator[NDArray[np.uint8]]:
    """The webdataset package on a tar archive, Pillow's decoding, torchvision's crop, in a worker of its loader."""
    web = import_module("webdataset")
    crop = transforms.RandomResizedCrop(SIDE)
    data = (
        web.WebDataset(str(archive), shardshuffle=False)
        .decode("pilrgb")
        .to_tuple("jpg")
        .map(lambda sample: (np.asarray(crop(sample[0])),))
    )
    for (batch,) in DataLoader(data.batched(32, partial=True), batch_size=None, num_workers=1):
        yield from batch


def rate(made: Callable[[], Iterator[object]]) -> float:
    """Pictures a second of processor time, that of finished workers included."""
    before = _processor_seconds()
    count = sum(1 for _ in made())
    return count / (_processor_seconds() - before)


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def write_pictures(folder: Path, count: int) -> tuple[list[Path], Path]:
    """Write `count` JPEGs of ImageNet's size, and some to mix: the paths of the first, the folder of the others."""
    files, mixing = folder / "pictures", folder / "mixing"
    files.mkdir()
    mixing.mkdir()
    for number in range(count):
        picture(WIDTH, HEIGHT, number).save(files / f"{number:05d}.jpg", quality=QUALITY)
    for number in range(MIXING_PICTURES):
        picture(MIXING_SIDE, MIXING_SIDE, 10_000 + number).save(mixing / f"{number}.jpg", quality=QUALITY)
    return sorted(files.iterdir()), mixing


def pipelines(folder: Path, count: int) -> dict[str, Callable[[], Iterator[object]]]:
    """What is measured, by name, on pictures that are written to a folder."""
    archive = folder / "pictures.tar"
    files, mixing = write_pictures(folder, count)
    with tarfile.open(archive, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    listed, mixed = files * VISITS, sorted(mixing.iterdir())
    found: dict[str, Callable[[], Iterator[object]]] = {
        "official, PixMix": lambda: official(listed, mixed),
        "ours, PixMix": lambda: ours(listed, mixing, PixMix(beta=4, severity=1)),
        "official, baseline": lambda: official_reading(listed),
        "ours, baseline": lambda: ours(listed, mixing, Baseline()),
        "reading: ours, Pillow, DataLoader": lambda: in_processes(listed),
        "reading: ours, Pillow, threads": lambda: in_threads(listed),
        "reading: torchvision.io and v2, DataLoader": lambda: by_torchvision(listed),
    }
    try:
        import_module("webdataset")
        found["reading: webdataset, Pillow, DataLoader"] = lambda: by_web_dataset(archive)
    except ImportError:
        pass
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        measured = pipelines(Path(folder), asked.pictures)
        rates: dict[str, list[float]] = {name: [] for name in measured}
        for turn in range(asked.repeats + 1):  # the first one warms up
            for name, made in measured.items():
                found = rate(made)
                if turn:
                    rates[name].append(found)
    print(f"{processors('cpu', 1)}; {versions(('pillow', 'torchvision'))}; {today()}\n")  # noqa: T201  # its result
    print("| pipeline | pictures/s of a core | of the official one |\n| --- | ---: | ---: |")  # noqa: T201
    for name, values in rates.items():
        base = statistics.median(rates["official, PixMix" if "PixMix" in name else "official, baseline"])
        median = statistics.median(values)
        print(f"| {name} | {median:.0f} | {median / base:.2f} |")  # noqa: T201


if __name__ == "__main__":
    main()
