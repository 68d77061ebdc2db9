"""How fast this machine augments, corrupts and evaluates: what is ours beside its peers in the same run."""

from experiments.speed.augment import Rate, SpeedRequest, augmentation_rates
from experiments.speed.corruptions import CorruptionRate, CorruptionSpeedRequest, corruption_rates
from experiments.speed.corruptions_report import corruptions_grid, corruptions_heading
from experiments.speed.document import Grid
from experiments.speed.evaluate import EvaluationRate, EvaluationSpeedRequest, evaluation_rates
from experiments.speed.evaluate_report import evaluation_grid, evaluation_heading
from experiments.speed.pictures import (
    PictureRate,
    PictureSpeedRequest,
    picture_rates,
    pictures_grid,
    pictures_heading,
)
from experiments.speed.report import heading, rates_grid

__all__ = [
    "CorruptionRate",
    "CorruptionSpeedRequest",
    "EvaluationRate",
    "EvaluationSpeedRequest",
    "Grid",
    "PictureRate",
    "PictureSpeedRequest",
    "Rate",
    "SpeedRequest",
    "augmentation_rates",
    "corruption_rates",
    "corruptions_grid",
    "corruptions_heading",
    "evaluation_grid",
    "evaluation_heading",
    "evaluation_rates",
    "heading",
    "picture_rates",
    "pictures_grid",
    "pictures_heading",
    "rates_grid",
]
