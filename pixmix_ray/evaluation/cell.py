"""One cell: a checkpoint on a benchmark, from weights to files, without Ray. Safe to run again."""

import json
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch
from torch import nn

from pixmix_ray.benchmarks import Benchmark, TestPictures, limited_batches, pictures_that_fit
from pixmix_ray.datasets import evenly_spaced
from pixmix_ray.errors import DataError
from pixmix_ray.evaluation.normalisation import better_input, sample_size
from pixmix_ray.hardware import arithmetic, free_memory, hardware
from pixmix_ray.memory import is_out_of_memory
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.storage.cell import Footer, StoredCell, predictions_table, write_cell
from pixmix_ray.storage.provenance import library_versions
from pixmix_ray.storage.store import Store, cell_failure_file

if TYPE_CHECKING:
    from pixmix_ray.evaluation.checkpoints import Checkpoint
    from pixmix_ray.experiment.trial import BenchmarkRun


def evaluate_cell(
    checkpoint: "Checkpoint", run: "BenchmarkRun", store: Store, device: torch.device, code: str
) -> list[Measurement]:
    """The measurements of a checkpoint on a benchmark, whose cell is then written.

    Raises:
        CheckpointError: the weights do not fit the model.
        DataError: what the benchmark reads is missing, broken, or not made from the test pictures.
        WorkError: the network's output is not finite.
        StorageError: the measurements cannot be written.
    """
    started = time.perf_counter()
    data = checkpoint.dataset.settings.load()
    checkpoint.check_classes(data.class_names)
    network = checkpoint.network(data, device)
    benchmark = run.benchmark.settings
    pictures = benchmark.pictures(data.test_images, data.test_labels)
    if (version := benchmark.version()) != run.version:
        raise DataError(
            f"the files of {run.name} are {version or 'none'} here, and {run.version or 'none'} where the work was "
            "planned: give every node the same files"
        )
    benchmark.prepare(pictures)  # whoever reads files checks them: this may be another machine than the plan's
    predictions = _predict_within_memory(benchmark, network, pictures, device)
    measurements = benchmark.measure(predictions)
    common = {
        "trial_id": checkpoint.trial_id,
        "checkpoint_id": checkpoint.checkpoint_id,
        **checkpoint.described,
        "benchmark": run.name,
        "benchmark_settings": run.settings_text,
        "data_version": ";".join(filter(None, [data.version, run.version])),
        "seconds": time.perf_counter() - started,
        "device": hardware(device),
        "code_version": code,
        "versions": json.dumps(library_versions(), sort_keys=True),
        "finished_at": datetime.now(UTC),
    }
    metrics = {row.metric: benchmark.metric(row.metric) for row in measurements}
    footer = Footer(
        common=common,
        test_set=checkpoint.test_set,
        measurements=tuple(measurements),
        directions={name: metric.direction for name, metric in metrics.items()},
        units={name: metric.unit for name, metric in metrics.items() if metric.unit},
    )
    rows = predictions_table(predictions, benchmark.extras)
    write_cell(store, checkpoint.cell(run), StoredCell(rows=rows, footer=footer))
    store.delete(cell_failure_file(checkpoint.trial_id, run.key))
    return measurements


def _predict_within_memory(
    benchmark: Benchmark, network: nn.Module, pictures: TestPictures, device: torch.device
) -> Predictions:
    """The benchmark's predictions, in batches that are halved for as long as memory runs out."""
    at_most: int | None = None
    half = torch.autocast(device.type, torch.bfloat16) if benchmark.precision == "bfloat16" else nullcontext()
    with arithmetic(), half:
        forward = pictures_that_fit(network, pictures.images.shape[1], device)
        while True:
            with limited_batches(at_most, forward) as limit:
                try:
                    return benchmark.predict(network, pictures, device)
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error) or limit.last <= 1:
                        raise
            at_most = limit.last // 2
            free_memory(device)  # only here, where the error and all that its frames held are gone


def input_notice(checkpoint: "Checkpoint", device: torch.device) -> str:
    """Whether somebody else's weights clearly read more with another normalisation or size than the model's."""
    data = checkpoint.dataset.settings.load()
    chosen = evenly_spaced(len(data.test_labels), sample_size(data.test_images.shape[1]))
    network = checkpoint.network(data, device)
    return better_input(network, data.test_images[chosen], data.test_labels[chosen], device)
