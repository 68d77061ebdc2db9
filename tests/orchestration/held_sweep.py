"""A sweep whose trials note each epoch that they begin, and wait within one that a test holds."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import yaml

from pixmix_ray.storage.index import read
from tests.program import PATIENCE

EPOCHS = 3
MEASURED = ["trial_id", "checkpoint_id", "benchmark", "metric", "condition", "value"]


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE, told: Callable[[], str] = str) -> None:
    """Return when the condition holds; `told` is what is said if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain {told()}"
        time.sleep(0.05)


class HeldSweep:
    """An experiment file in a folder, and what its trials left there. An epoch is named "seed-number"."""

    def __init__(self, folder: Path, *, seeds: int = 2, cpus: float = 1, mixes: bool = False) -> None:
        self.results, self.diary = folder / "results", folder / "diary"
        self.file = folder / "experiment.yaml"
        self.undisturbed_epochs = [f"{seed}-{number + 1}" for seed in range(seeds) for number in range(EPOCHS)]
        content = {
            "results": "results",
            "dataset": {"name": "digits", "train_limit": 60},
            "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
            "methods": [{"name": "faulty_parts:Diary", "diary": str(self.diary), "mixes": mixes}],
            "training": {"epochs": EPOCHS, "flip": False},
            "seeds": list(range(seeds)),
            "benchmarks": [{"name": "clean", "limit": 50}],
            "resources": {"trial": {"cpus": cpus}, "evaluation": {"cpus": 0.4}},
        }
        if mixes:
            content["mixing_set"] = {"name": "fractals", "count": 4}
        self.file.write_text(yaml.safe_dump(content))

    @contextmanager
    def held(self, *names: str) -> Iterator[None]:
        """Within this block those epochs do not end."""
        folder = self.diary / "held"
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).touch()
        try:
            yield
        finally:
            for name in names:
                (folder / name).unlink()

    def begun(self) -> list[str]:
        """Each epoch that was begun, as often as it was."""
        return sorted(path.parent.name for path in self.diary.glob("epochs/*/*"))

    def hosts(self, name: str) -> list[str]:
        """Where that epoch was begun, each time."""
        return [path.read_text() for path in sorted(self.diary.glob(f"epochs/{name}/*"))]

    def processes(self, *names: str) -> set[int]:
        """Those that began one of these epochs."""
        return {int(path.name.split("-")[1]) for name in names for path in self.diary.glob(f"epochs/{name}/*")}

    def done(self) -> dict[str, int]:
        """When all that marks something as done was written."""
        marks = [*self.results.glob("trials/*/done.json"), *self.results.glob("cells/*/*.parquet")]
        return {str(path.relative_to(self.results)): path.stat().st_mtime_ns for path in marks}

    def rows(self) -> pd.DataFrame:
        """What was measured, in an order of its own."""
        return read(self.results)[MEASURED].sort_values(MEASURED, ignore_index=True)

    def assert_nothing_was_lost(self, before: dict[str, int], repeated: list[str], undisturbed: pd.DataFrame) -> None:
        """All is done, what was done stayed, no epoch but `repeated` was begun again, and no number differs.

        Args:
            before: what was done at the first fault.
            repeated: an epoch for each fault, that in which it came; a trainer that outlives its driver may end it.
            undisturbed: the rows to expect.
        """
        after = self.done()
        assert before and {path: after[path] for path in before} == before
        assert (
            Counter(self.undisturbed_epochs) <= Counter(self.begun()) <= Counter([*self.undisturbed_epochs, *repeated])
        )
        pd.testing.assert_frame_equal(self.rows(), undisturbed)
