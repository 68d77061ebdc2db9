"""Results: the schema, the store, what is left to do, reading, and Pareto fronts."""

from pixmix_ray.results.pareto import default_objectives, dominance, pareto_front
from pixmix_ray.results.plan import Cell, Cost, Plan, estimate, make_plan
from pixmix_ray.results.read import read
from pixmix_ray.results.store import Store

__all__ = [
    "Cell",
    "Cost",
    "Plan",
    "Store",
    "default_objectives",
    "dominance",
    "estimate",
    "make_plan",
    "pareto_front",
    "read",
]
