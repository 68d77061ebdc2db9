"""What commands print with --json: the keys that docs/json.md lists, and values that are those of the results."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pixmix_ray.cli import main
from pixmix_ray.cli.console import as_json
from pixmix_ray.storage.store import Store, cell_failure_file, trial_file
from tests.stored_cells import ERROR, put

DOCUMENTED = {"plan": "plan FILE", "status": "status RESULTS", "list": "list KIND"}  # with its arguments
DOCS = Path(__file__).parents[2] / "docs" / "json.md"


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, dict[str, Any]]:
    """The exit code of a command with --json, and the object that it prints."""
    monkeypatch.setattr(sys, "argv", ["pixmix-ray", *map(str, arguments), "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0), json.loads(capsys.readouterr().out)


def documented(command: str) -> dict[str, set[str]]:
    """The keys that docs/json.md lists for a command, and the names within each."""
    found: dict[str, set[str]] = {}
    current = ""
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3:
            current = cells[0].strip("`") or current
            if current == command:
                found[cells[1].strip("`")] = set(re.findall(r"`(\w+)`", cells[2]))
    return found


def names_in(value: Any) -> set[str]:
    """All keys of objects within a value."""
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    return set().union(value, *map(names_in, value.values())) if isinstance(value, dict) else set()


@pytest.fixture
def evaluated(experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The results folder of the tiny experiment after a run in this process."""
    monkeypatch.setattr(sys, "argv", ["pixmix-ray", "run", str(experiment), "--local"])
    with pytest.raises(SystemExit):
        main()
    capsys.readouterr()
    return experiment.parent / "results"


def assert_documented(command: str, values: dict[str, Any]) -> None:
    keys = documented(DOCUMENTED.get(command, command))
    assert set(values) == set(keys)
    for key, value in values.items():
        assert names_in(value) <= keys[key], key


def test_a_plan(experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, values = shown(monkeypatch, capsys, "plan", experiment)
    assert code == 0
    assert_documented("plan", values)
    assert [trial["state"] for trial in values["trials"]] == ["missing"]
    assert values["seconds_left"] == {"training": None, "evaluation": None}


def test_a_status_which_ends_with_1_once_something_failed(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, values = shown(monkeypatch, capsys, "status", evaluated)
    assert code == 0
    assert_documented("status", values)
    (trial,) = values["trials"]
    assert (trial["state"], trial["cells_done"], values["failures"]) == ("done", 1, [])
    assert values["usage"]["spent"][0]["count"] == 1
    store = Store(evaluated)
    store.write_json(cell_failure_file(trial["trial_id"], "clean-1"), {"reason": "a slip"})
    code, values = shown(monkeypatch, capsys, "status", evaluated)
    assert code == 1
    assert "a slip" in values["failures"][0]


def test_a_trial_that_is_tried_again_has_not_failed(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(evaluated)
    for name in ("trial.json", "failed.json"):
        store.write_json(trial_file("other", name), {"retried": True, "reason": "a worker died"})
    code, _ = shown(monkeypatch, capsys, "status", evaluated)
    assert code == 0


@pytest.mark.parametrize("kind", ["methods", "mixing-sets", "datasets", "models", "benchmarks"])
def test_parts(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, values = shown(monkeypatch, capsys, "list", kind)
    assert code == 0
    assert_documented("list", values)
    assert values["kind"] == kind
    if kind == "methods":
        (pixmix,) = [part for part in values["parts"] if part["name"] == "pixmix"]
        assert {"name": "beta", "required": False, "default": 3.0} in pixmix["settings"]


def test_an_evaluation(evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = (evaluated / "trials").iterdir()
    code, values = shown(monkeypatch, capsys, "evaluate", folder, "--benchmarks", "clean")
    assert code == 0
    assert_documented("evaluate", values)
    error = next(row for row in values["measurements"] if row["metric"] == "error")
    assert (error["benchmark"], error["direction"], error["n"]) == ("clean", "lower", 364)
    assert 0 <= error["value"] <= 1


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (["table", "RESULTS"], {"method", "clean.error"}),
        (["table", "--paper", "8"], {"row"}),
        (["pareto", "RESULTS"], {"method", "clean.error", "hypervolume_share"}),
        (["certainty", "RESULTS"], {"label", "objective", "value"}),
        (["compare", "RESULTS", "RESULTS"], {"method", "before", "after"}),
        (["query", "RESULTS", "select method, count(*) as count from measurements group by method"], {"count"}),
        (["explain", "clean.error", "RESULTS"], {"about", "text"}),
    ],
)
def test_tables(
    arguments: list[str],
    columns: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for method in ("baseline", "cutout"):
        put(Store(tmp_path), f"{method}-1/clean-1", ERROR, method=method)
    filled_in = [str(tmp_path) if one == "RESULTS" else one for one in arguments]
    code, values = shown(monkeypatch, capsys, *filled_in)
    assert (code, set(values)) == (0, set(documented(arguments[0])))
    assert len(values["rows"]) > 1 and columns <= set(values["rows"][0])


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ("json", "--format json: give --json"),
        ("csv", "--format csv and --json: give one of them"),
        ("pdf", "unknown format 'pdf'"),
    ],
)
def test_another_format_is_refused(
    format_: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pixmix-ray", "table", "nowhere", "--json", "--format", format_])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_number_that_json_does_not_know_is_no_silent_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json({"value": float("nan")})
