"""What the machinery costs: a sweep of many trials x 12 benchmarks whose work is next to nothing.

    python experiments/scale.py run 500 2000 10000 --folder scale     # measures, a line of JSON a size in scale/
    python experiments/scale.py show scale                            # the table and the figure of docs/scale.md

Everything but the work is real: Ray Tune, tasks, the results folder with every write and digest, the index, plans. A
trial trains one weight on one picture, a cell classifies one picture and states 15 numbers. What is left is overhead.
CPU seconds tell more than wall time on a machine that does other things too.

Until commit fa15a86 a cell was two files, which a thread of the driver merged into larger ones. Now it is one file, the
run ends with a complete index of them (measurements.parquet), and that file made anew from all cells is timed as well
("index"); "read" brings it up to date, which here means a listing, and makes a DataFrame of it.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from pixmix_ray.benchmarks import Benchmark
from pixmix_ray.benchmarks.base import TestPictures, classify
from pixmix_ray.datasets import Dataset, ImageData
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.methods import Method
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.models import Model
from pixmix_ray.orchestration.watcher import SilentWatcher
from pixmix_ray.planning.plan import Cell, make_plan
from pixmix_ray.storage.index import FILE, read, update
from pixmix_ray.storage.provenance import code_version

BENCHMARKS = 12
ROWS = 15
SAMPLES = 20  # a run
TICKS = os.sysconf("SC_CLK_TCK")


class OnePicture(Dataset):
    """One grey picture to learn and one to tell."""

    summary: ClassVar[str] = "one picture"

    def version(self) -> str:
        """A constant: there are no files."""
        return "one-picture-1"

    def load(self) -> ImageData:
        """The two pictures."""
        pictures, labels = np.full((1, 8, 8, 3), 128, dtype=np.uint8), np.zeros(1, dtype=np.int64)
        return ImageData(
            train_images=pictures,
            train_labels=labels,
            test_images=pictures,
            test_labels=labels,
            class_names=("grey", "other"),
            version=self.version(),
        )


class _Scale(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None] * self.weight


class OneWeight(Model):
    """A weight a class."""

    summary: ClassVar[str] = "a weight a class"
    source: ClassVar[str] = "experiments/scale.py"

    def label(self) -> str:
        """Its name in results."""
        return "one_weight"

    def build(self, num_classes: int) -> nn.Module:
        """The network."""
        return _Scale(num_classes)


class Nothing(Method):
    """Leaves the picture as it is; k and beta are there to span a grid."""

    summary: ClassVar[str] = "leaves the picture as it is"
    source: ClassVar[str] = "experiments/scale.py"
    k: int = 1
    beta: float = 1.0


class Stub(Benchmark):
    """One of many benchmarks, each of one picture and 15 numbers."""

    summary: ClassVar[str] = "one picture, 15 numbers"
    source: ClassVar[str] = "experiments/scale.py"
    headline: ClassVar[tuple[str, ...]] = ("error",)
    number: int

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass."""
        return classify(network, test, device)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """An aggregate, and a row a condition."""
        value = float(predictions.confidence.mean())
        conditions = ["", *(f"condition_{number}" for number in range(ROWS - 1))]
        return [Measurement(metric="error", value=value, n=len(predictions), condition=name) for name in conditions]


def experiment(folder: Path, trials: int) -> Path:
    """An experiment file of `trials` trials x 12 benchmarks; results go to `folder`."""
    content = {
        "results": str(folder / "results"),
        "dataset": {"name": "scale:OnePicture"},
        "model": {"name": "scale:OneWeight"},
        "methods": [{"name": "scale:Nothing"}],
        "k": list(range(1, 11)),
        "beta": [float(beta) for beta in range(1, 11)],
        "seeds": list(range(trials // 100)),
        "training": {"epochs": 1, "flip": False, "batch_size": 1},
        "benchmarks": [{"name": "scale:Stub", "number": number} for number in range(BENCHMARKS)],
        "resources": {"trial": {"cpus": 1}, "evaluation": {"cpus": 0.5}},
    }
    file = folder / "experiment.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file


def cpu_seconds() -> dict[tuple[int, str], float]:
    """CPU seconds so far of this process and of all that descend from it, by process and what it is."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    titles: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            titles[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended while we looked
            continue
        parents[int(entry.name)] = int(fields[1])
        seconds[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    found = {(os.getpid(), "driver"): time.process_time()}
    for pid, used in seconds.items():
        if pid != os.getpid() and _descends(pid, parents):
            found[pid, _kind(titles.get(pid, ""))] = used
    return found


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        pid = parents.get(pid, 0)
        if pid == os.getpid():
            return True
    return False


def _kind(title: str) -> str:
    if "Trainable" in title or "ray::Trainer" in title:
        return "trainers"
    if title.startswith("ray::"):
        return "evaluators"
    return "ray"


class Samples(SilentWatcher):
    """A watcher that samples time and memory as many times as there are `SAMPLES`."""

    def __init__(self, trials: int) -> None:
        """Begin now; so many trials are to come."""
        self.window = max(1, trials * BENCHMARKS // SAMPLES)
        self.started, self.trials, self.cells = time.monotonic(), 0, 0
        self.rows: list[dict[str, float]] = []
        self.used: dict[tuple[int, str], float] = {}  # also of processes that have ended since
        self.sample()

    def sample(self) -> None:
        """Take one."""
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        row = {"trials": self.trials, "cells": self.cells, "wall": time.monotonic() - self.started, "memory": memory}
        self.used |= cpu_seconds()
        by_kind: dict[str, float] = defaultdict(float)
        for (_, kind), seconds in self.used.items():
            by_kind[kind] += seconds
        self.rows.append(row | by_kind)

    def trial_done(self, trial: Trial) -> None:
        """Count it."""
        self.trials += 1

    def cell_done(self, cell: Cell, seconds: float) -> None:
        """Count it, and sample now and then."""
        self.cells += 1
        if self.cells % self.window == 0:
            self.sample()
            sys.stderr.write(f"{self.cells} cells, {self.trials} trials: {self.rows[-1]}\n")


def say(text: str) -> None:
    """A line to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of an action in this process."""
    wall, cpu = time.monotonic(), time.process_time()
    action()
    return time.monotonic() - wall, time.process_time() - cpu


def command(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of a `pixmix-ray` command in a process of its own."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "from pixmix_ray.cli import main; main()", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parent,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, used


def measure(folder: Path, trials: int) -> dict[str, Any]:
    """Run a sweep of that many trials, then plan, run and read it again."""
    from pixmix_ray.orchestration.ray_executor import RayExecutor  # workers import this module for its parts alone
    from pixmix_ray.orchestration.run import run_plan

    file = experiment(folder, trials)
    plan = make_plan(read_experiment(file))
    watcher = Samples(trials)
    with RayExecutor(cpus=2) as executor:
        failures = run_plan(plan, executor=executor, watch=lambda plan, executor: nullcontext(watcher)).failures
        watcher.sample()
    if failures:
        raise SystemExit(f"{len(failures)} failures, the first: {failures[0].label}: {failures[0].reason}")
    plan.store.delete(FILE)
    index = timed(lambda: update(plan.store))
    return {
        "size": trials,
        "samples": watcher.rows,
        "index": index,
        "plan": timed(lambda: make_plan(read_experiment(file))),
        "read": timed(lambda: read(plan.store.uri)),
        "rows": len(read(plan.store.uri)),
        "again": command("run", str(file)),
        "status": command("status", plan.store.uri),
        "code_version": code_version(),
    }


def show(folder: Path) -> None:
    """Print the table, wall and in brackets CPU seconds, and draw the figure into the folder.

    The columns trainers, evaluators, driver and ray are CPU milliseconds: a trial the first, a cell the others.
    """
    found = sorted((json.loads(file.read_text()) for file in folder.glob("*.json")), key=lambda of: of["size"])
    headers = (
        "trials",
        "cells",
        "wall s",
        "CPU s",
        "trainers",
        "evaluators",
        "driver",
        "ray",
        "MiB",
        "index s",
        "plan s",
        "again s",
        "status s",
        "read s",
    )
    say("| " + " | ".join(headers) + " |")
    say("|" + " ---: |" * len(headers))
    for of in found:
        first, last = of["samples"][0], of["samples"][-1]
        kinds = ("driver", "trainers", "evaluators", "ray")
        used = {kind: last.get(kind, 0) - first.get(kind, 0) for kind in kinds}
        cells = last["cells"]
        say(
            f"| {of['size']:,} | {cells:,} | {last['wall']:.0f} | {sum(used.values()):.0f} "
            f"| {1000 * used['trainers'] / of['size']:.1f} | {1000 * used['evaluators'] / cells:.1f} "
            f"| {1000 * used['driver'] / cells:.1f} | {1000 * used['ray'] / cells:.1f} | {last['memory']:.0f} "
            f"| {of['index'][0]:.1f} ({of['index'][1]:.1f}) "
            f"| {of['plan'][0]:.1f} ({of['plan'][1]:.1f}) | {of['again'][0]:.1f} ({of['again'][1]:.1f}) "
            f"| {of['status'][0]:.1f} ({of['status'][1]:.1f}) | {of['read'][0]:.2f} ({of['read'][1]:.2f}) |"
        )
    _draw(found[-1], folder / "scale.png")


def _draw(of: dict[str, Any], file: Path) -> None:
    """CPU milliseconds a cell of each kind of process, by how many trials were done."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    samples = of["samples"]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    steps = list(itertools.pairwise(samples))
    for kind in ("driver", "trainers", "evaluators", "ray"):
        rates = [
            1000 * (b.get(kind, 0) - a.get(kind, 0)) / max(1, b["cells"] - a["cells"])
            for a, b in steps
            if b["cells"] > a["cells"]
        ]
        axes.plot([b["cells"] for a, b in steps if b["cells"] > a["cells"]], rates, label=kind, marker=".")
    axes.set(xlabel="cells done", ylabel="CPU ms a cell", ylim=(0, None))
    axes.legend(title=f"median {statistics.median(b['wall'] - a['wall'] for a, b in steps):.0f} s a window")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Parse, run or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("sizes", type=int, nargs="+", help="Numbers of trials, multiples of 100.")
    run.add_argument("--folder", type=Path, default=Path("scale"), help="For the measurements, a file a size.")
    commands.add_parser("show").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "show":
        show(arguments.folder)
        return
    here = str(Path(__file__).parent)  # where workers and commands find scale:Nothing
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(prefix="pixmix_ray_scale_") as scratch:
            measured = measure(Path(scratch), size)
        (arguments.folder / f"{size}.json").write_text(json.dumps(measured))
        say(json.dumps({key: value for key, value in measured.items() if key != "samples"}))


if __name__ == "__main__":
    main()
