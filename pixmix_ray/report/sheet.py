"""A look at a mixing set: a contact sheet of crops, and how complex they are.

The crops are drawn as in training: a picture by its weight, a place in it, at the size asked for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table
from rich.text import Text

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.file import parse_yaml
from pixmix_ray.experiment.plugins import MIXING_SETS, Part
from pixmix_ray.mixing_sets import MixingSet, shorter_side_for
from pixmix_ray.mixing_sets.complexity import MEASURES, SMALLEST_SIDE
from pixmix_ray.report.files import written_whole
from pixmix_ray.seeding import torch_generator

GAP = 2  # pixels between the pictures of a sheet
LARGEST_SHEET = 2**28  # pixels


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Crops of a mixing set.

    Attributes:
        crops: (N, side, side, 3) uint8.
        label: what the set is called.
        version: the fingerprint of its content.
        total: how many pictures it has.
        seed: of the draw.
        flat: numbers of the pictures that are of one colour alone, such as black ones.
    """

    crops: NDArray[np.uint8]
    label: str
    version: str
    total: int
    seed: int
    flat: tuple[int, ...] = ()


def parse_mixing_set(text: str, *, is_trusted: bool = False) -> Part[MixingSet]:
    """The mixing set that `text` describes as an experiment file would: a name, names joined by +, or a mapping.

    Args:
        text: in YAML.
        is_trusted: whether classes that the trials of `fvis` name may be imported, as if `trust: true` stood there.

    Raises:
        RequestError: it is no YAML, or describes no mixing set.
    """
    try:
        spec = parse_yaml(text)
    except (yaml.YAMLError, ValueError):
        raise RequestError(
            f"{text!r} is no YAML: write a name, or a mapping as '{{name: fractals, count: 10}}'"
        ) from None
    return MIXING_SETS.read(_trusting(spec) if is_trusted else spec)


def _trusting(spec: Any) -> Any:
    if isinstance(spec, list):
        return [_trusting(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    trust = {"trust": True} if "trial" in spec else {}
    return {key: _trusting(value) for key, value in spec.items()} | trust


def sampled(mixing_set: Part[MixingSet], count: int, side: int, seed: int) -> Sample:
    """`count` crops with sides of `side` pixels; the whole set is made at that size first, once a machine.

    Raises:
        RequestError: the sheet would be larger than any screen.
        DataError: the set's files are missing or broken.
    """
    if count * (side + GAP) ** 2 > LARGEST_SHEET:
        raise RequestError(f"{count} pictures of {side} pixels are too many for a sheet: lower --count or --side")
    pictures = mixing_set.settings.pictures(shorter_side_for(side))
    crops = pictures.to("cpu").crops(count, side, torch_generator(seed, "sheet"))
    return Sample(
        crops=crops.permute(0, 2, 3, 1).numpy(),
        label=mixing_set.settings.label(mixing_set.own_name),
        version=pictures.version,
        total=len(pictures),
        seed=seed,
        flat=tuple(number for number in range(len(pictures)) if _is_flat(pictures[number])),
    )


def _is_flat(image: NDArray[np.uint8]) -> bool:
    """Whether a picture (H, W, 3) is of one colour; looked at in full only where its corners do not tell."""
    first = image[0, 0]
    return bool((image[-1, -1] == first).all()) and bool((image == first).all())


def contact_sheet(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pictures (N, S, S, 3) uint8 side by side in rows on black, about as wide as high, (H, W, 3) uint8."""
    count, side = images.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, side + GAP, side + GAP, 3), dtype=np.uint8)
    cells[:count, :side, :side] = images
    sheet = cells.reshape(rows, columns, side + GAP, side + GAP, 3).swapaxes(1, 2)
    return sheet.reshape(rows * (side + GAP), columns * (side + GAP), 3)[:-GAP, :-GAP]


def write_sheet(images: NDArray[np.uint8], file: Path) -> None:
    """Write the contact sheet of the pictures as a PNG.

    Raises:
        RequestError: the file cannot be written.
    """
    with written_whole(file) as beside:
        Image.fromarray(contact_sheet(images)).save(beside, format="PNG")


def measured(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Every measure of `pixmix_ray.mixing_sets.complexity` of the pictures, (N,) each.

    Raises:
        RequestError: the pictures are too small.
    """
    if images.shape[1] < SMALLEST_SIDE:
        raise RequestError(f"complexity is measured from {SMALLEST_SIDE} pixels on, got --side {images.shape[1]}")
    return {name: measure(images) for name, measure in MEASURES.items()}


def complexity_table(sample: Sample, measures: Mapping[str, NDArray[np.float64]]) -> Table:
    """A row a measure: its mean, standard deviation and quantiles over the crops."""
    crops = f"{len(sample.crops)} crops of {sample.crops.shape[1]} pixels out of {sample.total} pictures"
    table = Table(title=Text(f"{sample.label}: {crops}"), title_justify="left")
    table.add_column("measure")
    for header in ("mean", "std", "5 %", "median", "95 %"):
        table.add_column(header, justify="right")
    for name, values in measures.items():
        numbers = [values.mean(), values.std(), *np.quantile(values, [0.05, 0.5, 0.95])]
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    return table


def write_measures(sample: Sample, measures: Mapping[str, NDArray[np.float64]], file: Path) -> None:
    """Write the measures as Parquet, a row a crop: mixing_set, version, side, seed, crop, and one column a measure.

    Raises:
        RequestError: the file cannot be written.
    """
    count, side = sample.crops.shape[:2]
    same = {"mixing_set": sample.label, "version": sample.version, "side": side, "seed": sample.seed}
    columns = {name: [value] * count for name, value in same.items()}
    table = pa.table({**columns, "crop": np.arange(count), **measures})
    with written_whole(file) as beside:
        pq.write_table(table, beside)
