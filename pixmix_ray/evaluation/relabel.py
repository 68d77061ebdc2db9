"""Labels of checkpoints that were there already: no part of what they are, so cells get a new one without a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pixmix_ray.storage.cell import read_cell, write_cell
from pixmix_ray.storage.index import read_rows
from pixmix_ray.storage.store import Store

if TYPE_CHECKING:
    from pixmix_ray.experiment.external import External


def relabel(store: Store, sources: Iterable[External]) -> None:
    """Give the stored cells of somebody else's weights the labels that they have now.

    Raises:
        ResultsError: a cell cannot be read.
        StorageError: one cannot be written.
    """
    labels = {source.id: source.label for source in sources if source.trial is None}
    if not labels:
        return
    rows = read_rows(store, ["trial_id", "cell", "method"])
    stored = rows.filter(pc.is_in(rows["trial_id"].cast(pa.string()), pa.array(list(labels)))).to_pylist()
    for name, label in {row["cell"]: row["method"] for row in stored}.items():
        new = labels[name.partition("/")[0]]
        if label != new and (cell := read_cell(store, name)) is not None:
            footer = replace(cell.footer, common={**cell.footer.common, "method": new})
            write_cell(store, name, replace(cell, footer=footer))
