"""One batch through every method, model and benchmark, in this process: a slip is found before anything is trained.

Pictures of noise stand in for the mixing set, and benchmarks of ours, which tests cover, are left out: nothing is
generated or downloaded for it, and a check takes a second or two.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pixmix_ray.datasets import ImageData
from pixmix_ray.errors import PixmixRayError, ProblemsError, RequestError, WorkError, one_line
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.identity import is_ours
from pixmix_ray.methods import Method, Setup
from pixmix_ray.metrics import Measurement
from pixmix_ray.seeding import rng, torch_generator
from pixmix_ray.storage.failures import own_frame
from pixmix_ray.training.batches import check_augmented
from pixmix_ray.training.trial import fresh_network

BATCH = 8  # pictures


def check_parts(trials: Iterable[Trial], runs: Iterable[BenchmarkRun], *, own_only: bool = False) -> int:
    """How many parts were checked: methods and models by a step of training, benchmarks of the user's by a small pass.

    Args:
        trials: each method, model and data set of which is checked once.
        runs: those of the user's own are checked, with the networks of the trials.
        own_only: leave out trials whose method, model and data set are all ours: tests cover them.

    Raises:
        RequestError: some do not work, or return what nothing can be made of; all of them are named.
        DataError: the data set cannot be read.
    """
    different: dict[str, Trial] = {}
    for trial in trials:
        different.setdefault(f"{trial.dataset.identity()}{trial.model.identity()}{trial.method.identity()}", trial)
    problems: list[RequestError] = []
    own_runs = [run for run in runs if not is_ours(type(run.benchmark.settings))]
    first: dict[str, Trial] = {}
    for trial in different.values():
        first.setdefault(f"{trial.dataset.identity()}{trial.model.identity()}", trial)
    trained = [trial for trial in different.values() if not own_only or _has_own_parts(trial)]
    for trial in trained:
        _try(trial.label.rpartition(" seed ")[0], partial(check_training, trial), problems)
    for trial in first.values():
        for run in own_runs:
            _try(f"benchmark {run.name}", partial(_check_benchmark, trial, run), problems)
    if problems:
        raise problems[0] if len(problems) == 1 else ProblemsError("the check", problems)
    return len(trained) + len(own_runs)


def _has_own_parts(trial: Trial) -> bool:
    """Whether the method, the model or the data set of a trial is a class of the user's."""
    return not all(is_ours(type(part.settings)) for part in (trial.method, trial.model, trial.dataset))


def _try(label: str, check: Callable[[], None], problems: list[RequestError]) -> None:
    """Run a check; whatever it raises is a problem."""
    try:
        check()
    except PixmixRayError as error:
        problems.append(RequestError(f"{label}: {error}"))
    except Exception as error:  # other people's code, which may raise anything
        where = own_frame(error)
        text = one_line(error, limit=2000)
        problems.append(RequestError(f"{label}: {type(error).__name__}: {text}{f' at {where}' if where else ''}"))


def check_training(trial: Trial) -> None:
    """One step of a trial's training on a few pictures, its mixing set replaced by noise; nothing is kept.

    Raises:
        WorkError: the method's pictures, its loss or the network's logits are not what the training needs.
        DataError: the data set cannot be read.
    """
    data = trial.dataset.settings.load()
    images, labels = _first_pictures(data)
    generator = torch_generator(0, "check")
    network = fresh_network(trial, data.num_classes).train()
    method: Method = trial.method.settings
    cropped = trial.training.cropped(images, generator)
    setup = Setup(
        images=images,
        device=images.device,
        height=images.shape[2],
        data_version=data.version,
        seed=0,
        size=cropped.shape[2],
        crop=trial.training.cropped,
    )
    if is_ours(type(method)) and method.has_memory:
        return  # it learns, or draws pictures, before its first batch: minutes, and its tests do the same
    run = method.start(setup)
    run.begin_epoch(network, 1)
    pictures = torch.randint(0, 256, cropped.shape, dtype=torch.uint8, generator=generator)
    before = cropped.clone()
    augmented = run.augment(cropped, pictures if method.needs_pictures else None, generator)
    check_augmented(augmented, cropped)
    if not torch.equal(cropped, before):
        raise WorkError("augment changes the pictures that it is given: copy them first, as by images.clone()")
    loss = run.loss(network, augmented, labels, rng(0, "check"))
    _check_loss(loss, network)
    _check_logits(network.eval(), cropped, data.num_classes)


def _first_pictures(data: ImageData) -> tuple[Tensor, Tensor]:
    """A few training pictures, uint8 (N, 3, H, W), and their labels (N,)."""
    images = torch.from_numpy(data.some_train_images(BATCH)).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(np.array(data.train_labels[:BATCH]))


def _check_loss(loss: object, network: nn.Module) -> None:
    if not isinstance(loss, Tensor) or loss.ndim:
        kind = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise WorkError(f"loss returns {kind}: it must be one number, a tensor without dimensions, as by .mean()")
    if not math.isfinite(loss.item()):
        raise WorkError(f"loss is {loss.item()} on the first batch: it must be finite")
    if not loss.requires_grad:
        raise WorkError("loss does not depend on the network's weights: no gradient would reach them")
    _check_gradients(loss, network)


def _check_gradients(loss: Tensor, network: nn.Module) -> None:
    network.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = [parameter.grad for parameter in network.parameters() if parameter.requires_grad]
    if not any(gradient is not None and bool(gradient.any()) for gradient in gradients):
        raise WorkError("no gradient reaches the network's weights: check what the loss is made of")
    if not all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients):
        raise WorkError("a gradient is NaN or infinite on the first batch: check the loss")


def _check_logits(network: nn.Module, images: Tensor, classes: int) -> None:
    with torch.no_grad():
        logits = network(images.float() / 255)
    wanted = (len(images), classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise WorkError(
            f"the model returns {found} for {len(images)} pictures and {classes} classes: it must be {wanted}"
        )


def _check_benchmark(trial: Trial, run: BenchmarkRun) -> None:
    """A benchmark over a few test pictures, with an untrained network."""
    part = run.benchmark
    data = trial.dataset.settings.load()
    benchmark = part.settings.model_copy(update={"limit": BATCH})
    network = fresh_network(trial, data.num_classes).eval().requires_grad_(requires_grad=False)
    test = benchmark.pictures(data.test_images, data.test_labels)
    measured = benchmark.measure(benchmark.predict(network, test, torch.device("cpu")))
    if not measured or not all(isinstance(row, Measurement) for row in measured):
        raise WorkError(f"measure returns {measured!r:.80}: it must be a list of Measurement, at least one")
    for row in measured:
        benchmark.metric(row.metric)
    missing = [name for name in benchmark.headline if not any(row.metric == name for row in measured)]
    if missing:
        raise WorkError(f"measure does not return {', '.join(missing)}, which its headline names")
