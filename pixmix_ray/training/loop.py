"""The training loop: a plain function that yields epochs and knows neither Ray nor files.

The training pictures lie on the device as uint8 from the start. A batch is a draw of indices there; flip, crop and the
method's augmentation run on several batches at once on that device; nothing waits for the device within an epoch but
what a method itself needs. All randomness is a function of (seed, epoch), so a run that goes on from the checkpoint of
an epoch ends in the same weights as one that was never interrupted.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from pixmix_ray.errors import TrainingDivergedError
from pixmix_ray.experiment.recipe import Recipe, cosine
from pixmix_ray.memory import keep_freed_memory
from pixmix_ray.methods import Method, MethodRun, Setup
from pixmix_ray.mixing_sets import PictureBank
from pixmix_ray.models import evaluation_mode
from pixmix_ray.seeding import rng, seed_globally, torch_generator
from pixmix_ray.training.augmented import check_augmented
from pixmix_ray.transforms import to_float

VALIDATED_AT_ONCE = 256  # pictures
# augmented in one go: what fits the caches of a CPU; on a GPU so many that the launches of the kernels do not matter
VALUES_AT_ONCE = {"cpu": 512 * 3 * 32 * 32, "cuda": 8192 * 3 * 32 * 32}


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a network learns from, on the device where it learns.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,) int64.
        pictures: the mixing set, for the methods that need one.
        version: the content of the training set.
        held_out: (M,) int64, the rows that are not trained on, to measure the error on; none: all are trained on.
    """

    images: Tensor
    labels: Tensor
    pictures: PictureBank | None = None
    version: str = ""
    held_out: Tensor | None = None

    @cached_property
    def rows(self) -> Tensor:
        """The rows to train on, (N - M,) int64, on the device of the pictures."""
        is_trained = torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)
        if self.held_out is not None:
            is_trained[self.held_out] = False
        return is_trained.nonzero().squeeze(1)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One finished epoch.

    Attributes:
        number: counted from 1.
        loss: mean training loss.
        validation_error: on the pictures held out, a fraction in [0, 1]; none without any.
        seconds: wall time, with validation.
        tensors: all that the next epoch starts from, by name; the living tensors, so save them before going on.
    """

    number: int
    loss: float
    validation_error: float | None
    seconds: float
    tensors: Mapping[str, Tensor]


def train(
    network: nn.Module,
    method: Method,
    data: TrainingData,
    recipe: Recipe,
    *,
    seed: int,
    after: tuple[int, Mapping[str, Tensor]] | None = None,
) -> Iterator[Epoch]:
    """Train `network` in place and yield each epoch as it ends.

    Args:
        network: on the device of `data`.
        method: augments the batches and computes the loss.
        data: the training pictures.
        recipe: epochs, learning rate and so on.
        seed: names all random draws of the run.
        after: number and `tensors` of an epoch to go on from.

    Raises:
        TrainingDivergedError: the loss of an epoch is not finite.
    """
    keep_freed_memory()
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)
    decay = method.weight_decay if recipe.weight_decay is None else recipe.weight_decay
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.lr, recipe.momentum, weight_decay=decay, nesterov=True, fused=True
    )
    side = recipe.side(data.images.shape[2])
    run = method.start(Setup(images=data.images, data_version=data.version, seed=seed, size=side, crop=recipe.cropped))
    first = 1
    if after is not None:
        _restore(network, optimizer, run, after[1])
        first = after[0] + 1
    for number in range(first, recipe.epochs + 1):
        yield _epoch(number, network, run, data, recipe, optimizer, seed)


def _epoch(
    number: int,
    network: nn.Module,
    run: MethodRun,
    data: TrainingData,
    recipe: Recipe,
    optimizer: torch.optim.SGD,
    seed: int,
) -> Epoch:
    started = time.perf_counter()
    device = data.images.device
    steps = math.ceil(len(data.rows) / recipe.batch_size)
    scalars = rng(seed, "loss", number)
    loss_sum = torch.zeros((), device=device)
    network.train()
    # dropout can only draw from the global generator: seed it for this epoch alone and give it back as it was
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_globally(seed, "dropout", number, device=device)
        run.begin_epoch(network, number)
        for step, (images, labels) in enumerate(_batches(number, run, data, recipe, seed)):
            for group in optimizer.param_groups:
                group["lr"] = cosine((number - 1) * steps + step, recipe.epochs * steps, recipe.lr, recipe.final_lr)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss = run.loss(network, images, labels, scalars)
            optimizer.zero_grad(set_to_none=True)  # after the loss, which may itself have run the network backwards
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            loss_sum += loss.detach() * len(labels)
    mean_loss = loss_sum.item() / len(data.rows)
    if not math.isfinite(mean_loss):
        raise TrainingDivergedError(number, mean_loss)
    return Epoch(
        number=number,
        loss=mean_loss,
        validation_error=None if data.held_out is None else _error(network, data, data.held_out, seed),
        seconds=time.perf_counter() - started,
        tensors=_tensors(network, optimizer, run),
    )


def _batches(
    number: int, run: MethodRun, data: TrainingData, recipe: Recipe, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented pictures, float32 (B, 3, H, W), and labels (B,) of one epoch, made for several batches at once."""
    device = data.images.device
    generator = torch_generator(seed, "augment", number, device=device)
    order = torch.randperm(len(data.rows), generator=torch_generator(seed, "order", number)).to(device)
    pictures_at_once = VALUES_AT_ONCE[device.type] // data.images.shape[1:].numel()
    at_once = max(1, pictures_at_once // recipe.batch_size) * recipe.batch_size
    is_checked = False
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    for rows in torch.split(data.rows[order], at_once):
        images = recipe.cropped(run.choose(data.images, rows, generator), generator)
        pictures = None
        if run.method.needs_pictures and data.pictures is not None:
            pictures = data.pictures.crops(len(rows), images.shape[-1], generator)
        augmented = run.augment(images, pictures, generator)
        if not is_checked:  # once an epoch, as it waits for the device
            check_augmented(augmented, images)
            is_checked = True
        if augmented.ndim == 4:  # several views of a picture are laid out by the loss that joins them
            augmented = augmented.contiguous(memory_format=layout)
        labels = data.labels[rows]
        yield from zip(torch.split(augmented, recipe.batch_size), torch.split(labels, recipe.batch_size), strict=True)


@torch.no_grad()
def _error(network: nn.Module, data: TrainingData, rows: Tensor, seed: int) -> float:
    """The fraction of the pictures `rows`, as they are, that the network takes for another class; it is not changed."""
    device = data.images.device
    wrong = torch.zeros((), dtype=torch.int64, device=device)
    # for networks that draw even in evaluation mode: as for dropout above
    with evaluation_mode(network), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_globally(seed, "validation", device=device)
        for some in torch.split(rows, VALIDATED_AT_ONCE):
            wrong += (network(to_float(data.images[some])).argmax(dim=1) != data.labels[some]).sum()
    return wrong.item() / len(rows)


def _tensors(network: nn.Module, optimizer: torch.optim.SGD, run: MethodRun) -> dict[str, Tensor]:
    momentum = {
        f"momentum.{name}": optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in network.named_parameters()
        if "momentum_buffer" in optimizer.state[parameter]
    }
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    return weights | momentum | {f"method.{name}": tensor for name, tensor in run.tensors().items()}


def _restore(network: nn.Module, optimizer: torch.optim.SGD, run: MethodRun, tensors: Mapping[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    network.load_state_dict(part("network."))
    run.restore(part("method."))
    for name, parameter in network.named_parameters():
        if f"momentum.{name}" in tensors:
            saved = tensors[f"momentum.{name}"].to(parameter)
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(saved)
