"""Training a network: the recipe and the loop. Nothing here knows Ray or files."""

from pixmix_ray.training.loop import Epoch, TrainingData, train
from pixmix_ray.training.recipe import Recipe, cosine

__all__ = ["Epoch", "Recipe", "TrainingData", "cosine", "train"]
