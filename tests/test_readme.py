"""What the documents show works: YAML blocks are valid files, Python blocks run, commands and files exist."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pixmix_ray.cli import app
from pixmix_ray.evaluation.cell import evaluate_cell
from pixmix_ray.evaluation.checkpoints import trained
from pixmix_ray.evaluation.rescore import rescore
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import train_trial

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "experiments" / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cluster" / "README.md",
]
TEST_COMMAND = "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[test]' -c constraints.txt && pytest"


def blocks(language: str) -> list[tuple[str, str]]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.M | re.S)
    return [(document.name, text) for document in DOCUMENTS for text in pattern.findall(document.read_text())]


@pytest.mark.parametrize(("document", "text"), blocks("yaml"))
def test_yaml_blocks_are_valid_experiments(document: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    assert read_experiment(file).trials()


@pytest.mark.parametrize(("document", "text"), blocks("yml"))  # of data that are not here
def test_yaml_blocks_of_other_data_are_well_formed(document: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    assert read_experiment(file).methods


@pytest.mark.parametrize(("document", "text"), blocks("python"))
def test_python_blocks_run(document: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, document, "exec"), {})


def install_example(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the document's file `module` and announce it as the document does, as if a package were installed."""
    document = (ROOT / "experiments" / "README.md").read_text()
    code = re.search(rf"```python\n(# {module}.py\n.*?)```", document, re.S)
    announcement = re.search(rf'```toml\n\[project.entry-points."([^"]*)"\]\n([^`]*"{module}:[^`]*)```', document)
    assert code and announcement
    (folder / f"{module}.py").write_text(code.group(1))
    installed = folder / f"{module}-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    group, line = announcement.groups()
    (installed / "entry_points.txt").write_text(f"[{group}]\n" + line.replace('"', ""))
    monkeypatch.syspath_prepend(folder)


def test_the_example_of_a_method_of_ones_own_trains_by_module_and_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_example("my_method", tmp_path, monkeypatch)
    sets, ids = ["training.epochs=1", "dataset.train_limit=64"], []
    for name in ("my_method:GaussianNoise", "gaussian_noise"):
        sets = [*sets, f"results={tmp_path / name}"]
        sweep = read_experiment(
            ROOT / "experiments" / "quickstart.yaml", [*sets, f"methods=[{{name: '{name}', sigma: 0.2}}]"]
        )
        (trial,) = sweep.trials()
        (progress,) = train_trial(trial, Store(sweep.results), torch.device("cpu"))
        assert np.isfinite(progress.loss)
        assert trial.method.settings.identity() == {"sigma": 0.2}
        ids.append(trial.id)
    assert ids[0] == ids[1]


def test_the_example_of_a_mixing_set_of_ones_own_is_mixed_by_module_and_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_example("my_pictures", tmp_path, monkeypatch)
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    sets = ["training.epochs=1", "dataset.train_limit=64", "methods=[pixmix]"]
    for name in ("my_pictures:Waves", "waves"):
        sets = [*sets, f"results={tmp_path / name}"]
        sweep = read_experiment(
            ROOT / "experiments" / "quickstart.yaml", [*sets, f"mixing_set={{name: '{name}', count: 300}}"]
        )
        (trial,) = sweep.trials()
        assert trial.pictures_version.startswith("waves-1-")
        (progress,) = train_trial(trial, Store(sweep.results), torch.device("cpu"))
        assert np.isfinite(progress.loss)
    pictures = trial.mixing_set.settings.pictures(36) if trial.mixing_set else ()
    assert len({pictures[index].tobytes() for index in range(len(pictures))}) == 300


def test_the_example_of_a_benchmark_of_ones_own_is_evaluated_by_module_and_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_example("my_benchmark", tmp_path, monkeypatch)
    sets = ["training.epochs=1", "dataset.train_limit=64", f"results={tmp_path / 'results'}", "methods=[baseline]"]
    cpu, values, states = torch.device("cpu"), [], []
    for name in ("my_benchmark:Occlusion", "occlusion"):
        sweep = read_experiment(
            ROOT / "experiments" / "quickstart.yaml", [*sets, f"benchmarks=[{{name: '{name}', grey: 0, limit: 40}}]"]
        )
        (trial,), (run,), store = sweep.trials(), sweep.benchmark_runs(), Store(sweep.results)
        list(train_trial(trial, store, cpu))
        rows = evaluate_cell(trained(trial, store), run, store, cpu, "0.0.1")
        assert [(row.metric, row.severity, row.n) for row in rows] == [
            ("error", None, 200),
            *(("error", severity, 40) for severity in range(1, 6)),
        ]
        assert rows[0].value == pytest.approx(sum(row.value for row in rows[1:]) / 5)
        values.append([row.value for row in rows])
        states.append([cell.state for trusted in (False, True) for cell in rescore(sweep.results, is_trusted=trusted)])
    assert values[0] == values[1]
    # it is one cell; code that a file names is imported for those who trust it, and what is installed is trusted
    assert states == [["skipped", "same"], ["same", "same"]]


def test_the_examples_of_a_model_and_a_data_set_of_ones_own_are_trained_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "data").mkdir()
    install_example("my_model", tmp_path / "model", monkeypatch)
    install_example("my_data", tmp_path / "data", monkeypatch)
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(50) % 2
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    trials, cpu = [], torch.device("cpu")
    for model, data in (("my_model:Small", "my_data:Arrays"), ("small", "arrays")):
        experiment = {
            "results": str(tmp_path / "results"),
            "dataset": {"name": data, "file": str(tmp_path / "mine.npz"), "names": ["cat", "dog"]},
            "model": {"name": model, "width": 4},
            "methods": ["baseline"],
            "training": {"epochs": 1, "batch_size": 10},
            "benchmarks": ["clean"],
        }
        sweep = read_experiment(experiment)
        trials += sweep.trials()
    assert trials[0].id == trials[1].id and trials[0].model.settings.label() == "small_4"
    store, (run,) = Store(sweep.results), sweep.benchmark_runs()
    (progress,) = train_trial(trials[0], store, cpu)
    (error, *_) = evaluate_cell(trained(trials[0], store), run, store, cpu, "0.0.1")
    assert np.isfinite(progress.loss) and (error.metric, error.n) == ("error", 10)


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda file: file.name)
def test_every_experiment_file_is_valid_and_listed(file: Path) -> None:
    assert read_experiment(file).methods
    assert f"({file.name})" in (ROOT / "experiments" / "README.md").read_text()


def test_commands_in_the_documents_exist() -> None:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    commands = set(re.findall(r"pixmix-ray ([a-z]+)", text))
    assert commands >= {"run", "plan", "status", "evaluate", "pareto", "table", "list"}
    for command in sorted(commands):
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0 and "Example:" in shown.stdout, command


def test_files_that_the_readme_links_to_exist() -> None:
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_the_readme_starts_with_the_two_commands_and_stays_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("python3 -m venv") for line in lines[:25])
    assert TEST_COMMAND in lines
    assert "grep -m1" in (ROOT / ".ci" / "run").read_text()  # the gate takes the same line from the README
