"""Labels of checkpoints that were there already: no part of what they are, so cells get a new one without a network."""

from collections.abc import Iterable
from dataclasses import replace

from pixmix_ray.experiment.external import External
from pixmix_ray.storage.cell import read_cell, write_cell
from pixmix_ray.storage.index import update
from pixmix_ray.storage.store import Store


def relabel(store: Store, sources: Iterable[External]) -> None:
    """Give the stored cells of somebody else's weights the labels that they have now.

    Raises:
        ResultsError: a cell cannot be read.
        StorageError: one cannot be written.
    """
    labels = {source.id: source.label for source in sources if source.trial is None}
    if not labels:
        return
    stored = update(store).select(["trial_id", "cell", "method"]).to_pylist()
    named = {row["cell"]: (row["trial_id"], row["method"]) for row in stored}
    for name, (source_id, label) in named.items():
        if labels.get(source_id, label) != label and (cell := read_cell(store, name)) is not None:
            common = {**cell.footer.common, "method": labels[source_id]}
            write_cell(store, name, replace(cell, footer=replace(cell.footer, common=common)))
