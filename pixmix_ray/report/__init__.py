"""What a person reads: tables, figures, the page of a results folder, and the progress of a run."""

from pixmix_ray.report.grid import Grid
from pixmix_ray.report.tables import front_lines, measures_grid

__all__ = ["Grid", "front_lines", "measures_grid"]
