"""Train and evaluate safe image classifiers on a Ray cluster (PixMix, Hendrycks et al., CVPR 2022).

What it does, as functions: `plan`, `run`, `evaluate`, `read`, `front`; and `Augment`, any method in your
own training. They are loaded when they are first used:
importing this package imports neither ray nor torch. Each room is imported by its own name: `pixmix_ray.methods`,
`pixmix_ray.corruptions`, `pixmix_ray.metrics` and so on.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pixmix_ray.version import __version__ as __version__

if TYPE_CHECKING:
    from pixmix_ray.analysis.pareto import front
    from pixmix_ray.api import evaluate, plan, run
    from pixmix_ray.augmentation import Augment
    from pixmix_ray.results import read

__all__ = ["Augment", "evaluate", "front", "plan", "read", "run"]
_MODULES = {
    "Augment": "pixmix_ray.augmentation",
    "evaluate": "pixmix_ray.api",
    "front": "pixmix_ray.analysis.pareto",
    "plan": "pixmix_ray.api",
    "read": "pixmix_ray.results",
    "run": "pixmix_ray.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'pixmix_ray' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
