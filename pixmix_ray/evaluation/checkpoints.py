"""Checkpoints that can be evaluated: those of our trials, and anybody's with a named model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pixmix_ray.benchmarks import finite_logits, to_device
from pixmix_ray.datasets import Dataset, ImageData
from pixmix_ray.errors import CheckpointError, DamagedError, PixmixRayError, one_line
from pixmix_ray.experiment.trial import BenchmarkRun, Trial, done_record, hash_of_test_set
from pixmix_ray.identity import short_hash
from pixmix_ray.models import evaluation_mode, fit_weights, parse_weights
from pixmix_ray.models.base import Model
from pixmix_ray.plugins import Part
from pixmix_ray.storage.store import Store, trial_file

if TYPE_CHECKING:
    from pixmix_ray.experiment.external import External, Source

PROBED = 2  # pictures that go through a network to see what comes out


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network and what a results row says of it.

    Attributes:
        source: where it was read from, for messages.
        trial_id: names the folder of its cells.
        checkpoint_id: hash of its weights.
        dataset: what it is evaluated on.
        build: the network for pictures of a data set, on the CPU.
        described: the columns dataset, model, method, mixing_set, k, beta, seed, settings of its rows.
        class_names: of its outputs, in their order; none where nobody wrote them down.
        is_external: whether somebody else trained it.
    """

    source: str
    trial_id: str
    checkpoint_id: str
    dataset: Part[Dataset]
    build: Callable[[ImageData], nn.Module]
    described: Mapping[str, Any]
    class_names: tuple[str, ...] | None = None
    is_external: bool = False
    _networks: dict[torch.device, tuple[nn.Module, list[Any]]] = field(default_factory=dict, init=False, repr=False)

    def check_classes(self, found: Sequence[str]) -> None:
        """Return if these classes of a data set are those that the network was trained on, in their order.

        Raises:
            CheckpointError: they are others, as after a class was renamed: its outputs mean other classes then.
        """
        if self.class_names is None or tuple(found) == self.class_names:
            return
        place = next((i for i, (a, b) in enumerate(zip(found, self.class_names, strict=False)) if a != b), -1)
        which = (
            f"class {place} is {found[place]!r} in the data set and was {self.class_names[place]!r} in training"
            if place >= 0
            else f"the data set has {len(found)} classes, and training had {len(self.class_names)}"
        )
        raise CheckpointError(
            f"{self.source} was trained on other classes than those of the data set: {which}; give the data set with "
            "the classes it was trained on, in their order"
        )

    @cached_property
    def test_set(self) -> str:
        """A hash of what decides the test pictures that it is evaluated on."""
        return hash_of_test_set(self.dataset)

    def network(self, data: ImageData, device: torch.device) -> nn.Module:
        """The network for pictures of its data set, on a device, in evaluation mode with frozen parameters.

        It is kept from one cell to the next, unless a benchmark changed it: then it is built anew.
        """
        network, marks = self._networks.get(device, (None, []))
        if network is None or _marks(network) != marks:
            network = self.build(data)
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stub
            network.eval().requires_grad_(requires_grad=False)
            self._networks[device] = network, _marks(network)
        return network

    def cell(self, run: BenchmarkRun) -> str:
        """The name of its cell on a benchmark: CHECKPOINT/NAME-KEY."""
        return f"{self.trial_id}/{run.cell_key(self.test_set, self.checkpoint_id)}"


def _marks(network: nn.Module) -> list[Any]:
    """What differs once somebody changed a network: its parts, their modes, and how often each tensor was written."""
    tensors = chain(network.parameters(), network.buffers())
    parts = [(id(part), part.training, len(part._forward_hooks)) for part in network.modules()]
    return [*parts, *((id(tensor), tensor._version, tensor.requires_grad) for tensor in tensors)]


def opened(source: "Source", store: Store) -> Checkpoint:
    """The checkpoint of a trial of `store` that is done, or one that was there already.

    Raises:
        DamagedError: that of the trial is missing, or its bytes are not those that were written.
        CheckpointError: the other is, or it is another than when the work was planned.
    """
    if isinstance(source, Trial):
        return trained(source, store)
    if source.trial is not None:
        try:
            found = replace(trained(source.trial, Store(source.results)), dataset=source.dataset)
        except DamagedError as error:  # its trial is none of this experiment, so it is not trained again
            raise CheckpointError(str(error)) from None
    else:
        assert source.weights is not None
        found = Checkpoint(
            source=str(source.weights),
            trial_id=source.id,
            checkpoint_id=source.model.settings.content(source.weights),
            dataset=source.dataset,
            build=partial(external_network, source),
            described={**source.described(), "training_code_version": None},
            is_external=True,
        )
    if found.checkpoint_id != source.checkpoint_id:
        raise CheckpointError(f"{found.source} has changed since the work was planned: run the same command again")
    return found


def trained(trial: Trial, store: Store) -> Checkpoint:
    """The checkpoint of a trial that is done.

    Raises:
        DamagedError: it is missing, or its bytes are not those that were written.
    """
    done = done_record(trial, store)
    path = trial_file(trial.id, "model.safetensors")
    content = store.read(path)
    if content is None:
        raise DamagedError(f"{path} in {store.uri} is missing: run the experiment again to recreate it")
    if short_hash(content) != done.get("checkpoint_id"):
        raise DamagedError(f"{path} in {store.uri} was damaged: run the experiment again to recreate it")
    source = f"{path} in {store.uri}"
    return Checkpoint(
        source=source,
        trial_id=trial.id,
        checkpoint_id=done["checkpoint_id"],
        dataset=trial.dataset,
        build=partial(own_network, trial.model.settings, parse_weights(content, path), source),
        described={**trial.described(), "training_code_version": done.get("code_version")},
        class_names=None if done.get("class_names") is None else tuple(done["class_names"]),
    )


def own_network(model: Model, weights: Mapping[str, Tensor], source: str, data: ImageData) -> nn.Module:
    """A network of ours with its weights."""
    network = model.build(data.num_classes)
    fit_weights(network, dict(weights), source)
    return network


def external_network(source: "External", data: ImageData) -> nn.Module:
    """Somebody else's network, with an output for each class of a data set, in their order.

    Raises:
        CheckpointError: the weights do not fit the model, or the outputs not the classes.
    """
    assert source.weights is not None
    model, where = source.model.settings, str(source.weights)
    if source.classes is None:
        network = model.opened(source.weights, data.num_classes)
        _check_outputs(network, data, data.num_classes, where)
        return network
    chosen = source.classes.outputs_of(data.class_names)
    named = len(source.classes.names) or None
    network = model.opened(source.weights, named)
    found = _check_outputs(network, data, named, where)
    if max(chosen) >= found:
        raise CheckpointError(
            f"classes names output {max(chosen)}, and {where} has {found} outputs: give numbers from 0 to {found - 1}"
        )
    return _Outputs(network, chosen)


class _Outputs(nn.Module):
    """A network of which some outputs are taken, in a given order."""

    def __init__(self, network: nn.Module, chosen: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("chosen", torch.tensor(chosen), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of the chosen outputs."""
        logits: Tensor = self.network(images)
        return logits[:, self.get_buffer("chosen")]


def _check_outputs(network: nn.Module, data: ImageData, wanted: int | None, where: str) -> int:
    """How many outputs a network has for pictures of a data set.

    Raises:
        CheckpointError: it does not take them, returns no logits, or not as many as wanted.
    """
    images = to_device(np.array(data.test_images[:PROBED]), torch.device("cpu"))
    try:
        with evaluation_mode(network):
            found = finite_logits(network, images).shape[1]
    except PixmixRayError as error:
        raise CheckpointError(f"{where}: {error}") from None
    except Exception as error:  # other people's code, which may raise anything
        side = images.shape[2]
        raise CheckpointError(
            f"{where} does not take pictures of {side}x{images.shape[3]} pixels ({type(error).__name__}: "
            f"{one_line(error)}); set input_size to the pixels that it was trained with, or check model"
        ) from None
    if wanted not in (None, found):
        raise CheckpointError(
            f"{where} has {found} outputs, and there are {wanted} classes: give the data set that it was trained on, "
            "or say with classes which outputs are meant"
        )
    return found


def check_externals(sources: "Iterable[External]") -> None:
    """Open each of these checkpoints once, so that what does not fit is told before any work.

    Raises:
        CheckpointError: weights are missing or broken, or do not fit their model or data set.
    """
    for source in sources:
        if source.trial is None:
            external_network(source, source.dataset.settings.load())
