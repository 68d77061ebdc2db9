"""How large and how fast the page of a large sweep is: 1,000 trials on 12 benchmarks, in headless Chromium.

    python -m experiments.speed.page [FILE]

Targets: at most 5 MB, the first table in 0.5 s, a new front in 0.2 s. The measurements are made up; needs playwright
and Debian's chromium.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pixmix_ray.report.page import page
from pixmix_ray.storage.store import Store

TRIALS, EPOCHS = 1000, 100
TIMED = "(() => { const t = performance.now(); %s; return performance.now() - t; })()"
OBJECTIVES = (
    "clean.error",
    "clean.rms_calibration_error",
    "corruptions.mce",
    "corruptions.rms_calibration_error",
    "corruptions_bar.mce",
    "corruptions_bar.rms_calibration_error",
    "consistency.mfr",
    "consistency.mt5d",
    "adversaries.error",
    "renditions.error",
    "anomalies.auroc",
    "anomalies.aupr",
)
CONDITIONS = [f"condition_{number}" for number in range(15)]


def measurements() -> pd.DataFrame:
    """Made-up rows of every trial, objective, and of 15 conditions of one benchmark."""
    generator, parts = np.random.default_rng(0), []
    names = [(*objective.split("."), "") for objective in OBJECTIVES]
    names += [("corruptions", "ce", condition) for condition in CONDITIONS]
    for benchmark, metric, condition in names:
        rows = pd.DataFrame({"trial_id": [f"pixmix-{number:04}" for number in range(TRIALS)]})
        rows["settings"] = [f'{{"training": {{"lr": {0.001 * number:.3f}}}}}' for number in range(TRIALS)]
        rows["value"] = generator.beta(8, 24, TRIALS)
        parts.append(rows.assign(benchmark=benchmark, metric=metric, condition=condition))
    frame = pd.concat(parts, ignore_index=True)
    frame["cell"] = frame["trial_id"] + "/" + frame["benchmark"] + "-1"
    about: dict[str, Any] = {
        "dataset": "cifar10",
        "model": "wrn_40_4",
        "method": "pixmix",
        "mixing_set": "fractals",
        "k": 4,
        "beta": 3.0,
    }
    about |= {"checkpoint_id": "0", "seed": 0, "benchmark_settings": "{}", "data_version": "1", "direction": "lower"}
    about |= {"n": 10_000, "standard_error": 0.004, "seconds": 1.0, "device": "a CPU", "code_version": "1"}
    about |= {"training_code_version": "1", "versions": "{}", "finished_at": pd.Timestamp("2026-01-01", tz="UTC")}
    return frame.assign(severity=pd.array([None] * len(frame), dtype="Int8"), **about)


def main() -> None:
    """Print size and times."""
    from playwright.sync_api import sync_playwright

    folder = tempfile.mkdtemp()
    file = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/report.html")
    store, losses = Store(folder), np.linspace(2, 0.1, EPOCHS).tolist()
    for number in range(TRIALS):
        store.write_json(f"trials/pixmix-{number:04}/done.json", {"losses": losses, "epoch_seconds": losses})
    start = time.perf_counter()
    file.write_text(page(store, measurements()), encoding="utf-8")
    print(f"made in {time.perf_counter() - start:.1f} s, {file.stat().st_size / 1e6:.2f} MB")  # noqa: T201
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for _ in range(2):
            tab = browser.new_page()
            tab.goto(f"file://{file}")
            tab.wait_for_selector("body[data-ready]")
            first = tab.evaluate("performance.getEntriesByName('table')[0].startTime")
            front = tab.evaluate(TIMED % "state.chosen = [0, 2, 5, 8, 10]; showFront()")
            pressed = tab.evaluate(TIMED % "choose([...frontOf(state.chosen)][0], false)")
            print(f"first table after {first:.0f} ms, a new front {front:.0f} ms, an entry {pressed:.0f} ms")  # noqa: T201
        browser.close()


if __name__ == "__main__":
    main()
