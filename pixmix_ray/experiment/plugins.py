"""The five tables of parts together; what a table and a part are is said in `pixmix_ray.plugins`."""

from typing import Any

from pixmix_ray.benchmarks import BENCHMARKS
from pixmix_ray.datasets import DATASETS
from pixmix_ray.methods import METHODS
from pixmix_ray.mixing_sets import MIXING_SETS
from pixmix_ray.models import MODELS
from pixmix_ray.plugins import Part, Table, user_modules

__all__ = ["BENCHMARKS", "DATASETS", "METHODS", "MIXING_SETS", "MODELS", "TABLES", "Part", "Table", "user_modules"]

TABLES: dict[str, Table[Any]] = {
    "methods": METHODS,
    "mixing-sets": MIXING_SETS,
    "datasets": DATASETS,
    "models": MODELS,
    "benchmarks": BENCHMARKS,
}
