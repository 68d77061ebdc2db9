"""One cell: a checkpoint on a benchmark, from weights to files, without Ray. Safe to run again."""

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import torch
from torch import nn

from pixmix_ray.benchmarks import Benchmark, TestPictures, limited_batches
from pixmix_ray.datasets import ImageData, evenly_spaced
from pixmix_ray.errors import DataError
from pixmix_ray.evaluation.checkpoints import EXTERNAL, Checkpoint, trained
from pixmix_ray.evaluation.normalisation import SAMPLE, better_normalisation
from pixmix_ray.evaluation.pictures_ahead import made_ahead, missing, works_of
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.hardware import hardware
from pixmix_ray.memory import free_memory, is_out_of_memory
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.models import fit_weights
from pixmix_ray.storage import index
from pixmix_ray.storage.cell import Footer, StoredCell, predictions_table, write_cell
from pixmix_ray.storage.provenance import code_version, library_versions
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file


def evaluate_cell(
    checkpoint: Checkpoint, run: BenchmarkRun, store: Store, device: torch.device, code: str
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
    network = _frozen(checkpoint, data, device)
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
    while True:
        with limited_batches(at_most) as limit:
            try:
                return benchmark.predict(network, pictures, device)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or limit.last <= 1:
                    raise
        at_most = limit.last // 2
        free_memory(device)  # only here, where the error and all that its frames held are gone


Measure = Callable[[BenchmarkRun], object]
"""Measures one cell of a checkpoint that was opened; what it returns is of no account, what it writes is."""


def open_trial(trial: Trial, store: Store, device: torch.device) -> Measure:
    """A function that evaluates the checkpoint of a trial on a benchmark, as `evaluate_cell`, if that is not done.

    Raises:
        DamagedError: the checkpoint is missing, or its bytes are not those that were written.
    """
    checkpoint = trained(trial, store)

    def measure(run: BenchmarkRun) -> None:
        if not store.exists(cell_file(checkpoint.cell(run))):
            evaluate_cell(checkpoint, run, store, device, code_version())

    return measure


def evaluate_here(
    checkpoint: Checkpoint, runs: Iterable[BenchmarkRun], results: str | None
) -> Iterator[tuple[BenchmarkRun, list[Measurement]]]:
    """Evaluate a checkpoint in this process, on the GPU if there is one, and yield each benchmark as it is done.

    Args:
        checkpoint: what to evaluate.
        runs: on what.
        results: folder or URI for the cells, where the index is brought up to date at the end; none keeps nothing.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory(prefix="pixmix_ray_") as scratch:
        store = Store(results or scratch)
        store.check_writable()
        if checkpoint.described["method"] == EXTERNAL:
            _notice_normalisation(checkpoint, device)
        runs = list(runs)
        with made_ahead(missing(works_of((checkpoint.dataset, run) for run in runs))):
            for run in runs:
                yield run, evaluate_cell(checkpoint, run, store, device, code_version())
        index.update(store)


def _notice_normalisation(checkpoint: Checkpoint, device: torch.device) -> None:
    """Warn if somebody else's weights clearly read more with another normalisation than that of the model named."""
    data = checkpoint.dataset.settings.load()
    chosen = evenly_spaced(len(data.test_labels), SAMPLE)
    network = _frozen(checkpoint, data, device)
    if said := better_normalisation(network, data.test_images[chosen], data.test_labels[chosen], device):
        warnings.warn(said, stacklevel=3)


def _frozen(checkpoint: Checkpoint, data: ImageData, device: torch.device) -> nn.Module:
    network = checkpoint.model.settings.build(data.num_classes)
    fit_weights(network, dict(checkpoint.weights), checkpoint.source)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stub
    return network.eval().requires_grad_(requires_grad=False)
