"""Several mixing sets as one, each with its share of the crops.

PixMix (Hendrycks et al., CVPR 2022), section 2.1 and Table 4: fractals, feature visualizations, and both together,
which was best. There all pictures of both are equally likely, and so they are here where no weights are given.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, InstanceOf, ValidationInfo, field_validator, model_serializer

from pixmix_ray.cache import Arrays, Streamed
from pixmix_ray.identity import own_name, part_identity, short_hash
from pixmix_ray.mixing_sets.base import MIXING_SETS, MixingSet, Pictures, cached_pictures
from pixmix_ray.mixing_sets.sources import PictureReader
from pixmix_ray.settings import Settings, base_folder

_PIXELS_AT_ONCE = 2**24


class Member(Settings):
    """One of the sets that are joined.

    Attributes:
        name: in the table of mixing sets.
        settings: the set itself.
        weight: its share of the crops, up to a factor; None where it was not given.
    """

    name: str
    settings: InstanceOf[MixingSet]
    weight: float | None = Field(None, gt=0)

    @model_serializer(mode="plain")
    def _as_in_a_file(self) -> dict[str, Any]:
        weight = {} if self.weight is None else {"weight": self.weight}
        return {"name": self.name, **self.settings.model_dump(mode="json"), **weight}


@MIXING_SETS.add("join")
class Join(MixingSet):
    """Several mixing sets, whose pictures follow one another.

    Attributes:
        sets: names, or mappings of name and settings as an experiment file has them, each with a `weight` if you like:
            the share of the crops that are taken from that set. Without any weight all pictures are equally likely, so
            each set counts in proportion to its number of pictures; where some have one, that of the others is 1.
    """

    summary: ClassVar[str] = "several sets as one, each with a weight; fractals+fractaldb is short for a join"
    source: ClassVar[str] = "PixMix (Hendrycks et al., CVPR 2022), Table 4: Fractals + FVis"
    sets: tuple[Member, ...] = Field(min_length=1)

    @field_validator("sets", mode="before")
    @classmethod
    def _read_sets(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list | tuple):
            return value
        base = base_folder(info)
        return tuple(item if isinstance(item, Member) else cls._member(item, base) for item in value)

    @classmethod
    def _member(cls, spec: object, base: Path | None) -> Member:
        weight: object = None
        if isinstance(spec, Mapping):
            weight, spec = spec.get("weight"), {key: value for key, value in spec.items() if key != "weight"}
        part = MIXING_SETS.read(spec, base)
        values = {"name": part.name, "settings": part.settings, "weight": weight}
        return Member.read(values, f"mixing set {part.name} of a join", base)

    def label(self, name: str) -> str:
        """The labels of the sets with their weights, if there are any: fractals+fvis, or 1*fractals+2*fvis."""
        labels = [member.settings.label(own_name(member.name, member.settings)) for member in self.sets]
        weights = self._weights()
        if weights is None:
            return "+".join(labels)
        whole = [f"({label})" if "+" in label else label for label in labels]
        return "+".join(f"{weight:g}*{label}" for weight, label in zip(weights, whole, strict=True))

    def identity(self) -> dict[str, Any]:
        """The sets' names and identities, and their shares of the crops where there are weights."""
        sets = [part_identity(member.name, member.settings) for member in self.sets]
        return {"sets": sets, "shares": self._shares()}

    def version(self) -> str:
        """`join-` and a hash of the sets' versions and shares."""
        return _version([member.settings.version() for member in self.sets], self._shares())

    def pictures(self, shorter_side: int) -> Pictures:
        """The pictures of all sets, one set after the other.

        They are copied into one map, once a machine, whatever the weights: a batch of crops is one gather.

        Raises:
            DataError: as any of the sets.
        """
        parts = [member.settings.pictures(shorter_side) for member in self.sets]
        versions = [part.version for part in parts]  # of what was read, not of what lies there since
        joined = cached_pictures(
            _version(versions, None), shorter_side, lambda: _concatenated(parts), lambda: {"joined": versions}
        )
        return Pictures(
            pixels=joined.pixels,
            offsets=joined.offsets,
            heights=joined.heights,
            widths=joined.widths,
            version=_version(versions, self._shares()),
            weights=_picture_weights(parts, self._weights()),
            mirrored=joined.mirrored,
        )

    def readers(self, shorter_side: int) -> list[PictureReader | None]:
        """Those of all sets, one set after the other."""
        return [reader for member in self.sets for reader in member.settings.readers(shorter_side)]

    def _weights(self) -> list[float] | None:
        """The weights of the sets, or None if none has one."""
        weights = [member.weight for member in self.sets]
        if all(weight is None for weight in weights):
            return None
        return [1.0 if weight is None else weight for weight in weights]

    def _shares(self) -> list[float] | None:
        """The weights over their sum; rounded, so that weights 1 and 2 mean the same as 0.1 and 0.2."""
        weights = self._weights()
        return None if weights is None else [round(weight / sum(weights), 12) for weight in weights]


def _version(versions: Sequence[str], shares: Sequence[float] | None) -> str:
    text = json.dumps([list(versions), shares])
    return f"join-{short_hash(text)}"


def _concatenated(parts: Sequence[Pictures]) -> Arrays:
    arrays: dict[str, NDArray[np.generic] | Streamed] = {
        "pixels": Streamed(shape=(sum(len(part.pixels) for part in parts), 3), dtype=np.uint8, pieces=_pieces(parts)),
        "heights": np.concatenate([part.heights for part in parts]),
        "widths": np.concatenate([part.widths for part in parts]),
    }
    if any(part.mirrored is not None for part in parts):
        flags = [np.zeros(len(part), dtype=np.bool_) if part.mirrored is None else part.mirrored for part in parts]
        arrays["mirrored"] = np.concatenate(flags)
    return arrays


def _pieces(parts: Sequence[Pictures]) -> Iterator[NDArray[np.generic]]:
    for part in parts:
        for start in range(0, len(part.pixels), _PIXELS_AT_ONCE):
            yield part.pixels[start : start + _PIXELS_AT_ONCE]


def _picture_weights(parts: Sequence[Pictures], weights: Sequence[float] | None) -> NDArray[np.float64] | None:
    """How often each picture is drawn; None if all are drawn equally often."""
    if weights is None and all(part.weights is None for part in parts):
        return None
    shares = [len(part) for part in parts] if weights is None else weights
    of_sets = [np.ones(len(part)) if part.weights is None else part.weights for part in parts]
    return np.concatenate([share * inner / inner.sum() for share, inner in zip(shares, of_sets, strict=True)])
