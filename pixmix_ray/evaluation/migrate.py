"""Rewriting a results folder of earlier versions to today's layout: a cell in one file, named by all that decides it.

Before, a cell TRIAL/BENCHMARK had its predictions in `predictions/TRIAL/BENCHMARK.parquet`, and its measurements in
`cells/TRIAL/BENCHMARK.parquet`, in `cells/TRIAL/BENCHMARK.vN.parquet` of a later version N, or among those of many in
`compacted/NAME.parquet`, whose metadata name its cells. The largest version counts; of equals a file of one cell, then
the compacted file that comes last by name.

All new files are written before an old one is removed, so it may be interrupted anywhere and run again.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pixmix_ray.benchmarks import BENCHMARKS
from pixmix_ray.datasets import DATASETS
from pixmix_ray.errors import DamagedError, PixmixRayError, ResultsError
from pixmix_ray.experiment.external import external_id
from pixmix_ray.experiment.trial import BenchmarkRun, hash_of_test_set
from pixmix_ray.identity import hash_of_values
from pixmix_ray.metrics import Measurement
from pixmix_ray.plugins import Part, named_code
from pixmix_ray.storage.cell import COMMON, FOOTER_KEY, MEASURED, Footer, StoredCell, write_cell
from pixmix_ray.storage.index import put_aside, update
from pixmix_ray.storage.schema import MEASUREMENTS, PREDICTIONS
from pixmix_ray.storage.sealed import Unsealed, conform
from pixmix_ray.storage.store import Store, cell_file, trial_file

MANIFEST_KEY = "pixmix_ray.cells"
_NAME = re.compile(r"[\w-]+/[\w-]+")
_CELL = re.compile(r"cells/(?P<cell>[^/]+/[^/]+?)(?:\.v(?P<version>\d+))?\.parquet")


@dataclass(frozen=True, kw_only=True)
class _OldCell:
    """The measurements of a cell in one of the files that may hold them; the largest `rank` counts."""

    rank: tuple[int, int, str]
    rows: pa.Table


def migrate(store: Store) -> int:
    """How many cells of a results folder were rewritten; 0 if it is of today's layout.

    Raises:
        ResultsError: it cannot be read.
        StorageError: it cannot be written.
    """
    old_files: list[str] = []
    newest: dict[str, _OldCell] = {}
    for path, cell, found in _old_cells(store):
        old_files.append(path)
        if cell is not None and found is not None and (cell not in newest or newest[cell].rank < found.rank):
            newest[cell] = found
    test_sets: dict[str, str | None] = {}
    count = 0
    for cell in newest:
        if not _NAME.fullmatch(cell):
            raise ResultsError(
                f"{cell!r} in results {store.uri} is not the name of a cell: cells are named TRIAL/BENCHMARK-HASH"
            )
    for cell, old in sorted(newest.items()):
        count += _rewrite(store, cell, old.rows, test_sets)
    predictions = [path for path in store.files("predictions") if path.endswith(".parquet")]
    for path in [*predictions, *old_files]:  # those with measurements last: they say what is still to be rewritten
        store.delete(path)
    store.delete("lease.json")
    update(store)
    return count


def _old_cells(store: Store) -> Iterator[tuple[str, str | None, _OldCell | None]]:
    """Every file of earlier versions that holds measurements, with each cell in it; none for what is damaged."""
    for path in sorted(path for path in store.files("compacted") if path.endswith(".parquet")):
        yield path, None, None
        for cell, version, rows in _compacted(store, path):
            yield path, cell, _OldCell(rank=(version, 0, path), rows=rows)
    for path in sorted(store.files("cells")):
        match = _CELL.fullmatch(path)
        found = None if match is None else _unsealed(store, path)
        if match is not None and found is not None and FOOTER_KEY not in found.metadata:
            rank = (int(match["version"] or 0), 1, path)
            yield path, match["cell"], _OldCell(rank=rank, rows=conform(found.table, MEASUREMENTS))


def _unsealed(store: Store, path: str) -> Unsealed | None:
    """What a file holds; a damaged one is set aside with a warning."""
    try:
        found = store.unsealed(path)
        if found is not None:
            found.table  # noqa: B018  # read here, where damage is caught
        return found
    except DamagedError as error:
        put_aside(store, store.damaged(path, error), path)
        return None


def _compacted(store: Store, path: str) -> Iterator[tuple[str, int, pa.Table]]:
    """The cells in a file of many: name, version, rows."""
    found = _unsealed(store, path)
    if found is None:
        return
    manifest = json.loads(found.metadata[MANIFEST_KEY])
    rows, first = conform(found.table, MEASUREMENTS), 0
    for trial, cells in manifest["trials"].items():
        for number, version, count in cells:
            yield f"{trial}/{manifest['benchmarks'][number]}", version, rows.slice(first, count)
            first += count


def _rewrite(store: Store, cell: str, rows: pa.Table, test_sets: dict[str, str | None]) -> bool:
    """Write the new file of a cell, if it is not there; whether it was written."""
    if not len(rows):
        return False
    trial_id, _, key = cell.partition("/")
    values = rows.to_pylist()
    common: dict[str, Any] = {**{name: values[0][name] for name in COMMON}, "trial_id": trial_id}
    if trial_id.startswith("external-"):
        settings = json.loads(common["settings"])
        common["trial_id"] = external_id(settings["model"], common["checkpoint_id"])
    test_set = _test_set(store, trial_id, common, test_sets)
    name = f"{common['trial_id']}/{_key(key, common, test_set)}"
    if store.exists(cell_file(name)):
        return False
    footer = Footer(
        common=common,
        test_set=test_set or "",
        measurements=tuple(
            Measurement(**{name: row[name] for name in MEASURED if row[name] is not None}) for row in values
        ),
        directions={row["metric"]: row["direction"] for row in values},
    )
    found = _unsealed(store, f"predictions/{cell}.parquet")
    write_cell(store, name, StoredCell(rows=PREDICTIONS.empty_table() if found is None else found.table, footer=footer))
    return True


def _key(old: str, common: Mapping[str, Any], test_set: str | None) -> str:
    """The new key of a cell; one of its own where the old key is not of today's benchmark, or the data are gone."""
    try:
        settings = json.loads(common["benchmark_settings"])
        if test_set is not None and not named_code(settings):
            name = settings.pop("name")
            part = Part(name=name, settings=BENCHMARKS.find(name).from_identity(settings))
            run = BenchmarkRun(benchmark=part, version=common["data_version"].partition(";")[2])
            if run.key == old:
                return run.cell_key(test_set, common["checkpoint_id"])
    except (PixmixRayError, ValueError, TypeError, LookupError, AttributeError):
        pass  # its numbers are kept, and it is measured again when it is asked for
    name = old.rpartition("-")[0]
    return (
        f"{name}-{hash_of_values({'key': old, 'data': common['data_version'], 'checkpoint': common['checkpoint_id']})}"
    )


def _test_set(store: Store, trial_id: str, common: Mapping[str, Any], known: dict[str, str | None]) -> str | None:
    """The hash of the test pictures of a cell; none if the data are gone, or not those that it was measured on."""
    try:
        trial = store.read_json(trial_file(trial_id, "trial.json"))
        spec = json.loads(common["settings"])["dataset"] if trial is None else trial["dataset"]
        spec.pop("version", None)
        place = json.dumps([spec, common["data_version"].partition(";")[0]], sort_keys=True)
        if place not in known:
            known[place] = None
            dataset = DATASETS.read(spec) if not named_code(spec) else None
            if dataset is not None and dataset.settings.version() == common["data_version"].partition(";")[0]:
                known[place] = hash_of_test_set(dataset)
        return known[place]
    except (PixmixRayError, ValueError, TypeError, LookupError, AttributeError):
        return None
