"""Where the time of our pipeline goes, in milliseconds of a core for a picture of ImageNet's size.

    python -m experiments.speed.loading_steps [--repeats 20]

Each step of 32 pictures on its own, on one thread, the median of repeats; the files, crops and settings are those of
`experiments.speed.loading`. What starts and feeds processes is not in it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.speed.document import processors, today, versions
from experiments.speed.loading import CPU, MEAN, SIDE, STD, write_pictures
from pixmix_ray.datasets import jpeg
from pixmix_ray.datasets.picture_files import decoded, resized_box
from pixmix_ray.memory import keep_freed_memory
from pixmix_ray.methods import PixMix
from pixmix_ray.methods.pixmix import mix
from pixmix_ray.mixing_sets.folder import PictureFolder
from pixmix_ray.models import Normalise
from pixmix_ray.seeding import torch_generator, uniforms
from pixmix_ray.training.streamed import DRAWS, GROUP
from pixmix_ray.transforms import ALL, OPERATIONS, operation_parameter, random_box


def steps(folder: Path, count: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name: functions that do a step for `count` pictures, which are written to a folder."""
    files, mixing = write_pictures(folder, count)
    contents = [file.read_bytes() for file in files]
    frames = [frame for content in contents if (frame := jpeg.frame(content)) is not None]
    draws = uniforms(0, "steps", indices=np.arange(count), count=DRAWS).tolist()
    boxes = [random_box(frame.height, frame.width, draw[:-1]) for frame, draw in zip(frames, draws, strict=True)]
    shortened = [
        jpeg.down_to(content, frame, top + height)
        for content, frame, (top, _, height, _) in zip(contents, frames, boxes, strict=True)
    ]
    whole = [decoded(content, "") for content in contents]

    def cut() -> list[Image.Image]:
        return [
            resized_box(rgb, (left, top, left + width, top + height), SIDE)
            for rgb, (top, left, height, width) in zip(whole, boxes, strict=True)
        ]

    cuts = cut()
    planes = np.empty((count, 3, SIDE, SIDE), np.uint8)

    def lay_out() -> None:
        for place, picture in enumerate(cuts):
            planes[place] = np.asarray(picture).transpose(2, 0, 1)

    lay_out()
    images, bank = torch.from_numpy(planes), PictureFolder(folders=(mixing,)).pictures(256).to(CPU)
    method, normalise = PixMix(beta=4, severity=1), Normalise(MEAN, STD)
    generator = torch_generator(0, "steps")
    pictures, choices = bank.crops(count, SIDE, generator), method.draw(count, generator)
    mixed = mix(images, pictures, choices, ALL)
    level, is_negative = choices.level[:, 0], choices.is_negative[:, 0]
    parameters = {name: operation_parameter(name, level, is_negative, SIDE) for name in ALL}

    def copies() -> None:
        """A copy of each picture, the operations in turn; a mix takes 1.5 of them on average."""
        for place in range(count):
            name, row = ALL[place % len(ALL)], slice(place, place + 1)
            OPERATIONS[name](images[row], parameters[name][row])

    by_pixels = mixed.contiguous(memory_format=torch.channels_last)
    return {
        "decoding, whole": lambda: [decoded(content, "") for content in contents],
        "decoding, down to the crop": lambda: [decoded(content, "") for content in shortened],
        "crop and resize": cut,
        "planes": lay_out,
        "crops of mixing pictures": lambda: bank.crops(count, SIDE, generator),
        "PixMix": lambda: mix(images, pictures, choices, ALL),
        "one augmented copy": copies,
        "layout of the batch": lambda: mixed.contiguous(memory_format=torch.channels_last),
        "normalisation": lambda: normalise(by_pixels),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        measured = steps(Path(folder), GROUP)
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(asked.repeats):
            for name, step in measured.items():
                before = time.process_time()
                step()
                seconds[name].append(time.process_time() - before)
    print(f"{processors('cpu', 1)}; {versions(('pillow', 'torchvision'))}; {today()}\n")  # noqa: T201  # its result
    print("| step | ms a picture, median | least |\n| --- | ---: | ---: |")  # noqa: T201
    for name, values in seconds.items():
        median, least = (1000 / GROUP * value for value in (statistics.median(values), min(values)))
        print(f"| {name} | {median:.2f} | {least:.2f} |")  # noqa: T201


if __name__ == "__main__":
    main()
