"""docs/evaluate.md: its commands and blocks run, in their order, in one folder."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixmix_ray.cli import app
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.models import MODELS
from pixmix_ray.storage.index import read

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "evaluate.md").read_text()
SHARED = ROOT.parent / "shared"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.M | re.S)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
    with pytest.raises(SystemExit) as end:
        app()
    assert not end.value.code, line


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_three_networks_of_other_libraries_become_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("timm", "transformers"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    made, _ = blocks("python")
    exec(compile(made, "evaluate.md", "exec"), {})
    (tmp_path / "zoo.yaml").write_text(blocks("yaml")[0])
    for line in blocks("sh")[1].splitlines():
        run(line, monkeypatch)
    shown = capsys.readouterr().out
    assert set(read(tmp_path / "results" / "three")["method"]) == {"timm's", "squeezenet", "tiny"}
    assert "external" in shown and "| timm's (test_resnet) |" in shown


def test_the_function_of_ones_own_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_nets.py").write_text(blocks("python")[1])
    monkeypatch.syspath_prepend(tmp_path)
    entry = re.search(r"An entry of it is `(.*?)`", TEXT)
    assert entry is not None
    (tmp_path / "zoo.yaml").write_text(f"results: r\ndataset: digits\nbenchmarks: [clean]\ncheckpoints: [{entry[1]}]\n")
    (model,) = (one.model for one in read_experiment(tmp_path / "zoo.yaml").checkpoints)
    assert model is not None
    assert model.settings.build(7)(torch.zeros(1, 3, 8, 8)).shape == (1, 7)
    assert "Linear" in capsys.readouterr().out


def test_the_table_of_models_names_all_of_them() -> None:
    table = TEXT.partition("## Models")[2].partition("##")[0]
    assert {name for name in MODELS.known() if f"`{name}" not in table} == {"function"}  # named as module:function


@pytest.mark.filterwarnings("ignore:.*are not the published ones", "ignore:.*without the prefix 'module")
@pytest.mark.drill
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the repository")
def test_the_shared_resnet_becomes_a_row_a_front_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare = SHARED / "tools" / "prepare_data.py"
    subprocess.run([sys.executable, str(prepare), str(tmp_path / "data")], capture_output=True, check=True)
    shutil.copy(SHARED / "data" / "cifar10_resnet20.th", tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in blocks("sh")[0].splitlines():
        run(line, monkeypatch)
    shown = capsys.readouterr().out
    assert all(line.rstrip() in shown for line in blocks("text")[0].splitlines())
    assert (tmp_path / "report.html").stat().st_size > 10_000
