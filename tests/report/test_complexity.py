"""Complexity beside safety: sets joined with what was trained with them, correlations by hand, the files."""

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pixmix_ray.cli import main
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.mixing_sets.complexity import MEASURES, brightness_entropy
from pixmix_ray.report.complexity import SetsBeside, rank_correlations, sets_beside_safety, write_figure, write_sets
from pixmix_ray.report.sheet import sampled

ARRAYS = ("flat", "steps", "noise")


@pytest.fixture
def mixing(experiment: Path, tmp_path: Path) -> Path:
    """An experiment that mixes with three sets of rising entropy."""
    random = np.random.default_rng(0)
    np.save(tmp_path / "flat.npy", np.full((3, 36, 36, 3), 90, np.uint8))
    np.save(tmp_path / "steps.npy", np.repeat(random.integers(0, 256, (3, 36, 6, 3), np.uint8), 6, axis=2))
    np.save(tmp_path / "noise.npy", random.integers(0, 256, (3, 36, 36, 3), np.uint8))
    text = experiment.read_text().replace("- baseline", "- pixmix\n- baseline")
    start = text.index("mixing_set:")
    sets = "".join(f"- {{name: folder, folders: {name}.npy}}\n" for name in ARRAYS)
    experiment.write_text(f"{text[:start]}mixing_set:\n{sets}{text[text.index('model:') :]}")
    return experiment


def measurements(sweep: Experiment, errors: dict[str, list[float]]) -> pd.DataFrame:
    """Clean errors of the trials that mixed with each set, a value a seed."""
    rows = []
    for trial in sweep.trials():
        for seed, value in enumerate(errors.get(trial.mixing_set_label or "", [0.9])):
            row: dict[str, object] = {
                "trial_id": trial.id,
                "method": trial.method.name,
                "mixing_set": trial.mixing_set_label,
                "seed": seed,
            }
            row |= {"benchmark": "clean", "metric": "error", "condition": "", "value": value, "dataset": "digits"}
            rows.append({**row, "severity": None, "standard_error": 0.01, "settings": trial.mixing_set_label or ""})
    return pd.DataFrame(rows)


def test_each_set_stands_beside_the_mean_of_its_trials(mixing: Path) -> None:
    sweep = read_experiment(mixing)
    frame = measurements(sweep, {"flat": [0.3], "steps": [0.2, 0.4], "noise": [0.1]})
    beside = sets_beside_safety(sweep, frame, count=5, seed=3)
    assert beside.objectives == ("clean.error",)
    found = beside.frame.set_index("mixing_set")
    assert list(found.index) == list(ARRAYS)  # the baseline, which mixes with none, is not among them
    assert found["clean.error"].to_dict() == pytest.approx({"flat": 0.3, "steps": 0.3, "noise": 0.1})
    crops = sampled(sweep.mixing_set[2], 5, sweep.training[0].side(32), seed=3).crops
    assert found.loc["noise", "brightness_entropy"] == pytest.approx(brightness_entropy(crops).mean())
    assert found.loc["flat", "brightness_entropy"] == 0 and found.loc["flat", "pictures"] == 3


def test_a_set_that_was_not_trained_with_has_no_safety_and_is_there(mixing: Path) -> None:
    sweep = read_experiment(mixing)
    frame = measurements(sweep, {"flat": [0.3], "steps": [0.2], "noise": [0.1]})
    beside = sets_beside_safety(sweep, frame[frame["mixing_set"] != "steps"], count=2, seed=0)
    assert beside.frame.set_index("mixing_set")["clean.error"].isna().to_dict() == {
        "flat": False,
        "steps": True,
        "noise": False,
    }
    assert rank_correlations(beside)["rho"].isna().all()  # two sets are always in order
    assert sets_beside_safety(sweep, None, count=2, seed=0).objectives == ()


def of(complexity: list[float], **objectives: list[float]) -> SetsBeside:
    """Sets whose four measures are the same numbers."""
    names = {name.replace("__", "."): values for name, values in objectives.items()}
    frame = pd.DataFrame(
        {"mixing_set": list("abcdefgh")[: len(complexity)], **dict.fromkeys(MEASURES, complexity), **names}
    )
    return SetsBeside(frame=frame, objectives=tuple(names))


def test_the_correlation_is_with_safety_by_hand() -> None:
    beside = of([1, 2, 3, 4], clean__error=[0.4, 0.3, 0.2, 0.1], anomalies__auroc=[0.6, 0.9, 0.8, 0.7])
    found = rank_correlations(beside).set_index(["measure", "objective"])["rho"]
    assert found["box_dimension", "clean.error"] == pytest.approx(1)  # the more, the lower the error
    # ranks 1 2 3 4 and 1 4 3 2: rho = 1 - 6 (0 + 4 + 0 + 4) / (4 * 15)
    assert found["box_dimension", "anomalies.auroc"] == pytest.approx(0.2)
    level = rank_correlations(of([1, 1, 1], clean__error=[0.4, 0.3, 0.2]))
    assert level["rho"].isna().all() and set(level["sets"]) == {3}


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_figure_is_written_with_gaps_where_nothing_was_measured(tmp_path: Path, ending: str) -> None:
    beside = of([1, 2, 3], clean__error=[0.4, 0.3, math.nan], consistency__mt5d=[0.6, math.nan, 0.8])
    file = tmp_path / f"figure.{ending}"
    write_figure(beside, rank_correlations(beside), file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    if ending == "png":
        drawn = np.asarray(Image.open(file).convert("L"))
        assert drawn.shape[1] > 900 and (drawn < 128).any()


def test_a_figure_that_cannot_be_drawn_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = of([1, 2, 3], clean__error=[0.4, 0.3, 0.2])
    with pytest.raises(RequestError, match=r"written as .png, .pdf or .svg, got 'figure.gif'"):
        write_figure(beside, rank_correlations(beside), tmp_path / "figure.gif")
    nothing = SetsBeside(frame=beside.frame, objectives=())
    with pytest.raises(RequestError, match="run the experiment first"):
        write_figure(nothing, rank_correlations(nothing), tmp_path / "figure.png")
    monkeypatch.setattr("pixmix_ray.report.figures.style.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'pixmix_ray\[report\]'"):
        write_figure(beside, rank_correlations(beside), tmp_path / "figure.png")


def test_the_table_survives_parquet(tmp_path: Path) -> None:
    beside = of([1, 2, 3], clean__error=[0.4, math.nan, 0.2])
    write_sets(beside, tmp_path / "sets.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "sets.parquet"), beside.frame)


def test_the_command_measures_what_has_not_been_trained_yet(
    mixing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = ["sets", "complexity", str(mixing), "--count", "2", "--out", str(tmp_path / "sets.parquet")]
    monkeypatch.setattr(sys, "argv", ["pixmix-ray", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    assert not stop.value.code and "complexity only, without safety measures: no results" in shown.err
    assert all(name in shown.out for name in ARRAYS)
    assert pd.read_parquet(tmp_path / "sets.parquet")["mixing_set"].tolist() == list(ARRAYS)
