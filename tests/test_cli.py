"""The commands as a user types them: output, exit codes, and one line for each mistake, before Ray starts."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixmix_ray import cli
from pixmix_ray.cli import main
from pixmix_ray.errors import PixmixRayError
from pixmix_ray.storage import local_files
from pixmix_ray.storage.index import read
from pixmix_ray.storage.run_lock import RunLock
from pixmix_ray.storage.store import Store
from tests.program import PROGRAM, Program

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _wide_and_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    # main puts its own warnings' look there, and a table of parts the current folder
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("RAY_ENABLE_AUTO_CONNECT", "0")  # a run puts it there


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["pixmix-ray", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def edited(experiment: Path, old: str, new: str) -> Path:
    text = experiment.read_text()
    assert old in text
    experiment.write_text(text.replace(old, new))
    return experiment


# (what is replaced in the experiment file, by what, what the one line must say)
MISTAKES = {
    "unknown key": ("results: results", "results: results\nepochs: 3", "unknown key in experiment .*'epochs'"),
    "misspelt key": ("seeds", "sedes", "'sedes', did you mean 'seeds'"),
    "unknown method": ("- baseline", "- basline", "unknown method 'basline', did you mean 'baseline'"),
    "unknown benchmark": ("name: clean", "name: claen", "unknown benchmark 'claen', did you mean 'clean'"),
    "unknown model": (
        "name: wide_resnet",
        "name: wideresnet",
        "unknown model 'wideresnet', did you mean 'wide_resnet'",
    ),
    "unknown dataset": ("name: digits", "name: digit", "unknown dataset 'digit', did you mean 'digits'"),
    "unknown setting": ("- baseline", "- {name: pixmix, kk: 3}", "'kk', did you mean 'k'"),
    "unknown recipe key": ("flip: false", "flop: false", "'flop', did you mean 'flip'"),
    "negative k": ("- baseline", "- {name: pixmix, k: -1}", r"k = -1: .*at least 0"),
    "negative k in the grid": ("- baseline", "- pixmix\nk: [-1]", r"k = -1: .*at least 0"),
    "beta of zero": ("- baseline", "- {name: pixmix, beta: 0}", r"beta = 0: .*above 0"),
    "no epochs": ("epochs: 1", "epochs: 0", r"epochs = 0: .*at least 1"),
    "no methods": ("- baseline", "[]", "methods.*at least one"),
    "missing folder": ("name: fractals\n", "name: folder\n  folders: nowhere\n", "nowhere"),
    "bad depth": ("depth: 10", "depth: 11", r"depth = 11: depth must be 6n \+ 4"),
    "no number": ("epochs: 1", "epochs: many", r"epochs = 'many': .*whole number"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_file_is_one_line_and_exit_code_2(
    name: str, experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, expected = MISTAKES[name]
    text = experiment.read_text() + "seeds: [0]\n"
    text = re.sub(r"- baseline|epochs: 1", lambda found: found.group(), text)
    assert old in text or name == "missing folder"
    if name == "no methods":
        text = text.replace("methods:\n- baseline", "methods: []")
    elif name == "missing folder":
        text = text.replace("- baseline", "- pixmix")
        text = re.sub(r"mixing_set:\n(  .*\n)+", "mixing_set:\n  name: folder\n  folders: nowhere\n", text)
    else:
        text = text.replace(old, new)
    experiment.write_text(text)
    assert call(monkeypatch, "run", experiment) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("pixmix-ray: ") and shown.err.count("\n") == 1, shown.err
    assert re.search(expected, shown.err), shown.err
    assert not (experiment.parent / "results").exists()


def test_an_undecodable_picture_is_named_before_anything_starts(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(folder / "fine.png")
    (folder / "broken.png").write_bytes(b"no picture")
    overrides = ["--set", "methods=[pixmix]", "--set", f"mixing_set={{name: folder, folders: {folder}}}"]
    assert call(monkeypatch, "run", experiment, *overrides) == 2
    assert re.search(r"pixmix-ray: .*broken\.png.*\n$", capsys.readouterr().err)


@pytest.mark.filterwarnings("ignore::pixmix_ray.datasets.DataVersionWarning")
def test_a_truncated_cifar_batch_is_named_before_anything_starts(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"\x80\x02}q\x00(X\x04")  # a pickle that ends in its middle
    assert call(monkeypatch, "run", experiment, "--set", f"dataset={{name: cifar10, root: {tmp_path}}}") == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1].startswith("pixmix-ray: ") and "batch" in shown[-1]


def test_results_that_cannot_be_written_are_reported(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fault: the results folder lies below a plain file."""
    assert call(monkeypatch, "run", experiment, "--set", f"results={experiment}/below") == 2
    assert re.search(r"pixmix-ray: cannot write to results .*\n$", capsys.readouterr().err)


def test_an_address_with_nothing_behind_is_reported(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert call(monkeypatch, "run", experiment, "--address", f"127.0.0.1:{port}") == 2
    assert f"no Ray cluster at 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "nowhere"], "no results in"),
        (["status", "[bold] folder [/red]"], "/[bold] folder [/red]: "),  # shown as it is, not as markup
        (["table", "nowhere"], "no results in"),
        (["pareto", "nowhere"], "no results in"),
        (["list", "metods"], "did you mean 'methods'"),
        (["plan", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["run", "nowhere.yaml", "--local", "--address", "h:1"], "--local runs in this process, and --address h:1 on"),
        (["evaluate", "nowhere.pt", "--benchmarks", "clean"], "no checkpoint nowhere.pt"),
        (["evaluate", "nowhere.pt", "--benchmarks", "clean"], "no checkpoint nowhere.pt"),
        (["evaluate", "--benchmarks", "clean"], "no checkpoint was given: give weights"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and expected in shown


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("methods", ["baseline", "cutout", "mixup", "cutmix", "pixmix", "beta (3.0)"]),
        ("mixing-sets", ["fractals", "folder"]),
        ("datasets", ["digits", "cifar10", "cifar100"]),
        ("models", ["wide_resnet", "cifar_resnet", "depth (40)"]),
        ("benchmarks", ["clean", "corruptions", "adversaries", "anomalies"]),
        ("", ["methods: adversarial_l2, ", "mixing-sets: ", "metrics: error, "]),
    ],
)
def test_list_shows_names_settings_and_defaults(
    kind: str, names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "list", *filter(None, [kind])) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_plan_counts_and_writes_nothing(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "plan", experiment, "--set", "seeds=[0, 1, 2]") == 0
    shown = capsys.readouterr().out
    assert "trials: 3 (0 done, 3 missing, 0 failed)" in shown and "cells: 3 (0 done, 3 missing, 0 failed)" in shown
    assert not (experiment.parent / "results").exists()


def shown_by(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0
) -> tuple[str, str]:
    """What the command in this process writes to stdout and stderr."""
    capsys.readouterr()
    ended = call(monkeypatch, *arguments)
    shown = capsys.readouterr()
    assert ended == code, shown.err
    return shown.out, shown.err


@pytest.fixture
def run(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Runs the experiment in this process."""
    return partial(shown_by, monkeypatch, capsys, "run", experiment, "--local")


def test_the_whole_line_from_file_to_front(
    experiment: Path,
    run: Callable[..., tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a user: run, again with nothing to do, plan, status, table, pareto, rescore, evaluate."""
    shown = partial(shown_by, monkeypatch, capsys)
    sets = ["--set", "methods=[baseline, pixmix]"]
    sets += ["--set", "benchmarks=[{name: clean, limit: 50}, {name: adversaries, limit: 20, steps: 2}]"]
    first, progress = run(*sets)
    assert "epoch 1/1" in progress and progress.count("measured in") == 4
    results = experiment.parent / "results"
    assert f"Results: {results}" in first and "on the Pareto front" in first and "*" in first

    again, progress = run(*sets)
    assert (again, progress) == (first, "")
    with monkeypatch.context() as patched:
        patched.setattr("pixmix_ray.cli.sweeps.MOST_SHOWN", 1)
        many, _ = run(*sets)
    assert (
        many.startswith(f"2 trials are too many to show here: select some with pixmix-ray table {results} --where")
        and "*" not in many
    )
    assert "no report.html: a page holds at most 1 trials, and there are 2" in many

    assert "cells: 4 (4 done, 0 missing, 0 failed)\nnothing left to do" in shown("plan", experiment, *sets)[0]
    priced, _ = shown("plan", experiment, *sets, "--set", "seeds=[0, 1]")
    assert re.search(r"work left: training \d+ s, evaluation \d+ s", priced)
    assert len(re.findall(r"done +│ +2 of 2 │ +0 │", shown("status", results)[0])) == 2
    assert "| baseline |" in shown("table", results, "--format", "markdown")[0]
    assert "Pareto front" in shown("pareto", results, "--objectives", "clean.error,adversaries.error")[0]
    _, unknown = shown("pareto", results, "--objectives", "clean.eror", code=2)
    assert "unknown objective 'clean.eror', did you mean 'clean.error'" in unknown
    assert shown("rescore", results)[0] == "cells: 4 same\n"

    frame = read(results)
    (trial,) = results.glob("trials/baseline-*")
    evaluate = ["evaluate", trial, "--benchmarks", "clean"]
    evaluated, _ = shown(*evaluate, "--set", "benchmarks.clean.limit=50")
    row = frame[(frame.method == "baseline") & (frame.benchmark == "clean") & (frame.metric == "error")]
    assert f"{100 * row.value.item():.2f}" in evaluated


@pytest.mark.ray
@pytest.mark.drill
def test_on_ray_the_same_table_comes_out_as_in_one_process(
    experiment: Path, run: Callable[..., tuple[str, str]], program: Program, ray_cluster: str, tmp_path: Path
) -> None:
    on_ray = program.run("run", experiment, "--address", ray_cluster, "--set", f"results={tmp_path / 'ray'}")
    assert on_ray.returncode == 0, on_ray.stderr
    assert "epoch 1/1" in on_ray.stderr
    here, _ = run()
    assert on_ray.stdout.replace(str(tmp_path / "ray"), str(tmp_path / "results")) == here


@pytest.mark.filterwarnings("default")  # the command shows it
def test_a_cell_with_a_flipped_bit_is_set_aside_and_measured_again_by_the_same_command(
    experiment: Path,
    run: Callable[..., tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The fault: a bit of the measurements in the cell's file is flipped."""
    results = experiment.parent / "results"
    first, _ = run()
    (file,) = results.glob("cells/*/*.parquet")
    content = bytearray(file.read_bytes())
    content[content.index(b'"measurements"') + 20] ^= 1
    file.write_bytes(content)
    again, progress = run()
    assert f"{file.relative_to(results)} in {results} is damaged" in progress
    assert "measured in" in progress and "epoch 1/1" not in progress
    assert again == first
    status, _ = shown_by(monkeypatch, capsys, "status", results)
    assert f"{file.relative_to(results)}.damaged: was damaged" in status


def test_a_failed_trial_is_named_and_the_exit_code_is_1(
    experiment: Path,
    run: Callable[..., tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edited(experiment, "epochs: 1", "epochs: 1\n  lr: 1.0e+30\n  batch_size: 50")
    _, progress = run(code=1)
    assert re.search(r"FAILED baseline seed 0 .*: the training loss became .* in epoch 1", progress)
    status, _ = shown_by(monkeypatch, capsys, "status", experiment.parent / "results", code=1)
    assert "failed" in status and "in epoch 1" in status


def test_a_full_disk_in_mid_run_is_exit_code_75_and_the_same_command_goes_on(
    run: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: there is no room for the weights."""
    write = local_files.write

    def full(target: str, content: bytes) -> None:
        if target.endswith("model.safetensors"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(target, content)

    with monkeypatch.context() as patch:
        patch.setattr(local_files, "write", full)
        shown, progress = run(code=75)
    assert shown == ""
    assert re.search(r"pixmix-ray: cannot write to results .*: No space left on device\. .*the same command", progress)
    _, progress = run()
    assert "epoch 1/1" not in progress and progress.count("measured in") == 1


def test_a_folder_on_which_another_run_is_at_work_is_exit_code_75(
    experiment: Path, run: Callable[..., tuple[str, str]]
) -> None:
    with RunLock(Store(experiment.parent / "results")):
        shown, told = run(code=75)
    assert shown == "" and f"another run is at work on results {experiment.parent / 'results'}: process" in told
    run()


def test_a_folder_of_an_earlier_version_is_refused_with_the_command_that_rewrites_it(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = partial(shown_by, monkeypatch, capsys)
    shutil.copytree(Path(__file__).parent / "storage" / "layouts" / "compacted", tmp_path / "results")
    for command in (["run", experiment, "--local"], ["table", tmp_path / "results"]):
        _, told = shown(*command, code=2)
        assert told.endswith(f"run pixmix-ray migrate {tmp_path / 'results'} once\n") and told.count("\n") == 1
    assert shown("migrate", tmp_path / "results")[0] == "cells: 4 rewritten\n"
    assert "| baseline |" in shown("table", tmp_path / "results", "--format", "markdown")[0]
    assert shown("migrate", tmp_path / "results")[0] == "cells: 0 rewritten\n"


def test_pictures_of_a_strangers_trial_are_refused_unless_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "trials" / "theirs"
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"model": {"name": "no_such_module_of_theirs:Net"}}))
    (folder / "done.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    pictures = ["sets", "pictures", f"{{name: fvis, trial: {folder}}}"]
    _, told = shown_by(monkeypatch, capsys, *pictures, code=2)
    assert "asks to import 'no_such_module_of_theirs:Net': if you trust it, add" in told
    _, told = shown_by(monkeypatch, capsys, *pictures, "--trust", code=2)
    assert "asks to import" not in told


def test_the_exit_codes_are_listed_for_users() -> None:
    classes: list[type[PixmixRayError]] = [PixmixRayError, *subclasses(PixmixRayError)]
    codes = {0, 130, 143, *(error.exit_code for error in classes)}
    assert codes == {0, 1, 2, 75, 130, 143}
    readme = (Path(__file__).parents[1] / "README.md").read_text().partition("Exit codes: ")[2].partition("\n\n")[0]
    for text in (readme, str(cli.__doc__).partition("Exit codes: ")[2]):
        assert codes <= {int(number) for number in re.findall(r"\b\d+\b", text)}


def subclasses(of: type[PixmixRayError]) -> list[type[PixmixRayError]]:
    return [found for direct in of.__subclasses__() for found in (direct, *subclasses(direct))]


@pytest.mark.drill
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the repository")
def test_the_published_error_of_a_foreign_resnet20_comes_out(tmp_path: Path) -> None:
    """Its published clean error on CIFAR-10 is 8.27 %."""
    prepare = SHARED.parent / "tools" / "prepare_data.py"
    subprocess.run([sys.executable, str(prepare), str(tmp_path)], capture_output=True, check=True)
    command = [
        "evaluate",
        "checkpoints/cifar10_resnet20.th",
        "--model",
        "cifar_resnet",
        "--dataset",
        "cifar10",
    ]
    shown = subprocess.run(
        [PROGRAM, *command, "--set", "dataset.root=.", "--benchmarks", "clean", "--results", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    frame = read(tmp_path / "out")
    assert abs(frame[frame.metric == "error"].value.item() - 0.0827) <= 0.0005
    assert json.loads(frame.settings[0])["checkpoint_id"] == frame.checkpoint_id[0]
    shutil.rmtree(tmp_path / "cifar-10-batches-py")


def test_a_method_in_a_file_of_the_current_folder_is_found(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_methods.py").write_text(
        "from pixmix_ray.methods import Method\nclass Plain(Method):\n    summary = 'plain'\n    source = 'mine'\n"
    )
    assert call(monkeypatch, "plan", experiment, "--set", "methods=['my_methods:Plain']") == 0
    assert "Plain-" in capsys.readouterr().out


def test_files_in_the_current_folder_hide_no_module_of_pythons_and_are_found(experiment: Path) -> None:
    folder = experiment.parent
    for name in ("statistics", "token", "profile", "random", "numpy"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not this one')")
    method = "from pixmix_ray.methods import Method\nclass Noise(Method):\n    summary = 'noise'\n    source = 'mine'\n"
    (folder / "my_method.py").write_text(method)
    edited(experiment, "- baseline", "- my_method:Noise")
    planned = subprocess.run(
        [PROGRAM, "plan", experiment.name], cwd=folder, capture_output=True, text=True, check=False
    )
    assert planned.returncode == 0, planned.stderr
    assert "Noise seed 0" in planned.stdout
