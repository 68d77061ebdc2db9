"""Mixing sets: where the pictures come from that PixMix mixes into the training pictures."""

from pixmix_ray.mixing_sets.base import MixingSet, PictureBank, Pictures, cached_pictures, shorter_side_for
from pixmix_ray.mixing_sets.folder import PictureFolder
from pixmix_ray.mixing_sets.fractals import Fractals

__all__ = [
    "Fractals",
    "MixingSet",
    "PictureBank",
    "PictureFolder",
    "Pictures",
    "cached_pictures",
    "shorter_side_for",
]
