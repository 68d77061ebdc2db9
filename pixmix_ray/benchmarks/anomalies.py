"""Anomaly detection: tell pictures of other distributions from test pictures (paper §3.1 and Appendix C).

The paper's score is one minus the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017). Beside it: minus the
largest logit (Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022) and the
free energy (Liu et al., NeurIPS 2020). Higher is stranger, and out-of-distribution is the positive class.

Out-of-distribution pictures are one fifth as many as test pictures (Hendrycks et al., ICLR 2019, Outlier Exposure).
With `repeats` that many are drawn several times, as in that code, where the published scripts draw ten times: values
are means over the draws, and their standard deviation (that of the draws, n in the denominator) is a row of its own.
Where we differ: the first draw from a folder is evenly spaced over it, generated draws share no picture, and a spread
is told from two draws on, there from five. The noise of generated sets is in [-1, 1] in that code, which feeds it to
the network past its normalisation; here it is a picture in [0, 1] like any other, which is the same where mean and std
are .5, as in PixMix's own networks. `noise_past_normalisation` is as there for any other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn

from pixmix_ray import metrics
from pixmix_ray.benchmarks.base import (
    BENCHMARKS,
    Benchmark,
    TestPictures,
    classify,
    extras_of,
    finite_logits,
    passes,
    predictions,
)
from pixmix_ray.benchmarks.extras import ANOMALY_SCORES
from pixmix_ray.benchmarks.made_pictures import KEEP_GB, MadePictures, Piece, depth_for, key_of, prefetched, runs_of
from pixmix_ray.benchmarks.outlier_sets import (
    BLOBS_SIGMA,
    GENERATED,
    PAPER_SETS,
    blobs,
    outlier_images,
    outlier_version,
)
from pixmix_ray.datasets import evenly_spaced
from pixmix_ray.errors import DataError, UnknownNameError, WorkError
from pixmix_ray.metrics import Extra, Measurement, Predictions
from pixmix_ray.models import Normalise
from pixmix_ray.seeding import rng, uniforms
from pixmix_ray.settings import DataPath

INSIDE = "in_distribution"  # the condition of the test pictures
SHARE = 5  # test pictures for one out-of-distribution picture
MOST_DRAWS = 255  # they are counted in a byte

SCORES: Mapping[str, Callable[[Predictions], NDArray[np.generic]]] = MappingProxyType(
    {
        "msp": lambda found: 1 - found.confidence,
        "max_logit": lambda found: np.negative(found.extras["max_logit"]),
        "energy": lambda found: found.extras["energy"],
    }
)
"""The anomaly scores, (N,) each, higher for stranger pictures; `msp` is the paper's."""

AREAS: Mapping[str, Callable[[NDArray[np.generic], NDArray[np.bool_]], float]] = MappingProxyType(
    {"auroc": metrics.auroc, "aupr": metrics.aupr, "fpr95": metrics.fpr_at_recall}
)


@BENCHMARKS.add("anomalies")
class Anomalies(Benchmark):
    """Detection of out-of-distribution pictures.

    Attributes:
        generated: which of gaussian, rademacher and blobs.
        folders: name -> folder of pictures, array file or SVHN's file, such as textures: data/dtd/images.
        wanted: the sets that the average is meant to run over. Those of them that are neither generated nor among the
            folders are named in the plan and in every row.
        scores: which anomaly scores, `msp` in any case: its metrics are auroc, aupr and fpr95, those of another score
            auroc_max_logit and so on.
        repeats: how many times out-of-distribution pictures are drawn; a folder that holds no more of them than one
            draw takes is drawn once.
        seed: of the generated sets and the draws.
        blobs_sigma: of the blur of blobs, in pixels; the official code takes 1.5 at 32 pixels and 2 at 64.
        noise_past_normalisation: feed the generated sets to the network in [-1, 1], past its normalisation, as the
            official code does.
        keep_gb: gigabytes that pictures made here may take in this machine's cache, for the next checkpoint to read;
            where all of them do not fit, or with 0, they are made anew for each.
    """

    summary: ClassVar[str] = "telling Gaussian, Rademacher, Blobs and any pictures of the user's from test pictures"
    source: ClassVar[str] = "Hendrycks and Gimpel, ICLR 2017; PixMix §3.1, Appendix C"
    headline: ClassVar[tuple[str, ...]] = tuple(AREAS)
    passes: ClassVar[float] = 6  # and as many of each set of outliers
    revision: ClassVar[int] = 2  # 1 had one draw and one score
    implied: ClassVar[frozenset[str]] = frozenset({"noise_past_normalisation", "blobs_sigma"})
    location: ClassVar[frozenset[str]] = frozenset({"folders", "keep_gb"})  # version() holds their names and content
    extras: ClassVar[Mapping[str, Extra]] = MappingProxyType(
        {
            **ANOMALY_SCORES,
            "draw": Extra(meaning="number of the draw, 0 for test pictures", dtype=np.uint8, range="0 or more"),
        }
    )

    generated: tuple[str, ...] = tuple(GENERATED)
    folders: dict[str, DataPath] = Field(default_factory=dict)
    wanted: tuple[str, ...] = PAPER_SETS
    scores: tuple[str, ...] = tuple(SCORES)
    repeats: int = Field(1, ge=1, le=MOST_DRAWS)
    seed: int = 0
    blobs_sigma: float = Field(BLOBS_SIGMA, gt=0)
    noise_past_normalisation: bool = False
    keep_gb: float = Field(KEEP_GB, ge=0)

    @field_validator("generated", "scores")
    @classmethod
    def _are_known(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        kind, known = ("generated set", GENERATED) if info.field_name == "generated" else ("anomaly score", SCORES)
        for name in names:
            if name not in known:
                raise UnknownNameError(kind, name, known)
        if kind == "anomaly score" and "msp" not in names:
            raise ValueError("msp is missing: add it, as tables show this score")
        return tuple(name for name in known if name in names)

    @field_validator("folders")
    @classmethod
    def _are_other_names(cls, folders: dict[str, DataPath]) -> dict[str, DataPath]:
        if bad := [name for name in folders if name in (*GENERATED, INSIDE, "")]:
            raise ValueError(f"{bad[0]!r} is a reserved name: give the folder another name")
        return folders

    @field_validator("wanted")
    @classmethod
    def _are_each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _ordered(names)

    @model_validator(mode="after")
    def _has_a_set(self) -> Self:
        if not self.generated and not self.folders:
            raise ValueError("there is no set of outliers: name generated ones, folders, or both")
        return self

    @property
    def given(self) -> tuple[str, ...]:
        """The sets that the average does run over."""
        return _ordered((*self.generated, *self.folders))

    @property
    def missing(self) -> tuple[str, ...]:
        """The sets that it is meant to run over and does not."""
        return tuple(name for name in self.wanted if name not in self.given)

    def identity(self) -> dict[str, Any]:
        """The settings, with the names of the folders, and in words over which sets the average runs."""
        names = [name for name in self.given if name in self.folders]
        return {**super().identity(), "others": names, "missing": list(self.missing), "averaged_over": self._average}

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> Self:
        """As the base class says; where the folders lie is not known."""
        left_out = ("others", "missing", "averaged_over")
        settings = {key: value for key, value in identity.items() if key not in left_out}
        return super().from_identity({**settings, "folders": dict.fromkeys(identity.get("others", ()), "unknown")})

    @property
    def _average(self) -> str:
        return f"{len(self.given)} sets, {len(self.wanted) - len(self.missing)} of the {len(self.wanted)} wanted"

    def notes(self) -> tuple[str, ...]:
        """Which sets are missing, if any."""
        if not self.missing:
            return ()
        way_out = "name their folders, or leave them out of wanted"
        return (f"averaged over {self._average}; missing: {', '.join(self.missing)} ({way_out})",)

    def version(self) -> str:
        """Names and content of the folders."""
        versions = []
        for name, path in sorted(self.folders.items()):
            with _named(name):
                versions.append(f"{name}:{outlier_version(path)}")
        return ",".join(versions)

    def prepare(self, test: TestPictures) -> None:
        """Decode the folders; raises DataError as the base class says."""
        for name in self.folders:
            self._decoded(name, test)

    def made(self, test: TestPictures) -> MadePictures:
        """The generated sets, float32 (N, H, W, 3) in [0, 1] a piece; the draws of one follow each other in one row."""
        height, width = test.images.shape[1:3]
        count = _count(test)

        def make(piece: Piece) -> NDArray[np.float32]:
            draws = uniforms(
                self.seed, "anomalies", piece.name, indices=_places(piece, count), count=height * width * 3
            )
            make = partial(blobs, sigma=self.blobs_sigma) if piece.name == "blobs" else GENERATED[piece.name]
            return make(draws.reshape(-1, height, width, 3))

        def key(piece: Piece) -> str:
            places = _places(piece, count)
            sigma = self.blobs_sigma if piece.name == "blobs" else None
            return key_of("noise", piece.name, self.seed, height, width, sigma, int(places[0]), len(places))

        cells = [(name, draw) for name in self.generated for draw in range(self.repeats)]
        runs = list(runs_of(count, height * width * 3 * 4))
        return MadePictures(
            pieces=tuple(Piece(name, draw, rows) for name, draw in cells for rows in runs),
            make=make,
            key=key,
            nbytes=len(cells) * count * height * width * 3 * 4,
            keep_gb=self.keep_gb,
        )

    def bytes_made(self, side: int) -> int:
        """Its share of the generated sets, of which there is a picture for every fifth test picture."""
        return len(self.generated) * self.repeats * side * side * 3 * 4 // SHARE

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over the test pictures and each draw of each out-of-distribution set."""
        parts = [_with_draw(classify(network, test, device, condition=INSIDE, extras=self.extras), 0)]
        made = self.made(test)
        pieces = ((piece, made.pictures(piece)) for piece in made.pieces)
        for piece, noise in prefetched(pieces, depth_for(device)):
            parts.append(_with_draw(self._noise(network, piece, noise, _count(test), device), piece.severity))
        for name in sorted(self.folders):
            for draw, found in enumerate(self._draws(name, test)):
                parts.append(_with_draw(classify(network, found, device, condition=name, extras=self.extras), draw))
        return Predictions.join(parts)

    def _noise(
        self, network: nn.Module, piece: Piece, noise: NDArray[np.generic], count: int, device: torch.device
    ) -> Predictions:
        """Predictions for a piece of a generated set."""
        labels = np.full(len(noise), -1, dtype=np.int64)
        parts = []
        for rows in passes(len(noise), noise.shape[1], device):
            images = torch.from_numpy(np.require(noise[rows], requirements="W")).to(device).permute(0, 3, 1, 2)
            if self.noise_past_normalisation:
                images = past_normalisation(network, images)
            parts.append(finite_logits(network, images))
        logits = torch.cat(parts)
        return predictions(
            logits.softmax(dim=1),
            condition=piece.name,
            severity=0,
            indices=_places(piece, count),
            labels=labels,
            extras=extras_of(logits, labels, self.extras),
        )

    def _decoded(self, name: str, test: TestPictures) -> NDArray[np.uint8]:
        """The pictures of a folder among which to draw: those of the one draw, or all for several."""
        limit = _count(test) if self.repeats == 1 else None
        with _named(name):
            return outlier_images(self.folders[name], test.images.shape[1], limit)

    def _draws(self, name: str, test: TestPictures) -> Iterator[TestPictures]:
        """The draws from a folder; their indices are positions among its decoded pictures."""
        images, count = self._decoded(name, test), _count(test)
        for draw in range(self.repeats if len(images) > count else 1):
            if draw:
                rows = np.sort(rng(self.seed, "anomalies", name, draw).choice(len(images), count, replace=False))
            else:
                rows = evenly_spaced(len(images), count)
            yield TestPictures(images=images[rows], labels=np.full(len(rows), -1, dtype=np.int64), indices=rows)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """AUROC, AUPR and FPR95 by each score, for each set and averaged over the sets."""
        inside = predictions.select(predictions.condition == INSIDE)
        names = _ordered(name for name in np.unique(predictions.condition).tolist() if name != INSIDE)
        rows: list[Measurement] = []
        for score in self.scores:
            suffix = "" if score == "msp" else f"_{score}"
            means = []
            for name in names:
                outside = predictions.select(predictions.condition == name)
                found = _detection(SCORES[score], inside, outside, name, suffix)
                means += [row for row in found if not row.metric.endswith("_std")]
                rows += found
            for area in AREAS:
                rows.append(_mean([row for row in means if row.metric == area + suffix]))
        return rows


def past_normalisation(network: nn.Module, images: Tensor) -> Tensor:
    """What the network normalises to 2 x - 1 of pictures x (N, 3, H, W) in [0, 1]; it may lie outside of [0, 1].

    Raises:
        WorkError: there is not one `Normalise` in the network.
    """
    found = [module for module in network.modules() if isinstance(module, Normalise)]
    if len(found) != 1:
        raise WorkError(
            f"noise_past_normalisation needs a network with one Normalise of pixmix_ray.models, this one has "
            f"{len(found)}: leave it out"
        )
    return found[0].mean + found[0].std * (2 * images - 1)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of a folder say which set it is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"anomalies, set {name}: {error}") from error


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Names each once, those of the paper first, in its order, so that equal settings are equal."""
    found = set(names)
    return (*(name for name in PAPER_SETS if name in found), *sorted(found - set(PAPER_SETS)))


def _count(test: TestPictures) -> int:
    """How many pictures of an out-of-distribution set there are at most in a draw."""
    return max(1, len(test.labels) // SHARE)


def _places(piece: Piece, count: int) -> NDArray[np.int64]:
    """The places of a piece's pictures in the row of a generated set, whose draws are of `count` pictures each."""
    return piece.severity * count + np.arange(piece.rows.start, piece.rows.stop)


def _with_draw(part: Predictions, draw: int) -> Predictions:
    return replace(part, extras={**part.extras, "draw": np.full(len(part), draw, dtype=np.uint8)})


def _detection(
    score: Callable[[Predictions], NDArray[np.generic]],
    inside: Predictions,
    outside: Predictions,
    name: str,
    suffix: str,
) -> list[Measurement]:
    """The areas of one set: their means over its draws and, where there are several, their standard deviations."""
    ordinary, strange, draws = score(inside), score(outside), outside.extras["draw"]
    values: dict[str, list[float]] = {area: [] for area in AREAS}
    among = ordinary
    for draw in np.unique(draws):
        drawn = strange[draws == draw]
        # a folder may hold too few: fewer test pictures then keep the share, on which AUPR depends
        is_short = len(drawn) < len(ordinary) // SHARE
        among = ordinary[evenly_spaced(len(ordinary), SHARE * len(drawn) if is_short else None)]
        scores = np.concatenate([among, drawn])
        for area, function in AREAS.items():
            values[area].append(function(scores, np.arange(len(scores)) >= len(among)))
    n = len(among) + len(strange)
    rows = [
        Measurement(metric=area + suffix, value=float(np.mean(values[area])), n=n, condition=name) for area in AREAS
    ]
    # the mean of AUROCs of equally many pictures is the AUROC of all of them
    if min(len(among), len(strange)) > 1:
        scores = np.concatenate([among, strange])
        error = metrics.auroc_standard_error(scores, np.arange(len(scores)) >= len(among))
        rows[0] = replace(rows[0], standard_error=error)
    if len(values["auroc"]) > 1:
        rows += [
            Measurement(metric=f"{area}{suffix}_std", value=float(np.std(values[area])), n=n, condition=name)
            for area in AREAS
        ]
    return rows


def _mean(rows: list[Measurement]) -> Measurement:
    value = float(np.mean([row.value for row in rows]))
    return Measurement(metric=rows[0].metric, value=value, n=sum(row.n for row in rows))
