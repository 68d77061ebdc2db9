"""Feature visualizations: pictures that drive single channels, or single neurons, of a network's layers.

C. Olah, A. Mordvintsev and L. Schubert, "Feature Visualization", Distill 2017; one half of the mixing set of PixMix
(Hendrycks et al., CVPR 2022, section 2.1), and its "Iterative" variant (appendix B.2 and table 5), which "mixes with
feature visualizations computed on the fly for the current network". Both are made here, as Lucid and Lucent make them:
gradient ascent with Adam on the mean activation of a channel, or on its activation in the middle of the feature map (a
neuron), over a picture that is given by its spectrum in decorrelated colours,

    picture = sigmoid(M · irfft2(spectrum / max(f, 1 / size)) / 4),

which is moved, scaled and turned a little at each step. Every picture has its own target, and they go through the
network many at a time; a hook on each layer takes what is asked of it, and the forward pass ends where all is taken.

Where we differ: Lucid's two jitters and its scale are one resampling, by numbers that are Lucid's for 224 pixels in
proportion, and the turn is three shears (Paeth, 1986), by angles up to 10 degrees but none for a third of the steps, as
in Lucid's list. The gradients of both are products and plain copies, that a GPU adds up in a fixed order, so that a
training, or a set, can be repeated; a general resampling's are not. What lies beyond the border is grey.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixmix_ray.errors import RequestError
from pixmix_ray.models import evaluation_mode

LEARNING_RATE = 0.05  # Lucid's, with Adam
_JITTER = 6 / 224  # Lucid moves by up to 8 / 2 and then 4 / 2 pixels of 224 either way
_SCALES = 0.1  # from 0.9 to 1.1
_DEGREES = 10.0
_STRAIGHT = 1 / 3  # Lucid draws the angle from 21 in steps of a degree and 5 more zeros
_PIXELS_AT_ONCE = {"cpu": 2**14, "cuda": 2**24}  # 12 and 12,945 pictures of 36 pixels; few, to end early
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a picture is to drive.

    Attributes:
        layer: the name of a convolution or linear layer in the network, as in `network.named_modules()`.
        channel: which of its outputs.
        is_neuron: only the one in the middle of the feature map; else the mean over the map.
    """

    layer: str
    channel: int
    is_neuron: bool = False


def visualize(network: nn.Module, *, count: int, size: int, steps: int, generator: torch.Generator) -> Tensor:
    """Pictures that drive channels drawn by `draw_channels`: uint8 (count, 3, size, size), on the network's device.

    They are moved and scaled at each step and not turned: for a set that is made anew each epoch that is enough. Few
    steps do, since the network changes all the time: after 32 of them a trained ResNet-20 answers with clear textures,
    and with parts of objects in its last convolutions. WRN-16-1 at 36 pixels takes about 3 ms a picture and step on
    one core. No random numbers are drawn but from `generator`.

    Args:
        network: from pictures (N, 3, H, W) in [0, 1] of any size to logits, float32; left as it is.
        count: how many pictures.
        size: their side in pixels.
        steps: of gradient ascent; with 0 they are the noise that it starts from.
        generator: on the network's device.

    Raises:
        RequestError: the network has no convolution.
    """
    targets = draw_channels(network, count, generator)
    device = generator.device
    spectrum = torch.randn((count, *spectrum_shape(size)), generator=generator, device=device)
    draws = (torch.rand(count, 3, generator=generator, device=device) * 2 - 1 for _ in range(steps))
    return optimize_pictures(network, targets, spectrum, draws)


def optimize_pictures(
    network: nn.Module, targets: Sequence[Target], spectrum: Tensor, moves: Iterator[Tensor]
) -> Tensor:
    """Pictures that drive the targets: uint8 (N, 3, size, size), on the device of the network and all tensors.

    Parameters, running statistics, gradients and training mode of the network are left as they are, and no random
    numbers are drawn. A step costs less than a training step on as many pictures.

    Args:
        network: from pictures (N, 3, H, W) in [0, 1] of any size to logits, float32.
        targets: one for each picture; it is fastest where those of a layer follow one another.
        spectrum: standard normal numbers to start from, (N, *spectrum_shape(size)).
        moves: for each step of the ascent numbers in [-1, 1], (N, 3 or 4): for scale, shift down, shift right and, if
            pictures are to be turned, angle.
    """
    size, device = spectrum.shape[2], spectrum.device
    at_once = max(1, _PIXELS_AT_ONCE[device.type] // size**2)
    spectrum = (0.01 * spectrum).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], lr=LEARNING_RATE)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for draws in moves:
            optimizer.zero_grad()
            with torch.enable_grad(), torch.autocast(device.type, enabled=False):
                for start in range(0, len(targets), at_once):
                    some = slice(start, start + at_once)
                    pictures = moved(decorrelated(spectrum[some], size), draws[some])
                    loss = -activations(network, pictures, targets[some]).sum()
                    # inputs: the network's parameters get no gradient
                    loss.backward(inputs=[spectrum])  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        return decorrelated(spectrum, size).mul_(255).round_().to(torch.uint8)


def layer_widths(network: nn.Module) -> dict[str, int]:
    """The layers that can be visualized, convolutions and linear ones, with their numbers of channels, in order."""
    widths = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            widths[name] = module.out_channels
        elif isinstance(module, nn.Linear):
            widths[name] = module.out_features
    return widths


def draw_channels(network: nn.Module, count: int, generator: torch.Generator) -> list[Target]:
    """A convolution for each of `count` pictures and one of its channels, drawn uniformly; sorted by convolution.

    Raises:
        RequestError: the network has no convolution.
    """
    convolutions = [
        (name, module.out_channels) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    ]
    if not convolutions:
        raise RequestError(
            f"{type(network).__name__} has no convolution to visualize: take a convolutional network, "
            "or mix with pictures of a mixing set"
        )
    draws = torch.rand(count, 2, dtype=torch.float64, generator=generator, device=generator.device).tolist()
    chosen = [convolutions[place] for place in sorted(int(draw * len(convolutions)) for draw, _ in draws)]
    return [
        Target(layer=name, channel=int(draw * width)) for (name, width), (_, draw) in zip(chosen, draws, strict=True)
    ]


class _EnoughSeen(Exception):  # noqa: N818  # ends a forward pass, no error
    """All channels that were asked for have been taken."""


def activations(network: nn.Module, pictures: Tensor, targets: Sequence[Target]) -> Tensor:
    """What each picture's target answers, before normalisation and ReLU: (N,), differentiable.

    Args:
        network: run in evaluation mode, up to the last layer that is asked for; left as it is.
        pictures: float32 (N, 3, H, W) in [0, 1].
        targets: one for each picture.
    """
    rows_by_layer: dict[str, list[int]] = {}
    for row, target in enumerate(targets):
        rows_by_layer.setdefault(target.layer, []).append(row)
    found: dict[str, Tensor] = {}

    def taker(layer: str, rows: list[int]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        channels = [targets[row].channel for row in rows]
        is_neuron = torch.tensor([targets[row].is_neuron for row in rows], device=pictures.device)

        def take(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            maps = output[rows, channels].flatten(start_dim=1) if output.ndim == 4 else output[rows, channels, None]
            middle = output.shape[2] // 2 * output.shape[3] + output.shape[3] // 2 if output.ndim == 4 else 0
            found[layer] = torch.where(is_neuron, maps[:, middle], maps.mean(dim=1))
            if len(found) == len(rows_by_layer):
                raise _EnoughSeen

        return take

    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(network))
        stack.enter_context(suppress(_EnoughSeen))
        for layer, rows in rows_by_layer.items():
            stack.callback(network.get_submodule(layer).register_forward_hook(taker(layer, rows)).remove)
        network(pictures)
    order = torch.tensor([row for layer in found for row in rows_by_layer[layer]], device=pictures.device)
    return torch.cat(list(found.values())).index_select(0, order.argsort())


def spectrum_shape(size: int) -> tuple[int, int, int, int]:
    """The shape of the spectrum of one picture with sides of `size` pixels: real and imaginary parts, as of rfft2."""
    return 3, size, size // 2 + 1, 2


def decorrelated(spectrum: Tensor, size: int) -> Tensor:
    """The pictures that spectra stand for: (N, 3, size, size) in (0, 1), differentiable.

    Args:
        spectrum: (N, *spectrum_shape(size)).
        size: the side in pixels.
    """
    device = spectrum.device
    down, across = torch.fft.fftfreq(size, device=device), torch.fft.rfftfreq(size, device=device)
    frequency = torch.hypot(down.unsqueeze(1), across.unsqueeze(0)).clamp_(min=1 / size)
    scaled = torch.view_as_complex(spectrum.contiguous()) / frequency
    plain = torch.fft.irfft2(scaled, s=(size, size), norm="ortho") / 4
    colours = torch.tensor(_COLOURS, device=device)
    colours = colours / torch.linalg.vector_norm(colours, dim=0).max()
    return torch.einsum("dc,nchw->ndhw", colours, plain).sigmoid()


def moved(pictures: Tensor, draws: Tensor) -> Tensor:
    """The pictures (N, 3, S, S), each scaled, moved and turned by its `draws` in [-1, 1]; grey beyond the border.

    Scaled and moved by linear interpolation in rows, then in columns, as products with matrices: their gradients, too,
    are products.

    Args:
        pictures: (N, 3, S, S) in [0, 1].
        draws: (N, 3), for scale, shift down and shift right, or (N, 4), with one for the angle.
    """
    size = pictures.shape[3]
    scale = 1 + _SCALES * draws[:, 0]
    down, across = (_interpolation(size, scale, shift * _JITTER * size) for shift in draws[:, 1:3].T)
    centred = down.unsqueeze(1) @ (pictures - 0.5) @ across.unsqueeze(1).mT
    if draws.shape[1] == 4:
        beyond = ((draws[:, 3].abs() - _STRAIGHT) / (1 - _STRAIGHT)).clamp_(min=0)
        centred = _turned(centred, math.radians(_DEGREES) * beyond * draws[:, 3].sign())
    return centred + 0.5


def _interpolation(size: int, scale: Tensor, shift: Tensor) -> Tensor:
    """Matrices (N, size, size) from a row of pixels to one that is scaled about its middle and moved."""
    place = torch.arange(size, device=scale.device, dtype=scale.dtype)
    middle = (size - 1) / 2
    source = (place - middle).unsqueeze(0) / scale.unsqueeze(1) + middle + shift.unsqueeze(1)
    return (1 - (source.unsqueeze(2) - place).abs()).clamp_(min=0)


def _turned(pictures: Tensor, angles: Tensor) -> Tensor:
    """The pictures (N, 3, S, S) turned about their middles by angles (N,) in radians, as three shears; 0 beyond."""
    across, down = -torch.tan(angles / 2), torch.sin(angles)
    return _sheared(_sheared(_sheared(pictures, across).mT, down).mT, across)


def _sheared(pictures: Tensor, slopes: Tensor) -> Tensor:
    """Each row moved by its distance from the middle times the picture's slope (N,), by linear interpolation.

    A row is copied from two neighbouring places, each pixel once, so that in the gradient nothing is added up twice.
    """
    size = pictures.shape[3]
    place = torch.arange(size, device=pictures.device)
    shift = slopes.unsqueeze(1) * (place - (size - 1) / 2)
    whole = shift.floor()
    margin = math.ceil(size * math.tan(math.radians(_DEGREES)) / 2) + 2  # no shift is longer
    padded = F.pad(pictures, (margin, margin))
    first = (place + margin + whole.long().unsqueeze(2)).unsqueeze(1).expand(-1, pictures.shape[1], -1, -1)
    part = (shift - whole).view(len(pictures), 1, size, 1)
    return padded.gather(3, first) * (1 - part) + padded.gather(3, first + 1) * part
