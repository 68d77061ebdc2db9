"""Feature visualizations: channels are driven up, the network stays as it is, and the parts against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from pixmix_ray.errors import RequestError
from pixmix_ray.mixing_sets.feature_visualizations import feature_visualization
from pixmix_ray.mixing_sets.feature_visualizations.feature_visualization import (
    Target,
    activations,
    decorrelated,
    draw_channels,
    layer_widths,
    moved,
    visualize,
)
from pixmix_ray.models import CifarResNet, wide_resnet

NETWORKS = {"wide_resnet": lambda: wide_resnet(10, 1), "cifar_resnet": lambda: CifarResNet(depth=8).build(10)}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _network(name: str = "wide_resnet") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return NETWORKS[name]().train()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_channel_is_driven_far_above_what_noise_gives(name: str) -> None:
    network, count = _network(name), 12
    targets = draw_channels(network, count, _generator(1))

    def reached(seed: int, steps: int) -> Tensor:
        pictures = visualize(network, count=count, size=20, steps=steps, generator=_generator(seed))
        return activations(network, pictures.float() / 255, targets).detach()

    noise = torch.stack([reached(seed, 0) for seed in range(10)])
    rise = (reached(1, 24) - noise.mean(0)) / noise.std(0)
    assert float(rise.median()) > 30
    assert float(rise.min()) > 3


@pytest.mark.parametrize("size", [20, 21])
def test_pictures_depend_on_the_generator_alone_and_have_the_size_asked_for(size: int) -> None:
    network, state = _network(), torch.get_rng_state()
    pictures = visualize(network, count=5, size=size, steps=2, generator=_generator(1))
    assert (pictures.shape, pictures.dtype) == ((5, 3, size, size), torch.uint8)
    assert torch.equal(pictures, visualize(network, count=5, size=size, steps=2, generator=_generator(1)))
    assert not torch.equal(pictures, visualize(network, count=5, size=size, steps=2, generator=_generator(2)))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_network_is_left_as_it_is() -> None:
    network = _network()
    frozen = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()  # one module in another mode than the rest
    next(network.parameters()).requires_grad_(False)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    visualize(network, count=3, size=16, steps=2, generator=_generator(1))
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()].count(False) == 1
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_that_fails_is_left_as_it_is_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)).train()
    with pytest.raises(RuntimeError, match="channels"):
        activations(network, torch.rand(1, 3, 8, 8), [Target(layer="1", channel=0)])
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_precision_and_gradient_mode_around_it_do_not_matter() -> None:
    network = _network()
    expected = visualize(network, count=3, size=16, steps=2, generator=_generator(1))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = visualize(network, count=3, size=16, steps=2, generator=_generator(1))
    assert torch.equal(found, expected)


def test_the_activation_is_the_mean_over_one_channel_of_the_convolutions_output() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, stride=2), nn.Flatten())
    pictures = torch.rand(3, 3, 9, 9, generator=_generator(1))
    targets = [Target(layer="2", channel=4), Target(layer="0", channel=2), Target(layer="2", channel=0)]
    first = network[0](pictures)
    expected = torch.stack(
        [
            network[2](first.relu())[0, 4].mean(),
            first[1, 2].mean(),
            network[2](first.relu())[2, 0].mean(),
        ]
    )
    torch.testing.assert_close(activations(network, pictures, targets), expected)


def test_a_neuron_is_the_activation_in_the_middle_of_the_map_and_a_linear_layer_has_one_of_each_channel() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))
    pictures = torch.rand(4, 3, 9, 8, generator=_generator(1))
    targets = [Target(layer=layer, channel=1, is_neuron=neuron) for layer in ("0", "3") for neuron in (False, True)]
    maps, logits = network[0](pictures), network(pictures)  # maps of 7 x 6: the middle is (3, 3)
    expected = torch.stack([maps[0, 1].mean(), maps[1, 1, 3, 3], logits[2, 1], logits[3, 1]])
    torch.testing.assert_close(activations(network, pictures, targets), expected)
    assert layer_widths(network) == {"0": 4, "3": 6}


def test_the_pictures_of_a_chunk_do_not_change_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network()
    together = visualize(network, count=6, size=16, steps=2, generator=_generator(1))
    monkeypatch.setattr(feature_visualization, "_PIXELS_AT_ONCE", {"cpu": 1})
    alone = visualize(network, count=6, size=16, steps=2, generator=_generator(1))
    assert int((together.int() - alone.int()).abs().max()) <= 1  # convolutions round differently


def test_a_forward_pass_ends_at_the_last_convolution_asked_for() -> None:
    network, seen = _network(), []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    convolutions[-1].register_forward_hook(lambda *_: seen.append(True))
    activations(network, torch.rand(1, 3, 16, 16), [Target(layer=list(layer_widths(network))[1], channel=0)])
    assert not seen


def test_convolutions_and_their_channels_are_drawn_uniformly() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 1))
    targets = draw_channels(network, 4000, _generator(1))
    assert [target.layer for target in targets] == sorted(target.layer for target in targets)
    counts = np.bincount([2 * int(target.layer) + target.channel for target in targets])
    expected = 4000 * np.array([1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8])
    np.testing.assert_allclose(counts, expected, atol=4 * np.sqrt(1000))


@pytest.mark.parametrize("size", [8, 9])
def test_spectra_become_pictures_as_numpy_does_it(size: int) -> None:
    spectrum = torch.randn(2, 3, size, size // 2 + 1, 2, generator=_generator(1))
    parts = spectrum.numpy().astype(np.float64)
    frequency = np.sqrt(np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size)[None] ** 2)
    scaled = (parts[..., 0] + 1j * parts[..., 1]) / np.maximum(frequency, 1 / size)
    plain = np.fft.irfft2(scaled, s=(size, size), norm="ortho") / 4
    rows = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])  # Lucid's, see the module
    colours = rows / np.sqrt((rows**2).sum(0)).max()
    mixed = np.einsum("nchw,dc->ndhw", plain, colours)
    np.testing.assert_allclose(decorrelated(spectrum, size).numpy(), 1 / (1 + np.exp(-mixed)), atol=1e-5)


def test_pictures_are_moved_and_scaled_as_scipy_does_it() -> None:
    pictures = torch.rand(3, 3, 12, 12, generator=_generator(1))
    draws = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5], [-0.6, 0.2, -1.0]])
    found = moved(pictures, draws)
    torch.testing.assert_close(found[0], pictures[0])
    for picture, draw, image in zip(pictures.numpy(), draws.tolist(), found.numpy(), strict=True):
        scale, shifts = 1 + 0.1 * draw[0], np.array(draw[1:]) * 6 / 224 * 12
        offset = 5.5 - 5.5 / scale + shifts
        for channel in range(3):
            expected = ndimage.affine_transform(
                np.pad(picture[channel], 4, constant_values=0.5).astype(np.float64),
                [1 / scale, 1 / scale],
                offset + 4,
                (12, 12),
                order=1,
            )
            np.testing.assert_allclose(image[channel], expected, atol=1e-5)


def _blobs(size: int) -> tuple[Tensor, NDArray[np.float64]]:
    """Three smooth spots on grey, and their places from the middle, (x, y)."""
    place = np.array([[9.0, 4.0], [-7.0, 8.0], [2.0, -10.0]])
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    spots = np.stack([0.4 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in place])
    return torch.from_numpy(0.5 + spots.astype(np.float32)).unsqueeze(0), place


@pytest.mark.parametrize("draw", [-1.0, -0.5, 0.2, 0.5, 1.0])
def test_pictures_are_turned_about_their_middle_by_up_to_ten_degrees(draw: float) -> None:
    """By hand: the centre of a spot turns by 10 degrees times (|draw| - 1/3) / (2/3), and its sum stays."""
    pictures, place = _blobs(41)
    found = moved(pictures, torch.tensor([[0.0, 0.0, 0.0, draw]]))[0].numpy().astype(np.float64) - 0.5
    angle = np.radians(10) * np.sign(draw) * max(0.0, (abs(draw) - 1 / 3) / (2 / 3))
    y, x = np.mgrid[:41, :41] - 20.0
    sums = found.sum((1, 2))
    centres = np.stack([(found * x).sum((1, 2)), (found * y).sum((1, 2))], 1) / sums[:, None]
    x, y = place.T  # y points down, so that a positive angle turns (1, 0) upwards
    expected = np.stack([np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x], axis=1)
    np.testing.assert_allclose(centres, expected, atol=0.02)
    np.testing.assert_allclose(sums, (pictures[0].numpy() - 0.5).sum((1, 2)), rtol=1e-3)


def test_a_turned_picture_passes_its_gradient_on() -> None:
    """Second implementation: torch's numerical gradient."""
    pictures = torch.rand(1, 1, 6, 6, generator=_generator(1), dtype=torch.float64).requires_grad_()
    draws = torch.tensor([[0.3, -0.5, 0.7, 0.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda some: moved(some, draws), (pictures,))


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(RequestError, match="Linear has no convolution"):
        visualize(nn.Linear(3, 3), count=1, size=8, steps=1, generator=_generator(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_works_on_a_gpu() -> None:
    network = _network().cuda()
    pictures: Tensor = visualize(network, count=9, size=36, steps=2, generator=torch.Generator("cuda").manual_seed(1))
    assert pictures.is_cuda
