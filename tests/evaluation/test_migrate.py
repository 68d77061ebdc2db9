"""Old results folders, rewritten once: a folder of an earlier version is kept in tests/storage/layouts/compacted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pixmix_ray.errors import ResultsError
from pixmix_ray.evaluation.migrate import migrate
from pixmix_ray.evaluation.rescore import rescore
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.index import read
from pixmix_ray.storage.schema import MEASUREMENTS
from pixmix_ray.storage.store import Store

OLD = Path(__file__).parent.parent / "storage" / "layouts" / "compacted"
FIRST, SECOND = "baseline-7bcf7c83c911", "baseline-3f15016ca434"  # its two trials
CLEAN, ANOMALIES = "clean-c5b847f8b982", "anomalies-040a64395040"  # its two benchmarks
COLUMNS = [field.name for field in MEASUREMENTS if field.name != "unit"]  # which the old rows lack
Key = tuple[object, ...]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy of the old folder."""
    shutil.copytree(OLD, tmp_path / "results")
    return Store(tmp_path / "results")


def key_of(row: dict[str, object]) -> Key:
    """A row as something that equals the same to the last bit, null and NaN alike."""
    return tuple(
        value.hex() if isinstance(value, float) else value
        for value in (row.get(name) or "" if name == "note" else row[name] for name in COLUMNS)
    )


def old_rows() -> list[Key]:
    """The rows that count, by plain Parquet: one cell was compacted, one was rescored, two have files of their own."""
    (compacted,) = OLD.glob("compacted/*.parquet")
    (rescored,) = OLD.glob("cells/*/*.v*.parquet")
    files = [
        compacted,
        rescored,
        OLD / "cells" / FIRST / f"{ANOMALIES}.parquet",
        OLD / "cells" / SECOND / f"{CLEAN}.parquet",
    ]
    return sorted((key_of(row) for file in files for row in pq.ParquetFile(file).read().to_pylist()), key=repr)


def new_rows(store: Store) -> list[Key]:
    read(store.uri)  # brings the index up to date
    table = pq.read_table(Path(store.uri) / "measurements.parquet")
    return sorted((key_of(row) for row in table.to_pylist()), key=repr)


def test_every_number_is_kept_to_the_last_bit_and_nothing_old_is_left(store: Store) -> None:
    assert migrate(store) == 4
    assert new_rows(store) == old_rows()
    assert len(new_rows(store)) == 68
    assert {path.split("/")[0] for path in store.files("")} == {"measurements.parquet", "cells", "trials"}
    assert len(store.files("cells")) == 4


def test_the_cells_are_those_that_the_experiment_asks_for(store: Store) -> None:
    migrate(store)
    experiment = Experiment.read(
        {
            "results": store.uri,
            "dataset": {"name": "digits", "train_limit": 50},
            "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
            "methods": ["baseline"],
            "seeds": [0, 1],
            "training": {"epochs": 1, "flip": False},
            "benchmarks": [
                {"name": "clean", "limit": 50},
                {"name": "anomalies", "limit": 20, "generated": ["gaussian"], "repeats": 2},
            ],
        },
        "experiment",
    )
    assert list(make_plan(experiment).cells.values()) == ["done"] * 4


def test_predictions_go_with_their_measurements_and_where_they_are_gone_the_numbers_stay(store: Store) -> None:
    migrate(store)
    cells = list(rescore(store.uri))
    states = sorted((cell.state, cell.reason.partition(":")[0]) for cell in cells)
    # one was spoilt for the fixture, and one has the standard errors of AUROC of before DeLong's
    assert [state for state, _ in states] == ["different", "different", "same", "skipped"]
    assert any("standard_error" in cell.reason and "anomalies" in cell.path for cell in cells)
    assert states[3][1] == "it has no predictions, so its measurements stay as they are. To evaluate again"


def test_a_folder_is_rewritten_once(store: Store) -> None:
    migrate(store)
    before = {path: store.read(path) for path in store.files("")}
    assert migrate(store) == 0
    assert {path: store.read(path) for path in store.files("")} == before


class KilledError(BaseException):
    """In place of a kill."""


@pytest.mark.parametrize("action", ["write", "delete"])
def test_it_may_be_killed_at_every_write_and_every_removal(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    def dies_at(step: int) -> Callable[..., object]:
        real, left = getattr(Store, action), [step]

        def dies(store: Store, *arguments: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise KilledError
            return real(store, *arguments)

        return dies

    expected, killed = old_rows(), 0
    for step in range(1, 20):
        shutil.rmtree(store.uri)
        shutil.copytree(OLD, store.uri)
        with monkeypatch.context() as patch:
            patch.setattr(Store, action, dies_at(step))
            try:
                migrate(store)
            except KilledError:
                killed += 1
        migrate(store)
        assert new_rows(store) == expected
    assert killed >= 5  # four cells and the index, or the removal of each old file


def test_cells_of_somebody_elses_weights_get_the_name_of_today(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    path = OLD / "cells" / SECOND / f"{CLEAN}.parquet"
    table = pq.ParquetFile(path).read()
    settings = {"checkpoint": "w.pth", "checkpoint_id": "c", "dataset": {"name": "digits"}, "model": {"name": "m"}}
    rows = [
        {**row, "trial_id": "external-0", "settings": json.dumps(settings), "checkpoint_id": "c"}
        for row in table.to_pylist()
    ]
    other.write_table(f"cells/external-0/{CLEAN}.parquet", type(table).from_pylist(rows, schema=table.schema))
    assert migrate(other) == 1
    (name,) = set(read(other.uri)["trial_id"])
    assert name.startswith("external-") and name != "external-0"


def test_a_damaged_old_file_is_set_aside_and_the_others_are_rewritten(store: Store) -> None:
    store.write(f"cells/{FIRST}/{ANOMALIES}.parquet", b"PAR1 and no more")
    with pytest.warns(UserWarning, match="set aside"):
        assert migrate(store) == 3
    assert len(set(read(store.uri)["cell"])) == 3


def test_without_it_the_folder_is_refused(store: Store) -> None:
    with pytest.raises(ResultsError, match="older layout: run pixmix-ray migrate"):
        read(store.uri)
