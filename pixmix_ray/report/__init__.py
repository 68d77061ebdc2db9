"""What a person reads: tables, figures and the page, made of the results alone."""

from pixmix_ray.report.tables import configuration_labels, front_lines, markdown_table, measures_table

__all__ = ["configuration_labels", "front_lines", "markdown_table", "measures_table"]
