"""A look at a mixing set: a contact sheet of crops, and how complex they are.

The crops are as in training: a picture by its weight, a place in it, at the size asked for; but no picture is shown
again before all others were, so that a sheet shows as much of the set as it can.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table
from rich.text import Text

from pixmix_ray.datasets.picture_files import in_threads
from pixmix_ray.errors import RequestError, one_line
from pixmix_ray.experiment.file import parse_yaml
from pixmix_ray.mixing_sets import MIXING_SETS, MixingSet, Pictures, shorter_side_for
from pixmix_ray.mixing_sets.complexity import MEASURES, SMALLEST_SIDE
from pixmix_ray.mixing_sets.sources import PictureReader
from pixmix_ray.plugins import Part
from pixmix_ray.report.files import written_whole
from pixmix_ray.seeding import rng

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

GAP = 2  # pixels between the pictures of a sheet
TEXT = 12  # pixels below a picture, for its name
PLAIN, STANDING_OUT = (200, 200, 200), (255, 160, 0)
NAMED = 10  # pictures in a line
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
        names: what each crop is of: a file, or the number of a picture.
        notable: numbers of the crops of pictures that `remarks` point out.
        remarks: a line for each way in which pictures of the set are odd: black, of one colour, tiny.
    """

    crops: NDArray[np.uint8]
    label: str
    version: str
    total: int
    seed: int
    names: tuple[str, ...]
    notable: frozenset[int]
    remarks: tuple[str, ...]


def parse_mixing_set(text: str, *, is_trusted: bool = False) -> Part[MixingSet]:
    """The mixing set that `text` describes as an experiment file would: a name, names joined by +, or a mapping.

    Args:
        text: in YAML.
        is_trusted: whether classes that the trials of `fvis` name may be imported, as if `trust: true` stood there.

    Raises:
        RequestError: it is not YAML, or describes no mixing set.
    """
    try:
        spec = parse_yaml(text)
    except (yaml.YAMLError, ValueError):
        raise RequestError(
            f"{text!r} is not YAML: write a name, or a mapping as '{{name: fractals, count: 10}}'"
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
    if count * (side + GAP) * (side + TEXT + GAP) > LARGEST_SHEET:
        raise RequestError(f"{count} pictures of {side} pixels are too many for a sheet: lower --count or --side")
    settings, shorter_side = mixing_set.settings, shorter_side_for(side)
    pictures = settings.pictures(shorter_side)
    readers = settings.readers(shorter_side)
    names = [f"{number}" if reader is None else reader.short for number, reader in enumerate(readers)]
    generator = rng(seed, "sheet")
    chosen = _chosen(pictures, count, generator)
    oddities = _oddities(pictures, readers, side)
    odd = frozenset(number for numbers in oddities.values() for number in numbers)
    return Sample(
        crops=np.stack([_crop(pictures, number, side, generator) for number in chosen]),
        label=settings.label(mixing_set.own_name),
        version=pictures.version,
        total=len(pictures),
        seed=seed,
        names=tuple(names[number] for number in chosen),
        notable=frozenset(place for place, number in enumerate(chosen) if number in odd),
        remarks=tuple(_remark(what, [names[number] for number in numbers]) for what, numbers in oddities.items()),
    )


def _chosen(pictures: Pictures, count: int, generator: np.random.Generator) -> list[int]:
    """The numbers of `count` pictures, drawn by weight; each once, before any is there again."""
    shares = None if pictures.weights is None else pictures.weights / pictures.weights.sum()
    chosen: list[int] = []
    while len(chosen) < count:
        size = min(count - len(chosen), len(pictures))
        chosen += generator.choice(len(pictures), size=size, replace=False, p=shares).tolist()
    return chosen


def _crop(pictures: Pictures, number: int, side: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """(side, side, 3) of a picture, anywhere in it, mirrored where the set asks for it."""
    image = pictures[number]
    top, left = (int(generator.integers(length - side + 1)) for length in image.shape[:2])
    crop = image[top : top + side, left : left + side]
    is_mirrored = pictures.mirrored is not None and pictures.mirrored[number] and generator.random() < 0.5
    return crop[:, ::-1] if is_mirrored else crop


def _oddities(pictures: Pictures, readers: Sequence[PictureReader | None], side: int) -> dict[str, list[int]]:
    """What is odd about pictures, and of which: each in one kind alone."""
    flat = [number for number in range(len(pictures)) if _is_flat(pictures[number])]
    black = [number for number in flat if not pictures[number][0, 0].any()]
    sizes = in_threads(lambda reader: side if reader is None else min(reader.size()), readers)
    tiny = [number for number, size in enumerate(sizes) if size < side]
    kinds = {
        "black": black,
        "of one colour": [number for number in flat if number not in set(black)],
        f"smaller than crops of {side} pixels, and enlarged": [number for number in tiny if number not in set(flat)],
    }
    return {what: numbers for what, numbers in kinds.items() if numbers}


def _remark(what: str, names: Sequence[str]) -> str:
    """One line: how many pictures, what they are, and the first of them."""
    are = "1 picture is" if len(names) == 1 else f"{len(names)} pictures are"
    more = ", ..." if len(names) > NAMED else ""
    return f"{are} {what}: {', '.join(names[:NAMED])}{more}"


def _is_flat(image: NDArray[np.uint8]) -> bool:
    """Whether a picture (H, W, 3) is of one colour; looked at in full only where its corners do not tell."""
    first = image[0, 0]
    return bool((image[-1, -1] == first).all()) and bool((image == first).all())


def contact_sheet(images: NDArray[np.uint8], names: Sequence[str], notable: Collection[int] = ()) -> Image.Image:
    """The pictures (N, S, S, 3) uint8 side by side in rows on black, each above its name, about as wide as high.

    Args:
        images: the pictures.
        names: their N names; what does not fit is cut in the middle.
        notable: numbers of those whose name stands out.
    """
    count, side = images.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    width, height = side + GAP, side + TEXT + GAP
    sheet = Image.new("RGB", (columns * width - GAP, rows * height - GAP))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT - 2)
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        left, top = number % columns * width, number // columns * height
        sheet.paste(Image.fromarray(image), (left, top))
        colour = STANDING_OUT if number in notable else PLAIN
        pen.text((left, top + side), _fitting(name, side, font), fill=colour, font=font)
    return sheet


def _fitting(name: str, width: int, font: Font) -> str:
    """A name that is at most so many pixels wide, its middle left out where it is longer."""
    text = one_line(name, limit=1000)
    kept = len(text)
    while kept > 2 and font.getlength(text) > width:
        kept -= 1
        start = math.ceil(kept / 4)  # the end tells more files apart
        text = f"{name[:start]}…{name[start - kept :]}"
    return text


def write_sheet(sample: Sample, file: Path) -> None:
    """Write the contact sheet of a sample as a PNG.

    Raises:
        RequestError: the file cannot be written.
    """
    with written_whole(file) as beside:
        contact_sheet(sample.crops, sample.names, sample.notable).save(beside, format="PNG")


def measured(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Every measure of `pixmix_ray.mixing_sets.complexity` of the pictures, (N,) each.

    Raises:
        RequestError: the pictures are too small.
    """
    if images.shape[1] < SMALLEST_SIDE:
        raise RequestError(f"complexity needs crops of at least {SMALLEST_SIDE} pixels, got --side {images.shape[1]}")
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
