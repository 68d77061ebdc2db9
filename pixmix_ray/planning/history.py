"""What trials and cells in a results folder took: from all that is compacted, and from samples of single files."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.cells import GoneError, list_cells, own_table
from pixmix_ray.storage.store import Store

SAMPLE = 100  # files of a method, or of a benchmark, that are read: more change a mean by a few percent at most


def trials_done(store: Store) -> Iterator[dict[str, Any]]:
    """What trials wrote when they were done, of at most `SAMPLE` trials of each method."""
    by_method: dict[str, list[str]] = defaultdict(list)
    for path in sorted(store.files("trials")):
        if path.endswith("/done.json"):
            by_method[path.split("/")[1].rpartition("-")[0]].append(path)
    for path in itertools.chain.from_iterable(map(_sample, by_method.values())):
        with suppress(ResultsError):  # what cannot be read has no history, no more
            yield store.read_json(path) or {}


def cell_seconds(store: Store) -> dict[str, list[float]]:
    """Seconds of measured cells by benchmark key: of all in segments, and of `SAMPLE` others of each benchmark."""
    cells = list_cells(store)
    found: dict[str, list[float]] = defaultdict(list)
    for segment in cells.segments:
        seconds = segment.rows()["seconds"].to_numpy()
        for cell in cells.counting(segment):
            if segment.entries[cell].rows:
                found[cell.rpartition("/")[2]].append(float(seconds[segment.first_rows[cell]]))
    by_key: dict[str, list[str]] = defaultdict(list)
    for cell, own in sorted(cells.own_files.items()):
        by_key[cell.rpartition("/")[2]].append(own.path)
    for key, paths in by_key.items():
        for path in _sample(paths):
            with suppress(ResultsError, GoneError):  # as above
                seconds = own_table(store, path)["seconds"].to_numpy()
                found[key] += map(float, seconds[:1])
    return found


def _sample(paths: Sequence[str]) -> list[str]:
    """At most `SAMPLE` of them, evenly spaced."""
    chosen = np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).round().astype(int)
    return [paths[i] for i in chosen]
