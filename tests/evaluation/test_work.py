"""The two pieces of work in this process: training that survives interruption, and cells that say all they must."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from pixmix_ray.api import evaluate
from pixmix_ray.datasets import Digits, ImageData
from pixmix_ray.errors import CheckpointError, DamagedError, DataError, TrainingDivergedError, WorkError
from pixmix_ray.evaluation.cell import evaluate_cell
from pixmix_ray.evaluation.checkpoints import trained
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import BenchmarkRun, Trial, hash_of_test_set
from pixmix_ray.metrics import direction
from pixmix_ray.models import WideResNet
from pixmix_ray.orchestration.work import open_checkpoint
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.cell import read_cell
from pixmix_ray.storage.failures import record_failure
from pixmix_ray.storage.index import read, read_rows
from pixmix_ray.storage.provenance import code_version
from pixmix_ray.storage.schema import INDEX, MEASUREMENTS, predictions_schema
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, trial_file
from pixmix_ray.training.trial import Progress, train_trial
from pixmix_ray.version import __version__

CPU = torch.device("cpu")
TEST_PICTURES = 364  # of the digits
LIMIT = 50  # of the benchmark in the tiny experiment


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """The tiny experiment, opened."""

    experiment: Experiment
    trial: Trial
    run: BenchmarkRun
    store: Store

    def file(self, name: str) -> bytes:
        content = self.store.read(trial_file(self.trial.id, name))
        assert content is not None
        return content

    def done(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file("done.json"))
        return found


Open = Callable[..., Tiny]


@pytest.fixture
def tiny(experiment: Path, tmp_path: Path) -> Open:
    """Opens the tiny experiment with --set overrides and its results in the folder given."""

    def open_it(*overrides: str, results: str = "results") -> Tiny:
        sweep = read_experiment(experiment, [f"results={tmp_path / results}", *overrides])
        (trial,), (run,) = sweep.trials(), sweep.benchmark_runs()
        return Tiny(experiment=sweep, trial=trial, run=run, store=Store(sweep.results))

    return open_it


def finished(of: Tiny) -> Tiny:
    list(train_trial(of.trial, of.store, CPU))
    return of


def stopped_after_an_epoch(of: Tiny) -> Progress:
    """Trains one more epoch; then the generator is closed, as when the process ends."""
    return next(iter(train_trial(of.trial, of.store, CPU)))


def evaluated(of: Tiny, code: str = "0.1.0+abc") -> Tiny:
    evaluate_cell(trained(of.trial, of.store), of.run, of.store, CPU, code)
    return of


# training


def test_training_leaves_its_description_weights_and_the_mark_of_completion(tiny: Open) -> None:
    of = tiny("training.epochs=2")
    told = list(train_trial(of.trial, of.store, CPU))
    assert [(progress.epoch, progress.epochs) for progress in told] == [(1, 2), (2, 2)]
    assert all(progress.seconds > 0 and np.isfinite(progress.loss) for progress in told)
    folder = f"trials/{of.trial.id}"
    assert of.store.files("") == {f"{folder}/{name}" for name in ("trial.json", "model.safetensors", "done.json")}
    assert Trial.load(json.loads(of.file("trial.json"))).id == of.trial.id
    done = of.done()
    assert done["losses"] == [progress.loss for progress in told]
    assert done["epoch_seconds"] == [progress.seconds for progress in told]
    assert done["checkpoint_id"] == hashlib.sha256(of.file("model.safetensors")).hexdigest()[:12]
    assert done["settings"] == json.loads(json.dumps(of.trial.settings))
    assert done["device"]
    assert torch.__version__.startswith(done["versions"]["torch"])


def test_the_mark_of_completion_is_written_last(tiny: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    of = tiny()
    written: list[str] = []
    write = Store.write

    def noted(store: Store, path: str, content: bytes) -> None:
        write(store, path, content)
        written.append(path.rpartition("/")[2])

    monkeypatch.setattr(Store, "write", noted)
    finished(of)
    assert written == ["trial.json", "progress.safetensors", "model.safetensors", "done.json"]


def test_a_trial_that_is_done_is_not_trained_again(tiny: Open) -> None:
    of = finished(tiny())
    before = {path: of.store.read(path) for path in of.store.files("trials")}
    assert list(train_trial(of.trial, of.store, CPU)) == []
    assert {path: of.store.read(path) for path in of.store.files("trials")} == before


def test_an_epoch_is_safe_before_it_is_told(tiny: Open) -> None:
    of = tiny("training.epochs=2")
    training = train_trial(of.trial, of.store, CPU)
    assert next(training).epoch == 1
    assert of.file("progress.safetensors")
    assert of.store.read(trial_file(of.trial.id, "done.json")) is None


@pytest.mark.parametrize("method", ["pixmix", "mixup"])  # the one draws in augment, the other in the loss
def test_an_interrupted_training_ends_in_the_same_bytes(tiny: Open, method: str) -> None:
    overrides = (f"methods=[{method}]", "training.epochs=3", "model.dropout=0.2", "training.flip=true")
    whole = finished(tiny(*overrides, results="whole"))
    parts = tiny(*overrides, results="parts")
    told = [stopped_after_an_epoch(parts), stopped_after_an_epoch(parts)]
    told += train_trial(parts.trial, parts.store, CPU)
    assert [progress.epoch for progress in told] == [1, 2, 3]
    assert parts.trial.id == whole.trial.id
    assert parts.file("model.safetensors") == whole.file("model.safetensors")
    assert parts.done()["losses"] == whole.done()["losses"]
    assert parts.done()["epoch_seconds"] == [progress.seconds for progress in told]
    assert parts.store.read(trial_file(parts.trial.id, "progress.safetensors")) is None


def test_a_training_goes_on_in_the_middle_of_an_epoch(tiny: Open) -> None:
    overrides = ("training.epochs=2", "training.batch_size=20", "model.dropout=0.2")
    whole = finished(tiny(*overrides, results="whole"))
    parts = tiny(*overrides, "training.checkpoint_every=2 steps", results="parts")
    told: list[Progress] = []
    while parts.store.read(trial_file(parts.trial.id, "done.json")) is None:
        told += [stopped_after_an_epoch(parts)] if len(told) < 5 else train_trial(parts.trial, parts.store, CPU)
    assert parts.trial.id == whole.trial.id
    assert [progress.epoch for progress in told] == sorted(progress.epoch for progress in told)
    assert [progress.epoch for progress in told if progress.is_whole] == [1, 2]
    assert len(told) > 5
    assert parts.file("model.safetensors") == whole.file("model.safetensors")
    assert parts.done()["losses"] == whole.done()["losses"]


def test_a_process_killed_before_the_mark_of_completion_goes_on_from_the_last_epoch(
    tiny: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finished(tiny(results="whole"))
    killed = tiny(results="killed")
    write = Store.write_json

    def dies(store: Store, path: str, values: Mapping[str, Any]) -> None:
        if path.endswith("done.json"):
            raise KeyboardInterrupt
        write(store, path, values)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_json", dies)
        with pytest.raises(KeyboardInterrupt):
            finished(killed)
    with pytest.raises(DamagedError):
        trained(killed.trial, killed.store)
    assert list(train_trial(killed.trial, killed.store, CPU)) == []  # no epoch was left
    assert killed.file("model.safetensors") == whole.file("model.safetensors")
    assert killed.done()["losses"] == whole.done()["losses"]


def test_training_neither_reads_nor_moves_the_global_generator(tiny: Open) -> None:
    torch.manual_seed(1)
    first = finished(tiny("model.dropout=0.2", results="first"))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = finished(tiny("model.dropout=0.2", results="second"))
    assert torch.equal(torch.get_rng_state(), before)
    assert second.file("model.safetensors") == first.file("model.safetensors")


def test_another_seed_is_another_network(tiny: Open) -> None:
    first, second = (finished(tiny(f"seeds=[{seed}]", results=f"seed{seed}")) for seed in (0, 1))
    assert first.file("model.safetensors") != second.file("model.safetensors")


def test_a_training_that_diverges_says_so_and_leaves_no_checkpoint(tiny: Open) -> None:
    of = tiny("training.lr=1.0e30", "training.epochs=2", "training.batch_size=50")
    with pytest.raises(TrainingDivergedError, match="epoch 1"):
        finished(of)
    assert of.store.files(f"trials/{of.trial.id}") == {trial_file(of.trial.id, "trial.json")}


def test_pictures_that_changed_since_the_plan_are_refused(tiny: Open, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")
    of = tiny("methods=[pixmix]", f"mixing_set={{name: folder, folders: {folder}}}")
    Image.new("RGB", (40, 40), "blue").save(folder / "b.png")
    with pytest.raises(DataError):
        finished(of)
    assert of.store.read(trial_file(of.trial.id, "done.json")) is None


@pytest.mark.parametrize("damage", ["half", "flipped in the weights", "flipped in the header", "nothing left"])
def test_a_damaged_progress_file_is_set_aside_and_the_trial_begins_anew(tiny: Open, damage: str) -> None:
    whole = finished(tiny("training.epochs=2", results="whole"))
    of = tiny("training.epochs=2")
    stopped_after_an_epoch(of)
    content = of.file("progress.safetensors")
    path = trial_file(of.trial.id, "progress.safetensors")
    damaged = {
        "half": content[: len(content) // 2],
        "flipped in the weights": flipped(content, len(content) // 2),
        "flipped in the header": flipped(content, 30),
        "nothing left": b"",
    }[damage]
    of.store.write(path, damaged)
    told = list(train_trial(of.trial, of.store, CPU))
    assert [progress.epoch for progress in told] == [1, 2]
    assert path in told[0].notice and "\n" not in told[0].notice and told[1].notice == ""
    assert of.store.read(f"{path}.damaged") == damaged
    assert of.file("model.safetensors") == whole.file("model.safetensors")


def test_a_damaged_mark_of_completion_is_noticed(tiny: Open) -> None:
    of = finished(tiny())
    losses = of.file("done.json").index(b'"losses"') + 14
    of.store.write(trial_file(of.trial.id, "done.json"), flipped(of.file("done.json"), losses))
    json.loads(of.file("done.json"))  # still JSON: only the hash tells
    with pytest.raises(DamagedError, match=r"done\.json"):
        trained(of.trial, of.store)


# failures


def test_a_failure_is_in_the_plan_until_the_next_success(tiny: Open) -> None:
    of = tiny()
    record_failure(of.store, trial_file(of.trial.id, "failed.json"), RuntimeError("a full disk"))
    record_failure(of.store, cell_failure_file(of.trial.id, of.run.key), RuntimeError("a full disk"))
    plan = make_plan(of.experiment)
    assert (list(plan.trials.values()), list(plan.cells.values())) == (["failed"], ["failed"])
    evaluated(finished(of))
    plan = make_plan(of.experiment)
    assert (list(plan.trials.values()), list(plan.cells.values())) == (["done"], ["done"])
    assert not [path for path in of.store.files("trials") | of.store.files("cells") if path.endswith("failed.json")]


# evaluation


def expected_indices() -> list[int]:
    """The pictures within the limit, by hand: floor(i * total / limit)."""
    return [i * TEST_PICTURES // LIMIT for i in range(LIMIT)]


def independent_logits(of: Tiny) -> torch.Tensor:
    """The logits of the stored weights, found without a benchmark and without our readers of weights."""
    network = WideResNet(depth=10, width=1, dropout=0.0).build(10)
    network.load_state_dict(load(of.file("model.safetensors")))
    network.eval()
    pictures = np.array(Digits().load().test_images)[expected_indices()]
    with torch.no_grad():
        logits: torch.Tensor = network(torch.tensor(pictures).permute(0, 3, 1, 2) / 255)
    return logits


def test_the_clean_error_is_the_one_that_a_second_way_finds(tiny: Open) -> None:
    of = evaluated(finished(tiny("training.epochs=2")))
    frame = read(of.store.uri).set_index("metric")
    labels = np.array(Digits().load().test_labels)[expected_indices()]
    wrong = independent_logits(of).argmax(dim=1).numpy() != labels
    assert frame.loc["error", "value"] == wrong.mean()
    assert frame.loc["error", "n"] == LIMIT
    share = wrong.mean()
    binomial = np.sqrt(share * (1 - share) / (LIMIT - 1))  # the standard error of a mean of zeros and ones
    assert frame.loc["error", "standard_error"] == pytest.approx(binomial, rel=0.02)


def test_the_predictions_behind_a_cell_are_stored_and_agree_with_it(tiny: Open) -> None:
    of = evaluated(finished(tiny("training.epochs=2")))
    cell = read_cell(of.store, trained(of.trial, of.store).cell(of.run))
    assert cell is not None
    assert cell.rows.schema.equals(predictions_schema(of.run.benchmark.settings.extras))
    stored = cell.rows.to_pandas()
    assert stored["index"].tolist() == expected_indices()
    assert stored["label"].tolist() == np.array(Digits().load().test_labels)[expected_indices()].tolist()
    assert (stored["severity"] == 0).all()
    assert (stored["condition"].astype(str) == "").all()
    probability = independent_logits(of).softmax(dim=1).max(dim=1).values.numpy()
    np.testing.assert_allclose(stored["confidence"], probability, rtol=1e-4)
    error = read(of.store.uri).set_index("metric").loc["error", "value"]
    assert (stored["label"] != stored["predicted"]).mean() == error


def test_every_row_says_what_was_trained_what_was_measured_and_how(tiny: Open) -> None:
    started = datetime.now(UTC)
    of = evaluated(finished(tiny("methods=[pixmix]", "k=[2]", "seeds=[3]")), code="0.1.0+abc")
    table = read_rows(of.store)
    assert table.schema.equals(INDEX)
    for field in MEASUREMENTS:
        column = table[field.name]
        if not field.nullable:
            assert column.null_count == 0
            assert field.name in ("condition", "unit", "note") or "" not in column.to_pylist()
    for row in table.to_pylist():
        assert row["trial_id"] == of.trial.id
        assert row["checkpoint_id"] == of.done()["checkpoint_id"]
        assert (row["dataset"], row["model"], row["method"]) == ("digits", "wrn_10_1", "pixmix")
        assert (row["mixing_set"], row["k"], row["beta"], row["seed"]) == ("fractals", 2, 3.0, 3)
        assert json.loads(row["settings"]) == json.loads(json.dumps(of.trial.settings))
        assert "seed" not in json.loads(row["settings"])
        assert row["settings"] == json.dumps(json.loads(row["settings"]), sort_keys=True)
        assert row["benchmark"] == "clean"
        assert json.loads(row["benchmark_settings"]) == {"name": "clean", "limit": LIMIT}
        assert row["data_version"] == Digits().version()
        assert row["code_version"] == "0.1.0+abc"
        assert torch.__version__.startswith(json.loads(row["versions"])["torch"])
        assert "thread" in row["device"]
        assert started <= row["finished_at"] <= datetime.now(UTC)
        assert 0 < row["seconds"] < 60
        assert row["direction"] == direction(row["metric"])
    assert {row["metric"] for row in table.to_pylist()} >= {"error", "rms_calibration_error"}


def test_what_a_method_does_not_have_is_null_in_its_rows(tiny: Open) -> None:
    of = evaluated(finished(tiny()))
    frame = read(of.store.uri)
    assert frame[["mixing_set", "k", "beta"]].isna().to_numpy().all()


def test_seeds_of_one_configuration_share_their_settings(tiny: Open) -> None:
    for seed in (0, 1):
        evaluated(finished(tiny(f"seeds=[{seed}]")))
    frame = read(tiny().store.uri)
    assert set(frame["seed"]) == {0, 1}
    assert frame["settings"].nunique() == 1
    assert frame["trial_id"].nunique() == frame["checkpoint_id"].nunique() == 2


def test_a_cell_is_one_file_named_by_everything_that_decides_its_numbers(tiny: Open) -> None:
    of = evaluated(finished(tiny()))
    key = of.run.cell_key(hash_of_test_set(of.trial.dataset), of.done()["checkpoint_id"])
    assert of.store.files("cells") == {f"cells/{of.trial.id}/{key}.parquet"}
    assert re.fullmatch(r"clean-[0-9a-f]{12}", key)


def test_a_sweep_does_not_measure_a_cell_again_and_the_command_does(
    tiny: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = finished(tiny())
    written: list[str] = []
    write = Store.write

    def noted(store: Store, path: str, content: bytes) -> None:
        write(store, path, content)
        written.append(path)

    monkeypatch.setattr(Store, "write", noted)
    measure = open_checkpoint(of.trial, of.store, CPU)
    path = cell_file(trained(of.trial, of.store).cell(of.run))
    measure(of.run)
    measure(of.run)
    assert written == [path]


CHANGES: dict[str, Callable[[torch.nn.Module], object]] = {
    "nothing": lambda network: None,
    "weights": lambda network: network.get_parameter("head.bias").add_(1),
    "buffer": lambda network: next(network.buffers()).add_(1),
    "mode": lambda network: network.train(),
    "gradients": lambda network: network.requires_grad_(),
    "hook": lambda network: network.register_forward_hook(lambda *_: None),
    "part": lambda network: network.register_module("head", torch.nn.Identity()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_is_kept_from_cell_to_cell_until_one_changes_it(tiny: Open, change: str) -> None:
    of = finished(tiny())
    checkpoint, data = trained(of.trial, of.store), of.trial.dataset.settings.load()
    first = checkpoint.network(data, CPU)
    weights = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    CHANGES[change](first)
    second = checkpoint.network(data, CPU)
    assert (second is first) == (change == "nothing")
    assert not second.training
    assert not any(parameter.requires_grad for parameter in second.parameters())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in second.state_dict().items())


def test_measuring_again_gives_the_same_numbers(tiny: Open) -> None:
    of = evaluated(finished(tiny()))
    first = read(of.store.uri)
    second = read(evaluated(of).store.uri)
    same = ["trial_id", "checkpoint_id", "metric", "value", "n", "standard_error"]
    assert first[same].equals(second[same])


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("where", ["header", "weights", "last_byte", "half", "nothing_left", "missing"])
def test_a_damaged_checkpoint_is_refused_by_name(tiny: Open, where: str) -> None:
    of = finished(tiny())
    path = trial_file(of.trial.id, "model.safetensors")
    content = of.file("model.safetensors")
    if where == "missing":
        of.store.delete(path)
    else:
        damaged = {
            "header": flipped(content, 20),
            "weights": flipped(content, len(content) // 2),
            "last_byte": flipped(content, len(content) - 1),
            "half": content[: len(content) // 2],
            "nothing_left": b"",
        }
        of.store.write(path, damaged[where])
    with pytest.raises(DamagedError) as caught:
        evaluated(of)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert of.store.files("cells") == set()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_fail_their_cell_with_that_reason_and_nothing_is_stored(
    tiny: Open, value: float
) -> None:
    of = finished(tiny())
    whole = trained(of.trial, of.store)

    def broken_network(data: ImageData) -> torch.nn.Module:
        network = whole.build(data)
        torch.nn.init.constant_(network.get_parameter("head.bias"), value)
        return network

    broken = replace(whole, build=broken_network)
    with pytest.raises(WorkError, match=r"NaN or infinite logits for (\d+) of \d+ pictures: the checkpoint is broken"):
        evaluate_cell(broken, of.run, of.store, CPU, "0.1.0+abc")
    assert of.store.files("cells") == set()


def test_evaluation_keeps_the_rows_or_nothing(tiny: Open, tmp_path: Path) -> None:
    of = finished(tiny())
    trial, part = f"{of.store.uri}/trials/{of.trial.id}", of.run.benchmark
    kept = evaluate(trial, [part], results=tmp_path / "kept")
    lost = evaluate(trial, [part])
    same = ["trial_id", "checkpoint_id", "metric", "value", "n", "method", "settings", "training_code_version", "cell"]
    assert kept[same].equals(lost[same])
    assert kept.drop(columns="note").equals(read(tmp_path / "kept").drop(columns="note"))
    assert set(kept["code_version"]) == {code_version()}
    assert of.store.files("cells") == set()


def test_the_version_of_the_code_starts_with_that_of_the_package() -> None:
    assert code_version().startswith(__version__)


# inputs that changed


def _corrupted_digits(folder: Path, *, is_shuffled: bool) -> Path:
    """Contrast in the layout of CIFAR-10-C, made from the digits, or from those of another order."""
    data = Digits().load()
    order = np.arange(len(data.test_labels))
    levels = [(data.test_images * (1 - severity / 10)).astype(np.uint8) for severity in range(1, 6)]
    folder.mkdir()
    np.save(
        folder / "contrast.npy",
        np.concatenate([level[np.roll(order, 9) if is_shuffled else order] for level in levels]),
    )
    np.save(folder / "labels.npy", np.tile(data.test_labels, 5))
    return folder


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_files_are_checked_whatever_way_a_cell_is_evaluated(tiny: Open, tmp_path: Path, is_shuffled: bool) -> None:
    files = _corrupted_digits(tmp_path / "files", is_shuffled=is_shuffled)
    of = finished(tiny(f"benchmarks=[{{name: corruptions, names: [contrast], files: {files}, limit: {LIMIT}}}]"))
    if not is_shuffled:
        evaluated(of)
        return
    with pytest.raises(DataError, match=r"contrast\.npy at severity 1 shows other pictures than the test set's"):
        evaluated(of)
    benchmark, data = of.run.benchmark.settings, Digits().load()
    test = benchmark.pictures(data.test_images, data.test_labels)
    with pytest.raises(DataError, match="shows other pictures"):  # from Python, too
        benchmark.predict(torch.nn.Identity(), test, CPU)


def test_files_that_are_others_than_where_the_work_was_planned_are_refused(tiny: Open, tmp_path: Path) -> None:
    files = _corrupted_digits(tmp_path / "files", is_shuffled=False)
    of = finished(tiny(f"benchmarks=[{{name: corruptions, names: [contrast], files: {files}, limit: {LIMIT}}}]"))
    array = np.load(files / "contrast.npy")
    np.save(files / "contrast.npy", array // 2 + 1)
    with pytest.raises(DataError, match=r"the files of corruptions are official-\w+ here, and official-\w+ where"):
        evaluated(of)


def test_a_checkpoint_is_not_evaluated_on_other_classes_than_it_was_trained_on(tiny: Open) -> None:
    of = finished(tiny())
    assert of.done()["class_names"] == [str(digit) for digit in range(10)]
    checkpoint = trained(of.trial, of.store)
    checkpoint.check_classes(Digits().load().class_names)
    renamed = replace(checkpoint, class_names=("ant", *(checkpoint.class_names or ())[1:]))
    with pytest.raises(
        CheckpointError, match="class 0 is '0' in the data set and was 'ant' in training; give the data set"
    ):
        evaluate_cell(renamed, of.run, of.store, CPU, "0.1.0+abc")
    fewer = replace(checkpoint, class_names=("0", "1"))
    with pytest.raises(CheckpointError, match="the data set has 10 classes, and training had 2"):
        evaluate_cell(fewer, of.run, of.store, CPU, "0.1.0+abc")


def test_passes_in_bfloat16_are_another_cell_that_says_so(tiny: Open) -> None:
    plain = evaluated(finished(tiny()))
    half = evaluated(tiny("benchmarks=[{name: clean, limit: 50, precision: bfloat16}]"))
    assert half.trial.id == plain.trial.id and half.run.key != plain.run.key
    assert tiny("benchmarks=[{name: clean, limit: 50, precision: float32}]").run.key == plain.run.key
    assert '"precision": "bfloat16"' in half.run.settings_text and "precision" not in plain.run.settings_text
    cells = [read_cell(of.store, trained(of.trial, of.store).cell(of.run)) for of in (plain, half)]
    first, second = (cell.rows.sort_by("index")["confidence"].to_numpy() for cell in cells if cell is not None)
    assert (first != second).any() and np.abs(first - second).max() < 0.1
