"""A results folder of each layout that there was, made by the program of its day: the numbers are those of its day.

tests/storage/layouts: `first` has two files a cell, `compacted` also has them merged and written again, and
`one_file_a_cell` is today's. Weights and pages are left out.
"""

import shutil
from pathlib import Path

import pytest

from pixmix_ray.errors import ResultsError
from pixmix_ray.evaluation.migrate import migrate
from pixmix_ray.planning.status import read_status
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store

LAYOUTS = Path(__file__).parent.parent / "storage" / "layouts"
CLEAN = {"error": "0.85", "rms_calibration_error": "0.0345409", "aurra": "0.141017", "brier_score": "0.898629"}
NUMBERS = {
    "first": {"clean": CLEAN, "anomalies": {"auroc": "0.5", "aupr": "0.564394", "fpr95": "0.5"}},
    "compacted": {"clean": {"error": "0.82", "aurra": "0.169418"}, "anomalies": {"auroc": "1", "fpr95": "0"}},
    "one_file_a_cell": {"clean": CLEAN, "adversaries": {"error": "0.8"}},
}
TRIALS = {
    "first": "baseline-4dce63b5b12c",
    "compacted": "baseline-7bcf7c83c911",
    "one_file_a_cell": "baseline-4dce63b5b12c",
}


@pytest.mark.parametrize("layout", sorted(path.name for path in LAYOUTS.iterdir()))
def test_a_folder_of_every_layout_is_read(tmp_path: Path, layout: str) -> None:
    shutil.copytree(LAYOUTS / layout, tmp_path / "results")
    store = Store(tmp_path / "results")
    if layout != "one_file_a_cell":
        with pytest.raises(ResultsError, match="pixmix-ray migrate"):
            read(store.uri)
        assert migrate(store) == 4
    rows = read(store.uri)
    rows = rows[(rows["trial_id"] == TRIALS[layout]) & (rows["condition"] == "")]
    found = {(row.benchmark, row.metric): f"{row.value:.6g}" for row in rows.itertuples()}
    for benchmark, numbers in NUMBERS[layout].items():
        for metric, value in numbers.items():
            assert found[benchmark, metric] == value, (benchmark, metric)
    assert len(read_status(store.uri).trials) == 2
