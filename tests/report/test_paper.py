"""The paper's tables: laid out as printed (figures typed from the paper), and ours below them."""

import math
from pathlib import Path

import pandas as pd
import pytest

from pixmix_ray.analysis.published import LAYOUTS, published_figures
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.metrics import Measurement
from pixmix_ray.report.grid import Grid
from pixmix_ray.report.paper import paper_grid
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store
from tests.stored_cells import put


def row_of(grid: Grid, *names: str) -> list[str]:
    """The texts behind a row's names."""
    (row,) = [row for row in grid.rows if tuple(cell.text for cell in row[: len(names)]) == names]
    return [cell.text for cell in row[len(names) :]]


PRINTED = [
    (1, ("Corruptions mCE ↓",), ["50.0 +0.0", "51.5 +1.5", "48.0 -2.0", "51.5 +1.5", "30.5 -19.5"]),
    (2, ("CIFAR-10", "Calibration RMS ↓"), ["22.7", "17.8", "12.1", "18.6", "14.8", "9.4", "13.0", "3.7"]),
    (3, ("SIN",), ["25.4", "70.9", "57.6", "58.5", "54.4", "71.8", "4.2", "6.5", "14.0", "16.2", "84.8", "62.3"]),
    (4, ("FractalDB",), ["20.3", "33.9", "6.4", "98.2", "12.0", "82.5"]),
    (5, ("Iterative",), ["21.1", "31.4", "5.6", "90.6", "12.7", "86.7"]),
    (6, ("PixMix + CutMix",), ["19.9", "30.9", "35.5", "5.8", "1.7", "93.1", "4.4", "6.0", "5.9", "89.5", "68.6"]),
    (7, ("OE",), ["21.9", "50.3", "52.1", "11.3", "3.0", "97.0", "12.0", "13.8", "13.9", "90.3", "66.2"]),
    (8, ("PixMix",), ["4.2", "9.5", "13.6", "1.7", "1.0", "82.1", "2.6", "3.7", "5.3", "97.0", "88.4"]),
    (9, ("Baseline",), ["23.9", "78.2", "61.0", "63.8", "58.0", "78.4", "5.6", "12.0", "20.7", "19.7", "79.7", "48.6"]),
    (10, ("EDSR",), ["23.5", "65.4", "54.7", "60.3", "44.6", "63.3", "4.5", "8.4", "15.7", "16.7", "71.7", "36.3"]),
    (11, ("ANT",), ["23.9", "48.0", "41", "36", "50", "61", "48", "58", "40", "48", "52", "46"]),
    (12, ("Average",), ["64.2", "89.2", "87.6", "30.7", "66.9", "76.2"]),
    (13, ("β = 4", "mCE"), ["31.3", "30.9", "30.7"]),
    (14, ("Mixup",), ["22.7", "72.7", *map(str, (69, 72, 73, 76, 90, 77, 78, 73, 68, 62, 59, 64, 86, 71, 73))]),
    (15, ("PixMix",), ["22.6", "44.3", "40", "48", "48", "48", "47", "34", "37", "33", "65", "44"]),
]


@pytest.mark.parametrize(("number", "names", "texts"), PRINTED, ids=[f"table {row[0]}" for row in PRINTED])
def test_a_row_of_each_table_is_as_the_paper_prints_it(number: int, names: tuple[str, ...], texts: list[str]) -> None:
    grid = paper_grid(number)
    assert row_of(grid, *names) == texts
    values = [cell.value for row in grid.rows for cell in row if isinstance(cell.value, float)]
    assert len(values) == len(published_figures([number]))  # each figure once, none left out
    assert LAYOUTS[number].title in grid.title


def test_headers_are_the_paper_s() -> None:
    assert [column.header for column in paper_grid(8).columns[1:4]] == [
        ("Accuracy", "Clean", "Error ↓"),
        ("Corruptions", "C", "mCE ↓"),
        ("Corruptions", "C\u0304", "mCE ↓"),
    ]
    assert [column.header for column in paper_grid(14).columns[1:4]] == [
        ("", "Clean"),
        ("", "mCE"),
        ("Noise", "Gauss."),
    ]
    assert [column.header for column in paper_grid(12).columns[1:3]] == [("AUROC ↑", "Baseline"), ("AUROC ↑", "OE")]


def test_the_paper_s_best_and_second_best_are_marked_as_there() -> None:
    marks = {row[0].text: [cell.mark for cell in row[1:]] for row in paper_grid(4).rows}
    assert marks["300K Random Images"][0] == "best" and marks["Fractals"][0] == "second"  # bold 19.6, underlined 20.3
    assert marks["Feature Visualization (FVis)"][1:4] == ["best"] * 3


def measured(tmp_path: Path, error: float = 0.213, **changes: object) -> tuple[Store, pd.DataFrame]:
    """A baseline on CIFAR-100 of which two numbers were measured, one with a standard error."""
    store = Store(tmp_path)
    about = {
        "dataset": "cifar100",
        "model": "wrn_40_4",
        "method": "baseline",
        "mixing_set": None,
        "k": None,
        "beta": None,
    }
    rows = (
        Measurement(metric="error", value=error, n=10_000, standard_error=0.004),
        Measurement(metric="rms_calibration_error", value=0.1, n=10_000),
    )
    put(store, "baseline-1/clean-1", *rows, **{**about, **changes})
    return store, read(tmp_path)


def test_ours_stand_below_and_what_was_not_measured_is_blank_and_counted(tmp_path: Path) -> None:
    grid = paper_grid(7, *measured(tmp_path))
    assert row_of(grid, "Baseline", "paper")[:2] == ["21.3", "50.0"]
    place = [row[0].text for row in grid.rows].index("Baseline")
    own = grid.rows[place + 1]
    # by hand: 1.96 standard errors of .4 percent; of the calibration error no spread is known
    assert [own[1].text, own[2].text, own[3].text] == ["ours", "21.3 ± 0.8", ""]
    assert [cell.text for cell in own if cell.text.startswith("10.0")] == ["10.0"]
    assert own[2].mark == ""
    assert "2 of 88 figures measured" in grid.caption and "1 seed" in grid.caption
    assert own[0].value == "Baseline"  # for programs each row has its name


def test_a_figure_outside_our_interval_is_marked(tmp_path: Path) -> None:
    grid = paper_grid(7, *measured(tmp_path, error=0.25))
    assert [cell.text for row in grid.rows for cell in row if cell.mark == "differs"] == ["25.0 ± 0.8"]


def test_other_data_stand_beside_the_paper_s_only_when_asked(tmp_path: Path) -> None:
    store, frame = measured(tmp_path, dataset="cifar10", model="wrn_16_1")
    assert "0 of 88 figures" in paper_grid(7, store, frame).caption
    assert "2 of 88 figures" in paper_grid(7, store, frame, ["dataset", "model"]).caption


def test_the_strategies_of_table_5_are_settings_of_pixmix(tmp_path: Path) -> None:
    settings = '{"method": {"name": "pixmix", "partner": "augmented"}}'
    about = {"method": "pixmix", "mixing_set": None, "k": 4, "beta": 3.0, "settings": settings}
    grid = paper_grid(5, *measured(tmp_path, error=0.199, **about))
    place = [row[0].text for row in grid.rows].index("Mix Input")
    assert grid.rows[place + 1][2].text == "19.9 ± 0.8"


def test_of_several_configurations_the_one_with_most_seeds_stands_and_it_is_said(tmp_path: Path) -> None:
    store, _ = measured(tmp_path)
    for seed in (0, 1):
        about = {"dataset": "cifar100", "model": "wrn_40_4", "method": "baseline", "mixing_set": None, "k": None}
        error = Measurement(metric="error", value=0.3 + 0.02 * seed, n=10_000, standard_error=0.004)
        put(store, f"baseline-2-{seed}/clean-1", error, **about, beta=None, seed=seed, settings='{"a": 1}')
    grid = paper_grid(7, store, read(tmp_path))
    place = [row[0].text for row in grid.rows].index("Baseline")
    # by hand: Student's t of one degree of freedom, 12.706, times the standard error over seeds, 1 percent
    assert grid.rows[place + 1][2].text == f"31.0 ± {math.hypot(12.706, 1.96 * 0.4 / math.sqrt(2)):.1f}"
    assert "baseline: of several configurations, the one with the most seeds is shown" in grid.notes


def test_figure_4_is_ours_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = [Measurement(metric="rms_calibration_error", value=0.01 * s, n=10, severity=s) for s in (1, 2, 3, 4, 5)]
    put(store, "pixmix-1/corruptions-1", *rows, benchmark="corruptions")
    grid = paper_grid("figure4", store, read(tmp_path))
    assert [cell.text for cell in grid.rows[0]] == ["pixmix", "1.0", "2.0", "3.0", "4.0", "5.0"]
    with pytest.raises(RequestError, match="give a results folder"):
        paper_grid("figure4")


def test_a_table_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown table of the paper '16'"):
        paper_grid(16)
