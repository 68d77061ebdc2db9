"""Training: the loop, which knows neither Ray nor files, and one trial from its settings to its checkpoint."""

from pixmix_ray.training.batches import Batches, BatchShare, TrainingData
from pixmix_ray.training.loop import Epoch, train

__all__ = ["BatchShare", "Batches", "Epoch", "TrainingData", "train"]
