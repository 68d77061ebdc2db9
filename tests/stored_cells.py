"""Cells written by hand, for tests of whatever reads them."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.trial import BenchmarkRun, hash_of_test_set
from pixmix_ray.metrics import Measurement, direction
from pixmix_ray.storage.cell import Footer, StoredCell, write_cell
from pixmix_ray.storage.schema import PREDICTIONS
from pixmix_ray.storage.store import Store

CHECKPOINT = "0123456789ab"  # the hash of weights that nobody reads
ERROR = Measurement(metric="error", value=0.25, n=4)


def common(**changes: object) -> dict[str, Any]:
    """Every column of a row that the rows of a cell share, filled by hand."""
    values: dict[str, Any] = {
        "trial_id": "pixmix-1",
        "checkpoint_id": CHECKPOINT,
        "dataset": "digits",
        "model": "wrn_10_1",
        "method": "pixmix",
        "mixing_set": "fractals",
        "k": 4,
        "beta": 3.0,
        "seed": 0,
        "settings": "{}",
        "benchmark": "clean",
        "benchmark_settings": "{}",
        "data_version": "digits-1",
        "seconds": 1.5,
        "device": "a CPU",
        "code_version": "0.1.0",
        "training_code_version": "0.1.0",
        "versions": "{}",
        "finished_at": datetime(2026, 1, 2, tzinfo=UTC),
    }
    return values | changes


def put(store: Store, name: str, *measurements: Measurement, rows: pa.Table | None = None, **changes: object) -> None:
    """Write the cell CHECKPOINT/NAME-KEY with these measurements."""
    footer = Footer(
        common=common(**{"trial_id": name.partition("/")[0], **changes}),
        test_set="",
        measurements=measurements,
        directions={row.metric: direction(row.metric) for row in measurements},
    )
    write_cell(store, name, StoredCell(rows=PREDICTIONS.empty_table() if rows is None else rows, footer=footer))


def name_of(trial: Source, run: BenchmarkRun, checkpoint: str = CHECKPOINT) -> str:
    """The name of the cell of a trial with that checkpoint."""
    return f"{trial.id}/{run.cell_key(hash_of_test_set(trial.dataset), checkpoint)}"


def put_of(store: Store, trial: Source, run: BenchmarkRun, *measurements: Measurement, **changes: object) -> None:
    """Write the cell of a trial whose done.json says `CHECKPOINT`."""
    about = {"seed": trial.seed, "benchmark": run.name, "benchmark_settings": run.settings_text}
    put(store, name_of(trial, run), *measurements, **{**about, **changes})
