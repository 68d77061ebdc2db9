"""The measurement: every corruption of C and C-bar and every perturbation of P, in turn with its peers.

What is timed is one call on pictures in memory, as many as evaluation corrupts at once, random draws included. P is
timed at its first difficulty, on fewer pictures: it works on some dozens at once, so more would tell no more.
"""

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from experiments.speed.corruption_peers import CorruptionPeer, installed_peers
from experiments.speed.material import pictures_at_rest
from experiments.speed.timing import pictures_per_second, threads
from pixmix_ray.benchmarks.base import batches
from pixmix_ray.corruptions import BAR_NAMES, EXTRA, OFFICIAL, Variant, corrupt, frost_pictures
from pixmix_ray.corruptions.p.sequences import EXTRA_PERTURBATIONS, PERTURBATIONS, perturb
from pixmix_ray.errors import DataError
from pixmix_ray.settings import Settings

Images = NDArray[np.uint8]
Family = Literal["c", "c_bar", "p"]

SECONDS = 0.1  # the least that one measurement takes
MANY = 10**6
OURS = "ours"
VARIANTS: Final[Mapping[int, Variant]] = {32: "cifar", 224: "imagenet"}
PEER_PICTURES: Final = {32: 32, 224: 2}  # for what goes picture by picture: more take longer and tell no more
PERTURBED_PICTURES: Final = {32: 64, 224: 4}
CROPPED_FROM: Final = {32: 32, 224: 256}  # the side of the pictures that P's frames are cut from


class CorruptionSpeedRequest(Settings):
    """What to measure, and how.

    Attributes:
        family: the corruptions of C, those of C-bar, or the perturbations of P; none means all.
        size: side of the pictures in pixels, which decides between the sets of CIFAR and of ImageNet.
        severity: of C and C-bar.
        repeats: measurements of each, of which the median counts.
    """

    family: Family | None = None
    size: Literal[32, 224] = 32
    severity: Annotated[int, Field(ge=1, le=5)] = 3
    repeats: Annotated[int, Field(ge=1)] = 3

    @property
    def families(self) -> tuple[Family, ...]:
        """Those that are measured."""
        return ("c", "c_bar", "p") if self.family is None else (self.family,)

    @property
    def corrupted_at_once(self) -> int:
        """The pictures that evaluation corrupts at once."""
        return len(range(MANY)[next(batches(MANY, self.size))])

    @property
    def perturbed_at_once(self) -> int:
        """The pictures that sequences are made of at once."""
        return PERTURBED_PICTURES[self.size]


@dataclass(frozen=True, kw_only=True)
class CorruptionRate:
    """What was measured for one corruption or perturbation, or for all of a family.

    Attributes:
        family: which it is of.
        name: its own.
        ours: pictures a second; of P, sequences a second.
        peers: name of the peer -> its pictures a second; a peer that cannot make it is not in there.
        is_scored: whether it is one of those whose mean is reported, not one of the extra ones.
        ours_beside: for a mean: name of the peer -> the mean of ours over what that peer makes.
    """

    family: Family
    name: str
    ours: float
    peers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    is_scored: bool = True
    ours_beside: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def ratio(self, peer: str) -> float | None:
        """How many times as fast ours is as `peer` in making the same; None where the peer makes none of it."""
        return self.ours_beside.get(peer, self.ours) / self.peers[peer] if peer in self.peers else None


def corruption_rates(request: CorruptionSpeedRequest, tell: Callable[[str], None]) -> list[CorruptionRate]:
    """The rates of all corruptions that are asked for, family by family, each family followed by its harmonic mean.

    Args:
        request: what to measure.
        tell: takes lines about what happens, such as what is left out.
    """
    rates: list[CorruptionRate] = []
    with threads(1):
        for family in request.families:
            peers = installed_peers(tell) if family == "c" else ()
            measured = _family_rates(request, family, peers, tell)
            rates += [*measured, harmonic_mean(measured)]
    return rates


def harmonic_mean(rates: Sequence[CorruptionRate]) -> CorruptionRate:
    """The rate of a job that makes as many of each scored corruption; a peer's is over those of them that it makes."""
    scored = [rate for rate in rates if rate.is_scored]
    made = {peer: [rate for rate in scored if peer in rate.peers] for rate in scored for peer in rate.peers}
    return CorruptionRate(
        family=scored[0].family,
        name=f"harmonic mean of {len(scored)}",
        ours=statistics.harmonic_mean([rate.ours for rate in scored]),
        peers={peer: statistics.harmonic_mean([rate.peers[peer] for rate in of]) for peer, of in made.items()},
        ours_beside={peer: statistics.harmonic_mean([rate.ours for rate in of]) for peer, of in made.items()},
    )


def scored_and_extra(family: Family, size: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names whose mean is reported for a family at a size, and its extra ones."""
    variant = VARIANTS[size]
    if family == "c":
        return OFFICIAL, EXTRA
    if family == "c_bar":
        return BAR_NAMES[variant], ()
    return PERTURBATIONS[variant], EXTRA_PERTURBATIONS[variant]


def ours(family: Family, name: str, request: CorruptionSpeedRequest) -> Callable[[], Images]:
    """What makes the corrupted pictures (N, S, S, 3) of one name, or of P the sequences (N, T, S, S, 3)."""
    size, variant = request.size, VARIANTS[request.size]
    if family == "p":
        whole = pictures_at_rest(size, request.perturbed_at_once, CROPPED_FROM[size])
        return lambda: perturb(whole, name, variant=variant, crop=size)
    images = pictures_at_rest(size, request.corrupted_at_once)
    return lambda: corrupt(images, name, request.severity, variant=variant)


def _family_rates(
    request: CorruptionSpeedRequest, family: Family, peers: Sequence[CorruptionPeer], tell: Callable[[str], None]
) -> list[CorruptionRate]:
    scored, extra = scored_and_extra(family, request.size)
    names = [name for name in (*scored, *extra) if name != "frost" or _has_frost(tell)]
    few = pictures_at_rest(request.size, PEER_PICTURES[request.size])
    rates = []
    for number, name in enumerate(names, 1):
        working = [peer for peer in peers if _works(peer, few[0], name, request.severity, tell)]
        tell(f"{family} {number}/{len(names)} {name}: {'; '.join([OURS, *(peer.name for peer in working)])}")
        pipelines = {OURS: ours(family, name, request)}
        pipelines |= {peer.name: _one_by_one(peer, few, name, request.severity) for peer in working}
        with warnings.catch_warnings():
            if working:  # they use what their libraries will stop to offer
                warnings.simplefilter("ignore")
            measured = pictures_per_second(pipelines, torch.device("cpu"), repeats=request.repeats, seconds=SECONDS)
        mine = measured.pop(OURS)
        rates.append(CorruptionRate(family=family, name=name, ours=mine, peers=measured, is_scored=name in scored))
    return rates


def _one_by_one(peer: CorruptionPeer, images: Images, name: str, severity: int) -> Callable[[], Images]:
    return lambda: peer.corrupted(images, name, severity)


def _works(peer: CorruptionPeer, image: Images, name: str, severity: int, tell: Callable[[str], None]) -> bool:
    reason = peer.failure(image, name, severity)
    if reason is not None:
        tell(f"{peer.name} cannot make {name}, which its mean is then without: {reason}")
    return reason is None


def _has_frost(tell: Callable[[str], None]) -> bool:
    try:
        frost_pictures()
    except DataError as error:
        tell(f"left out: {error}")
        return False
    return True
