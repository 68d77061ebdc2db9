"""FVis: feature visualizations of any classifier, as a mixing set.

PixMix (Hendrycks et al., CVPR 2022), section 2.1 and Table 4, mixes with 4,700 feature visualizations of ImageNet
networks that OpenAI Microscope had collected. Here they are made of the network that the user names: one of our trained
trials, or a file of weights with the model that it belongs to. How a picture is made: see `feature_visualization`.

Which: the channels of all layers asked for follow one another. Each is visualized `count` over their number times; what
is left over goes to channels that are drawn. So more pictures than channels are repeats, that start from other noise
and are moved otherwise. With the objective "neuron" a picture drives a channel in the middle of its feature map alone,
with "both" half of them do, drawn.

A shard holds pictures of one layer, so that its forward passes end there, and layers are drawn by as many processes,
or Ray tasks, as there are. Pictures depend on seed and index alone, and not on who draws them; but a GPU rounds
otherwise than a CPU, and the ascent magnifies that, so the two make pictures that differ in detail.

Cost: a ResNet-20 took 18 ms a picture and step at 48 pixels on one core of a busy machine, so 1,000 pictures by default
38 minutes of one core. After 96 steps its middle layers answer with clear textures.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, InstanceOf, ValidationInfo, field_validator, model_serializer, model_validator
from scipy.special import ndtri
from torch import Tensor, nn

from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.errors import CheckpointError, RequestError, UnknownNameError, one_line
from pixmix_ray.identity import part_identity
from pixmix_ray.mixing_sets.base import MIXING_SETS
from pixmix_ray.mixing_sets.feature_visualizations.feature_visualization import (
    Target,
    layer_widths,
    optimize_pictures,
    spectrum_shape,
)
from pixmix_ray.mixing_sets.generated import GeneratedSet, Images, ShardLayout
from pixmix_ray.models import MODELS, Model, Weights, fit_weights, read_weights
from pixmix_ray.plugins import check_trusted
from pixmix_ray.seeding import rng, uniforms
from pixmix_ray.settings import DataPath, Settings, base_folder

PIXELS_A_SHARD, MOST_A_SHARD = 2**19, 64  # of 36 pixels 64 pictures, of 224 ten: minutes on a core
LONG = 2**24  # pixels times steps: half a minute on a core for a ResNet-20, and longer for others
# The files of a trial that is done, as pixmix_ray.storage.store has them, which is above this room.
TRIAL_FILE, WEIGHTS_FILE, DONE_FILE = "trial.json", "model.safetensors", "done.json"

Ints = NDArray[np.int64]


class NamedModel(Settings):
    """A model by its name in the table.

    Attributes:
        name: in the table of models.
        settings: the model itself.
    """

    name: str
    settings: InstanceOf[Model]

    @model_serializer(mode="plain")
    def _as_in_a_file(self) -> dict[str, Any]:
        return {"name": self.name, **self.settings.model_dump(mode="json")}


@MIXING_SETS.add("fvis")
class FeatureVisualizations(GeneratedSet):
    """Feature visualizations of a trained network.

    Attributes:
        trial: the folder RESULTS/trials/TRIAL of one of our trials that is done; or else
        trust: whether a model that the trial names as module:Class may be imported, which runs its code.
        model: a model, as an experiment file has it, such as {name: torchvision_model, arch: resnet50}; and
        weights: the file of its weights, a state_dict; its number of classes is found in it.
        layers: which convolutions and linear layers, by name; by default all convolutions of more than one pixel, or
            where there are none, all.
        objective: what is driven: the mean of a "channel", the "neuron" in the middle of it, or "both", half of each.
        count: how many pictures. The paper's set has 4,700.
        steps: of gradient ascent. Lucid takes 512.
        size: the side at which they are made, and at which the network sees them: 32 to 64 pixels suit the networks of
            CIFAR, 128 to 224 those of ImageNet.
    """

    summary: ClassVar[str] = "feature visualizations of a trained network of yours: trial, or model and weights"
    source: ClassVar[str] = "made here, after Olah et al., Distill 2017; PixMix (Hendrycks et al., 2022), section 2.1"
    generator: ClassVar[str] = "fvis"
    chunk: ClassVar[int] = MOST_A_SHARD
    # what they lead to is in the version
    location: ClassVar[frozenset[str]] = frozenset({"trial", "trust", "model", "weights"})
    trial: DataPath | None = None
    trust: bool = False
    model: NamedModel | None = None
    weights: DataPath | None = None
    layers: tuple[str, ...] = ()
    objective: Literal["channel", "neuron", "both"] = "channel"
    count: int = Field(default=1000, ge=1)
    steps: int = Field(default=128, ge=1)
    size: int = Field(default=48, ge=16)

    @field_validator("model", mode="before")
    @classmethod
    def _read_model(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or isinstance(value, NamedModel):
            return value
        part = MODELS.read(value, base_folder(info))
        return NamedModel(name=part.name, settings=part.settings)

    @field_validator("layers", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names_one_network(self) -> "FeatureVisualizations":
        is_ours, is_foreign = self.trial is not None, self.model is not None and self._weights_file() is not None
        if is_ours == is_foreign or (is_ours and (self.model or self.weights)):
            raise RequestError(
                "fvis visualizes one network: give trial, as RESULTS/trials/TRIAL, "
                "or model and weights, the file of its state_dict"
            )
        return self

    def version(self) -> str:
        """`fvis-`, the version of this generator, and a hash of the settings and of the content of the weights.

        Raises:
            CheckpointError: there are no such weights, or they do not fit the model.
            UnknownNameError: the network has no such layer.
        """
        self._channels()
        return super().version()

    def content(self) -> dict[str, Any]:
        """The settings, and the model and the weights that they lead to."""
        found = self._network()
        return {**self.identity(), "model": found.identity, "weights": found.content}

    def layout(self) -> ShardLayout:
        """Shards of one layer each, and whether a picture is made several times."""
        num_channels = len(self._channels())
        note = None
        if self.count > num_channels:
            times = f"{self.count / num_channels:.3g} times on average, each time from other noise"
            note = f"{self.count:,} pictures of {num_channels:,} channels, which are visualized {times}"
        is_long = self.count * self.steps * self.size**2 > LONG
        return ShardLayout(ends=self._ends(), uses_network=True, is_long=is_long, note=note)

    def draw(self, indices: Ints, side: int) -> Images:
        """The pictures of these indices in their own size, (N, size, size, 3) uint8, on a GPU where there is one."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        everywhere = self.targets()
        shape = spectrum_shape(self.size)
        u = uniforms(self.seed, "fvis", "noise", indices=indices, count=int(np.prod(shape)))
        noise = torch.from_numpy(ndtri(u).astype(np.float32)).view(-1, *shape).to(device)
        with _one_thread():  # however many cores, the same sums in the same order
            made = optimize_pictures(
                self._network().network.to(device),
                [everywhere[index] for index in indices],
                noise,
                self._moves(indices, device),
            )
        images: Images = made.permute(0, 2, 3, 1).cpu().numpy()
        return images

    def targets(self) -> list[Target]:
        """What each of the `count` pictures drives, layer after layer and channel after channel."""
        channels = self._channels()
        rounds, left = divmod(self.count, len(channels))
        times = np.full(len(channels), rounds)
        times[rng(self.seed, "fvis", "channels").permutation(len(channels))[:left]] += 1
        if self.objective == "both":
            halves = uniforms(self.seed, "fvis", "objective", indices=np.arange(self.count), count=1)[:, 0] < 0.5
        else:
            halves = np.full(self.count, self.objective == "neuron")
        return [
            Target(layer=channels[number][0], channel=channels[number][1], is_neuron=bool(is_neuron))
            for number, is_neuron in zip(np.repeat(np.arange(len(channels)), times), halves, strict=True)
        ]

    def _moves(self, indices: Ints, device: torch.device) -> Iterator[Tensor]:
        for step in range(self.steps):
            draws = 2 * uniforms(self.seed, "fvis", "moves", step, indices=indices, count=4) - 1
            yield torch.from_numpy(draws.astype(np.float32)).to(device)

    def _ends(self) -> tuple[int, ...]:
        """Where shards end: each is of one layer."""
        most = max(1, min(MOST_A_SHARD, PIXELS_A_SHARD // self.size**2))
        layers = [target.layer for target in self.targets()]
        ends: list[int] = []
        for end, (layer, following) in enumerate(zip(layers, [*layers[1:], None], strict=True), start=1):
            if layer != following or end - (ends[-1] if ends else 0) == most:
                ends.append(end)
        return tuple(ends)

    def _channels(self) -> list[tuple[str, int]]:
        """Layer and number of every channel that may be visualized."""
        network = self._network().network
        widths = layer_widths(network)
        for name in self.layers:
            if name not in widths:
                raise UnknownNameError("layer", name, widths)
        chosen = list(self.layers) or _larger_than_a_pixel(network)
        if not chosen:
            raise RequestError(f"{type(network).__name__} has no convolution: name linear layers under layers")
        return [(name, number) for name in widths if name in chosen for number in range(widths[name])]

    def _weights_file(self) -> Path | None:
        """The file of weights that belongs to `model`: the one given, or else the model's own."""
        own: Path | None = getattr(self.model.settings, "weights", None) if self.model is not None else None
        return self.weights or own

    def _network(self) -> "_Opened":
        if self.trial is not None:
            model, file = self._read_trial(self.trial), self.trial / WEIGHTS_FILE
        else:
            own = self._weights_file()
            assert self.model is not None and own is not None, "checked when the settings were read"
            model, file = self.model, own
        if not file.is_file():
            raise CheckpointError(f"no file of weights {file}: give a .safetensors, .pt, .pth or .th file")
        return _opened(model, file, combined(file_md5s([file])))

    def _read_trial(self, folder: Path) -> NamedModel:
        missing = [name for name in (TRIAL_FILE, WEIGHTS_FILE, DONE_FILE) if not (folder / name).is_file()]
        if TRIAL_FILE in missing:
            raise CheckpointError(f"{folder} is not a trial: give the folder RESULTS/trials/TRIAL")
        if missing:
            raise CheckpointError(
                f"the trial {folder} is not complete, as {missing[0]} is missing: run its experiment again"
            )
        try:
            spec = json.loads((folder / TRIAL_FILE).read_text(encoding="utf-8"))["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / TRIAL_FILE} is damaged: {one_line(error)}") from None
        way_out = "add trust: true beside trial"
        check_trusted(spec, str(folder / TRIAL_FILE), is_trusted=self.trust, way_out=way_out)
        part = MODELS.read(spec)
        return NamedModel(name=part.name, settings=part.settings)


class _Opened:
    """A network with its weights."""

    def __init__(self, model: NamedModel, file: Path, content: str) -> None:
        settings = model.settings
        if "weights" in type(settings).model_fields:  # those to start from, which the file's replace
            settings = settings.model_copy(update={"weights": None})
        weights = read_weights(file)
        with torch.random.fork_rng(devices=[]):  # initialisers draw from the global generator
            self.network = settings.build(_num_classes(settings.build(1), weights))
        fit_weights(self.network, weights, str(file))
        self.network.eval().requires_grad_(requires_grad=False)
        self.identity, self.content = part_identity(model.name, settings), content


@lru_cache(maxsize=2)
def _opened(model: NamedModel, file: Path, content: str) -> _Opened:
    """The network, read once a process as long as the file has this content."""
    return _Opened(model, file, content)


def _num_classes(network: nn.Module, weights: Weights) -> int:
    """The number of classes of weights, by where they are longer than those of a network of one class; else 1."""
    own = network.state_dict()
    longer = [
        len(tensor)
        for name, tensor in weights.items()
        if name in own and tensor.ndim and tensor.shape[1:] == own[name].shape[1:] and len(own[name]) == 1
    ]
    return max(longer, default=1)


def _larger_than_a_pixel(network: nn.Module) -> list[str]:
    """The convolutions that look at more than one pixel, or if there are none, all."""
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    larger = [name for name, module in found if max(module.kernel_size) > 1]
    return larger or [name for name, _ in found]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
