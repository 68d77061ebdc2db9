"""The two pieces of work of a run, which a simulation replaces by others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from pixmix_ray.evaluation.cell import Measure, open_trial
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress, train_trial


@dataclass(frozen=True, kw_only=True)
class Work:
    """The two pieces of work that a run hands out. A simulation puts others in their place, and changes nothing else.

    Attributes:
        train: as `train_trial`.
        evaluate: as `open_trial`.
    """

    train: Callable[[Trial, Store, torch.device], Iterator[Progress]] = train_trial
    evaluate: Callable[[Trial, Store, torch.device, str], Measure] = open_trial
