"""Training: the loop, which knows neither Ray nor files, and one trial from its settings to its checkpoint."""

from pixmix_ray.training.loop import Epoch, TrainingData, train

__all__ = ["Epoch", "TrainingData", "train"]
