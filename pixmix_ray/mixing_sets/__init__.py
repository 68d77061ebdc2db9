"""Mixing sets: where the pictures come from that PixMix mixes into the training pictures."""

from pixmix_ray.mixing_sets.base import MIXING_SETS as MIXING_SETS
from pixmix_ray.mixing_sets.base import MixingSet as MixingSet
from pixmix_ray.mixing_sets.base import PictureBank as PictureBank
from pixmix_ray.mixing_sets.base import Pictures as Pictures
from pixmix_ray.mixing_sets.base import cached_pictures as cached_pictures
from pixmix_ray.mixing_sets.base import crop_size_for as crop_size_for
from pixmix_ray.mixing_sets.base import shorter_side_for as shorter_side_for
from pixmix_ray.mixing_sets.feature_visualizations.fvis import FeatureVisualizations as FeatureVisualizations
from pixmix_ray.mixing_sets.folder import PictureFolder as PictureFolder
from pixmix_ray.mixing_sets.fractals.fractaldb import FractalDb as FractalDb
from pixmix_ray.mixing_sets.fractals.fractals import Fractals as Fractals
from pixmix_ray.mixing_sets.generated import GeneratedSet as GeneratedSet
from pixmix_ray.mixing_sets.join import Join as Join
from pixmix_ray.mixing_sets.random_images import RandomImages as RandomImages
from pixmix_ray.mixing_sets.synthetic.dead_leaves import DeadLeaves as DeadLeaves
from pixmix_ray.mixing_sets.synthetic.spectrum_color_wmm import SpectrumColorWmm as SpectrumColorWmm
from pixmix_ray.mixing_sets.synthetic.stylegan_oriented import StyleGanOriented as StyleGanOriented
