"""Does one piece of work in a process of its own that is killed between writing a file and giving it its name.

    python killed_writer.py EXPERIMENT RESULTS FILE NUMBER ...

For each FILE, a part of a file's name, and NUMBER, counted from 1: the process is killed by SIGKILL when a file of that
name is written for the NUMBERth time, into the results folder RESULTS/0 for the first of them, and so on.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from pixmix_ray.evaluation.cell import evaluate_cell
from pixmix_ray.evaluation.checkpoints import trained
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import train_trial


def work(experiment: Path, results: Path) -> None:
    """Train the experiment's trial and measure its cell."""
    sweep = read_experiment(experiment, [f"results={results}"])
    (trial,), (run,) = sweep.trials(), sweep.benchmark_runs()
    store = Store(sweep.results)
    for _ in train_trial(trial, store, torch.device("cpu")):
        pass
    evaluate_cell(trained(trial, store), run, store, torch.device("cpu"), "tests")


def killed_at(part: str, number: int) -> None:
    """Have this process killed when it gives a file, written beside, its name."""
    left = [number]
    rename = os.rename

    def dies(beside: str, target: str) -> None:
        if part in str(target):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        rename(beside, target)

    os.rename = dies  # type: ignore[assignment]  # this process alone, which ends here


def main() -> None:
    """Kill a forked process for each pair of arguments; exit code 0 if each was killed."""
    torch.set_num_threads(1)
    experiment, results = Path(sys.argv[1]), Path(sys.argv[2])
    for case, (part, number) in enumerate(zip(sys.argv[3::2], sys.argv[4::2], strict=True)):
        child = os.fork()  # one process imports torch for all
        if child == 0:
            killed_at(part, int(number))
            work(experiment, results / str(case))
            os._exit(1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"{part}: was not killed")


if __name__ == "__main__":
    main()
