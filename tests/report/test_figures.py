"""Figures: each drawn from a DataFrame made by hand and looked at in its own elements; and of results, by its name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import pixmix_ray
from pixmix_ray.benchmarks import Clean
from pixmix_ray.errors import RequestError, ResultsError, UnknownNameError
from pixmix_ray.metrics import Predictions
from pixmix_ray.report.figures import FIGURES, Asked, augmented, conditions, fronts, runs, scores, write_figure
from pixmix_ray.storage.cell import predictions_table
from pixmix_ray.storage.store import Store
from tests.stored_cells import put

if TYPE_CHECKING:
    from matplotlib.figure import Figure

A, B, C = "clean.error", "corruptions.mce", "anomalies.auroc"


def measures(*names: str) -> pd.DataFrame:
    """Three methods, the first two on the front; the third lacks the last objective."""
    values = {A: [0.1, 0.2, 0.3], B: [0.5, 0.4, 0.6], C: [0.9, 0.8, np.nan]}
    frame = pd.DataFrame({"method": ["a", "$b", "c"], "seeds": [1, 1, 1]})
    for name in names:
        frame[name] = values[name]
        frame[f"{name}.low"], frame[f"{name}.high"] = frame[name] - 0.01, frame[name] + 0.02
    return frame.assign(on_front=[1.0, 0.7, 0.0])


def axes_of(figure: Any) -> Any:
    """The first axes, whose artists have more than their types say."""
    return figure.axes[0]


def texts(figure: "Figure") -> set[str]:
    from matplotlib.text import Text

    return {text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()}


def scattered(axes: Any) -> list[Any]:
    from matplotlib.collections import PathCollection

    return [marks for marks in axes.collections if isinstance(marks, PathCollection)]


def test_a_front_has_a_point_an_entry_with_intervals_and_joins_those_on_it() -> None:
    figure = fronts.draw_front(measures(A, B))
    axes = axes_of(figure)
    points = [tuple(np.round(marks.get_offsets()[0], 6)) for marks in scattered(axes)]
    assert points == [(10, 50), (20, 40), (30, 60)]
    faces = [marks.get_facecolor()[0].tolist() for marks in scattered(axes)]
    assert [face[:3] == [1, 1, 1] for face in faces] == [False, False, True]  # hollow: not on the front
    bar = axes.containers[0].lines[2][0].get_segments()[0]
    assert bar[:, 0].round(6).tolist() == [9, 12]  # the interval of a, in percent
    joined = axes.lines[-1]
    assert joined.get_xdata().round(6).tolist() == [10, 20]
    assert {"clean error ↓ [%]", "corruptions mCE ↓ [%]", r"\$b"} <= texts(figure)


def test_the_median_attainment_of_seeds_is_a_line_of_steps() -> None:
    frame = measures(A, B)
    frame.attrs[fronts.ATTAINED] = [[0.2, 0.4], [0.1, 0.5]]
    (steps,) = [line for line in axes_of(fronts.draw_front(frame)).lines if line.get_label() == "half of the seeds"]
    assert np.round(steps.get_xdata()[:3], 6).tolist() == [10, 10, 20] and steps.get_drawstyle() == "steps-post"
    assert np.round(steps.get_ydata()[1:], 6).tolist() == [50, 40, 40]


def test_of_three_objectives_the_third_is_the_size_and_what_lacks_one_is_left_out() -> None:
    figure = fronts.draw_front(measures(A, B, C))
    axes = axes_of(figure)
    sizes = [float(marks.get_sizes()[0]) for marks in scattered(axes)]
    assert len(sizes) == 2 and sizes[0] > sizes[1]
    with pytest.raises(RequestError, match="2 or 3 objectives, got 1"):
        fronts.draw_front(measures(A))


def test_parallel_coordinates_have_the_best_at_the_top() -> None:
    figure = fronts.draw_parallel(measures(A, B, C))
    lines = [np.round(line.get_ydata(), 6).tolist() for line in axes_of(figure).lines]
    assert lines[0] == [1, 0.5, 1] and lines[1] == [0.5, 1, 0] and lines[2][:2] == [0, 0] and np.isnan(lines[2][2])


def severities() -> pd.DataFrame:
    rows = [("a", "corruptions", "fog", s, 0.1 * s) for s in (1, 2)] + [
        ("b", "corruptions", "fog", s, 0.2) for s in (1, 2)
    ]
    return pd.DataFrame(rows, columns=["label", "benchmark", "condition", "severity", "value"])


def test_calibration_is_a_line_a_method_and_corruptions_a_number_a_cell() -> None:
    figure = conditions.draw_by_severity(severities())
    assert [np.round(line.get_ydata(), 6).tolist() for line in axes_of(figure).lines] == [[10, 20], [20, 20]]
    assert {"10.0", "20.0", "fog", "a", "b"} <= texts(conditions.draw_corruptions(severities()))


def test_k_and_beta_are_a_grid() -> None:
    frame = pd.DataFrame({"k": [2, 3, 2, 3, None], "beta": [3, 3, 4, 4, None], A: [0.1, 0.2, 0.3, 0.4, 0.9]})
    image = conditions.draw_k_beta(frame).axes[0].images[0].get_array()
    assert np.round(np.asarray(image), 6).tolist() == [[30, 40], [10, 20]]  # as in Table 13 the largest beta on top
    with pytest.raises(ResultsError, match="no grid of k and β"):
        conditions.draw_k_beta(frame.iloc[:1])


def test_reliability_is_accuracy_in_bins_and_scores_are_shares() -> None:
    confidence = np.linspace(0.5, 1, 100)
    frame = pd.DataFrame({"label": "a", "confidence": confidence, "is_correct": confidence > 0.75})
    line = axes_of(scores.draw_reliability(frame)).lines[1]
    assert np.round(line.get_ydata(), 6).tolist() == [0] * 5 + [100] * 5
    found = pd.DataFrame({"label": "a", "set": ["x"] * 4 + ["y"] * 2, "score": [0, 0, 0, 1, 1, 1.0]})
    steps = axes_of(scores.draw_scores(found)).patches
    assert [float(step.get_data().values[-1]) for step in steps] == [25, 100]


def test_curves_and_makespan() -> None:
    frame = pd.DataFrame({"label": "a", "seed": [0, 0, 1, 1], "epoch": [1, 2, 1, 2], "loss": [2.0, 1, 3, 2]})
    figure = runs.draw_curves(frame.assign(validation_error=np.nan))
    assert len(figure.axes) == 1 and len(figure.axes[0].lines) == 2
    assert len(runs.draw_curves(frame.assign(validation_error=0.5)).axes) == 2
    start = pd.Timestamp("2026-01-01", tz="UTC")
    work = pd.DataFrame(
        {
            "label": ["a", "a"],
            "what": ["training", "clean"],
            "start": [start, start + pd.Timedelta(minutes=2)],
            "end": [start + pd.Timedelta(minutes=2), start + pd.Timedelta(minutes=3)],
        }
    )
    bars = axes_of(runs.draw_makespan(work)).patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 2), (2, 1)]


def test_pictures_are_rows_of_pictures() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    figure = augmented.draw_pictures(pd.DataFrame({"label": ["original", "a", "a"], "picture": [picture] * 3}))
    assert [len(axes.images) for axes in figure.axes] == [1, *[0] * 7, 1, 1, *[0] * 6]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two trials with predictions and the files of trained trials."""
    store, clean, generator = Store(tmp_path / "results"), Clean(), np.random.default_rng(0)
    for method, error in (("baseline", 0.3), ("pixmix", 0.1)):
        found = Predictions(
            condition=np.full(200, ""),
            severity=np.zeros(200, np.int8),
            index=np.arange(200, dtype=np.int32),
            label=np.zeros(200, np.int16),
            predicted=(generator.uniform(size=200) < error).astype(np.int16),
            confidence=generator.uniform(0.2, 1, 200).astype(np.float32),
            extras={name: np.zeros(200, np.float32) for name in clean.extras},
        )
        put(
            store,
            f"{method}-1/clean-1",
            *clean.measure(found),
            rows=predictions_table(found, clean.extras),
            method=method,
        )
        done = {"losses": [2.0, 1.0], "epoch_seconds": [1.0, 1.0], "finished_at": "2026-01-01T00:00:00+00:00"}
        store.write_json(f"trials/{method}-1/done.json", done)
    return tmp_path / "results"


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_figure_of_results_is_written_in_each_format(results: Path, ending: str, tmp_path: Path) -> None:
    asked = Asked(results=pixmix_ray.read(results), objectives=[A, "clean.soft_f1"])
    for name in ("front", "parallel", "reliability", "training", "makespan") if ending == "svg" else ("front",):
        file = tmp_path / f"{name}.{ending}"
        write_figure(name, asked, file)
        start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
        assert file.read_bytes().startswith(start), name


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("frnt", "a.png", "unknown figure 'frnt', did you mean 'front'"),
        ("front", "a.gif", "written as .png, .pdf or .svg, got 'a.gif'"),
        ("scores", "a.png", "no predictions of anomalies"),
        ("calibration", "a.png", "no rms_calibration_error by severity"),
        ("pictures", "a.png", "checkpoints from elsewhere have none"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(results: Path, name: str, file: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((RequestError, UnknownNameError), match=re.escape(message)) as error:
        write_figure(name, Asked(results=pixmix_ray.read(results)), tmp_path / file)
    assert "\n" not in str(error.value) and not (tmp_path / file).exists()


def test_every_figure_says_what_it_shows() -> None:
    makers: list[Callable[..., object]] = [plot.draw for plot in FIGURES.values()]
    assert len(makers) == 10 and all(plot.summary for plot in FIGURES.values())
    assert all("Args" in (maker.__doc__ or "") or "augmented" in (maker.__doc__ or "") for maker in makers)
