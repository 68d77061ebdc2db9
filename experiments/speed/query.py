"""How long a question to a large sweep takes: an aggregate by SQL over 1,000,000 measurements.

    python -m experiments.speed.query

Target: 0.3 s on two cores, the index of the measurements read and checked against 10,000 cells first. The measurements
are made up; to make them takes some minutes.
"""

import tempfile
import time
from datetime import UTC, datetime

import numpy as np

from pixmix_ray.analysis.sql import query
from pixmix_ray.metrics import Measurement
from pixmix_ray.storage.cell import Footer, StoredCell, write_cell
from pixmix_ray.storage.index import update
from pixmix_ray.storage.schema import PREDICTIONS
from pixmix_ray.storage.store import Store

TRIALS, CELLS, ROWS = 1000, 10, 100
ASKED = "select method, benchmark, avg(value), count(*) from measurements where condition <> '' group by all order by 3"
COMMON = {
    "checkpoint_id": "0123456789ab",
    "dataset": "cifar10",
    "model": "wrn_40_4",
    "mixing_set": "fractals",
    "k": 4,
    "beta": 3.0,
    "settings": "{}",
    "benchmark_settings": "{}",
    "data_version": "cifar10-official",
    "seconds": 1.0,
    "device": "a CPU",
    "code_version": "1",
    "training_code_version": "1",
    "versions": "{}",
    "finished_at": datetime(2026, 1, 1, tzinfo=UTC),
}


def fill(store: Store) -> None:
    """Write the cells, and the index of them."""
    values, empty = np.random.default_rng(0).random((TRIALS, CELLS, ROWS)), PREDICTIONS.empty_table()
    for trial in range(TRIALS):
        for cell in range(CELLS):
            rows = tuple(
                Measurement(metric="error", value=float(value), n=10_000, condition=f"condition {number}")
                for number, value in enumerate(values[trial, cell])
            )
            about = {"trial_id": f"trial-{trial}", "method": f"method {trial % 20}", "seed": trial % 3}
            footer = Footer(
                common={**COMMON, **about, "benchmark": f"benchmark_{cell}"},
                test_set="",
                measurements=rows,
                directions={"error": "lower"},
            )
            write_cell(store, f"trial-{trial}/benchmark_{cell}-1", StoredCell(rows=empty, footer=footer))
    update(store)


def main() -> None:
    """Print wall and CPU seconds of three questions."""
    store = Store(tempfile.mkdtemp())
    start = time.perf_counter()
    fill(store)
    print(f"{TRIALS * CELLS:,} cells, {TRIALS * CELLS * ROWS:,} rows made in {time.perf_counter() - start:.0f} s")  # noqa: T201
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        found = query(store, ASKED)
        used = time.process_time() - cpu
        print(f"query: {time.perf_counter() - wall:.2f} s, {used:.2f} CPU s ({len(found)} rows)")  # noqa: T201


if __name__ == "__main__":
    main()
