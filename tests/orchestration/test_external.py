"""Checkpoints that were there already, in runs: measured beside the trained ones, resumed, shown, and checked first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import pixmix_ray
from pixmix_ray.errors import CheckpointError
from pixmix_ray.evaluation import normalisation
from pixmix_ray.evaluation.cell import evaluate_cell
from pixmix_ray.evaluation.checkpoints import opened
from pixmix_ray.experiment.class_map import ClassMap
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.models import WideResNet
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.planning.status import read_status
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store

WRN = WideResNet(depth=10, width=1, dropout=0.0)
ENTRY = {"model": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0}


@pytest.fixture
def zoo(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny experiment, with two networks of somebody's beside its trial."""
    monkeypatch.setattr(normalisation, "SAMPLE", 8)
    content: dict[str, Any] = yaml.safe_load(experiment.read_text())
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        torch.save({"model": WRN.build(10).state_dict()}, experiment.parent / f"{name}.pth")
    content["checkpoints"] = [{**ENTRY, "weights": "*.pth"}]
    content["benchmarks"] = [{"name": "clean", "limit": 50}, {"name": "adversaries", "limit": 20, "steps": 1}]
    experiment.write_text(yaml.safe_dump(content))
    return experiment


def test_they_are_planned_measured_resumed_and_shown_beside_trials(zoo: Path) -> None:
    plan = make_plan(read_experiment(zoo))
    assert [source.label for source in plan.sources] == ["baseline seed 0", "a", "b"]
    assert len(plan.cells) == 6 and len(plan.trials) == 1
    done = run_plan(plan, executor="local")
    assert done.failures == () and set(done.plan.cells.values()) == {"done"}
    for path in [path for path in done.plan.store.files("cells") if path.startswith("cells/external-")][:2]:
        done.plan.store.delete(path)
    again = make_plan(read_experiment(zoo))
    assert sorted(again.cells.values()) == ["done"] * 4 + ["missing"] * 2
    run_plan(again, executor="local")
    after = read(done.plan.store.uri)
    assert set(after["method"]) == {"baseline", "a", "b"}
    assert not after.duplicated(["cell", "metric"]).any() and after["cell"].nunique() == 6
    status = read_status(done.plan.store.uri)
    there = [one for one in status.trials if one.state == "from elsewhere"]
    assert {(one.label, one.cells_done, one.cells_planned) for one in there} == {("a", 2, 2), ("b", 2, 2)}


def test_a_new_label_is_no_reason_to_measure_again_and_the_rows_have_it(zoo: Path) -> None:
    first = run_plan(make_plan(read_experiment(zoo)), executor="local").measurements
    content = yaml.safe_load(zoo.read_text())
    content["checkpoints"] = [{**ENTRY, "weights": "a.pth", "label": "A"}, {**ENTRY, "weights": "b.pth", "label": "B"}]
    zoo.write_text(yaml.safe_dump(content))
    done = run_plan(make_plan(read_experiment(zoo)), executor="local")
    second = done.measurements
    assert set(second["method"]) == {"baseline", "A", "B"} == set(read(done.plan.store.uri)["method"])
    assert first[["value", "finished_at"]].equals(second[["value", "finished_at"]])


def test_weights_that_do_not_fit_are_told_before_anything_is_done(zoo: Path) -> None:
    torch.save(WRN.build(7).state_dict(), zoo.parent / "c.pth")
    plan = make_plan(read_experiment(zoo))
    with pytest.raises(CheckpointError, match=r"c.pth does not fit the model: .* it has 7 outputs, and there are 10"):
        run_plan(plan, executor="local")
    assert not plan.store.files("cells") and not plan.store.files("trials")


def test_weights_that_change_between_plan_and_work_fail_their_cells_alone(zoo: Path) -> None:
    plan = make_plan(read_experiment(zoo))
    (zoo.parent / "a.pth").write_bytes((zoo.parent / "b.pth").read_bytes())
    done = run_plan(plan, executor="local")
    assert len(done.failures) == 2 and all("a × " in one.label for one in done.failures)
    assert all("has changed since the work was planned" in one.reason for one in done.failures)


def test_a_trial_of_another_folder_is_a_checkpoint_too(zoo: Path) -> None:
    trained = run_plan(make_plan(read_experiment(zoo, ["checkpoints=[]"])), executor="local")
    (trial,) = trained.plan.trials
    mapping = {
        "results": str(zoo.parent / "elsewhere"),
        "dataset": "digits",
        "checkpoints": [{"trial": f"{trained.plan.store.uri}/trials/{trial.id}"}],
        "benchmarks": [{"name": "clean", "limit": 50}],
    }
    done = pixmix_ray.run(mapping, executor="local", watch=False)
    same = ["trial_id", "checkpoint_id", "method", "settings", "metric", "value", "training_code_version"]
    clean = trained.measurements.query("benchmark == 'clean'").reset_index(drop=True)
    assert done.measurements[same].astype(str).equals(clean[same].astype(str))


@pytest.mark.drill
@pytest.mark.ray
def test_on_ray_the_numbers_are_the_same(zoo: Path, ray_cluster: str) -> None:
    here = run_plan(make_plan(read_experiment(zoo)), executor="local")
    there = run_plan(make_plan(read_experiment(zoo, [f"results={zoo.parent / 'there'}"])), executor="ray")
    assert there.failures == ()
    columns = ["trial_id", "benchmark", "metric", "value"]
    one, other = (
        of.measurements.loc[lambda rows: rows["trial_id"].str.startswith("external-"), columns].reset_index(drop=True)
        for of in (here, there)
    )
    assert len(one) > 4 and one.drop(columns="value").equals(other.drop(columns="value"))
    assert np.allclose(one["value"], other["value"], atol=1e-6)


def test_a_network_of_other_classes_is_mapped(zoo: Path) -> None:
    store = Store(zoo.parent / "mapped")
    torch.manual_seed(3)
    wide = WRN.build(30)
    torch.save(wide.state_dict(), zoo.parent / "wide.pt")
    chosen = [3 * number for number in range(10)]
    names = [str(number // 3) if number % 3 == 0 else f"none {number}" for number in range(30)]
    values = []
    for classes in (chosen, names):
        entry = {**ENTRY, "weights": str(zoo.parent / "wide.pt"), "classes": classes}
        values_of = {"results": store.uri, "dataset": "digits", "checkpoints": entry, "benchmarks": "clean"}
        experiment = read_experiment(values_of)
        (source,), (run,) = experiment.externals(), experiment.benchmark_runs()
        checkpoint = opened(source, store)
        data = source.dataset.settings.load()
        with torch.no_grad():
            images = torch.from_numpy(np.array(data.test_images[:4])).permute(0, 3, 1, 2) / 255
            assert torch.equal(checkpoint.build(data).eval()(images), wide.eval()(images)[:, chosen])
        values.append(evaluate_cell(checkpoint, run, store, torch.device("cpu"), "0.1.0"))
    assert values[0] == values[1]
    beyond = replace(source, classes=ClassMap(outputs=tuple(range(29, 39))))
    with pytest.raises(
        CheckpointError, match=r"classes names output 38, and .*wide.pt has 30 outputs: give numbers from 0 to 29"
    ):
        opened(beyond, store).build(data)


def _torchscript(file: Path, network: torch.nn.Module, images: torch.Tensor) -> None:
    torch.jit.save(torch.jit.trace(network, images), file)  # type: ignore[no-untyped-call]


def _exported(file: Path, network: torch.nn.Module, images: torch.Tensor) -> None:
    torch.export.save(torch.export.export(network, (images[:3],)), file)  # batches of three alone


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("model", "save"), [("torchscript", _torchscript), ("exported", _exported)])
def test_programs_are_measured_as_their_weights_are_where_they_are_trusted(
    model: str, save: Callable[[Path, torch.nn.Module, torch.Tensor], None], zoo: Path
) -> None:
    torch.manual_seed(0)
    network = WRN.build(10).eval()  # the same as in a.pth
    images = torch.zeros(5, 3, 32, 32)
    save(zoo.parent / "net", network, images)
    benchmarks = [{"name": "clean", "limit": 20}, {"name": "adversaries", "limit": 4, "steps": 1}]

    def measured(file: str, spec: object, *, trust: bool = False) -> pd.DataFrame:
        results = zoo.parent / "programs"
        where = zoo.parent / file
        return pixmix_ray.evaluate(where, benchmarks, model=spec, dataset="digits", results=results, trust=trust)

    with pytest.raises(ValueError, match="if you trust it, add trust: true"):
        measured("net", model)
    program = measured("net", {"name": model, "label": "program"}, trust=True)
    plain = measured("a.pth", {"name": "wide_resnet", **WRN.model_dump()})
    assert set(program["method"]) == {"program"} and set(plain["method"]) == {"a"}
    assert np.allclose(program["value"], plain["value"], atol=1e-6)
