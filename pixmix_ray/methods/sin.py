"""SIN: half of the training pictures are replaced by copies in the style of paintings (Sin-ImageNet).

Reference: Geirhos et al., "ImageNet-trained CNNs are biased towards texture; increasing shape bias improves accuracy
and robustness", ICLR 2019, sections 2 and 3, trained on both sets (SIN+IN). PixMix (Hendrycks et al., CVPR 2022,
section 3 and table 3) names it SIN: "a mixture of clean images and images rendered using neural style transfer".
Geirhos et al. join the two sets and so show every picture twice an epoch; here an epoch is one pass, and each time a
picture comes it is its stylised copy with probability `share`.

The copies are the user's, or are made here: each picture in the style of one random picture by adaptive instance
normalisation with α = 1, as in the authors' preprocessing. That makes one copy of each
picture, once; so does this. They stylise at 224 pixels and resize their paintings to 512; here the style pictures are
squares of the size at which is stylised (`stylize_size`), so that both are seen at one scale.

Copies are rounded to whole grey levels, and sums run in another order on another kind of device: copies made on a GPU
and on a CPU are not the same in every bit, and so neither are the trainings that use them.

That is AdaIN (Huang and Belongie, ICCV 2017, sections 4 and 5):

    t = AdaIN(f(c), f(s)),  AdaIN(x, y) = σ(y) (x - μ(x)) / σ(x) + μ(y)  per picture and channel (eq. 8)
    T(c, s, α) = g((1 - α) f(c) + α t)                                                            (eq. 14)

The encoder f is VGG-19 up to relu4_1 with reflection padding, g its mirror image with nearest-neighbour upsampling.
Layers are counted as in the widely used PyTorch port of the authors' code, so that its two files of weights
(vgg_normalised.pth, decoder.pth) fit as they are; of the encoder's, what lies behind relu4_1 is not used. Its first
layer, a 1 x 1 convolution, holds the normalisation: pictures go in as RGB in [0, 1]. The widths are those of the files.

σ is the paper's, over H W values with ε = 1e-5 below the root (eq. 6). The port divides by H W - 1, which changes
nothing between feature maps of one size.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets import ImageData
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.picture_source import WANTED, source_images, source_reader, source_version, to_device
from pixmix_ray.errors import CheckpointError, DataError, RequestError
from pixmix_ray.identity import short_hash
from pixmix_ray.methods.base import METHODS, Copies, Method, MethodRun, Setup
from pixmix_ray.models.weights import Weights, read_weights
from pixmix_ray.seeding import uniforms
from pixmix_ray.settings import DataPath
from pixmix_ray.transforms import resized

ENCODER: Final[tuple[str, ...]] = (
    *("conv1", "pad", "conv", "relu", "pad", "conv", "relu", "pool"),
    *("pad", "conv", "relu", "pad", "conv", "relu", "pool"),
    *("pad", "conv", "relu", "pad", "conv", "relu", "pad", "conv", "relu", "pad", "conv", "relu", "pool"),
    *("pad", "conv", "relu"),
)
DECODER: Final[tuple[str, ...]] = (
    *("pad", "conv", "relu", "up"),
    *("pad", "conv", "relu", "pad", "conv", "relu", "pad", "conv", "relu", "pad", "conv", "relu", "up"),
    *("pad", "conv", "relu", "pad", "conv", "relu", "up"),
    *("pad", "conv", "relu", "pad", "conv"),
)
SMALLEST: Final = 9
"""Pixels a side: three halvings, rounded up, must leave two pixels, which reflection padding needs."""

_EPSILON = 1e-5
_SIDES = {"conv1": 1, "conv": 3}
_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "pad": lambda: nn.ReflectionPad2d(1),
    "relu": nn.ReLU,
    "pool": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "up": lambda: nn.Upsample(scale_factor=2, mode="nearest"),
}
_FITTING = "give vgg_normalised.pth and decoder.pth of the PyTorch port of AdaIN, or two files of their layout"


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """μ and σ of each picture and channel, both (N, C, 1, 1), of features (N, C, H, W)."""
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + _EPSILON).sqrt()


def adaptive_instance_normalisation(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The features (N, C, H, W) moved and scaled to a style's statistics, `mean` and `std`, (N, C, 1, 1) each."""
    own_mean, own_std = statistics(features)
    return std * ((features - own_mean) / own_std) + mean


class StyleTransfer(nn.Module):
    """The network T: from pictures and the statistics of styles to stylised pictures."""

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def style(self, styles: Tensor) -> tuple[Tensor, Tensor]:
        """The statistics of style pictures (N, 3, H, W) in [0, 1]: mean and standard deviation, (N, C, 1, 1) each."""
        return statistics(self.encoder(styles))

    def forward(self, images: Tensor, mean: Tensor, std: Tensor, alpha: float = 1.0) -> Tensor:
        """Stylised pictures, (N, 3, H, W) in [0, 1].

        Args:
            images: (N, 3, H, W) in [0, 1], sides of at least `SMALLEST`.
            mean: (N, C, 1, 1), of each picture's style, from `style`.
            std: likewise.
            alpha: α in [0, 1], from the network's rendering of the picture itself to full style.
        """
        features = self.encoder(images)
        styled = adaptive_instance_normalisation(features, mean, std)
        mixed = alpha * styled + (1 - alpha) * features
        # sides that are no multiple of 8 come out rounded up, beyond the right and the lower border
        decoded = cast(Tensor, self.decoder(mixed))[:, :, : images.shape[2], : images.shape[3]]
        return decoded.clamp(0, 1)


def read_style_transfer(encoder: Path, decoder: Path) -> StyleTransfer:
    """The network of two files of weights, on the CPU, for inference.

    Raises:
        CheckpointError: a file is missing, broken or not of this layout (one line, with the tensor).
    """
    first = _layers(ENCODER, 3, read_weights(encoder), f"encoder {encoder}")
    depth = [layer.out_channels for layer in first if isinstance(layer, nn.Conv2d)][-1]
    last = _layers(DECODER, depth, read_weights(decoder), f"decoder {decoder}")
    colours = [layer.out_channels for layer in last if isinstance(layer, nn.Conv2d)][-1]
    if colours != 3:
        raise CheckpointError(f"the decoder {decoder} makes pictures of {colours} channels, not 3; {_FITTING}")
    return StyleTransfer(first, last).eval().requires_grad_(requires_grad=False)


def _layers(kinds: Sequence[str], channels: int, weights: Weights, where: str) -> nn.Sequential:
    """The layers with their weights, from `channels` channels on; a convolution gives as many as its weights do."""
    layers: list[nn.Module] = []
    own: Weights = {}
    for index, kind in enumerate(kinds):
        if kind in _PLAIN:
            layers.append(_PLAIN[kind]())
            continue
        side = _SIDES[kind]
        weight = _tensor(weights, f"{index}.weight", ("*", channels, side, side), where)
        own[f"{index}.weight"], own[f"{index}.bias"] = weight, _tensor(weights, f"{index}.bias", (len(weight),), where)
        # no storage and so no random numbers: the weights are put in below
        layers.append(nn.Conv2d(channels, len(weight), side, device="meta"))
        channels = len(weight)
    network = nn.Sequential(*layers)
    network.load_state_dict(own, assign=True)
    return network


def _tensor(weights: Weights, name: str, shape: tuple[int | str, ...], where: str) -> Tensor:
    """The tensor `name` as float32, if it is there with this shape; "*" stands for any length but 0."""
    wanted = f"({', '.join(map(str, shape))})"
    if name not in weights:
        raise CheckpointError(f"the {where} does not fit: it lacks {name!r} {wanted}; {_FITTING}")
    found = weights[name]
    is_plain = found.layout == torch.strided and found.is_floating_point() and found.numel() > 0
    is_alike = found.ndim == len(shape) and all(
        want in ("*", have) for want, have in zip(shape, found.shape, strict=True)
    )
    if not (is_plain and is_alike):
        held = f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"
        raise CheckpointError(f"the {where} does not fit: {name!r} is {held}, wanted float32 {wanted}; {_FITTING}")
    return found.float()


Images = NDArray[np.uint8]

_PIXELS_AT_ONCE = {"cpu": 2**17, "cuda": 2**19}  # the widest layer of VGG takes 256 bytes a pixel, a few times over


@METHODS.add("sin")
class Sin(Method):
    """Training on pictures and their stylised copies.

    Source: Geirhos et al., ICLR 2019. Give either `stylized`, or `styles`, `encoder` and `decoder`.

    Attributes:
        share: the probability that a picture is replaced by its stylised copy.
        stylized: a folder or array file with the copies, as many as training pictures and in their order: a folder's
            files are sorted by relative path as text, so write numbers with leading zeros.
        styles: a folder or array file of pictures whose styles are taken.
        encoder: weights of the VGG encoder, vgg_normalised.pth of the PyTorch port of AdaIN.
        decoder: weights of the decoder, decoder.pth of the same.
        alpha: α, from the decoder's rendering of the picture alone (0) to full style (1).
        stylize_size: pixels a side at which is stylised; pictures are enlarged to it and the copies reduced again.
            None is the size of the training pictures, at which little of a style is seen if that is 32.
        style_seed: of the choice of a style for each picture; the same for all seeds of a sweep.
    """

    summary: ClassVar[str] = "half of the pictures as copies in the style of paintings"
    source: ClassVar[str] = "Geirhos et al., ICLR 2019; Huang and Belongie, ICCV 2017"
    location: ClassVar[frozenset[str]] = frozenset({"stylized", "styles", "encoder", "decoder"})

    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    stylized: DataPath | None = None
    styles: DataPath | None = None
    encoder: DataPath | None = None
    decoder: DataPath | None = None
    alpha: Annotated[float, Field(ge=0, le=1)] = 1.0
    stylize_size: Annotated[int, Field(ge=SMALLEST)] | None = None
    style_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        making = {"styles": self.styles, "encoder": self.encoder, "decoder": self.decoder}
        missing = [name for name, path in making.items() if path is None]
        is_made = len(missing) < len(making)
        if self.stylized is not None and is_made:
            given = next(name for name, path in making.items() if path is not None)
            raise ValueError(f"'stylized' and {given!r} are both set: leave out one of the two ways")
        if self.stylized is None and missing:
            ways = (
                f"set 'stylized' to {WANTED} with the stylised training pictures in order; or, to have them made, "
                f"'styles' to {WANTED}, and 'encoder' and 'decoder' to the files vgg_normalised.pth and decoder.pth "
                "of the PyTorch port of AdaIN"
            )
            found = f"{_quoted(missing)} missing beside {_quoted([n for n in making if n not in missing])}"
            raise ValueError(f"{found if is_made else 'no stylised pictures'}: {ways}")
        return self

    def version(self) -> str:
        """The content of the files that are given.

        Raises:
            DataError: one is missing, or a folder holds no pictures.
        """
        if self.stylized is not None:
            return f"stylized-{source_version(self.stylized)}"
        styles, weights = self._making()
        for path in weights:
            if not path.is_file():
                raise DataError(
                    f"there is no file {path}: give the weights of AdaIN, vgg_normalised.pth and decoder.pth"
                )
        return f"adain-{source_version(styles)}-{combined(file_md5s(weights))}"

    def prepare(self, data: ImageData) -> None:
        """Read or make the copies of all training pictures; making them takes a GPU, if there is one, for a while.

        Raises:
            DataError: a file is broken, or there is not one copy for each training picture.
            CheckpointError: the weights are broken or of another network.
        """
        if data.is_streamed:
            self.shown_copies()
            return
        images = to_device(data.train_images, "cpu").permute(0, 3, 1, 2)
        self.copies(images, data.version, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def start(self, setup: Setup) -> MethodRun:
        """The method with the stylised copies on the device of the training."""
        return SinRun(self, setup)

    def shown_copies(self) -> Copies | None:
        """The folder of stylised pictures; see `Method.shown_copies`."""
        if self.stylized is None or not self.stylized.is_dir():
            raise RequestError(
                "sin makes copies of pictures that fit in memory alone, and this data set is streamed: set stylized to "
                "a folder with one picture for each training picture, or dataset.streamed: false"
            )
        return Copies(folder=self.stylized, share=self.share)

    def copies(self, images: Tensor, data_version: str, device: torch.device) -> Images:
        """The stylised copies of all training pictures, uint8 (N, H, W, 3), read-only; made once a machine.

        Args:
            images: uint8 (N, 3, H, W), the training pictures, anywhere.
            data_version: their content, before a limit is applied.
            device: where copies are made, if they have to be.

        Raises:
            DataError: as `prepare`.
            CheckpointError: likewise.
        """
        count, size = len(images), images.shape[2]
        if self.stylized is not None:
            if (num_copies := source_reader(self.stylized)[0]) != count:  # known before anything is decoded
                counts = f"{num_copies} stylised pictures, the training set {count}"
                raise DataError(f"{self.stylized} holds {counts}: give one for each training picture, in order")
            return source_images(self.stylized, size)
        at = self.stylize_size or size
        if at < SMALLEST:
            raise DataError(
                f"pictures of {size} pixels are too small to be stylised: set stylize_size to {SMALLEST} or more"
            )
        settings = [self.version(), data_version, count, size, at, self.alpha, self.style_seed]
        entry = f"stylized-{short_hash(repr(settings), 24)}"
        return cast(Images, cached_arrays(entry, lambda: {"images": self._made(images, at, device)})["images"])

    def _made(self, images: Tensor, at: int, device: torch.device) -> Images:
        """The copies of `images`, uint8 (N, H, W, 3), stylised at `at` pixels a side."""
        styles, weights = self._making()
        network = read_style_transfer(*weights).to(device)
        num_styles, read = source_reader(styles)
        draws = uniforms(self.style_seed, "style", indices=np.arange(len(images)), count=1)[:, 0]
        used, position = np.unique((draws * num_styles).astype(np.int64), return_inverse=True)
        batch = max(1, _PIXELS_AT_ONCE[device.type] // at**2)
        made = np.empty((len(images), *images.shape[2:], 3), dtype=np.uint8)
        with torch.inference_mode():
            parts = [network.style(_floats(read(rows, at), device)) for rows in _batches(used, batch)]
            mean, std = (torch.cat(values) for values in zip(*parts, strict=True))
            style = torch.from_numpy(position).to(device)
            for start in range(0, len(images), batch):
                rows = slice(start, start + batch)
                originals = images[rows].to(device).float().div_(255)
                stylised = network(resized(originals, (at, at)), mean[style[rows]], std[style[rows]], self.alpha)
                made[rows] = _pixels(resized(stylised, (images.shape[2], images.shape[2])))
        if device.type == "cuda":
            torch.cuda.empty_cache()  # whoever prepares goes on to other things
        return made

    def _making(self) -> tuple[Path, tuple[Path, Path]]:
        """The paths to make copies from: of the styles, and of the weights of encoder and decoder."""
        assert self.styles is not None and self.encoder is not None and self.decoder is not None  # checked when read
        return self.styles, (self.encoder, self.decoder)


class SinRun(MethodRun):
    """SIN in one training; it learns nothing, so there is nothing to save."""

    method: Sin

    def __init__(self, method: Sin, setup: Setup) -> None:
        super().__init__(method)
        self._copies: Tensor | None = None
        if setup.images is not None:
            copies = method.copies(setup.images, setup.data_version, setup.device)
            self._copies = to_device(copies, setup.device)

    def shown(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The pictures, each replaced by its copy with probability `share`; see `MethodRun.shown`."""
        assert self._copies is not None  # the pictures are resident
        is_replaced = torch.rand(len(rows), generator=generator, device=images.device) < self.method.share
        copies = self._copies.index_select(0, rows).permute(0, 3, 1, 2).contiguous()
        return torch.where(is_replaced.view(-1, 1, 1, 1), copies, images)


def _batches(rows: NDArray[np.int64], size: int) -> list[list[int]]:
    return [rows[start : start + size].tolist() for start in range(0, len(rows), size)]


def _floats(images: Images, device: torch.device) -> Tensor:
    """float32 (N, 3, H, W) in [0, 1] of uint8 (N, H, W, 3)."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)


def _pixels(images: Tensor) -> Images:
    """uint8 (N, H, W, 3) of float32 (N, 3, H, W) in [0, 1], rounded."""
    return cast(Images, images.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy())


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
