"""What a person reads: tables, and the progress of a run."""

from pixmix_ray.report.tables import configuration_labels, front_lines, markdown_table, measures_table

__all__ = ["configuration_labels", "front_lines", "markdown_table", "measures_table"]
