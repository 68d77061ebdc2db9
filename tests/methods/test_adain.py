"""Style transfer: AdaIN's defining property, the layout of the two files, and files that do not fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.errors import CheckpointError
from pixmix_ray.methods.sin import (
    DECODER,
    ENCODER,
    SMALLEST,
    StyleTransfer,
    adaptive_instance_normalisation,
    read_style_transfer,
    statistics,
)

Weights = dict[str, Tensor]

# The layers of the port, written down once more by index: convolutions with the widths of VGG-19, divided by 32 here.
ENCODER_WIDTHS = {2: 64, 5: 64, 9: 128, 12: 128, 16: 256, 19: 256, 22: 256, 25: 256, 29: 512}
BEYOND = {32: 512, 35: 512, 38: 512, 42: 512, 45: 512, 48: 512, 51: 512}  # relu4_2 to relu5_4, which are not used
DECODER_WIDTHS = {1: 256, 5: 256, 8: 256, 11: 256, 14: 128, 18: 128, 21: 64, 25: 64, 28: 3 * 32}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _weights(widths: dict[int, int], channels: int, generator: torch.Generator, divisor: int = 32) -> Weights:
    weights: Weights = {}
    for index, width in widths.items():
        count = width // divisor
        weights[f"{index}.weight"] = torch.randn(count, channels, 3, 3, generator=generator) * (2 / channels / 9) ** 0.5
        weights[f"{index}.bias"] = torch.randn(count, generator=generator) * 0.1
        channels = count
    return weights


def _encoder(seed: int = 1) -> Weights:
    generator = _generator(seed)
    first = {"0.weight": torch.eye(3).view(3, 3, 1, 1) * 255, "0.bias": torch.tensor([-103.9, -116.8, -123.7])}
    scaled = {name: tensor / 100 for name, tensor in first.items()}
    return scaled | _weights(ENCODER_WIDTHS | BEYOND, 3, generator)


def _decoder(seed: int = 2) -> Weights:
    weights = _weights(DECODER_WIDTHS, 16, _generator(seed))
    weights["28.weight"] *= 0.1  # so that few values end at 0 or 1
    weights["28.bias"] += 0.5
    return weights


def _files(folder: Path, encoder: Weights | None = None, decoder: Weights | None = None) -> tuple[Path, Path]:
    """The two files in the port's format: bare state_dicts of torch."""
    torch.save(_encoder() if encoder is None else encoder, folder / "vgg_normalised.pth")
    torch.save(_decoder() if decoder is None else decoder, folder / "decoder.pth")
    return folder / "vgg_normalised.pth", folder / "decoder.pth"


def _by_hand(weights: Weights, layers: str, images: Tensor) -> Tensor:
    """A second implementation: "c" pads and convolves, "C" convolves 1 x 1, "r", "p" and "u" are what they say."""
    names = iter(sorted({int(name.partition(".")[0]) for name in weights}))
    for layer in layers:
        if layer in "cC":
            index = next(names)
            padded = F.pad(images, (1, 1, 1, 1), mode="reflect") if layer == "c" else images
            images = F.conv2d(padded, weights[f"{index}.weight"], weights[f"{index}.bias"])
        elif layer == "r":
            images = images.clamp(min=0)
        elif layer == "p":
            images = F.max_pool2d(images, 2, ceil_mode=True)
        else:
            images = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return images


def test_statistics_are_those_of_each_picture_and_channel() -> None:
    # by hand: mean of 1, 2, 3, 6 is 3, variance (4 + 1 + 0 + 9) / 4 = 3.5; a flat map has σ = sqrt(1e-5)
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    mean, std = statistics(features)
    assert mean.shape == std.shape == (1, 2, 1, 1)
    torch.testing.assert_close(mean.flatten(), torch.tensor([3.0, 5.0]))
    torch.testing.assert_close(std.flatten(), torch.tensor([3.50001**0.5, 1e-5**0.5]))


def test_after_adain_the_features_have_the_statistics_of_the_style() -> None:
    content = torch.randn(5, 7, 6, 8, generator=_generator(1)) * 3 - 2
    style = torch.randn(5, 7, 9, 4, generator=_generator(2)).exp()
    before = content.clone()
    normalised = adaptive_instance_normalisation(content, *statistics(style))
    for found, wanted in zip(statistics(normalised), statistics(style), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(content, before)


def test_adain_keeps_the_pattern_of_the_content() -> None:
    content, style = (torch.randn(2, 3, 5, 5, generator=_generator(seed)) for seed in (1, 2))
    normalised = adaptive_instance_normalisation(content, *statistics(style))
    correlation = F.cosine_similarity(
        (normalised - normalised.mean((2, 3), keepdim=True)).flatten(2),
        (content - content.mean((2, 3), keepdim=True)).flatten(2),
        dim=2,
    )
    torch.testing.assert_close(correlation, torch.ones(2, 3))


def test_a_picture_in_its_own_style_is_not_changed_by_adain() -> None:
    content = torch.randn(2, 3, 5, 5, generator=_generator(1))
    torch.testing.assert_close(adaptive_instance_normalisation(content, *statistics(content)), content)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("size", [32, 20, SMALLEST])
def test_the_network_of_two_files_computes_what_the_port_computes(suffix: str, size: int, tmp_path: Path) -> None:
    files = tmp_path / f"encoder{suffix}", tmp_path / f"decoder{suffix}"
    for file, weights in zip(files, (_encoder(), _decoder()), strict=True):
        if suffix == ".pth":
            torch.save(weights, file)
        else:
            save_file(weights, file)
    network = read_style_transfer(*files)
    images, styles = (torch.rand(2, 3, size, size, generator=_generator(seed)) for seed in (3, 4))
    encoder = "Ccrcrpcrcrpcrcrcrcrpcr"
    content, style = (_by_hand(_encoder(), encoder, pictures) for pictures in (images, styles))
    assert content.shape[1] == 16
    n = content.shape[2] * content.shape[3]
    deviation = style.std((2, 3), keepdim=True), content.std((2, 3), keepdim=True)  # over n - 1, as the port has it
    scale = ((deviation[0] ** 2 * (n - 1) / n + 1e-5) / (deviation[1] ** 2 * (n - 1) / n + 1e-5)).sqrt()
    features = scale * (content - content.mean((2, 3), keepdim=True)) + style.mean((2, 3), keepdim=True)
    mixed = 0.75 * features + 0.25 * content
    expected = _by_hand(_decoder(), "crucrcrcrcrucrcrucrc", mixed)[:, :, :size, :size].clamp(0, 1)
    stylised = network(images, *network.style(styles), alpha=0.75)
    assert stylised.shape == images.shape
    assert float(((stylised > 0) & (stylised < 1)).float().mean()) > 0.8
    torch.testing.assert_close(stylised, expected, rtol=1e-4, atol=1e-5)


def test_alpha_zero_is_the_rendering_of_the_picture_itself(tmp_path: Path) -> None:
    network = read_style_transfer(*_files(tmp_path))
    images, styles = (torch.rand(2, 3, 16, 16, generator=_generator(seed)) for seed in (3, 4))
    plain = network.decoder(network.encoder(images)).clamp(0, 1)
    torch.testing.assert_close(network(images, *network.style(styles), alpha=0.0), plain)


def test_the_layers_are_those_of_the_port_in_number_and_place() -> None:
    assert len(ENCODER) == 31  # the first 31 layers of the port's encoder, and all 29 of its decoder
    assert len(DECODER) == 29
    assert [index for index, kind in enumerate(ENCODER) if kind.startswith("conv")] == [0, *ENCODER_WIDTHS]
    assert [index for index, kind in enumerate(DECODER) if kind == "conv"] == list(DECODER_WIDTHS)
    assert [index for index, kind in enumerate(ENCODER) if kind == "pool"] == [7, 14, 27]
    assert [index for index, kind in enumerate(DECODER) if kind == "up"] == [3, 16, 23]


def test_files_of_the_full_widths_fit(tmp_path: Path) -> None:
    decoder_widths = {**DECODER_WIDTHS, 28: 3}
    encoder = _encoder() | _weights(ENCODER_WIDTHS, 3, _generator(1), divisor=1)
    files = _files(tmp_path, encoder, _weights(decoder_widths, 512, _generator(2), divisor=1))
    network = read_style_transfer(*files)
    # counted by hand from the layers of VGG-19 up to conv4_1, with the 1 x 1 layer
    assert sum(p.numel() for p in network.encoder.parameters()) == 12 + 3_505_728
    images = torch.rand(1, 3, 16, 16, generator=_generator(3))
    assert network(images, *network.style(images)).isfinite().all()


def test_reading_weights_draws_no_random_numbers_and_asks_for_no_gradient(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    network = read_style_transfer(*_files(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_weights_are_taken_as_float32(tmp_path: Path) -> None:
    network = read_style_transfer(*_files(tmp_path, {name: t.half() for name, t in _encoder().items()}))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def _without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def _with(name: str, tensor: Tensor) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: tensor}


MISFITS: list[tuple[str, Callable[[Weights], Weights], str]] = [
    ("encoder", _without("0.weight"), r"lacks '0\.weight' \(\*, 3, 1, 1\)"),
    ("encoder", _without("29.bias"), r"lacks '29\.bias' \(16\)"),
    ("encoder", lambda w: {f"features.{k}": t for k, t in w.items()}, r"lacks '0\.weight'"),
    ("encoder", lambda w: _decoder(), r"lacks '0\.weight'"),
    (
        "encoder",
        _with("5.weight", torch.ones(2, 9, 3, 3)),
        r"\(2, 9, 3, 3\), wanted float32 \(\*, 2, 3, 3\)",
    ),
    ("encoder", _with("5.weight", torch.ones(2, 2, 5, 5)), r"'5\.weight' is float32 \(2, 2, 5, 5\), wanted"),
    ("encoder", _with("5.bias", torch.ones(3)), r"'5\.bias' is float32 \(3,\), wanted float32 \(2\)"),
    ("encoder", _with("5.bias", torch.ones(2, dtype=torch.int64)), r"'5\.bias' is int64 \(2,\)"),
    ("encoder", _with("5.weight", torch.ones(0, 2, 3, 3)), r"'5\.weight' is float32 \(0, 2, 3, 3\)"),
    ("encoder", _with("5.weight", torch.ones(4)), r"'5\.weight' is float32 \(4,\)"),
    ("decoder", _without("14.weight"), r"lacks '14\.weight' \(\*, 8, 3, 3\)"),
    (
        "decoder",
        lambda w: _weights(DECODER_WIDTHS, 17, _generator(1)),
        r"'1\.weight' is .* wanted .*\(\*, 16, 3, 3\)",
    ),
    ("decoder", lambda w: _weights({**DECODER_WIDTHS, 28: 32}, 16, _generator(1)), "pictures of 1 channels, not 3"),
]


@pytest.mark.parametrize(("which", "change", "message"), MISFITS)
def test_weights_of_another_layout_are_refused_with_the_tensor_and_the_way_out(
    which: str, change: Callable[[Weights], Weights], message: str, tmp_path: Path
) -> None:
    encoder, decoder = _encoder(), _decoder()
    files = _files(
        tmp_path,
        change(encoder) if which == "encoder" else encoder,
        change(decoder) if which == "decoder" else decoder,
    )
    with pytest.raises(CheckpointError, match=message) as caught:
        read_style_transfer(*files)
    assert str(files[which == "decoder"]) in str(caught.value)
    assert "give vgg_normalised.pth and decoder.pth of the PyTorch port" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    _, decoder = _files(tmp_path)
    torch.save(nn.Sequential(nn.Linear(1, 1)), tmp_path / "whole.pth")  # a pickled module
    with pytest.raises(CheckpointError, match=r"whole\.pth is not a file of plain tensors"):
        read_style_transfer(tmp_path / "whole.pth", decoder)
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        read_style_transfer(tmp_path / "gone.pth", decoder)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_network_gives_the_same_on_a_gpu(tmp_path: Path) -> None:
    network: StyleTransfer = read_style_transfer(*_files(tmp_path))
    images = torch.rand(4, 3, 32, 32, generator=_generator(3))
    here = network(images, *network.style(images.flip(0)))
    there = network.cuda()(images.cuda(), *network.style(images.flip(0).cuda()))
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=0.01)
