"""Training speed by precision and memory layout, each as a ratio to float32 in PyTorch's default layout.

    python experiments/speed_training.py [THREADS]

The configurations are run in turn, several times over, and the medians are printed: machines are noisy, so compare
ratios of one run only. What it found is written in docs/speed.md with commit and hardware.
"""

import itertools
import statistics
import sys

import torch
from rich.console import Console
from rich.table import Table

from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.hardware import hardware
from pixmix_ray.methods import Baseline, Method, PixMix
from pixmix_ray.mixing_sets import Fractals
from pixmix_ray.models import wide_resnet
from pixmix_ray.storage.provenance import code_version, library_versions
from pixmix_ray.training import TrainingData, train

NUM_PICTURES = 2048
REPEATS = 3


def pictures_per_second(method: Method, recipe: Recipe, data: TrainingData) -> float:
    """The rate of one epoch of WRN-16-1 after an epoch of warm-up."""
    network = wide_resnet(16, 1, 0.0, 10).to(data.images.device)
    epochs = list(train(network, method, data, recipe, seed=0))
    return NUM_PICTURES / epochs[-1].seconds


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    data = TrainingData(
        images=torch.randint(0, 256, (NUM_PICTURES, 3, 32, 32), dtype=torch.uint8, generator=generator).to(device),
        labels=torch.randint(0, 10, (NUM_PICTURES,), generator=generator).to(device),
        pictures=Fractals(count=64).pictures(36).to(device),
    )
    methods: dict[str, Method] = {"baseline": Baseline(), "pixmix": PixMix()}
    cases = list(itertools.product(methods, ["float32", "bfloat16"], [False, True]))
    rates: dict[tuple[str, str, bool], list[float]] = {case: [] for case in cases}
    for _ in range(REPEATS):
        for name, precision, channels_last in cases:
            recipe = Recipe.read({"epochs": 2, "precision": precision, "channels_last": channels_last}, "recipe")
            rates[name, precision, channels_last].append(pictures_per_second(methods[name], recipe, data))
    versions = f"{code_version()}, torch {library_versions()['torch']}"
    table = Table(title=f"WRN-16-1, batch 128, {hardware(device)}, {versions}")
    for header in ("method", "precision", "layout", "pictures/s", "ratio"):
        table.add_column(header)
    for case, measured in rates.items():
        rate, base = statistics.median(measured), statistics.median(rates[case[0], "float32", False])
        layout = "channels_last" if case[2] else "default"
        table.add_row(case[0], case[1], layout, f"{rate:.0f}", f"{rate / base:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
