"""Tables for people: rendered to text of a fixed width, compared with lines written by hand."""

import io
import json
import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from pixmix_ray.analysis.certainty import Certainty, Spread, bootstrap
from pixmix_ray.analysis.labels import configuration_labels
from pixmix_ray.analysis.pareto import SAFETY_OBJECTIVES, dominance
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.report import front_lines, measures_grid

ERROR, AUROC, T5D = "clean.error", "anomalies.auroc", "consistency.mt5d"


def markdown_table(wide: pd.DataFrame, objectives: list[str]) -> str:
    return measures_grid(wide, objectives).text("markdown").partition("\n\n")[0]


def measures_table(wide: pd.DataFrame, objectives: Sequence[str]) -> Table:
    return measures_grid(wide, objectives).terminal()


def rendered(table: Table, *, ansi: bool = False) -> list[str]:
    """The lines of a table as text 80 wide."""
    file = io.StringIO()
    Console(file=file, width=80, force_terminal=ansi, color_system="standard" if ansi else None).print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def caption(lines: list[str]) -> str:
    """The caption without its line breaks."""
    return " ".join(" ".join(lines).split())


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": ["baseline", "cutout", "pixmix"],
            "seeds": [1, 3, 3],
            ERROR: [0.0512, 0.0448, 0.0423],
            AUROC: [0.9189, math.nan, 0.97],
            f"{ERROR}.standard_error": [0.002, 0.0012, 0.0006],
            f"{AUROC}.standard_error": [math.nan, math.nan, math.nan],
        }
    )


def test_a_table_shows_percent_marks_arrows_and_errors_over_seeds() -> None:
    # the baseline has one seed: its error, which is over pictures, is not shown
    lines = rendered(measures_table(frame(), [ERROR, AUROC]))
    assert lines[:5] == [
        "                    clean anomalies",
        "method   seeds    error ↓   auroc ↑",
        "baseline     1        5.1      91.9",
        "cutout       3  4.5 ± 0.1         –",
        "pixmix       3 *4.2 ± 0.1     *97.0",
    ]
    assert caption(lines[5:]) == "percent; * best, underlined: second best"


def test_one_number_of_seeds_is_in_the_caption() -> None:
    lines = rendered(measures_table(frame().iloc[1:], [ERROR]))
    assert lines[:4] == [
        "            clean",
        "method    error ↓",
        "cutout  4.5 ± 0.1",
        "pixmix *4.2 ± 0.1",
    ]
    assert caption(lines[4:]) == "percent; 3 seeds, ± standard error; * best, underlined: second best"


def test_the_six_safety_measures_with_errors_fit_80_columns() -> None:
    wide = pd.DataFrame(0.123, index=range(2), columns=list(SAFETY_OBJECTIVES))
    wide = wide.assign(method="pixmix", k=[3, 4], seeds=3, **{f"{name}.standard_error": 0.01 for name in wide.columns})
    lines = rendered(measures_table(wide, SAFETY_OBJECTIVES))
    assert sum(line.count("*12.3 ± 1.0") for line in lines) == 12
    assert [line.split()[0] for line in lines[-5:-1]] == ["pixmix", "(k=3)", "pixmix", "(k=4)"]


def test_the_best_is_bold_and_the_second_best_underlined() -> None:
    text = "\n".join(rendered(measures_table(frame(), [ERROR, AUROC]), ansi=True))
    assert "\x1b[1m*4.2 ± 0.1\x1b[0m" in text
    assert "\x1b[4m4.5 ± 0.1\x1b[0m" in text
    assert "\x1b[1m*97.0\x1b[0m" in text
    assert "\x1b[4m91.9\x1b[0m" in text


def test_equal_values_share_a_mark() -> None:
    wide = pd.DataFrame({"method": ["a", "b", "c", "d"], ERROR: [0.1, 0.1, 0.2, 0.3]})
    assert markdown_table(wide, [ERROR]).splitlines()[2:] == [
        "| a | **10.0** |",
        "| b | **10.0** |",
        "| c | *20.0* |",
        "| d | 30.0 |",
    ]


def test_data_sets_are_marked_apart_and_named() -> None:
    datasets = ["c10", "c10", "c100", "c100"]
    wide = pd.DataFrame({"method": ["a", "b", "a", "b"], "dataset": datasets, ERROR: [0.1, 0.2, 0.3, 0.2]})
    assert markdown_table(wide, [ERROR]).splitlines()[2:] == [
        "| c10 | a | **10.0** |",
        "|  | b | *20.0* |",
        "| c100 | a | *30.0* |",
        "|  | b | **20.0** |",
    ]


def test_a_distance_is_no_percentage() -> None:
    wide = pd.DataFrame({"method": ["a", "b"], T5D: [2.344, 1.5]})
    lines = rendered(measures_table(wide, [T5D]))
    assert [line.split() for line in lines[2:4]] == [["a", "2.34"], ["b", "*1.50"]]
    assert caption(lines[4:]) == "percent, mt5d in ranks; * best, underlined: second best"


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    wide = pd.DataFrame({"method": ["[red]mine[/red]", "a|b"], ERROR: [0.1, 0.2]})
    assert ["[red]mine[/red]", "*10.0"] in [line.split() for line in rendered(measures_table(wide, [ERROR]))]
    assert r"| a\|b | *20.0* |" in markdown_table(wide, [ERROR])


def test_the_markdown_table_is_a_github_table() -> None:
    assert markdown_table(frame(), [ERROR, AUROC]).splitlines() == [
        "| method | seeds | clean error ↓ | anomalies auroc ↑ |",
        "| :--- | ---: | ---: | ---: |",
        "| baseline | 1 | 5.1 | *91.9* |",
        "| cutout | 3 | *4.5 ± 0.1* | – |",
        "| pixmix | 3 | **4.2 ± 0.1** | **97.0** |",
    ]
    assert measures_grid(frame(), [ERROR]).text("markdown").endswith("\n\npercent; bold: best, italic: second best")


def settings(epochs: int, **more: object) -> str:
    return json.dumps({"training": {"epochs": epochs, "lr": 0.1}, **more})


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        ({"method": ["pixmix", "cutout"], "k": [4, None]}, ["pixmix", "cutout"]),
        (
            {"method": ["pixmix", "pixmix", "cutout"], "k": [3.0, 4.0, None], "beta": [3.0, 3.0, None]},
            ["pixmix (k=3)", "pixmix (k=4)", "cutout"],
        ),
        (
            {"method": ["pixmix"] * 2, "mixing_set": ["fractals", None], "k": [4, 4], "beta": [3.5, 4.0]},
            ["pixmix (fractals, beta=3.5)", "pixmix (no mixing set, beta=4)"],
        ),
        (
            {"method": ["mixup", "mixup", "cutout"], "settings": [settings(5), settings(10), settings(5)]},
            ["mixup (epochs=5)", "mixup (epochs=10)", "cutout"],
        ),
        (
            {"method": ["mixup"] * 2, "settings": [settings(5, method={"alpha": 0.5}), settings(5)]},
            ["mixup (alpha=0.5)", "mixup (alpha=default)"],
        ),
        (
            # also where k tells them apart, what varies beside it is said: nothing that a search tried is hidden
            {"method": ["pixmix"] * 3, "k": [3, 4, 4], "settings": [settings(1), settings(5), settings(9)]},
            ["pixmix (k=3, epochs=1)", "pixmix (k=4, epochs=5)", "pixmix (k=4, epochs=9)"],
        ),
        (
            # what differs between mixing sets follows from their names
            {
                "method": ["pixmix"] * 2,
                "mixing_set": ["fractals", "fvis"],
                "settings": [settings(1, mixing_set={"count": number}) for number in (1, 2)],
            },
            ["pixmix (fractals)", "pixmix (fvis)"],
        ),
        (
            {"method": ["pixmix"] * 2, "settings": [settings(1, method={"lr": lr}) for lr in (0.12345678, 2.0)]},
            ["pixmix (lr=0.123457)", "pixmix (lr=2)"],
        ),
        (
            {"method": ["a", "b"], "dataset": ["cifar10", "cifar10"], "model": ["wrn_40_4", "resnet50"]},
            ["a (wrn_40_4)", "b (resnet50)"],
        ),
        ({"method": ["a", "a", "b"]}, ["a #1", "a #2", "b"]),
        ({"method": ["a", "a"], "settings": ["not JSON", None]}, ["a (settings=not JSON)", "a (settings=default)"]),
        ({ERROR: [0.1, 0.2]}, ["configuration #1", "configuration #2"]),
        ({"method": ["a", "a"], "label": ["mine", "yours"]}, ["mine", "yours"]),
        ({"method": ["a\x1b[2J\nb", "a [2J b"]}, ["a [2J b #1", "a [2J b #2"]),
    ],
)
def test_labels_say_what_tells_configurations_apart(columns: dict[str, list[object]], labels: list[str]) -> None:
    assert configuration_labels(pd.DataFrame(columns)) == labels


def test_front_lines_say_who_is_on_the_front_and_by_how_much_the_others_lose() -> None:
    wide = pd.DataFrame(
        {
            "method": ["pixmix", "cutout", "baseline", "mixup", "augmix"],
            ERROR: [0.042, 0.057, 0.05, 0.03, 0.042],
            AUROC: [0.97, 0.914, 0.92, math.nan, 0.9699],
        }
    )
    assert front_lines(dominance(wide, [ERROR, AUROC]), [ERROR, AUROC]) == [
        "pixmix is on the Pareto front",
        "cutout is dominated by pixmix, baseline, augmix "
        "(pixmix is better in clean.error by 1.5 points, in anomalies.auroc by 5.6 points)",
        "baseline is dominated by pixmix, augmix "
        "(pixmix is better in clean.error by 0.8 points, in anomalies.auroc by 5.0 points)",
        "mixup is not compared, as it lacks anomalies.auroc",
        "augmix is dominated by pixmix (which is better in anomalies.auroc by 0.01 points, equal in clean.error)",
    ]


def test_front_lines_give_a_distance_without_points() -> None:
    wide = pd.DataFrame({"method": ["a", "b"], T5D: [1.5, 2.25]}, index=[10, 20])
    assert front_lines(dominance(wide, [T5D]), [T5D])[1] == (
        "b is dominated by a (which is better in consistency.mt5d by 0.75)"
    )


def certain(values: list[list[float]], se: float = 0.002) -> Certainty:
    """Of pictures that move each value by itself."""
    array = np.array(values)
    n, m = array.shape
    effects = np.random.default_rng(0).choice([-1.0, 1.0], (400, n, m)) * se / 20
    return bootstrap(
        Spread(
            values=array,
            strata={"test": [(slice(None), (effects - effects.mean(axis=0)).astype(np.float32))]},
            seeds=[array[row : row + 1] for row in range(n)],
            others=np.full((n, m), math.nan),
            groups=np.zeros(n, dtype=np.int64),
        ),
        [ERROR, AUROC],
    )


def test_with_certainty_only_real_differences_are_marked_and_the_caption_says_of_what() -> None:
    wide = pd.DataFrame({"method": ["a", "b", "c"], ERROR: [0.1, 0.102, 0.2], AUROC: [0.9, 0.8, math.nan]})
    grid = measures_grid(wide, [ERROR, AUROC], certain(wide[[ERROR, AUROC]].to_numpy().tolist()))
    assert [[cell.mark for cell in row[1:3]] for row in grid.rows] == [["best", "best"], ["tied", ""], ["", ""]]
    assert grid.rows[0][1].text == "10.0 ± 0.4" and grid.rows[2][2].text == "–"
    # by hand: the second is better in error in a normal share of -0.002 / 0.0028; of the third nothing is known
    assert (
        grid.rows[0][3].value == 1 and 0.15 < float(str(grid.rows[1][3].value)) < 0.35 and grid.rows[2][3].text == "–"
    )
    shown = caption(rendered(grid.terminal()))
    assert "± half of the 95 % interval over pictures alone" in shown
    assert "= not significantly different from the best at 95 %, over 4 comparisons" in shown


def test_front_lines_say_how_surely() -> None:
    wide = pd.DataFrame({"method": ["a", "b", "c"], ERROR: [0.1, 0.1002, 0.2], AUROC: [0.9, 0.8, 0.7]})
    lines = front_lines(
        dominance(wide, [ERROR, AUROC]), [ERROR, AUROC], certain(wide[[ERROR, AUROC]].to_numpy().tolist())
    )
    assert lines[0] == "a is on the Pareto front, in 100 % of the draws"
    assert re.search(r"dominates in [4-6]\d % of the draws, no significant difference in clean.error\)$", lines[1])
    assert lines[2].endswith("; dominates in 100 % of the draws)")


@pytest.mark.parametrize("function", [measures_table, markdown_table])
def test_an_objective_that_is_not_there_is_named(function: object) -> None:
    assert callable(function)
    with pytest.raises(UnknownNameError, match=r"unknown objective 'clean\.auroc'"):
        function(frame(), ["clean.auroc"])
    with pytest.raises(UnknownNameError, match="unknown metric 'errror', did you mean 'error'"):
        function(frame(), ["clean.errror"])


def test_inputs_are_not_changed() -> None:
    wide = frame()
    measures_table(wide, [ERROR, AUROC])
    markdown_table(wide, [ERROR, AUROC])
    front_lines(dominance(wide, [ERROR]), [ERROR])
    pd.testing.assert_frame_equal(wide, frame())


def test_a_mean_over_fewer_seeds_says_so_and_is_not_marked_best() -> None:
    # by hand: the baseline's AUROC is of one of its three seeds, and would be the best
    values = np.array([[0.05, 0.99], [0.04, 0.95]])
    by_seed = [np.array([[0.05, 0.99], [0.05, math.nan], [0.05, math.nan]]), np.tile([0.04, 0.95], (3, 1))]
    spread = Spread(
        values=values, strata={}, seeds=by_seed, others=np.full((2, 2), 0.001), groups=np.zeros(2, np.int64)
    )
    certainty = bootstrap(spread, [ERROR, AUROC])
    wide = pd.DataFrame({"method": ["baseline", "pixmix"], "seeds": [3, 3], ERROR: values[:, 0], AUROC: values[:, 1]})
    wide = wide.assign(**{f"{ERROR}.seeds": [3, 3], f"{AUROC}.seeds": [1, 3]})
    grid = measures_grid(wide, [ERROR, AUROC], certainty)
    cells = [row[2] for row in grid.rows]
    assert cells[0].text.endswith(" (1 of 3 seeds)") and cells[0].mark == ""
    assert "seeds" not in cells[1].text and cells[1].mark == "best"
    lists = {"dominated_by": pd.Series([[1], []], dtype=object), "missing": pd.Series([[], []], dtype=object)}
    (line, _) = front_lines(wide.assign(on_front=[False, True], **lists), [ERROR, AUROC])
    assert f"in {ERROR} by 1.0 points, in {AUROC} on the seeds that both have" in line
