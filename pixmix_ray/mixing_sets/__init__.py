"""Mixing sets: where the pictures come from that PixMix mixes into the training pictures."""

from pixmix_ray.mixing_sets.base import (
    MixingSet,
    PictureBank,
    Pictures,
    cached_pictures,
    crop_size_for,
    shorter_side_for,
)
from pixmix_ray.mixing_sets.drawing.generated import Generator, generated_pictures
from pixmix_ray.mixing_sets.feature_visualizations.fvis import FeatureVisualizations
from pixmix_ray.mixing_sets.folder import PictureFolder
from pixmix_ray.mixing_sets.fractals.fractaldb import FractalDb
from pixmix_ray.mixing_sets.fractals.fractals import Fractals
from pixmix_ray.mixing_sets.join import JoinedSets, names_in
from pixmix_ray.mixing_sets.random_images import RandomImages
from pixmix_ray.mixing_sets.synthetic.dead_leaves import DeadLeaves
from pixmix_ray.mixing_sets.synthetic.spectrum_color_wmm import SpectrumColorWmm
from pixmix_ray.mixing_sets.synthetic.stylegan_oriented import StyleGanOriented

__all__ = [
    "DeadLeaves",
    "FeatureVisualizations",
    "FractalDb",
    "Fractals",
    "Generator",
    "JoinedSets",
    "MixingSet",
    "PictureBank",
    "PictureFolder",
    "Pictures",
    "RandomImages",
    "SpectrumColorWmm",
    "StyleGanOriented",
    "cached_pictures",
    "crop_size_for",
    "generated_pictures",
    "names_in",
    "shorter_side_for",
]
