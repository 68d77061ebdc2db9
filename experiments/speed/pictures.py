"""The speed of the generators of mixing sets: pictures a second of one thread, reduced to what training stores.

Seconds are the processor's and not the clock's: a generator waits for nothing, and other work on the machine then does
not count. Of the peers, pyrtools can be installed: its steerable pyramid is what the statistical model spends its time
in, so that step is timed beside it. The authors' generators are scripts and no packages: nothing here runs them. Nor
does anything run torch-lucent 0.1.8, which makes feature visualizations: it calls functions that kornia has moved.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType
from typing import Annotated, Final, Literal

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator

from experiments.speed.document import Grid, processors, rate_text, ratio_text, today, versions
from experiments.speed.timing import threads
from pixmix_ray.datasets.picture_files import resized
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.mixing_sets import DeadLeaves, FractalDb, Fractals, SpectrumColorWmm, StyleGanOriented, shorter_side_for
from pixmix_ray.mixing_sets.feature_visualizations.feature_visualization import (
    draw_channels,
    optimize_pictures,
    spectrum_shape,
)
from pixmix_ray.mixing_sets.synthetic.spectrum_color_wmm import steerable_pyramid
from pixmix_ray.models import CifarResNet
from pixmix_ray.seeding import rng
from pixmix_ray.settings import Settings

Images = NDArray[np.uint8]
Draw = Callable[[NDArray[np.int64], int], Images]

PICTURES: Final = {32: 32, 224: 8}  # drawn at once, by the size of the crops; categories of FractalDB that are searched
FVIS_PICTURES, FVIS_SIDE, FVIS_STEPS = 4, 48, 128  # at once; side and steps are those of the set by default
PYRAMID: Final = (128, 3)  # side and scales of the pyramid that the statistical model uses
PYRAMID_PICTURES = 8  # channels at once
PEER = "pyrtools"
SECONDS = 0.5  # of the processor, the least that one measurement takes


@dataclass(frozen=True, kw_only=True)
class PictureRate:
    """What was measured for one generator, or one step of it.

    Attributes:
        name: of the mixing set, as results call it, or of the step.
        side: of the pictures in pixels.
        ours: pictures a second.
        theirs: those of the peer, none where there is no peer.
    """

    name: str
    side: int
    ours: float
    theirs: float | None = None


class PictureSpeedRequest(Settings):
    """What to measure, and how.

    Attributes:
        sets: names of generators; none means all.
        size: side of the crops that the pictures are for: 32 or 224 pixels.
        repeats: measurements of each, of which the median counts.
    """

    sets: tuple[str, ...] = ()
    size: Literal[32, 224] = 32
    repeats: Annotated[int, Field(ge=1)] = 3

    @field_validator("sets")
    @classmethod
    def _are_known(cls, sets: tuple[str, ...]) -> tuple[str, ...]:
        for name in sets:
            if name not in GENERATORS:
                raise UnknownNameError("generator", name, GENERATORS)
        return sets


def _fractaldb(indices: NDArray[np.int64], side: int) -> Images:
    """FractalDB's, with as many categories as pictures: their search is in the cache after the first call."""
    return FractalDb(count=len(indices)).draw_reduced(indices, side)


def _fvis(indices: NDArray[np.int64], side: int) -> Images:
    """Feature visualizations of a ResNet-20, FVIS_PICTURES at most: what its weights are is nothing to the speed."""
    with torch.random.fork_rng(devices=[]):
        network = CifarResNet(depth=20).build(num_classes=10)
    count, generator = min(FVIS_PICTURES, len(indices)), torch.Generator()
    spectrum = torch.randn((count, *spectrum_shape(FVIS_SIDE)), generator=generator)
    moves = (torch.rand(count, 4, generator=generator) * 2 - 1 for _ in range(FVIS_STEPS))
    made = optimize_pictures(network, draw_channels(network, count, generator), spectrum, moves)
    drawn: Images = made.permute(0, 2, 3, 1).numpy()
    return np.stack([np.asarray(resized(Image.fromarray(picture), side)) for picture in drawn])


GENERATORS: Mapping[str, Draw] = MappingProxyType(
    {
        "dead_leaves_squares": DeadLeaves(shape="squares").draw_reduced,
        "spectrum_color_wmm": SpectrumColorWmm().draw_reduced,
        "stylegan_oriented": StyleGanOriented().draw_reduced,
        "fractaldb": _fractaldb,
        "fractals": Fractals().draw_reduced,
        "fractals (flames)": Fractals(escape_time=0).draw_reduced,
        "fractals (escape time)": Fractals(escape_time=1).draw_reduced,
        "fvis": _fvis,
    }
)
"""Name -> what draws pictures of some indices with a given side, (N, side, side, 3) uint8."""


def picture_rates(request: PictureSpeedRequest, tell: Callable[[str], None]) -> list[PictureRate]:
    """The rates of the generators that are asked for, and of the pyramid of spectrum_color_wmm.

    Args:
        request: what to measure.
        tell: takes a line about each.
    """
    side, indices = shorter_side_for(request.size), np.arange(PICTURES[request.size])
    rates = []
    with threads(1):
        for name in request.sets or GENERATORS:
            tell(f"{name}: {len(indices)} pictures of {side} pixels")
            found = pictures_per_processor_second({name: _all(name, indices, side)}, request.repeats)
            rates.append(PictureRate(name=name, side=side, ours=found[name]))
            if name == "spectrum_color_wmm":
                rates.append(_pyramid_rate(request, tell))
    return rates


def pictures_heading(request: PictureSpeedRequest) -> str:
    """How the rates were measured: command, hardware, versions, pictures and what is timed, in Markdown."""
    chosen = ["--sets", f"'{','.join(request.sets)}'"] if request.sets else []
    command = " ".join(
        ["python -m experiments.speed pictures", *chosen, f"--size {request.size} --repeats {request.repeats}"]
    )
    try:
        peer = f"{PEER} {version(PEER)}"
    except PackageNotFoundError:
        peer = f"{PEER} not installed, so not compared"
    return (
        f"`{command}`: {processors('cpu', 1)}; {versions(('torch', 'numpy', 'scipy', 'pillow'))}, {peer}; {today()}. "
        f"Medians of {request.repeats}, in seconds of the processor, one thread, {PICTURES[request.size]} pictures at "
        "once: drawn in the generator's own size and fitted, or drawn in the size asked for; FractalDB without the "
        f"search of its categories; fvis {FVIS_PICTURES} at once, of {FVIS_SIDE} pixels and {FVIS_STEPS} steps, of a "
        "ResNet-20 of random weights. Sets are drawn on all cores. The pyramid: one channel, split and put together "
        "again."
    )


def pictures_grid(rates: Sequence[PictureRate]) -> Grid:
    """A row for each generator."""
    rows = [
        (
            rate.name,
            str(rate.side),
            rate_text(rate.ours),
            "-" if rate.theirs is None else PEER,
            rate_text(rate.theirs),
            _ratio(rate),
        )
        for rate in rates
    ]
    columns = ("generator", "side", "ours, pictures/s", "peer", "peer, pictures/s", "ratio")
    return Grid(columns=columns, numbers=frozenset({1, 2, 4, 5}), rows=tuple(rows))


def _all(name: str, indices: NDArray[np.int64], side: int) -> Callable[[], Images]:
    return lambda: GENERATORS[name](indices, side)


def _pyramid_rate(request: PictureSpeedRequest, tell: Callable[[str], None]) -> PictureRate:
    side, scales = PYRAMID
    channels = rng(0, "speed pyramid").standard_normal((PYRAMID_PICTURES, side, side)).astype(np.float32)
    pipelines: dict[str, Callable[[], NDArray[np.float32]]] = {"ours": lambda: pyramid_there_and_back(channels)}
    if find_spec(PEER) is None:
        tell(f"{PEER} is not installed, so not compared")
    else:
        pipelines[PEER] = lambda: peer_pyramid_there_and_back(channels)
    found = pictures_per_processor_second(pipelines, request.repeats)
    name = f"spectrum_color_wmm (a pyramid of {scales} scales)"
    return PictureRate(name=name, side=side, ours=found["ours"], theirs=found.get(PEER))


def pyramid_there_and_back(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channels (N, S, S) split into bands and put together again by our pyramid, on the spectra of all at once."""
    pyramid = steerable_pyramid(*PYRAMID)
    spectra = scipy.fft.rfft2(channels, norm="ortho")
    whole = spectra * pyramid.low_pass**2
    for number in range(len(pyramid.sizes)):
        pyramid.add_band(whole, pyramid.band(spectra, number), number)
    back: NDArray[np.float32] = scipy.fft.irfft2(whole, s=channels.shape[1:], norm="ortho")
    return back


def peer_pyramid_there_and_back(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same by pyrtools, one channel after the other, as it takes them."""
    from pyrtools.pyramids import SteerablePyramidFreq

    pyramids = (SteerablePyramidFreq(channel, height=PYRAMID[1], order=3) for channel in channels)
    return np.stack([pyramid.recon_pyr().astype(np.float32) for pyramid in pyramids])


def pictures_per_processor_second(pipelines: Mapping[str, Callable[[], Sized]], repeats: int) -> dict[str, float]:
    """The median rate of each pipeline, in pictures a second of processor time of this process.

    Each is run once before, to warm up and to find how often it must be repeated; the measurements go in turn.
    """
    calls = {name: max(1, round(SECONDS / max(_seconds(pipeline, 1)[1], 1e-9))) for name, pipeline in pipelines.items()}
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(repeats):
        for name, pipeline in pipelines.items():
            count, seconds = _seconds(pipeline, calls[name])
            rates[name].append(count / seconds)
    return {name: statistics.median(measured) for name, measured in rates.items()}


def _seconds(pipeline: Callable[[], Sized], calls: int) -> tuple[int, float]:
    """How many pictures `calls` calls made, and the processor time that they took."""
    started = time.process_time()
    made = sum(len(pipeline()) for _ in range(calls))
    return made, max(time.process_time() - started, 1e-9)


def _ratio(rate: PictureRate) -> str:
    return ratio_text(None if rate.theirs is None else rate.ours / rate.theirs)
