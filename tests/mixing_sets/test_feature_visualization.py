"""Feature visualizations: channels are driven up, the network stays as it is, and the parts against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from pixmix_ray.methods.feature_visualization import Channel, activations, decorrelated, draw_channels, visualize
from scipy import ndimage
from torch import Tensor, nn

from pixmix_ray.errors import RequestError
from pixmix_ray.methods import feature_visualization
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
        activations(network, torch.rand(1, 3, 8, 8), [Channel(layer=1, number=0)])
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
    targets = [Channel(layer=1, number=4), Channel(layer=0, number=2), Channel(layer=1, number=0)]
    first = network[0](pictures)
    expected = torch.stack(
        [
            network[2](first.relu())[0, 4].mean(),
            first[1, 2].mean(),
            network[2](first.relu())[2, 0].mean(),
        ]
    )
    torch.testing.assert_close(activations(network, pictures, targets), expected)


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
    activations(network, torch.rand(1, 3, 16, 16), [Channel(layer=1, number=0)])
    assert not seen


def test_convolutions_and_their_channels_are_drawn_uniformly() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 1))
    targets = draw_channels(network, 4000, _generator(1))
    assert [target.layer for target in targets] == sorted(target.layer for target in targets)
    counts = np.bincount([2 * target.layer + target.number for target in targets])
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
    found = feature_visualization._moved(pictures, draws)
    torch.testing.assert_close(found[0], pictures[0])
    for picture, draw, moved in zip(pictures.numpy(), draws.tolist(), found.numpy(), strict=True):
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
            np.testing.assert_allclose(moved[channel], expected, atol=1e-5)


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(RequestError, match="Linear has no convolution"):
        visualize(nn.Linear(3, 3), count=1, size=8, steps=1, generator=_generator(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_works_on_a_gpu() -> None:
    network = _network().cuda()
    pictures: Tensor = visualize(network, count=9, size=36, steps=2, generator=torch.Generator("cuda").manual_seed(1))
    assert pictures.is_cuda
