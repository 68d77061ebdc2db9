"""CIFAR-10 as photographs in the layouts of ImageNet and Places365, for runs of a size for two cores.

    python experiments/photographs.py CIFAR_ROOT OUT [--layout imagenet|places365] [--train 3000] [--test 1000]

The pictures are real and small: they are enlarged to 72 to 128 pixels, each to its own size, and saved as JPEGs. What
such a run shows is that everything works on pictures in files, not how good a method is on ImageNet.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.datasets import Cifar10, ImageData, evenly_spaced
from pixmix_ray.seeding import rng

SMALLEST, LARGEST = 72, 128  # pixels
PLACES = 8  # classes of CIFAR-10 that stand for scenes


def write_imagenet(data: ImageData, out: Path, counts: tuple[int, int]) -> None:
    """Folders train/CLASS and val/CLASS."""
    for part, number, label, picture in _pictures(data, counts):
        _save(out / part / data.class_names[label] / f"{number:05d}.JPEG", picture)


def write_places365(data: ImageData, out: Path, counts: tuple[int, int]) -> None:
    """Places365's lists and folders, of the first classes."""
    names = [f"/{name[0]}/{name}" for name in data.class_names[:PLACES]]
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for part, number, label, picture in _pictures(data, counts):
        if label >= PLACES:
            continue
        name = f"{names[label]}/{number:08d}.jpg" if part == "train" else f"Places365_val_{number:08d}.jpg"
        _save(out / ("data_large_standard" if part == "train" else "val_large") / name.lstrip("/"), picture)
        lists[part].append(f"{name} {label}\n")
    (out / "places365_train_standard.txt").write_text("".join(lists["train"]))
    (out / "places365_val.txt").write_text("".join(lists["val"]))
    (out / "categories_places365.txt").write_text("".join(f"{name} {label}\n" for label, name in enumerate(names)))


def _pictures(data: ImageData, counts: tuple[int, int]) -> Iterator[tuple[str, int, int, Image.Image]]:
    """Part, number, label and picture; as many of each class in each part."""
    parts = {"train": (data.train_images, data.train_labels), "val": (data.test_images, data.test_labels)}
    for (part, (images, labels)), count in zip(parts.items(), counts, strict=True):
        for label in range(len(data.class_names)):
            rows = np.flatnonzero(labels == label)
            for row in rows[evenly_spaced(len(rows), count // len(data.class_names))]:
                yield part, int(row), label, _enlarged(images[row], part, int(row))


def _enlarged(image: NDArray[np.uint8], part: str, row: int) -> Image.Image:
    width, height = rng(0, "photograph", part, row).integers(SMALLEST, LARGEST + 1, 2).tolist()
    return Image.fromarray(np.array(image)).resize((width, height), Image.Resampling.BICUBIC)


def _save(file: Path, picture: Image.Image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, quality=90)


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder that holds cifar-10-batches-py")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layout", choices=("imagenet", "places365"), default="imagenet")
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=1000)
    asked = parser.parse_args()
    write = write_imagenet if asked.layout == "imagenet" else write_places365
    write(Cifar10(root=asked.root).load(), asked.out, (asked.train, asked.test))


if __name__ == "__main__":
    main()
